"""The CPU as if it were a device: for tests, and to try what is run on a GPU without one.

Its memory is apart from the host's, and its threads run in a scrambled order, so that what depends
on either shows. The functions are those that a GPU runs, compiled by numba.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from titans_stream.engine.device.api import Array, DeviceError


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """An array of the device; only the device itself looks inside."""

    inside: Array


class EmulatedDevice:
    """Implements `Device`; `memory` bytes of it, of which what was let go does not come back."""

    name = "emulated"
    threads = 1

    def __init__(self, memory: int = 1 << 40) -> None:
        self.free_bytes = memory
        self.launches = 0

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Memory:
        """As `Device.empty`."""
        array = np.empty(shape, dtype)
        if array.nbytes > self.free_bytes:
            raise DeviceError(f"{array.nbytes:,} bytes of {self.free_bytes:,} that are free")
        self.free_bytes -= array.nbytes
        return Memory(array)

    def as_words(self, array: Memory, dtype: npt.DTypeLike, words: int) -> Memory:
        """As `Device.as_words`."""
        return Memory(array.inside.reshape(-1).view(dtype).reshape(-1, words))

    def put(self, target: Memory, array: Array) -> None:
        """As `Device.put`."""
        target.inside[: len(array)] = array

    def get(self, source: Memory, count: int) -> Array:
        """As `Device.get`."""
        return source.inside[:count].copy()

    def launch(self, thread: Callable[..., None], count: int, *arguments: Any) -> None:
        """As `Device.launch`."""
        self.launches += 1
        order = np.random.default_rng(count).permutation(count)
        _all_threads(thread)(order, *map(_inside, arguments))


def _inside(argument: Any) -> Any:
    if isinstance(argument, Memory):
        return argument.inside
    if isinstance(argument, tuple) and hasattr(argument, "_fields"):
        return type(argument)(*map(_inside, argument))
    return argument


@functools.cache
def _all_threads(thread: Callable[..., None]) -> Callable[..., None]:
    """A compiled loop over threads."""

    def run(order: Any, *arguments: Any) -> None:
        for j in range(order.shape[0]):
            thread(order[j], *arguments)

    compiled: Callable[..., None] = numba.njit(run)
    return compiled
