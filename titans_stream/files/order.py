"""Readings of a file in order of time: whether they stand so, and sorted where they do not.

N is the number of readings of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from titans_stream.files.csv_readings import CsvReadings
from titans_stream.ids import taken
from titans_stream.records import Int64, Readings

KEPT = 1_000_000
"""Readings that are kept in memory while the order is looked at; a longer file is read twice."""
_SORTED_CHUNK = 100_000


@dataclass
class OrderOfTimes:
    """How the times of readings follow one another in each series; steps between two readings."""

    readings: int = 0
    later: int = 0
    """Steps forwards."""
    earlier: int = 0
    """Steps backwards."""
    first_earlier: int | None = None
    """Row of the first reading that is earlier than the one before it."""
    same: int = 0
    """Steps to the same time with another value."""
    repeated: int = 0
    """Steps to the same time and the same value."""
    _codes: dict[str, int] = field(default_factory=dict)
    _last: dict[int, tuple[int, float]] = field(default_factory=dict)

    @property
    def newest_first(self) -> bool:
        """Whether two in three steps go backwards; in a jumble it is one in two."""
        return self.earlier > 2 * self.later

    def see(self, chunk: CsvReadings, keys: Sequence[str]) -> None:
        """Take N readings, which follow those seen before; `keys` [N] tell the series apart."""
        codes = self._codes
        of = np.array([codes.setdefault(key, len(codes)) for key in keys], np.int64)
        order = np.argsort(of, kind="stable")
        of, times = of[order], chunk.readings.timestamp[order]
        values, rows = chunk.readings.value[order], chunk.row[order]
        first = np.append(True, of[1:] != of[:-1])
        before, before_value = np.roll(times, 1), np.roll(values, 1)
        known = np.ones(len(of), np.bool_)
        for i in np.flatnonzero(first).tolist():
            last = self._last.get(int(of[i]))
            known[i] = last is not None
            if last is not None:
                before[i], before_value[i] = last
        ends = np.append(first[1:], True)
        for i in np.flatnonzero(ends).tolist():
            self._last[int(of[i])] = (int(times[i]), float(values[i]))
        earlier = known & (times < before)
        same = known & (times == before)
        alike = same & ((values == before_value) | (np.isnan(values) & np.isnan(before_value)))
        self.readings += len(of)
        self.later += int((known & (times > before)).sum())
        self.earlier += int(earlier.sum())
        self.repeated += int(alike.sum())
        self.same += int((same & ~alike).sum())
        if self.first_earlier is None and earlier.any():
            self.first_earlier = int(rows[earlier].min())


class InOrderOfTime:
    """Iterates over a file's readings, sorted by time where a series' readings are not in order.

    `read` reads the file. The sort is stable, over all series at once, and reads newest-first
    files from their end; the readings keep offset and row. Channels of a group count as one series
    here: they are judged together. `only_newest_first`: other disorder is left as it is.
    """

    def __init__(
        self, read: Callable[[], Iterable[CsvReadings]], only_newest_first: bool = False
    ) -> None:
        self._read = read
        self._only_newest_first = only_newest_first
        self.order = OrderOfTimes()
        self._kept: list[CsvReadings] | None = []
        for chunk in read():
            readings = chunk.readings
            self.order.see(chunk, readings.group or readings.series)
            self._keep(chunk)

    @property
    def sorted(self) -> bool:
        """Whether the readings had to be sorted."""
        if self._only_newest_first:
            return self.order.newest_first
        return self.order.earlier > 0

    def _keep(self, chunk: CsvReadings) -> None:
        if self._kept is not None:
            self._kept.append(chunk)
            if self.order.readings > KEPT:
                self._kept = None

    def __iter__(self) -> Iterator[CsvReadings]:
        chunks = self._read() if self._kept is None else self._kept
        return iter(self._in_order(list(chunks))) if self.sorted else iter(chunks)

    def _in_order(self, chunks: list[CsvReadings]) -> Iterator[CsvReadings]:
        """Sorted, in chunks of `_SORTED_CHUNK`."""
        whole = _joined(chunks)
        at = np.arange(len(whole.row))
        if self.order.newest_first:
            at = at[::-1]
        at = at[np.argsort(whole.readings.timestamp[at], kind="stable")]
        for first in range(0, len(at), _SORTED_CHUNK):
            yield _take(whole, at[first : first + _SORTED_CHUNK])


def _joined(chunks: list[CsvReadings]) -> CsvReadings:
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(chunk.readings, name) for chunk in chunks])
        for name in ("timestamp", "value", "partition", "offset")
    }
    groups = [chunk.readings.group for chunk in chunks]
    return CsvReadings(
        Readings(
            series=[one for chunk in chunks for one in chunk.readings.series],
            group=[one for part in groups if part is not None for one in part] or None,
            **columns,
        ),
        np.concatenate([chunk.row for chunk in chunks]),
    )


def _take(chunk: CsvReadings, at: Int64) -> CsvReadings:
    readings = chunk.readings
    columns: dict[str, Any] = {
        name: getattr(readings, name)[at] for name in ("timestamp", "value", "partition", "offset")
    }
    group = readings.group
    return CsvReadings(
        replace(
            readings,
            series=taken(readings.series, at),
            group=None if group is None else [group[i] for i in at.tolist()],
            **columns,
        ),
        chunk.row[at],
    )
