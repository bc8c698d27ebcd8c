"""A detector's report on the Numenta Anomaly Benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from titans_stream.evaluation import OURS
from titans_stream.evaluation.nab_corpus import (
    load_corpus,
    load_profiles,
    load_published_scores,
    load_published_statistics,
)
from titans_stream.evaluation.nab_rules import (
    NabResult,
    Profile,
    WindowScore,
    score_alerts,
    score_corpus,
)
from titans_stream.evaluation.protocol import (
    Baselines,
    Detection,
    Detector,
    LabelledSeries,
    detect,
)
from titans_stream.evaluation.tables import Row, Table, dump, mean, spread, text_table

STANDARD = "standard"
_COUNTS = {"found": "found", "missed": "missed", "false alarms": "false_alarms"}


@dataclass(frozen=True, slots=True)
class NabReport:
    """What `run_nab` found.

    `results` holds one result per start shift, each with its own best threshold; `budgets` those
    of the alerts that the detector raised by itself, by budget; `others` the final scores of the
    other detectors of the run, means over start shifts, by profile; `published` the scoreboard.
    `detections` are those of the unshifted series.
    """

    detector: str
    results: Sequence[NabResult]
    budgets: Mapping[float, Sequence[NabResult]]
    others: Table
    published: Table
    series: Sequence[LabelledSeries]
    detections: Sequence[Detection]

    @property
    def first(self) -> NabResult:
        """The result on the unshifted series."""
        return self.results[0]

    def scores(self) -> dict[str, float]:
        """Profile -> final score, mean over start shifts."""
        return mean_scores(self.results)

    def spread(self) -> dict[str, float]:
        """Profile -> deviation of its final score over start shifts."""
        return {name: spread([run[name].score for run in self.results]) for name in self.first}

    def to_json(self) -> dict[str, Any]:
        """All numbers; the keys of the scores are the profiles' names."""
        standard = self.first[STANDARD]
        numbers: dict[str, Any] = dump(
            {
                "detector": self.detector,
                "starts": len(self.results),
                **self.scores(),
                "spread": self.spread(),
                "thresholds": {name: one.threshold for name, one in self.first.items()},
                **_counts(standard.total),
                "budgets": self._own(STANDARD),
                "others": self.others,
                "published": self.published,
                "categories": _places(standard.categories()),
                "files": _places(standard.files),
            }
        )
        return numbers

    def table(self, profile: str | None = None) -> str:
        """The scoreboard, then the detector's own alerts by budget; of all profiles or one."""
        names = list(self.first) if profile is None else [profile]
        board = {f"{name} (published)": scores for name, scores in self.published.items()}
        board |= {**self.others, f"> {self.detector}": self.scores()}
        ranked = sorted(board.items(), key=lambda row: -row[1][names[0]])
        shown = [[label, *(str(round(row[n], 1)) for n in names)] for label, row in ranked]
        parts = [text_table("NAB", ["detector", *names], shown)]
        if len(self.results) > 1:
            text = ", ".join(f"{name} {self.spread()[name]:.1f}" for name in names)
            parts.append(f"Spread over {len(self.results)} start shifts: {text}")
        if self.budgets:
            columns: dict[str, Any] = {
                name: lambda row, name=name: f"{row[name]:.1f}" for name in names
            }
            own = self._own(names[0]).text(
                "The detector's own alerts", ["budget per 100 readings"], columns | _COUNTS
            )
            parts.append(own)
        return "\n\n".join(parts)

    def _own(self, profile: str) -> Table:
        """By budget: final scores, and the counts of a profile."""
        return Table(
            (budget, {**mean_scores(results), **_counts(results[0][profile].total)})
            for budget, results in self.budgets.items()
        )

    def category_table(self, profile: str = STANDARD) -> str:
        """Detections, misses and false alarms by folder; score in percent of the perfect one."""
        rows = _places(self.first[profile].categories())
        title = f"By category, profile {profile}"
        return rows.text(title, ["category"], {"score": "score", **_COUNTS})

    def file_table(self, profile: str = STANDARD) -> str:
        """Detections, misses and false alarms by file; score in raw points."""
        rows = _places(self.first[profile].files)
        title = f"By file, profile {profile}"
        return rows.text(title, ["file"], {"points": "points", **_COUNTS})


def mean_scores(results: Sequence[NabResult]) -> dict[str, float]:
    """Profile -> final score, mean over several results."""
    return {name: mean([run[name].score for run in results]) for name in results[0]}


def _counts(one: WindowScore) -> Row:
    return {
        "windows": one.windows,
        "found": one.found,
        "missed": one.missed,
        "false_alarms": one.false_alarms,
    }


def _places(scores: Mapping[str, WindowScore]) -> Table:
    """Counts, points and score of files or folders."""
    return Table(
        (name, {**_counts(one), "points": one.points, "score": one.score})
        for name, one in scores.items()
    )


def run_nab(
    detector: Detector,
    root: Path,
    name: str = OURS,
    starts: int = 1,
    baselines: Baselines | None = None,
) -> NabReport:
    """Score `detector` on the corpus at `root`, beside baselines and the published detectors.

    `starts` start-shifted copies of each file are run and their scores averaged, those of the
    other detectors too. Published raw scores are also scored with the silence rule, where
    `root`/results holds them. ValueError where `root` holds no corpus.
    """
    series = load_corpus(root)
    profiles = load_profiles(root)
    published = load_published_scores(root)
    runs = detect(detector, series, starts)
    others = {
        label: mean_scores(_score_runs(series, detect(other, series, starts), profiles))
        for label, other in (baselines("nab", series) if baselines else {}).items()
    }
    for label in published:
        if (root / "results" / label).is_dir():
            statistics = load_published_statistics(root, label, series)
            silenced = score_corpus(series, statistics, profiles)
            others[f"{label}, with silence"] = mean_scores([silenced])
    return NabReport(
        detector=name,
        results=_score_runs(series, runs, profiles),
        budgets={
            budget: [
                score_alerts(series, [one.onsets[budget] for one in run], profiles) for run in runs
            ]
            for budget in runs[0][0].onsets
        },
        others=Table(others),
        published=Table((label, scores) for label, scores in published.items() if label != "null"),
        series=series,
        detections=runs[0],
    )


def _score_runs(
    series: Sequence[LabelledSeries],
    runs: Sequence[Sequence[Detection]],
    profiles: Sequence[Profile],
) -> list[NabResult]:
    return [score_corpus(series, [one.statistic for one in run], profiles) for run in runs]
