"""A detector's report on the Numenta Anomaly Benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from titans_stream.evaluation.nab import (
    load_corpus,
    load_profiles,
    load_published_scores,
    load_published_statistics,
    score_alerts,
    score_corpus,
)
from titans_stream.evaluation.nab_rules import FileScore, NabResult, Profile, ProfileScore
from titans_stream.evaluation.protocol import (
    Baselines,
    Detection,
    Detector,
    LabelledSeries,
    detect,
)
from titans_stream.evaluation.tables import Cell, mean, number, spread, text_table

STANDARD = "standard"


@dataclass(frozen=True, slots=True)
class NabReport:
    """What `run_nab` found.

    `results` holds one result per start shift, each with its own best threshold; `budgets` those
    of the alerts that the detector raised by itself, by budget; `others` the same as `results`
    for the other detectors of the run; `published` the scoreboard. `detections` are those of the
    unshifted series.
    """

    detector: str
    results: tuple[NabResult, ...]
    budgets: Mapping[float, tuple[NabResult, ...]]
    others: Mapping[str, tuple[NabResult, ...]]
    published: Mapping[str, Mapping[str, float]]
    series: Sequence[LabelledSeries]
    detections: Sequence[Detection]

    @property
    def first(self) -> NabResult:
        """The result on the unshifted series."""
        return self.results[0]

    def scores(self) -> dict[str, float]:
        """Profile -> final score, mean over start shifts."""
        return _mean_scores(self.results)

    def to_json(self) -> dict[str, object]:
        """All numbers; the keys of the scores are the profiles' names."""
        profile = self.first.profiles[STANDARD]
        return {
            "detector": self.detector,
            "starts": len(self.results),
            **{name: number(score) for name, score in self.scores().items()},
            "spread": {
                name: number(spread([result.profiles[name].score for result in self.results]))
                for name in self.first.profiles
            },
            "thresholds": {
                name: number(one.threshold) for name, one in self.first.profiles.items()
            },
            **_counts(profile),
            "budgets": {
                str(budget): {
                    **{name: number(score) for name, score in _mean_scores(results).items()},
                    **_counts(results[0].profiles[STANDARD]),
                }
                for budget, results in self.budgets.items()
            },
            "others": {
                name: {key: number(score) for key, score in _mean_scores(results).items()}
                for name, results in self.others.items()
            },
            "published": {
                name: {key: number(score) for key, score in row.items()}
                for name, row in self.published.items()
            },
            "categories": {name: _file(one) for name, one in profile.categories().items()},
            "files": {one.name: _file(one) for one in profile.files},
        }

    def table(self, profile: str | None = None) -> str:
        """The scoreboard, then the detector's own alerts by budget; of all profiles or one."""
        names = list(self.first.profiles) if profile is None else [profile]
        rows: list[tuple[float, list[str | float]]] = []
        for label, scores in self._scoreboard().items():
            rows.append((scores[names[0]], [label, *(round(scores[name], 1) for name in names)]))
        rows.sort(key=lambda row: -row[0])
        shown = [[str(cell) for cell in cells] for _, cells in rows]
        parts = [text_table("NAB", ["detector", *names], shown)]
        if len(self.results) > 1:
            spreads = [spread([r.profiles[n].score for r in self.results]) for n in names]
            text = ", ".join(f"{n} {s:.1f}" for n, s in zip(names, spreads, strict=True))
            parts.append(f"Spread over {len(self.results)} start shifts: {text}")
        if self.budgets:
            parts.append(self._budget_table(names))
        return "\n\n".join(parts)

    def _scoreboard(self) -> dict[str, Mapping[str, float]]:
        board: dict[str, Mapping[str, float]] = {
            f"{name} (published)": scores for name, scores in self.published.items()
        }
        board.update({name: _mean_scores(results) for name, results in self.others.items()})
        board[f"> {self.detector}"] = self.scores()
        return board

    def _budget_table(self, names: Sequence[str]) -> str:
        rows: list[list[Cell]] = []
        for budget, results in self.budgets.items():
            scores, profile = _mean_scores(results), results[0].profiles[names[0]]
            rows.append(
                [
                    f"{budget:g}",
                    *(f"{scores[name]:.1f}" for name in names),
                    profile.found,
                    profile.windows - profile.found,
                    profile.false_alarms,
                ]
            )
        columns = ["budget per 100 readings", *names, "found", "missed", "false alarms"]
        return text_table("The detector's own alerts", columns, rows)

    def category_table(self, profile: str = STANDARD) -> str:
        """Detections, misses and false alarms by folder; score in percent of the perfect one."""
        rows: list[list[Cell]] = [
            [
                name,
                100 * one.score / one.perfect if one.perfect else float("nan"),
                one.found,
                one.windows - one.found,
                one.false_alarms,
            ]
            for name, one in self.first.profiles[profile].categories().items()
        ]
        columns = ["category", "score", "found", "missed", "false alarms"]
        return text_table(f"By category, profile {profile}", columns, rows)

    def file_table(self, profile: str = STANDARD) -> str:
        """Detections, misses and false alarms by file; score in raw points."""
        rows: list[list[Cell]] = [
            [one.name, one.score, one.found, one.windows - one.found, one.false_alarms]
            for one in self.first.profiles[profile].files
        ]
        columns = ["file", "points", "found", "missed", "false alarms"]
        return text_table(f"By file, profile {profile}", columns, rows)


def _mean_scores(results: Sequence[NabResult]) -> dict[str, float]:
    return {
        name: mean([result.profiles[name].score for result in results])
        for name in results[0].profiles
    }


def _counts(profile: ProfileScore) -> dict[str, object]:
    return {
        "windows": profile.windows,
        "found": profile.found,
        "missed": profile.windows - profile.found,
        "false_alarms": profile.false_alarms,
    }


def _file(one: FileScore) -> dict[str, object]:
    return {
        "windows": one.windows,
        "found": one.found,
        "missed": one.windows - one.found,
        "false_alarms": one.false_alarms,
        "points": number(one.score),
        "score": number(100 * one.score / one.perfect) if one.perfect else None,
    }


def run_nab(
    detector: Detector,
    root: Path,
    name: str = "titans-stream",
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
    board = {
        label: _score_runs(series, detect(other, series, starts), profiles)
        for label, other in (baselines("nab", series) if baselines else {}).items()
    }
    for label in published:
        if (root / "results" / label).is_dir():
            statistics = load_published_statistics(root, label, series)
            silenced = score_corpus(series, statistics, profiles=profiles)
            board[f"{label}, with silence"] = (silenced,)
    return NabReport(
        detector=name,
        results=_score_runs(series, runs, profiles),
        budgets={
            budget: tuple(
                score_alerts(series, [d.onsets[budget] for d in run], profiles) for run in runs
            )
            for budget in runs[0][0].onsets
        },
        others=board,
        published={label: scores for label, scores in published.items() if label != "null"},
        series=series,
        detections=runs[0],
    )


def _score_runs(
    series: Sequence[LabelledSeries],
    runs: Sequence[Sequence[Detection]],
    profiles: Sequence[Profile],
) -> tuple[NabResult, ...]:
    return tuple(
        score_corpus(series, [one.statistic for one in run], profiles=profiles) for run in runs
    )
