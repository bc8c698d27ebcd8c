"""The newest readings of many series in one block of memory of fixed size.

Each series has a ring of readings, its capacity a power of two between `SMALLEST` and the limit.
A ring that is full grows into one of twice the size; places for rings are split and joined as in a
buddy allocator. Where the block is used up, the limit of every ring is halved: of 100,000 series
each keeps less than of ten.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from titans_stream.records import Int64, Records

READING = np.dtype(
    [
        ("time", np.int64),
        ("value", np.float64),
        ("expected", np.float64),
        ("lower", np.float64),
        ("upper", np.float64),
        ("surprise", np.float32),
        ("rarity", np.float32),
        ("score", np.float32),
        ("status", np.int8),
        ("alert", np.int8),
        ("onset", np.int8),
        ("gap", np.int8),
    ]
)
"""A reading as it was scored; names and meanings as in `records.Scores`, time in UTC ns."""

SMALLEST = 32
"""Readings of the smallest ring."""


class History:
    """Rings of readings by the number of their series, 0 and up without a gap.

    `most`: readings that are kept in all, `READING.itemsize` bytes each. `limit`: of one series.
    """

    def __init__(self, most: int, limit: int) -> None:
        if limit < SMALLEST or most < limit:
            raise ValueError(f"history: {SMALLEST} readings at least are kept of a series")
        self._limit = SMALLEST << (limit // SMALLEST).bit_length() - 1
        self._largest = self._limit
        self._rows: Records = np.empty(most // self._largest * self._largest, READING)
        self._used = 0
        self._free: dict[int, set[int]] = {}
        """Where free places begin, by their size; a place begins at a multiple of its size."""
        self._base = np.full(0, -1, np.int64)
        self._capacity = np.zeros(0, np.int64)
        self._count = np.zeros(0, np.int64)
        """Readings that a ring was given so far."""

    @property
    def limit(self) -> int:
        """Most readings of a series, as it is now."""
        return self._limit

    @property
    def kept(self) -> int:
        """Readings that are kept now."""
        return int(np.minimum(self._count, self._capacity).sum())

    def reserve(self, series: int) -> None:
        """Make room for series up to number `series` - 1."""
        lacking = series - len(self._base)
        if lacking > 0:
            more = max(lacking, len(self._base), 1024)
            self._base = np.concatenate((self._base, np.full(more, -1, np.int64)))
            self._capacity = np.concatenate((self._capacity, np.zeros(more, np.int64)))
            self._count = np.concatenate((self._count, np.zeros(more, np.int64)))

    def append(self, series: Int64, readings: Records) -> None:
        """Take readings [N] in order; `series` [N] ascends, equal numbers stand together."""
        if not len(series):
            return
        names, first, count = np.unique(series, return_index=True, return_counts=True)
        needed = np.minimum(self._count[names] + count, self._limit)
        for i in np.flatnonzero(needed > self._capacity[names]).tolist():
            self._grow(int(names[i]), int(needed[i]))
        rank = np.arange(len(series)) - np.repeat(first, count)
        capacity = self._capacity[series]
        # of more readings than a ring holds the last ones stay
        stays = rank >= np.repeat(count, count) - capacity
        place = self._base[series] + (self._count[series] + rank) % np.maximum(capacity, 1)
        self._rows[place[stays]] = readings[stays]
        self._count[names] += count

    def of(self, series: int, newest: int | None = None) -> Records:
        """A copy of what is kept of a series, oldest first; only the `newest` where given."""
        if series >= len(self._base) or self._capacity[series] == 0:
            return np.empty(0, READING)
        count, capacity = int(self._count[series]), int(self._capacity[series])
        kept = min(count, capacity, capacity if newest is None else newest)
        place = self._base[series] + np.arange(count - kept, count) % capacity
        found: Records = self._rows[place]
        return found

    def column(self, name: str, series: Int64, newest: int) -> tuple[npt.NDArray[Any], Int64]:
        """The newest values of a column for several series [M, newest], and how many each has.

        Aligned to the right; what a series lacks on the left is arbitrary.
        """
        capacity = np.maximum(self._capacity[series], 1)
        kept = np.minimum(np.minimum(self._count[series], self._capacity[series]), newest)
        back = np.arange(newest, 0, -1)
        at = self._base[series, None] + (self._count[series, None] - back) % capacity[:, None]
        return self._rows[name][np.maximum(at, 0)], kept

    def first(self, series: Int64) -> Int64:
        """The time of the oldest reading that is kept of each series; arbitrary where none is."""
        oldest = np.maximum(self._count[series] - self._capacity[series], 0)
        at = self._base[series] + oldest % np.maximum(self._capacity[series], 1)
        found: Int64 = self._rows["time"][np.maximum(at, 0)]
        return found

    def forget(self, series: int) -> None:
        """Drop what is kept of a series: its clock was set back."""
        self._count[series] = 0

    def _grow(self, series: int, needed: int) -> None:
        """Give a series a ring of at least `needed` readings, or of the limit as it is then."""
        wanted = self._ring(needed)
        if wanted <= self._capacity[series]:
            return
        old = self.of(series)
        if self._capacity[series]:
            self._give(int(self._base[series]), int(self._capacity[series]))
            self._capacity[series] = 0
        while (base := self._take(wanted)) is None:
            if self._limit == SMALLEST:
                return  # all have the smallest ring, and there is no room for one more
            self._halve()
            wanted = self._ring(needed)
        self._place(series, base, wanted, old[-wanted:])

    def _ring(self, needed: int) -> int:
        """The capacity of a ring for so many readings."""
        return max(SMALLEST, 1 << (min(needed, self._limit) - 1).bit_length())

    def _place(self, series: int, base: int, capacity: int, readings: Records) -> None:
        self._rows[base : base + len(readings)] = readings
        self._base[series], self._capacity[series] = base, capacity
        self._count[series] = len(readings)

    def _take(self, size: int) -> int | None:
        """Where a place of this size begins; None where the block is used up."""
        found = min((each for each, at in self._free.items() if at and each >= size), default=0)
        if found:
            base = self._free[found].pop()
        elif self._used < len(self._rows):
            base, found = self._used, self._largest
            self._used += found
        else:
            return None
        while found > size:
            found //= 2
            self._free.setdefault(found, set()).add(base + found)
        return base

    def _give(self, base: int, size: int) -> None:
        """Take a place back; free neighbours become one."""
        while size < self._largest and (base ^ size) in self._free.get(size, ()):
            self._free[size].remove(base ^ size)
            base, size = base & ~size, 2 * size
        self._free.setdefault(size, set()).add(base)

    def _halve(self) -> None:
        """Lower the limit; longer rings keep their newest half."""
        self._limit //= 2
        for series in np.flatnonzero(self._capacity > self._limit).tolist():
            newest = self.of(series, self._limit)
            base, capacity = int(self._base[series]), int(self._capacity[series])
            self._place(series, base, self._limit, newest)
            while capacity > self._limit:
                capacity //= 2
                self._give(base + capacity, capacity)
