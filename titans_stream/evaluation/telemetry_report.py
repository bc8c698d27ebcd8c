"""Detectors on sets of labelled telemetry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from titans_stream.evaluation.metrics import (
    EventCounts,
    average_precision,
    best_threshold,
    count_at_threshold,
    count_onsets,
    vus_pr,
)
from titans_stream.evaluation.protocol import (
    Baselines,
    Detection,
    Detector,
    LabelledSeries,
    detect,
)
from titans_stream.evaluation.tables import Cell, mean, number, spread, text_table
from titans_stream.evaluation.telemetry import load_sets


@dataclass(frozen=True, slots=True)
class SeriesScore:
    """One series: AP and VUS-PR (NaN without events), and events at the set's threshold."""

    name: str
    ap: float
    vus_pr: float
    events: EventCounts


@dataclass(frozen=True, slots=True)
class SetScore:
    """One detector on one set, one start shift.

    `ap` and `vus_pr` are means over the series; `events` the counts at `threshold`, the best
    one for the whole set; `budgets` the counts of the detector's own alerts.
    """

    ap: float
    vus_pr: float
    threshold: float
    events: EventCounts
    budgets: Mapping[float, EventCounts]
    series: tuple[SeriesScore, ...]


_EVENT_MEASURES: Mapping[str, Callable[[EventCounts], float]] = {
    "event_f1": lambda counts: counts.f1,
    "event_precision": lambda counts: counts.precision,
    "event_recall": lambda counts: counts.recall,
    "median_delay": lambda counts: counts.median_delay,
    "false_alarms_per_day": lambda counts: counts.false_alarms_per_day,
    "false_alarms_per_1000": lambda counts: counts.false_alarms_per_1000,
}
"""Names in tables and JSON; the delay is in readings."""


@dataclass(frozen=True, slots=True)
class TelemetryReport:
    """What `run_telemetry` found: set -> detector -> one score per start shift.

    `series` are those of each set, `detections` what each detector made of them, unshifted.
    """

    sets: Mapping[str, Mapping[str, tuple[SetScore, ...]]]
    series: Mapping[str, Sequence[LabelledSeries]]
    detections: Mapping[str, Mapping[str, Sequence[Detection]]]

    def to_json(self) -> dict[str, object]:
        """Set -> detector -> numbers, means over start shifts."""
        return {
            name: {detector: _detector_json(runs) for detector, runs in rows.items()}
            for name, rows in self.sets.items()
        }

    def table(self) -> str:
        """One table per set, then the detectors' own alerts by budget."""
        parts = []
        for name, detectors in self.sets.items():
            rows: list[list[Cell]] = []
            own: list[list[Cell]] = []
            for detector, runs in detectors.items():
                measures = [_means([run.events for run in runs])[m] for m in _EVENT_MEASURES]
                aps, volumes = [run.ap for run in runs], [run.vus_pr for run in runs]
                rows.append([detector, mean(aps), spread(aps), mean(volumes), *measures])
                for budget in runs[0].budgets:
                    counts = _means([run.budgets[budget] for run in runs])
                    own.append([f"{detector}, budget {budget:g}", *counts.values()])
            columns = ["detector", "ap", "+-", "vus_pr", *_EVENT_MEASURES]
            parts.append(text_table(f"{name}: one threshold for the set", columns, rows))
            if own:
                columns = ["detector", *_EVENT_MEASURES]
                parts.append(text_table(f"{name}: the detector's own alerts", columns, own))
        return "\n\n".join(parts)

    def series_table(self, data_set: str, detector: str) -> str:
        """One row per series, of the unshifted run."""
        rows: list[list[Cell]] = [
            [
                one.name,
                one.ap,
                one.vus_pr,
                one.events.found,
                one.events.events - one.events.found,
                one.events.false_alarms,
            ]
            for one in self.sets[data_set][detector][0].series
        ]
        columns = ["series", "ap", "vus_pr", "found", "missed", "false alarms"]
        return text_table(f"{data_set}, {detector}", columns, rows)


def _means(counts: Sequence[EventCounts]) -> dict[str, float]:
    return {name: mean([f(one) for one in counts]) for name, f in _EVENT_MEASURES.items()}


def _detector_json(runs: Sequence[SetScore]) -> dict[str, object]:
    f1 = [run.events.f1 for run in runs]
    return {
        "ap": number(mean([run.ap for run in runs])),
        "vus_pr": number(mean([run.vus_pr for run in runs])),
        **{name: number(value) for name, value in _means([r.events for r in runs]).items()},
        "starts": len(runs),
        "spread": {
            "ap": number(spread([run.ap for run in runs])),
            "event_f1": number(spread(f1)),
        },
        "threshold": number(runs[0].threshold),
        "budgets": {
            str(budget): {
                name: number(value)
                for name, value in _means([run.budgets[budget] for run in runs]).items()
            }
            for budget in runs[0].budgets
        },
        "series": {
            one.name: {
                "ap": number(one.ap),
                "vus_pr": number(one.vus_pr),
                "events": one.events.events,
                "found": one.events.found,
                "false_alarms": one.events.false_alarms,
            }
            for one in runs[0].series
        },
    }


def score_set(series: Sequence[LabelledSeries], detections: Sequence[Detection]) -> SetScore:
    """All measures of one detector on one set. ValueError where nothing is evaluated."""
    statistics = [detection.statistic for detection in detections]
    threshold, events = best_threshold(series, statistics)
    rows = []
    for one, detection in zip(series, detections, strict=True):
        surprise, label = detection.surprise[one.evaluated], one.label[one.evaluated]
        rows.append(
            SeriesScore(
                name=one.name,
                ap=average_precision(surprise, label),
                vus_pr=vus_pr(surprise, label),
                events=count_at_threshold([one], [detection.statistic], threshold),
            )
        )
    return SetScore(
        ap=mean([row.ap for row in rows]),
        vus_pr=mean([row.vus_pr for row in rows]),
        threshold=threshold,
        events=events,
        budgets={q: count_onsets(series, detections, q) for q in detections[0].onsets},
        series=tuple(rows),
    )


def run_telemetry(
    detectors: Mapping[str, Detector],
    root: Path,
    starts: int = 1,
    baselines: Baselines | None = None,
) -> TelemetryReport:
    """Score `detectors` on every set under `root` (layout: `telemetry.py`), means over `starts`.

    `baselines` gives the detectors to compare with on a set, by its name and series; they run on
    the same start shifts. ValueError where there is no labelled series.
    """
    scores: dict[str, dict[str, tuple[SetScore, ...]]] = {}
    detections: dict[str, dict[str, Sequence[Detection]]] = {}
    sets = load_sets(root)
    for name, series in sets.items():
        everyone = {**detectors, **(baselines(name, series) if baselines else {})}
        scores[name], detections[name] = {}, {}
        for label, detector in everyone.items():
            runs = detect(detector, series, starts)
            scores[name][label] = tuple(score_set(series, run) for run in runs)
            detections[name][label] = runs[0]
    return TelemetryReport(scores, sets, detections)
