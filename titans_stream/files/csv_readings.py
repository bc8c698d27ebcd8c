"""Turns the columns of a file into readings."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import tzinfo
from itertools import chain, repeat

import numpy as np

from titans_stream.durations import SECOND
from titans_stream.files.column_choice import CsvColumns
from titans_stream.files.csv_file import CsvChunk, CsvFile
from titans_stream.records import Float64, Int64, Readings

ASSUMED_INTERVAL = 300 * SECOND
"""Time between the readings of a series in a file without times."""


@dataclass(frozen=True, slots=True)
class CsvReadings:
    """The readings of R rows with V value columns, row by row: N = R * V.

    `readings.offset` counts the readings of the file from 0. `row` [N] is the number of each
    reading's row.
    """

    readings: Readings
    row: Int64


class ReadingsOfCsv:
    """Iterates over a file's readings in chunks; each iteration reads it anew.

    `zone` is that of times without offset. `group` gives the group id of a series; None: there are
    no groups.
    """

    def __init__(
        self,
        file: CsvFile,
        columns: CsvColumns,
        zone: tzinfo,
        group: Callable[[str], str] | None = None,
    ) -> None:
        self._file = file
        self._columns = columns
        self._zone = zone
        self._group = None if group is None else functools.cache(group)
        self._count = 0
        self._rows_of: dict[str, int] = {}

    def __iter__(self) -> Iterator[CsvReadings]:
        self._count = 0
        self._rows_of.clear()
        for chunk in self._file.chunks():
            yield self._readings(chunk)

    def _readings(self, chunk: CsvChunk) -> CsvReadings:
        names = self._columns.values
        values: Float64 = np.column_stack([chunk.numbers(name) for name in names]).ravel()
        n, v = len(values), len(names)
        row = np.repeat(np.arange(chunk.first_row, chunk.first_row + len(chunk)), v)
        series = self._series(chunk)
        readings = Readings(
            series=series,
            timestamp=np.repeat(self._times(chunk), v),
            value=values,
            partition=np.zeros(n, dtype=np.int32),
            offset=np.arange(self._count, self._count + n, dtype=np.int64),
            group=None if self._group is None else list(map(self._group, series)),
        )
        self._count += n
        return CsvReadings(readings, row)

    def _series(self, chunk: CsvChunk) -> list[str]:
        names = self._columns.values
        if self._columns.series is None:
            return list(chain.from_iterable(repeat(names, len(chunk))))
        ids = chunk.columns[self._columns.series]
        if not all(map(str.strip, ids)):
            i = next(i for i, cell in enumerate(ids) if not cell.strip())
            raise chunk.error(self._columns.series, i, "is no name of a series")
        if len(names) == 1:
            return ids
        return [f"{series}/{name}" for series in ids for name in names]

    def _times(self, chunk: CsvChunk) -> Int64:
        """[R]; without a column of times, each series counts its own rows."""
        if self._columns.timestamp is not None:
            return chunk.times(self._columns.timestamp, self._zone)
        if self._columns.series is None:
            rows = np.arange(chunk.first_row - 1, chunk.first_row - 1 + len(chunk))
            return rows * ASSUMED_INTERVAL
        seen = self._rows_of
        out = np.empty(len(chunk), dtype=np.int64)
        for i, series in enumerate(chunk.columns[self._columns.series]):
            out[i] = seen.get(series, 0)
            seen[series] = seen.get(series, 0) + 1
        return out * ASSUMED_INTERVAL
