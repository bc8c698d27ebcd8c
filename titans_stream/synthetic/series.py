"""The record of a synthetic series."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from titans_stream.records import Float64, Int64


@dataclass(frozen=True, slots=True)
class SyntheticSeries:
    """A made series of T readings at a fixed interval.

    `timestamp` [T] is int64 nanoseconds, UTC; `value` [T] is NaN where a reading is missing.
    `windows` [W, 2] holds the first and last row of each injected anomaly and `kinds` their
    kinds. `period` is the length of the series' cycle in readings, 0 where it has none.
    """

    name: str
    family: str
    interval: int
    timestamp: Int64
    value: Float64
    period: int
    windows: Int64
    kinds: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.value)

    @property
    def label(self) -> npt.NDArray[np.bool_]:
        """[T], true inside the injected anomalies."""
        label = np.zeros(len(self), dtype=np.bool_)
        for first, last in self.windows:
            label[first : last + 1] = True
        return label
