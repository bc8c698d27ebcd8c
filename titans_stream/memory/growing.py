"""Rows of state whose number grows without a copy."""

from __future__ import annotations

import contextlib
import mmap
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from titans_stream.memory.rows import ArraySpec

_LARGE = 4 * 2**20
"""Bytes of an array from which on it is moved, not copied, where it grows."""


class GrowingRows:
    """Rows of one array whose number grows; new ones are zero.

    On Linux memory grows by its page table, wherever it lies, as copying some GB takes seconds.
    Whoever holds on to earlier `rows` has them copied, and sees those of then.
    """

    def __init__(self, spec: ArraySpec) -> None:
        self._spec = spec
        self._memory: mmap.mmap | None = None
        self.rows = spec.rows(0)
        """[count, ...]; made anew by `reserve`."""

    def reserve(self, count: int) -> None:
        """Have `count` rows, or more where there are; MemoryError leaves those that there are."""
        before, size = len(self.rows), count * self._spec.nbytes
        if count <= before:
            return
        if not sys.platform.startswith("linux") or size < _LARGE:
            grown = self._spec.rows(count)
            grown[:before] = self.rows
            self.rows = grown
            return
        if self._memory is not None:
            self.rows = self._spec.rows(0)
            try:
                self._memory.resize(size)
            except BufferError:
                self.rows = self._view(before)
            except OSError:
                self.rows = self._view(before)
                raise MemoryError(f"no memory for {count} rows of {self._spec.nbytes} B") from None
            else:
                self.rows = self._view(count)
                return
        old = self.rows
        try:
            self._memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError:
            raise MemoryError(f"no memory for {count} rows of {self._spec.nbytes} B") from None
        with contextlib.suppress(OSError):  # a system without huge pages
            self._memory.madvise(mmap.MADV_HUGEPAGE)
        self.rows = self._view(count)
        self.rows[:before] = old

    def _view(self, count: int) -> npt.NDArray[Any]:
        flat = np.frombuffer(self._memory, np.uint8, count * self._spec.nbytes)  # type: ignore[arg-type]
        return flat.view(self._spec.dtype).reshape(count, *self._spec.shape)


def reserve_all(
    rows: Mapping[str, GrowingRows], arrays: dict[str, npt.NDArray[Any]], count: int
) -> None:
    """Have `count` rows of each, and put what they are then into `arrays`, by name.

    MemoryError leaves in `arrays` those that there are: some may have grown already.
    """
    for name, one in rows.items():
        arrays.pop(name, None)  # rows that somebody holds are copied
        try:
            one.reserve(count)
        finally:
            arrays[name] = one.rows
