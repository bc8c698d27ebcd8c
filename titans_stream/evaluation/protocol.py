"""What is evaluated and how: labelled series in, detections out.

T is the number of rows of a series, D the number of its value columns, W of its labelled windows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from titans_stream.records import Float64, Int64

Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class LabelledSeries:
    """A series and what is known about it.

    `values` is [T] for one channel and [T, D] for the channels of one asset, scored jointly; NaN
    where a value is missing. `timestamp` [T] is int64 nanoseconds, UTC, or None where the series
    has none. `windows` [W, 2] holds the first and last row of each labelled anomaly. `evaluated`
    [T] marks the rows that count. Rows before `train_end` are free of labelled anomalies.
    `start` is the number of rows cut off at the front, with the name ending in `+start`.
    """

    name: str
    values: Float64
    timestamp: Int64 | None
    windows: Int64
    evaluated: Bool
    train_end: int = 0
    start: int = 0

    def __post_init__(self) -> None:
        rows = len(self.values)
        if self.timestamp is not None and len(self.timestamp) != rows:
            raise ValueError(f"{self.name}: {len(self.timestamp)} timestamps for {rows} values")
        if self.evaluated.shape != (rows,):
            raise ValueError(f"{self.name}: evaluated must be [{rows}]")
        if self.windows.shape[1:] != (2,):
            raise ValueError(f"{self.name}: windows must be [W, 2]")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def channels(self) -> int:
        """D, the number of value columns."""
        return 1 if self.values.ndim == 1 else self.values.shape[1]

    @property
    def label(self) -> Bool:
        """[T], true inside the labelled windows."""
        label = np.zeros(len(self), dtype=np.bool_)
        for first, last in self.windows:
            label[first : last + 1] = True
        return label

    @property
    def source(self) -> str:
        """The name of the whole series that this one is a part of."""
        return self.name.removesuffix(f"+{self.start}") if self.start else self.name

    def drop_first(self, rows: int) -> LabelledSeries:
        """The series as it looks to a detector that starts `rows` later; none of it is renumbered
        but the rows.

        Windows that began earlier are cut; those that ended earlier are gone.
        """
        if rows == 0:
            return self
        windows = np.maximum(self.windows[self.windows[:, 1] >= rows] - rows, 0)
        return replace(
            self,
            name=f"{self.source}+{self.start + rows}",
            values=self.values[rows:],
            timestamp=None if self.timestamp is None else self.timestamp[rows:],
            windows=windows,
            evaluated=self.evaluated[rows:],
            train_end=max(self.train_end - rows, 0),
            start=self.start + rows,
        )


@dataclass(frozen=True, slots=True)
class Detection:
    """What a detector made of one series of T rows.

    `surprise` [T] ranks the rows within the series, higher is stranger; `statistic` [T] is what
    thresholds are set on, comparable across series. NaN while the detector warms up.
    The rest is optional. `onsets` maps an alert budget, in false episodes per 100 readings, to
    the first readings [T] of the alerts that the detector raises by itself at that budget;
    `anyway` to those of them that come at any budget, with none where a detector has no such.
    `p_value` [T] is the share of the series' own normal readings that are as strange.
    `expected`, `lower` and `upper` [T] are the expected band (the first channel's).
    """

    surprise: Float64
    statistic: Float64
    onsets: Mapping[float, Bool] = field(default_factory=dict)
    anyway: Mapping[float, Bool] = field(default_factory=dict)
    p_value: Float64 | None = None
    expected: Float64 | None = None
    lower: Float64 | None = None
    upper: Float64 | None = None

    def pad_front(self, rows: int) -> Detection:
        """The detection of the whole series, whose first `rows` the detector did not see."""
        if rows == 0:
            return self
        unseen, silent = np.full(rows, np.nan), np.zeros(rows, dtype=np.bool_)
        columns = {one.name: getattr(self, one.name) for one in fields(self)}
        onsets, anyway = columns.pop("onsets"), columns.pop("anyway")
        padded: dict[str, Any] = {
            name: None if column is None else np.concatenate((unseen, column))
            for name, column in columns.items()
        }
        return Detection(
            onsets={q: np.concatenate((silent, flags)) for q, flags in onsets.items()},
            anyway={q: np.concatenate((silent, flags)) for q, flags in anyway.items()},
            **padded,
        )


class Detector(Protocol):
    """Scores all series of a set, each causally and in one pass, without reading its labels."""

    def __call__(self, series: Sequence[LabelledSeries]) -> list[Detection]:
        """One detection per series, in the order of `series`; their names are unique."""
        ...


@dataclass(frozen=True, slots=True)
class Watched:
    """A detector that tells how far it is: `progress(name, rows done, rows in all)`."""

    name: str
    detector: Detector
    progress: Callable[[str, int, int], None]

    def __call__(self, series: Sequence[LabelledSeries]) -> list[Detection]:
        """One detection per series, one series after another."""
        total, done = sum(map(len, series)), 0
        found = []
        for one in series:
            self.progress(self.name, done, total)
            found.extend(self.detector([one]))
            done += len(one)
        self.progress(self.name, done, total)
        return found


Baselines = Callable[[str, Sequence[LabelledSeries]], Mapping[str, Detector]]
"""The detectors to compare with, by the name of a set and its series."""

START_SPAN = 100
"""Start-shifted copies begin 0 to this many rows later: block boundaries fall everywhere."""


def detect(
    detector: Detector, series: Sequence[LabelledSeries], starts: int = 1
) -> list[list[Detection]]:
    """Run `detector` on `starts` start-shifted copies of each series, in one call.

    Copy k lacks its first round(100 k / starts) rows. Returns [starts][series], each detection
    of the length of the whole series. ValueError where the detector breaks its contract.
    """
    if starts < 1:
        raise ValueError(f"starts: at least 1 copy of each series is needed, not {starts}")
    shifts = [round(START_SPAN * k / starts) for k in range(starts)]
    copies = [one.drop_first(shift) for shift in shifts for one in series]
    found = detector(copies)
    if len(found) != len(copies):
        raise ValueError(f"detector: {len(found)} detections for {len(copies)} series")
    for copy, detection in zip(copies, found, strict=True):
        if len(detection.statistic) != len(copy) or len(detection.surprise) != len(copy):
            raise ValueError(f"detector: {len(detection.statistic)} rows for {copy.name}")
    whole = [d.pad_front(copy.start) for copy, d in zip(copies, found, strict=True)]
    width = len(series)
    return [whole[k * width : (k + 1) * width] for k in range(starts)]


def runs(flags: Bool) -> Int64:
    """[W, 2]: first and last row of each run of true in `flags` [T]."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    return np.column_stack((edges[::2], edges[1::2] - 1)).astype(np.int64)
