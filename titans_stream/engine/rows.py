"""Rows of preallocated arrays on the device; idle series are spilled to host memory.

A series is named by its uid, a small integer; its state is one row of each array while it is
resident and a packed copy in host memory while it is spilled. State is never dropped under
pressure: the least recently used rows make room.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from titans_stream.memory.rows import ArraySpec
from titans_stream.records import Int64

Array = npt.NDArray[Any]
FIRST_CAPACITY = 256


def fresh_rows(specs: Mapping[str, ArraySpec], count: int) -> dict[str, Array]:
    """The arrays of `count` rows at zero."""
    return {name: np.zeros((count, *spec.shape), spec.dtype) for name, spec in specs.items()}


class DeviceRows:
    """State arrays [capacity, ...] on one device, with at most `slots` resident series.

    `fresh` gives the first row of the arrays that do not start at zero.
    """

    def __init__(
        self,
        specs: Mapping[str, ArraySpec],
        slots: int,
        device: torch.device,
        fresh: Mapping[str, Array],
    ) -> None:
        self._specs = dict(specs)
        self._slots = slots
        self._device = device
        self._fresh = dict(fresh)
        self._capacity = 0
        self._used = 0
        self._free: list[int] = []
        self._slot = np.full(FIRST_CAPACITY, -1, np.int64)
        self._uid = np.empty(0, np.int64)
        self._touched = np.empty(0, np.int64)
        self._clock = 0
        self._spilled: dict[int, dict[str, Array]] = {}
        self.arrays: dict[str, Any] = {}
        """numpy arrays on CPU, tensors elsewhere; rows move, so look up after `place`."""
        self.spills = 0
        """Rows moved to host memory so far."""
        self._grow(min(slots, FIRST_CAPACITY))

    @property
    def slots(self) -> int:
        """Most series resident at once."""
        return self._slots

    @property
    def resident(self) -> int:
        """Series on the device."""
        return self._used - len(self._free)

    @property
    def spilled(self) -> int:
        """Series in host memory."""
        return len(self._spilled)

    @property
    def row_bytes(self) -> int:
        """Bytes of state per series."""
        return sum(spec.nbytes for spec in self._specs.values())

    def place(self, uids: Int64) -> Int64:
        """Make the distinct `uids` resident, fresh ones included; returns their slots.

        ValueError when they are more than `slots`.
        """
        if len(uids) > self._slots:
            raise ValueError(f"slots: {len(uids)} series in one call, room for {self._slots}")
        self._clock += 1
        top = int(uids.max(initial=-1)) + 1
        if top > len(self._slot):
            grown = np.full(max(top, 2 * len(self._slot)), -1, np.int64)
            grown[: len(self._slot)] = self._slot
            self._slot = grown
        slots = self._slot[uids]
        present = slots >= 0
        self._touched[slots[present]] = self._clock
        missing = uids[~present]
        if len(missing):
            new = self._allocate(len(missing))
            self._slot[missing] = new
            self._uid[new] = missing
            self._touched[new] = self._clock
            self._fill(missing, new)
            slots = self._slot[uids]
        return slots

    def reset(self, uid: int) -> None:
        """Start a series anew."""
        self._spilled.pop(uid, None)
        if uid < len(self._slot) and self._slot[uid] >= 0:
            self._write_fresh(self._slot[uid : uid + 1])

    def drop(self, uids: Int64) -> None:
        """Forget series."""
        for uid in uids.tolist():
            self._spilled.pop(uid, None)
            if uid < len(self._slot) and self._slot[uid] >= 0:
                self._free.append(int(self._slot[uid]))
                self._uid[self._slot[uid]] = -1
                self._slot[uid] = -1

    def export(self, uids: Int64) -> dict[str, Array]:
        """Copy out the state of series, resident or spilled: arrays [len(uids), ...].

        A series that was never placed is exported as a fresh one.
        """
        out = fresh_rows(self._specs, len(uids))
        for name, first in self._fresh.items():
            out[name][:] = first
        known = np.where(
            uids < len(self._slot), self._slot[np.minimum(uids, len(self._slot) - 1)], -1
        )
        here = np.flatnonzero(known >= 0)
        for name in self._specs:
            out[name][here] = self._read(name, known[here])
        for i in np.flatnonzero(known < 0).tolist():
            packed = self._spilled.get(int(uids[i]))
            if packed is not None:
                for name, row in packed.items():
                    out[name][i] = row
        return out

    def load(self, uids: Int64, arrays: Mapping[str, Array]) -> None:
        """Put the state of series in place, into host memory; `place` brings it in.

        ValueError names an array that is missing or of another shape.
        """
        for name, spec in self._specs.items():
            if name not in arrays:
                raise ValueError(f"state: array {name!r} is missing")
            if arrays[name].shape != (len(uids), *spec.shape):
                raise ValueError(f"state: array {name!r} has shape {arrays[name].shape}")
        self.drop(uids)
        for i, uid in enumerate(uids.tolist()):
            self._spilled[uid] = {
                name: np.array(arrays[name][i], spec.dtype) for name, spec in self._specs.items()
            }

    def _allocate(self, count: int) -> Int64:
        need = count - len(self._free) - (self._capacity - self._used)
        if need > 0 and self._capacity < self._slots:
            self._grow(min(self._slots, max(2 * self._capacity, self._capacity + need)))
        need = count - len(self._free) - (self._capacity - self._used)
        if need > 0:
            self._evict(max(need, self._slots // 16))
        taken = [self._free.pop() for _ in range(min(count, len(self._free)))]
        fresh = count - len(taken)
        taken.extend(range(self._used, self._used + fresh))
        self._used += fresh
        return np.array(taken, np.int64)

    def _evict(self, count: int) -> None:
        """Spill the least recently used rows; never one that this call has touched."""
        idle = np.flatnonzero((self._uid >= 0) & (self._touched < self._clock))
        order = idle[np.argsort(self._touched[idle], kind="stable")][:count]
        packed = {name: self._read(name, order) for name in self._specs}
        for i, slot in enumerate(order.tolist()):
            uid = int(self._uid[slot])
            self._spilled[uid] = {name: packed[name][i].copy() for name in self._specs}
            self._slot[uid] = -1
            self._uid[slot] = -1
            self._free.append(slot)
        self.spills += len(order)

    def _fill(self, uids: Int64, slots: Int64) -> None:
        back = [i for i, uid in enumerate(uids.tolist()) if uid in self._spilled]
        if len(back) < len(uids):
            self._write_fresh(np.delete(slots, back))
        if back:
            rows = [self._spilled.pop(int(uids[i])) for i in back]
            for name in self._specs:
                self._write(name, slots[back], np.stack([row[name] for row in rows]))

    def _write_fresh(self, slots: Int64) -> None:
        for name, spec in self._specs.items():
            first = self._fresh.get(name, np.zeros(spec.shape, spec.dtype))
            self._write(name, slots, np.broadcast_to(first, (len(slots), *spec.shape)))

    def _read(self, name: str, slots: Int64) -> Array:
        array = self.arrays[name]
        if isinstance(array, torch.Tensor):
            index = torch.as_tensor(slots, device=self._device)
            moved: Array = array.index_select(0, index).cpu().numpy()
            return moved
        picked: Array = array[slots]
        return picked

    def _write(self, name: str, slots: Int64, rows: Array) -> None:
        array = self.arrays[name]
        if isinstance(array, torch.Tensor):
            index = torch.as_tensor(slots, device=self._device)
            array.index_copy_(0, index, torch.from_numpy(np.array(rows)).to(self._device))
        else:
            array[slots] = rows

    def _grow(self, capacity: int) -> None:
        for name, spec in self._specs.items():
            grown = np.zeros((capacity, *spec.shape), spec.dtype)
            old = self.arrays.get(name)
            if self._device.type == "cpu":
                if old is not None:
                    grown[: self._capacity] = old
                self.arrays[name] = grown
                continue
            tensor = torch.zeros(
                (capacity, *spec.shape),
                dtype=torch.from_numpy(grown[:0]).dtype,
                device=self._device,
            )
            if old is not None:
                tensor[: self._capacity] = old
            self.arrays[name] = tensor
        for attribute in ("_uid", "_touched"):
            grown_index = np.full(capacity, -1, np.int64)
            grown_index[: self._capacity] = getattr(self, attribute)
            setattr(self, attribute, grown_index)
        self._capacity = capacity


class HostRows:
    """Small per-series arrays that stay in host memory, indexed by uid."""

    def __init__(self, specs: Mapping[str, ArraySpec], fresh: Mapping[str, Array]) -> None:
        self._specs = dict(specs)
        self._fresh = dict(fresh)
        self._capacity = 0
        self.arrays: dict[str, Array] = {}
        self.reserve(FIRST_CAPACITY)

    @property
    def row_bytes(self) -> int:
        """Bytes per series."""
        return sum(spec.nbytes for spec in self._specs.values())

    def reserve(self, capacity: int) -> None:
        """Make room for uids below `capacity`."""
        if capacity <= self._capacity:
            return
        capacity = max(capacity, 2 * self._capacity)
        for name, spec in self._specs.items():
            grown = np.zeros((capacity, *spec.shape), spec.dtype)
            if name in self._fresh:
                grown[:] = self._fresh[name]
            if name in self.arrays:
                grown[: self._capacity] = self.arrays[name]
            self.arrays[name] = grown
        self._capacity = capacity

    def reset(self, uids: Int64) -> None:
        """Start rows anew."""
        for name, spec in self._specs.items():
            self.arrays[name][uids] = self._fresh.get(name, np.zeros(spec.shape, spec.dtype))

    def export(self, uids: Int64) -> dict[str, Array]:
        """Copy out rows: arrays [len(uids), ...]."""
        return {name: self.arrays[name][uids] for name in self._specs}

    def load(self, uids: Int64, arrays: Mapping[str, Array]) -> None:
        """Put rows in place; ValueError names an array that is missing or of another shape."""
        for name, spec in self._specs.items():
            if name == "rule":
                continue
            if name not in arrays or arrays[name].shape != (len(uids), *spec.shape):
                raise ValueError(f"state: array {name!r} is missing or of another shape")
            self.arrays[name][uids] = arrays[name]
