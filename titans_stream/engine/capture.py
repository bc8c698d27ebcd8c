"""A partition's state as it is at one moment, copied out while the engine goes on.

The rows of series are most of a state, far too much to be copied between two messages. So they are
copied in slices (`step`), and a series that readings come for before its slice does is copied
before they are processed (`touch`). What is small and belongs to no single series is copied at
once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt

from titans_stream.records import Int64, Snapshot

SLICE_BYTES = 4 * 2**20
"""Of rows that are copied at once: some milliseconds."""
MOST_TOUCHED = 0.5
"""Where more of a partition's series were touched than this part, all are copied."""
_MOST_WAITING = 16
"""Slices that wait for whoever takes them before no more are made; what is touched is copied all
the same."""


class Capture:
    """Implements `records.Capture`.

    `head` is what is copied already; `uids` (distinct) are the series to copy and `copy` does so,
    for `rows` of them at once.
    """

    def __init__(
        self,
        head: Snapshot,
        uids: Int64,
        copy: Callable[[Int64], Snapshot],
        *,
        rows: int,
        whole: bool,
        mark: int,
    ) -> None:
        self.whole = whole
        self.mark = mark
        self.snapshot = Snapshot(head.schema, head.meta, head.arrays, self._parts())
        self._uids = uids
        self._copy = copy
        self._rows = max(1, rows)
        self._next = 0
        self._left = np.zeros(int(uids.max(initial=-1)) + 1, bool)
        self._left[uids] = True
        self._copied: SimpleQueue[Snapshot | None] = SimpleQueue()
        self._cancelled = self._done = False

    def touch(self, uids: Int64) -> None:
        """The state of `uids`, repeats allowed, is about to change."""
        if not self._done:
            mine = np.unique(uids[uids < len(self._left)])
            self._take(mine[self._left[mine]])

    def step(self, seconds: float) -> bool:
        """As `records.Capture.step`."""
        end = time.perf_counter() + seconds
        while not self._done and self._copied.qsize() < _MOST_WAITING:
            mine = self._uids[self._next : self._next + self._rows]
            self._next += len(mine)
            if len(mine) == 0:
                self._done = True
                self._copied.put(None)
                break
            self._take(mine[self._left[mine]])
            if time.perf_counter() >= end:
                break
        return self._done

    def cancel(self) -> None:
        """As `records.Capture.cancel`."""
        if not self._done:
            self._done = self._cancelled = True
            self._copied.put(None)

    def _take(self, uids: Int64) -> None:
        for first in range(0, len(uids), self._rows):
            self._copied.put(self._copy(uids[first : first + self._rows]))
        self._left[uids] = False

    def _parts(self) -> Iterator[Snapshot]:
        while (part := self._copied.get()) is not None:
            yield part
        if self._cancelled:
            raise CancelledError


class Touched:
    """When series were touched last, counted in marks, and the captures in progress."""

    def __init__(self) -> None:
        self._now = 1
        self._at = np.zeros(0, np.int64)
        self._captures: dict[int, Capture] = {}

    def touch(self, uids: Int64) -> None:
        """The state of series is about to change; repeats allowed."""
        most = int(uids.max(initial=-1)) + 1
        if most > len(self._at):
            grown = np.zeros(max(most, 2 * len(self._at)), np.int64)
            grown[: len(self._at)] = self._at
            self._at = grown
        self._at[uids] = self._now
        for capture in self._captures.values():
            capture.touch(uids)

    def mark(self) -> int:
        """A mark between what was touched so far and what will be."""
        self._now += 1
        return self._now - 1

    def since(self, uids: Int64, mark: int) -> npt.NDArray[np.bool_]:
        """Which of `uids` were touched since a mark."""
        after: npt.NDArray[np.bool_] = self._at[uids] > mark
        return after

    def begin(self, partition: int, capture: Capture) -> Capture:
        """A partition is captured; one that was going on is given up."""
        self.end(partition)
        self._captures[partition] = capture
        return capture

    def end(self, partition: int) -> None:
        """Give up what is still going on."""
        capture = self._captures.pop(partition, None)
        if capture is not None:
            capture.cancel()
