"""Measures of anomaly detection on labelled series: by row (AP, VUS-PR) and by event (F1).

An event is a labelled window; it is found if an alert lies inside it, and every alert outside all
events is a false alarm. T is the number of evaluated rows, W of events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from titans_stream.evaluation.protocol import Bool, Detection, LabelledSeries, runs
from titans_stream.evaluation.silence import alert_rows
from titans_stream.records import Float64, Int64

DAY_NS = 86_400 * 1_000_000_000
THRESHOLDS = 102
TAIL = (0.6, 3e-5)
"""Largest and smallest share of rows above the candidate thresholds of `best_threshold`: there are
sets with more than half of their rows inside events, and sets with one event in 20,000 rows."""


def average_precision(score: Float64, label: Bool) -> float:
    """Area under the precision-recall steps, sum (R_n - R_{n-1}) P_n; ties share a threshold.

    `score` [T], NaN counts as the least; `label` [T]. NaN where nothing is labelled.
    """
    score = np.where(np.isnan(score), -np.inf, score)
    order = np.argsort(-score, kind="stable")
    ranked, hits = score[order], np.cumsum(label[order])
    if len(hits) == 0 or hits[-1] == 0:
        return float("nan")
    last = np.append(ranked[1:] != ranked[:-1], True)
    hits = hits[last].astype(np.float64)
    called = (np.arange(len(score)) + 1)[last]
    recall = np.diff(hits, prepend=0.0) / hits[-1]
    return float(recall @ (hits / called))


def vus_pr(score: Float64, label: Bool, max_buffer: int = 100, thresholds: int = 250) -> float:
    """Volume under the range-based precision-recall surface (Paparrizos et al., PVLDB 15, 2022).

    The mean over buffers of 0..`max_buffer` rows of the area under precision against recall x
    existence. Labels fall off as sqrt(1 - distance / buffer) over half a buffer on both sides of
    an event; existence is the share of events that have a row above the threshold; thresholds
    are spread evenly over the ranking. `score` [T], NaN counts as the least; `label` [T]. NaN
    where nothing is labelled.
    """
    if not label.any():
        return float("nan")
    score = np.where(np.isnan(score), -np.inf, score)
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    cuts = ranked[np.linspace(0, len(score) - 1, thresholds).astype(np.int64)]
    called = np.searchsorted(-ranked, -cuts, side="right")
    inside = np.cumsum(label[order])[called - 1].astype(np.float64)
    areas = []
    for buffer in range(max_buffer + 1):
        soft = np.where(label, 0.0, _soft_label(label, buffer))
        beside = np.cumsum(soft[order])[called - 1]
        existence = _existence(score, cuts, runs(label), buffer // 2)
        recall = np.minimum((inside + beside) / (label.sum() + beside / 2), 1.0) * existence
        areas.append(np.diff(recall, prepend=0.0) @ ((inside + beside) / called))
    return float(np.mean(areas))


def _soft_label(label: Bool, buffer: int) -> Float64:
    soft = label.astype(np.float64)
    for first, last in runs(label):
        after = np.arange(last + 1, min(last + buffer // 2 + 1, len(label)))
        before = np.arange(max(first - buffer // 2, 0), first)
        soft[after] += np.sqrt(1 - (after - last) / max(buffer, 1))
        soft[before] += np.sqrt(1 - (first - before) / max(buffer, 1))
    return np.minimum(soft, 1.0)


def _existence(score: Float64, cuts: Float64, events: Int64, margin: int) -> Float64:
    """Share of `events`, widened by `margin` and merged where they overlap, found at each cut."""
    first, last = events[:, 0] - margin, events[:, 1] + margin
    starts = np.append(True, first[1:] > last[:-1])
    ends = np.append(starts[1:], True)
    peaks = [score[max(a, 0) : b + 1].max() for a, b in zip(first[starts], last[ends], strict=True)]
    found: Float64 = (np.array(peaks)[None, :] >= cuts[:, None]).mean(axis=1)
    return found


@dataclass(frozen=True, slots=True)
class EventCounts:
    """Alerts against events of one series or, added up, of a set.

    `delays` are the rows from an event's first row to its first alert, one per event found.
    `rows` is the number of evaluated rows, `days` the time that they span (NaN without
    timestamps).
    """

    events: int
    found: int
    false_alarms: int
    rows: int
    days: float
    delays: tuple[int, ...]

    def __add__(self, other: EventCounts) -> EventCounts:
        names = (one.name for one in fields(EventCounts))
        return EventCounts(*(getattr(self, name) + getattr(other, name) for name in names))

    def measures(self) -> dict[str, float]:
        """The measures of `MEASURES` by name."""
        return {name: float(getattr(self, of)) for name, of in MEASURES.items()}

    @property
    def recall(self) -> float:
        """Share of events found; NaN without events."""
        return self.found / self.events if self.events else float("nan")

    @property
    def precision(self) -> float:
        """Events found among events found and false alarms; NaN without either."""
        called = self.found + self.false_alarms
        return self.found / called if called else float("nan")

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN), with TP the events found and FP the false alarms."""
        total = self.found + self.false_alarms + self.events
        return 2 * self.found / total if total else float("nan")

    @property
    def median_delay(self) -> float:
        """Median rows from an event's start to its first alert."""
        return float(np.median(self.delays)) if self.delays else float("nan")

    @property
    def false_alarms_per_1000(self) -> float:
        """False alarms per 1000 evaluated readings."""
        return 1000 * self.false_alarms / self.rows if self.rows else float("nan")

    @property
    def false_alarms_per_day(self) -> float:
        """False alarms per series and day; NaN without timestamps."""
        return self.false_alarms / self.days if self.days > 0 else float("nan")


MEASURES = {
    "event_f1": "f1",
    "event_precision": "precision",
    "event_recall": "recall",
    "median_delay": "median_delay",
    "false_alarms_per_day": "false_alarms_per_day",
    "false_alarms_per_1000": "false_alarms_per_1000",
}
"""Names in tables and JSON -> measures of `EventCounts`; the delay is in readings."""
NOTHING = EventCounts(0, 0, 0, 0, 0.0, ())


def count_events(series: LabelledSeries, rows: Int64) -> EventCounts:
    """Compare alerts at `rows`, all evaluated ones, with the events that are evaluated.

    An event counts if any of its rows is evaluated.
    """
    inside = series.label[rows]
    delays = []
    events = [w for w in series.windows if series.evaluated[w[0] : w[1] + 1].any()]
    for first, last in events:
        position = np.searchsorted(rows, first)
        if position < len(rows) and rows[position] <= last:
            delays.append(int(rows[position] - first))
    return EventCounts(
        events=len(events),
        found=len(delays),
        false_alarms=int((~inside).sum()),
        rows=int(series.evaluated.sum()),
        days=_days(series),
        delays=tuple(delays),
    )


def _days(series: LabelledSeries) -> float:
    if series.timestamp is None or not series.evaluated.any():
        return float("nan")
    times = series.timestamp[series.evaluated]
    return float(times[-1] - times[0]) / DAY_NS


def count_at_threshold(
    series: Sequence[LabelledSeries], statistics: Sequence[Float64], threshold: float
) -> EventCounts:
    """Counts of a set when `threshold` is put on each series' statistic, with the silence rule.

    Alerts count from a series' first evaluated row on; rows that are not evaluated never alert.
    """
    counts = (
        count_events(one, alert_rows(np.where(one.evaluated, statistic, np.nan), threshold))
        for one, statistic in zip(series, statistics, strict=True)
    )
    return sum(counts, NOTHING)


def candidate_thresholds(
    series: Sequence[LabelledSeries], statistics: Sequence[Float64]
) -> Float64:
    """Quantiles of all evaluated rows of a set, pooled.

    `THRESHOLDS` of them; the shares of rows above are spaced evenly in logs over `TAIL`.
    """
    pooled = np.concatenate([s[one.evaluated] for one, s in zip(series, statistics, strict=True)])
    pooled = pooled[~np.isnan(pooled)]
    if len(pooled) == 0:
        raise ValueError("no evaluated row has a statistic: every detector is still warming up")
    return np.unique(np.quantile(pooled, 1 - np.geomspace(*TAIL, THRESHOLDS)))


def best_threshold(
    series: Sequence[LabelledSeries], statistics: Sequence[Float64]
) -> tuple[float, EventCounts]:
    """The one threshold for a whole set with the highest event F1 among the candidates."""
    trials = [
        (float(cut), count_at_threshold(series, statistics, float(cut)))
        for cut in candidate_thresholds(series, statistics)
    ]
    return max(trials, key=lambda trial: np.nan_to_num(trial[1].f1))


def count_onsets(
    series: Sequence[LabelledSeries], detections: Sequence[Detection], budget: float
) -> EventCounts:
    """Counts of the alerts that the detector raised by itself at `budget`."""
    counts = (
        count_events(one, np.flatnonzero(detection.onsets[budget] & one.evaluated))
        for one, detection in zip(series, detections, strict=True)
    )
    return sum(counts, NOTHING)
