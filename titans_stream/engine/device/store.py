"""State rows in a device's memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from titans_stream.engine.device import threads
from titans_stream.engine.device.api import Array, Buffers, Device
from titans_stream.memory.rows import ArraySpec
from titans_stream.records import Int64

PIECE = 64 << 20
"""Most bytes that are copied at once."""


class DeviceStore:
    """Implements `store.Store`: all rows are made at once, so that none is missing later."""

    grows = False

    def __init__(self, device: Device, specs: Mapping[str, ArraySpec]) -> None:
        self._device = device
        self._specs = dict(specs)
        self._buffers = Buffers(device)
        self._words = {name: _words(spec) for name, spec in specs.items()}
        self._capacity = 0
        self.arrays: dict[str, Any] = {}
        """The device's arrays by name, [capacity, ...]."""
        self._plain: dict[str, Any] = {}

    @property
    def nbytes(self) -> int:
        """As `Store.nbytes`."""
        return self._capacity * sum(spec.nbytes for spec in self._specs.values())

    @property
    def capacity(self) -> int:
        """Rows."""
        return self._capacity

    def reserve(self, capacity: int) -> None:
        """As `Store.reserve`, once. DeviceError where there is no room."""
        if self._capacity:
            raise RuntimeError("a device's rows are made once")
        for name, spec in self._specs.items():
            array = self._device.empty((capacity, *spec.shape), spec.dtype)
            self.arrays[name] = array
            dtype, width = self._words[name]
            self._plain[name] = self._device.as_words(array, dtype, width)
        self._capacity = capacity

    def read(self, name: str, slots: Int64) -> Array:
        """As `Store.read`."""
        spec = self._specs[name]
        words = self._gather(name, slots, 0, self._words[name][1])
        rows: Array = words.view(np.dtype(spec.dtype)).reshape(len(slots), *spec.shape)
        return rows

    def write(self, name: str, slots: Int64, rows: Array) -> None:
        """As `Store.write`."""
        dtype, width = self._words[name]
        spec = self._specs[name]
        rows = np.ascontiguousarray(np.broadcast_to(rows, (len(slots), *spec.shape)), spec.dtype)
        words = rows.reshape(-1).view(dtype)
        for part in _pieces(len(slots), width * dtype.itemsize):
            at = self._buffers.put("slots", slots[part])
            values = self._buffers.put(
                f"rows {dtype}", words[part.start * width : part.stop * width]
            )
            count = (part.stop - part.start) * width
            move = threads.Move(self._plain[name], at, values)
            self._device.launch(threads.scatter, count, move, width)

    def fill(self, name: str, slots: Int64, first: Array) -> None:
        """As `Store.fill`."""
        if len(slots) == 0:
            return
        dtype, width = self._words[name]
        row = np.ascontiguousarray(first, self._specs[name].dtype).reshape(-1).view(dtype)
        at = self._buffers.put("slots", slots)
        values = self._buffers.put(f"rows {dtype}", row)
        move = threads.Move(self._plain[name], at, values)
        self._device.launch(threads.fill, len(slots) * width, move, width)

    def field(self, name: str, field: str, slots: Int64) -> Array:
        """As `Store.field`."""
        dtype = np.dtype(self._specs[name].dtype)
        assert dtype.fields is not None
        element, offset = dtype.fields[field][:2]
        word, _ = self._words[name]
        words = self._gather(
            name, slots, offset // word.itemsize, element.itemsize // word.itemsize
        )
        found: Array = words.view(element)
        return found

    def _gather(self, name: str, slots: Int64, first: int, width: int) -> Array:
        """Words [N * width] of rows, from word `first` on."""
        dtype, _ = self._words[name]
        out = np.empty(len(slots) * width, dtype)
        for part in _pieces(len(slots), width * dtype.itemsize):
            count = (part.stop - part.start) * width
            at = self._buffers.put("slots", slots[part])
            room = self._buffers.room(f"rows {dtype}", (count,), dtype)
            move = threads.Move(self._plain[name], at, room)
            self._device.launch(threads.gather, count, move, first, width)
            out[part.start * width : part.stop * width] = self._device.get(room, count)
        return out


def _words(spec: ArraySpec) -> tuple[np.dtype[Any], int]:
    """The widest number that rows are whole ones of, and how many a row is."""
    for dtype in (np.uint64, np.uint32, np.uint16, np.uint8):
        size = np.dtype(dtype).itemsize
        if spec.nbytes % size == 0:
            return np.dtype(dtype), spec.nbytes // size
    raise AssertionError("bytes are whole bytes")


def _pieces(rows: int, row_bytes: int) -> Iterator[slice]:
    step = max(1, PIECE // row_bytes)
    for first in range(0, rows, step):
        yield slice(first, min(rows, first + step))
