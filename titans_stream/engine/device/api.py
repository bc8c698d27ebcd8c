"""What the engine asks of a device: memory, copies, launches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class DeviceError(ValueError):
    """A device that is not there, too small or lost; one line for people."""


class Device(Protocol):
    """A device. Its arrays are opaque here: only `launch` and the copies take them."""

    @property
    def name(self) -> str:
        """For people: `cuda:0 NVIDIA H100`."""

    @property
    def free_bytes(self) -> int:
        """Memory that nobody has."""

    @property
    def threads(self) -> int:
        """Threads that it can run at once."""

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Any:
        """An array that holds anything; DeviceError where there is no room."""

    def as_words(self, array: Any, dtype: npt.DTypeLike, words: int) -> Any:
        """The same memory as numbers [rows, words]."""

    def put(self, target: Any, array: Array) -> None:
        """Copy an array [N, ...] to the first N rows of a device's."""

    def get(self, source: Any, count: int) -> Array:
        """Copy the first `count` rows out."""

    def launch(self, thread: Callable[..., None], count: int, *arguments: Any) -> None:
        """Run a function of `threads.py` for threads 0 to count - 1, in any order.

        Arguments are this device's arrays, numbers and NamedTuples of them. What was launched or
        copied before is done before.
        """


def copied(device: Device, value: Any) -> Any:
    """Arrays, in NamedTuples of NamedTuples, on the device; what is no array stays as it is."""
    if isinstance(value, np.ndarray):
        target = device.empty(value.shape, value.dtype)
        device.put(target, np.ascontiguousarray(value))
        return target
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(copied(device, part) for part in value))
    return value


class Buffers:
    """Arrays on a device that are used again call by call, by name; they grow with the calls."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._arrays: dict[str, tuple[int, Any]] = {}

    def room(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Any:
        """An array of at least shape[0] rows that holds anything; valid until it is asked for
        again."""
        rows, array = self._arrays.get(name, (0, None))
        if array is None or rows < shape[0]:
            self._arrays.pop(name, None)  # let go before the larger one is made
            rows = max(1_024, shape[0] + shape[0] // 4)
            array = self._device.empty((rows, *shape[1:]), dtype)
            self._arrays[name] = rows, array
        return array

    def put(self, name: str, array: Array) -> Any:
        """A copy of an array, in the rows from 0 on."""
        target = self.room(name, array.shape, array.dtype)
        self._device.put(target, array)
        return target
