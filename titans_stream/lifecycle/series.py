"""A series that is trained on or measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from titans_stream.calendar_features import calendar_features
from titans_stream.engine.clock import LocalTime
from titans_stream.records import Float64, Int64


@dataclass(frozen=True, slots=True)
class Series:
    """Readings of one series in order of time, none missing. Times are nanoseconds, UTC."""

    name: str
    family: str
    value: Float64
    timestamp: Int64
    calendar: Float64
    """[T, 10] as `calendar_features` gives it."""
    local_seconds: Float64 | None = None
    """[T] local seconds since the epoch; None: the times are not real ones."""

    @property
    def seconds(self) -> Float64:
        """[T] local seconds since the epoch, NaN where the times are not real ones."""
        if self.local_seconds is None:
            return np.full(len(self.value), np.nan)
        return self.local_seconds

    @property
    def interval(self) -> float:
        """Nanoseconds from one reading to the next, the median; NaN for a single reading."""
        return float(np.median(np.diff(self.timestamp))) if len(self.timestamp) > 1 else np.nan


def make_series(
    name: str, family: str, value: Float64, timestamp: Int64, clock: LocalTime | None
) -> Series:
    """A series from readings in any order.

    Readings that are missing are left out; `clock` None: the times are not real ones.
    """
    known = np.isfinite(value)
    value, timestamp = value[known], timestamp[known]
    order = np.argsort(timestamp, kind="stable")
    value, timestamp = value[order], timestamp[order]
    seconds = np.full(len(value), np.nan) if clock is None else clock.seconds(timestamp)
    known_clock = None if clock is None else seconds
    return Series(name, family, value, timestamp, calendar_features(seconds), known_clock)
