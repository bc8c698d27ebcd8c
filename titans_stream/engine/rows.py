"""Rows of preallocated arrays: in slots, from which idle series are spilled, or always in memory.

A series is named by its uid, a small integer. Its slot is its row of each array of `Slots` while
it is resident; while it is spilled it is a packed copy elsewhere in memory. State is never dropped
under pressure: the series that was used least recently makes room.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from titans_stream.engine.store import Array, HostStore, Spill, Store
from titans_stream.memory.rows import ArraySpec
from titans_stream.records import Int64

FIRST_CAPACITY = 256


class Home(Protocol):
    """Keeps the state of some series itself."""

    def leave(self, uids: Int64, slots: Int64) -> npt.NDArray[np.bool_]:
        """Which of the series are kept by it; they lose their slots."""

    def enter(self, uids: Int64, slots: Int64) -> None:
        """Bring the state of those that it keeps into their slots, which are fresh."""


class Slots:
    """State arrays of at most `slots` resident series, in a store of their rows.

    `fresh` gives the first row, [1, ...], of the arrays that do not start at zero; `store` None:
    they lie in memory here.
    """

    def __init__(
        self,
        specs: Mapping[str, ArraySpec],
        slots: int,
        fresh: Mapping[str, Array],
        store: Store | None = None,
    ) -> None:
        self._specs = dict(specs)
        self._slots = slots
        self._fresh = {name: fresh.get(name, spec.rows(1)) for name, spec in specs.items()}
        self._capacity = 0
        self._used = 0
        self._free: list[int] = []
        self._slot = np.full(FIRST_CAPACITY, -1, np.int64)
        self._uid = np.empty(0, np.int64)
        self._touched = np.empty(0, np.int64)
        self._clock = 0
        self._spilled = Spill(specs)
        self.store: Store = HostStore(specs) if store is None else store
        """The rows, by slot."""
        self.spills = 0
        """Series spilled so far."""
        self.home: Home | None = None
        """Where the series have their state that need no copy of a slot."""
        self._grow(min(slots, FIRST_CAPACITY) if self.store.grows else slots)

    @property
    def limit(self) -> int:
        """Most series resident at once."""
        return self._slots

    @property
    def resident(self) -> int:
        """Series in slots."""
        return self._used - len(self._free)

    @property
    def spilled(self) -> int:
        """Series outside."""
        return len(self._spilled)

    @property
    def row_bytes(self) -> int:
        """Bytes of state per series."""
        return sum(spec.nbytes for spec in self._specs.values())

    def place(self, uids: Int64) -> Int64:
        """The slots of `uids` [N], repeats allowed, which are made resident; new ones begin fresh.

        ValueError when they are more series than `limit`.
        """
        self._clock += 1
        self._reserve(int(uids.max(initial=-1)) + 1)
        slots = self._slot[uids]
        if slots.min(initial=0) < 0:
            self._touched[slots[slots >= 0]] = self._clock
            missing = np.unique(uids[slots < 0])
            new = self._allocate(len(missing))
            self._slot[missing] = new
            self._uid[new] = missing
            self._fill(missing, new)
            slots = self._slot[uids]
        self._touched[slots] = self._clock
        return slots

    def reset(self, slots: Int64, keep: Collection[str] = ()) -> None:
        """Let the series in `slots` begin fresh, but for the arrays to `keep`."""
        for name, first in self._fresh.items():
            if name not in keep:
                self.store.fill(name, slots, first)

    def drop(self, uids: Int64) -> None:
        """Forget series."""
        self._reserve(int(uids.max(initial=-1)) + 1)
        self._spilled.drop(uids)
        slots = self._slot[uids]
        slots = slots[slots >= 0]
        self._free.extend(slots.tolist())
        self._uid[slots] = -1
        self._slot[uids] = -1

    def count(self, name: str, field: str) -> int:
        """How many series have 1 in a field of a record, in slots and spilled."""
        here = self.store.field(name, field, np.flatnonzero(self._uid >= 0))
        return int((here == 1.0).sum()) + self._spilled.count(name, field)

    def export(self, uids: Int64, names: Collection[str] | None = None) -> dict[str, Array]:
        """Copy out the state of distinct series: arrays [N, ...]; unknown ones are fresh.

        `names` are the arrays to copy, all of them without.
        """
        self._reserve(int(uids.max(initial=-1)) + 1)
        slots = self._slot[uids]
        here, away = np.flatnonzero(slots >= 0), np.flatnonzero(self._spilled.has(uids))
        whole = len(here) == len(uids)
        out: dict[str, Array] = {}
        for name, first in self._fresh.items():
            if names is not None and name not in names:
                continue
            if whole:
                out[name] = self.store.read(name, slots)
                continue
            out[name] = np.repeat(first, len(uids), axis=0)
            if len(here):
                out[name][here] = self.store.read(name, slots[here])
            if len(away):
                out[name][away] = self._spilled.read(uids[away], name)
        return out

    def load(self, uids: Int64, arrays: Mapping[str, Array]) -> None:
        """Put the state of distinct series in place, in slots as far as they are free.

        ValueError names an array that is missing or of another shape.
        """
        rows = checked(self._specs, arrays, len(uids))
        self.drop(uids)
        fit = min(len(uids), len(self._free) + self._slots - self._used)
        if fit:
            slots = self._allocate(fit)
            self._slot[uids[:fit]] = slots
            self._uid[slots] = uids[:fit]
            self._touched[slots] = 0
            for name, array in rows.items():
                self.store.write(name, slots, array[:fit])
        self._spilled.put(uids[fit:], {name: array[fit:] for name, array in rows.items()})

    def expect(self, count: int) -> None:
        """So many series will come: room is made for them at once, as far as there are slots."""
        need = count - self._room()
        if need > 0 and self._capacity < self._slots:
            self._grow(min(self._slots, self._capacity + need))

    def _reserve(self, capacity: int) -> None:
        if capacity > len(self._slot):
            grown = np.full(max(capacity, 2 * len(self._slot)), -1, np.int64)
            grown[: len(self._slot)] = self._slot
            self._slot = grown

    def _room(self) -> int:
        return len(self._free) + self._capacity - self._used

    def _allocate(self, count: int) -> Int64:
        need = count - self._room()
        if need > 0 and self._capacity < self._slots:
            self._grow(min(self._slots, max(4 * self._capacity, self._capacity + need)))
        need = count - self._room()
        if need > 0:
            self._evict(max(need, self._slots // 16))
        if count > self._room():
            raise ValueError(f"slots: too many series in one call, room for {self._slots}")
        free = min(count, len(self._free))
        taken = self._free[: -free - 1 : -1]
        del self._free[len(self._free) - free :]
        fresh = count - free
        taken.extend(range(self._used, self._used + fresh))
        self._used += fresh
        return np.array(taken, np.int64)

    def _evict(self, count: int) -> None:
        """Spill the series used least recently; never one that this call has touched."""
        idle = np.flatnonzero((self._uid >= 0) & (self._touched < self._clock))
        order = idle[np.argsort(self._touched[idle], kind="stable")][:count]
        self.vacate(order)
        self.spills += len(order)

    def residents(self) -> tuple[Int64, Int64, Int64]:
        """Uids and slots of those in slots, and when each was used last."""
        slots = np.flatnonzero(self._uid >= 0)
        return self._uid[slots], slots, self._touched[slots]

    def slots_of(self, uids: Int64) -> Int64:
        """The slots of `uids`, -1 where they have none; nothing changes."""
        self._reserve(int(uids.max(initial=-1)) + 1)
        return self._slot[uids]

    def vacate(self, slots: Int64) -> None:
        """Take series out of their slots: home, or spilled."""
        uids = self._uid[slots]
        home = np.zeros(len(uids), bool) if self.home is None else self.home.leave(uids, slots)
        away = slots[~home]
        if len(away):
            self._spilled.put(
                uids[~home], {name: self.store.read(name, away) for name in self._specs}
            )
        self._slot[uids] = -1
        self._uid[slots] = -1
        self._free.extend(slots.tolist())

    def _fill(self, uids: Int64, slots: Int64) -> None:
        known = self._spilled.has(uids)
        if known.any():
            for name in self._specs:
                self.store.write(name, slots[known], self._spilled.read(uids[known], name))
            self._spilled.drop(uids[known])
        if not known.all():
            self.reset(slots[~known])
        if self.home is not None:
            self.home.enter(uids, slots)

    def _grow(self, capacity: int) -> None:
        self.store.reserve(capacity)
        for attribute in ("_uid", "_touched"):
            index = np.full(capacity, -1, np.int64)
            index[: self._capacity] = getattr(self, attribute)
            setattr(self, attribute, index)
        self._capacity = capacity


class Rows:
    """Small arrays [capacity, ...] that stay in memory, by uid; arguments as those of `Slots`.

    `later` names arrays that stored states may lack: they begin fresh.
    """

    def __init__(
        self,
        specs: Mapping[str, ArraySpec],
        fresh: Mapping[str, Array],
        later: Collection[str] = (),
    ) -> None:
        self._later = later
        self._specs = dict(specs)
        self._fresh = {name: fresh.get(name, spec.rows(1)) for name, spec in specs.items()}
        self._capacity = 0
        self.arrays: dict[str, Array] = {}
        self.reserve(FIRST_CAPACITY)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return sum(spec.nbytes for spec in self._specs.values())

    def reserve(self, capacity: int) -> None:
        """Make room for uids below `capacity`; new rows are fresh."""
        if capacity <= self._capacity:
            return
        capacity = max(capacity, 2 * self._capacity)
        for name, first in self._fresh.items():
            grown = np.repeat(first, capacity, axis=0)
            if name in self.arrays:
                grown[: self._capacity] = self.arrays[name]
            self.arrays[name] = grown
        self._capacity = capacity

    def reset(self, uids: Int64) -> None:
        """Let rows begin fresh."""
        for name, first in self._fresh.items():
            self.arrays[name][uids] = first

    def export(self, uids: Int64) -> dict[str, Array]:
        """Copy out rows: arrays [len(uids), ...]."""
        return {name: array[uids] for name, array in self.arrays.items()}

    def load(self, uids: Int64, arrays: Mapping[str, Array]) -> None:
        """Put rows in place; ValueError names an array that is missing or of another shape."""
        for name, rows in checked(self._specs, arrays, len(uids), self._later).items():
            self.arrays[name][uids] = rows


def checked(
    specs: Mapping[str, ArraySpec],
    arrays: Mapping[str, Array],
    count: int,
    later: Collection[str] = (),
) -> dict[str, Array]:
    """The arrays of `specs` out of stored ones (`memory.rows.plain`), in their own types."""
    for name in specs:
        if name not in arrays and name not in later:
            raise ValueError(f"state: array {name!r} is missing")
    return {
        name: spec.from_plain(name, arrays[name], count)
        for name, spec in specs.items()
        if name in arrays
    }
