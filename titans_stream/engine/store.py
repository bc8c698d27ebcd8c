"""Where the state of resident series lies: rows of arrays, in memory here or on another device.

What is done with rows reading by reading is `compute.py`'s; here they are only made, moved and
looked at, many at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from titans_stream.memory.growing import GrowingRows, reserve_all
from titans_stream.memory.rows import ArraySpec
from titans_stream.records import Int64

Array = npt.NDArray[Any]


class Store(Protocol):
    """Arrays [capacity, ...] by name, one row a slot; slots [N] are distinct."""

    @property
    def grows(self) -> bool:
        """Whether its capacity follows the need; else it is made at once for all slots."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""

    def reserve(self, capacity: int) -> None:
        """Have `capacity` rows; those that were there stay, new ones hold anything."""

    def read(self, name: str, slots: Int64) -> Array:
        """Copy rows out: [N, ...]."""

    def write(self, name: str, slots: Int64, rows: Array) -> None:
        """Put rows in place."""

    def fill(self, name: str, slots: Int64, first: Array) -> None:
        """Put one row [1, ...] in the place of all of `slots`."""

    def field(self, name: str, field: str, slots: Int64) -> Array:
        """Copy one float64 field of records out: [N]."""


class HostStore:
    """Arrays in this process' memory; implements `Store`."""

    grows = True

    def __init__(self, specs: Mapping[str, ArraySpec]) -> None:
        self._rows = {name: GrowingRows(spec) for name, spec in specs.items()}
        self.arrays: dict[str, Array] = {}
        """By name; they are made anew when they grow, so look up after that."""

    @property
    def nbytes(self) -> int:
        """As `Store.nbytes`; pages that were never touched count too."""
        return sum(array.nbytes for array in self.arrays.values())

    def reserve(self, capacity: int) -> None:
        """As `Store.reserve`; new rows are zero."""
        reserve_all(self._rows, self.arrays, capacity)

    def read(self, name: str, slots: Int64) -> Array:
        """As `Store.read`."""
        rows: Array = self.arrays[name][slots]
        return rows

    def write(self, name: str, slots: Int64, rows: Array) -> None:
        """As `Store.write`."""
        self.arrays[name][slots] = rows

    def fill(self, name: str, slots: Int64, first: Array) -> None:
        """As `Store.fill`."""
        self.arrays[name][slots] = first

    def field(self, name: str, field: str, slots: Int64) -> Array:
        """As `Store.field`."""
        found: Array = self.arrays[name][field][slots]
        return found


class SplitStore:
    """Some arrays in one store, the others in another; implements `Store`.

    `one` holds those of its `names`; both of them grow, or neither.
    """

    def __init__(self, other: Store, one: Store, names: Mapping[str, ArraySpec]) -> None:
        self._other = other
        self._one = one
        self._names = frozenset(names)
        self.grows = other.grows

    @property
    def nbytes(self) -> int:
        """As `Store.nbytes`."""
        return self._other.nbytes + self._one.nbytes

    def _of(self, name: str) -> Store:
        return self._one if name in self._names else self._other

    def reserve(self, capacity: int) -> None:
        """As `Store.reserve`."""
        self._other.reserve(capacity)
        self._one.reserve(capacity)

    def read(self, name: str, slots: Int64) -> Array:
        """As `Store.read`."""
        return self._of(name).read(name, slots)

    def write(self, name: str, slots: Int64, rows: Array) -> None:
        """As `Store.write`."""
        self._of(name).write(name, slots, rows)

    def fill(self, name: str, slots: Int64, first: Array) -> None:
        """As `Store.fill`."""
        self._of(name).fill(name, slots, first)

    def field(self, name: str, field: str, slots: Int64) -> Array:
        """As `Store.field`."""
        return self._of(name).field(name, field, slots)


PAGE = 1_024
"""Rows of a page of `Spill`."""


class Spill:
    """Packed rows of series that have no slot, by uid, in pages that go when they are empty."""

    def __init__(self, specs: Mapping[str, ArraySpec]) -> None:
        self._specs = dict(specs)
        self._place = np.full(256, -1, np.int64)
        self._pages: dict[int, dict[str, Array]] = {}
        self._free: dict[int, list[int]] = {}
        """Free rows of the pages that have some."""
        self._next = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def has(self, uids: Int64) -> npt.NDArray[np.bool_]:
        """Which of `uids` [N] are here."""
        self._reserve(int(uids.max(initial=-1)) + 1)
        here: npt.NDArray[np.bool_] = self._place[uids] >= 0
        return here

    def put(self, uids: Int64, rows: Mapping[str, Array]) -> None:
        """Take in rows [N, ...] of distinct series that are not here."""
        self._reserve(int(uids.max(initial=-1)) + 1)
        done = 0
        while done < len(uids):
            page, free = next(iter(self._free.items()), (self._next, None))
            if free is None:
                self._pages[page] = {name: spec.rows(PAGE) for name, spec in self._specs.items()}
                free = self._free[page] = list(range(PAGE - 1, -1, -1))
                self._next += 1
            count = min(len(free), len(uids) - done)
            at = np.array(free[: -count - 1 : -1], np.int64)
            del free[-count:]
            if not free:
                del self._free[page]
            for name, array in self._pages[page].items():
                array[at] = rows[name][done : done + count]
            self._place[uids[done : done + count]] = page * PAGE + at
            done += count
        self._count += len(uids)

    def read(self, uids: Int64, name: str) -> Array:
        """Copy rows of one array out: [N, ...]; all of `uids` are here."""
        out = self._specs[name].rows(len(uids))
        for page, at, rows in self._by_page(uids):
            out[at] = self._pages[page][name][rows]
        return out

    def drop(self, uids: Int64) -> None:
        """Forget distinct series, those that are not here aside."""
        uids = uids[self.has(uids)]
        for page, _, rows in self._by_page(uids):
            free = self._free.setdefault(page, [])
            free.extend(rows.tolist())
            if len(free) == PAGE:
                del self._pages[page], self._free[page]
        self._place[uids] = -1
        self._count -= len(uids)

    def count(self, name: str, field: str) -> int:
        """How many series have 1 in a field of a record."""
        uids = np.flatnonzero(self._place >= 0)
        return int((self.read(uids, name)[field] == 1.0).sum()) if len(uids) else 0

    def _by_page(self, uids: Int64) -> list[tuple[int, Int64, Int64]]:
        """The pages of series, with their places in `uids` and their rows."""
        pages, rows = np.divmod(self._place[uids], PAGE)
        order = np.argsort(pages, kind="stable")
        cuts = np.flatnonzero(np.diff(pages[order])) + 1
        parts = np.split(order, cuts) if len(order) else []
        return [(int(pages[part[0]]), part, rows[part]) for part in parts]

    def _reserve(self, capacity: int) -> None:
        if capacity > len(self._place):
            grown = np.full(max(capacity, 2 * len(self._place)), -1, np.int64)
            grown[: len(self._place)] = self._place
            self._place = grown
