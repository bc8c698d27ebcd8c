"""The first readings after a gap: what changed meanwhile is not strange by itself.

What a memory predicts from the readings before a gap says little of those after it. An episode
opens on the first of them only where they are strange for the time of day, too, or outside of the
valid range of their series.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from titans_stream.detection.explain import CAUSES
from titans_stream.engine.rows import Array, Rows
from titans_stream.jit import njit
from titans_stream.memory.rows import ArraySpec
from titans_stream.records import Float64, Int8, Int64, Records

FIRST = 3
"""Readings after a gap on which no episode opens by itself."""
TIME_OF_DAY = np.array([i for i, text in enumerate(CAUSES) if "time of day" in text])
"""The causes that a gap does not explain."""
_NAME = "after_gap"


@njit(nogil=True)
def _count(uids: Int64, gap: Int8, left: Int64, first: Int8) -> None:
    for i in range(uids.shape[0]):
        if gap[i] == 1:
            left[uids[i], 0] = FIRST
        first[i] = 1 if left[uids[i], 0] > 0 else 0
        if first[i] == 1:
            left[uids[i], 0] -= 1


class AfterGap:
    """Counts the readings after a gap, by uid."""

    def __init__(self) -> None:
        self._rows = Rows({_NAME: ArraySpec((1,), np.int64)}, {}, later=(_NAME,))

    def admit(self, uid: int) -> None:
        """A uid is given out to a new series."""
        self._rows.reserve(uid + 1)
        self._rows.reset(np.array([uid]))

    def hold(self, uids: Int64, gap: Int8, values: Float64, cause: Int8, rules: Records) -> None:
        """Take N readings in order; `rules` [N] of those that open no episode are disabled."""
        first = np.empty(len(uids), np.int8)
        _count(uids, gap, self._rows.arrays[_NAME], first)
        inside = (values >= rules["low"]) & (values <= rules["high"])
        held = (first == 1) & ~np.isin(cause, TIME_OF_DAY) & inside
        if held.any():
            rules["enabled"][held] = 0.0

    def export(self, uids: Int64) -> dict[str, Array]:
        """Copy out the counts."""
        return self._rows.export(uids)

    def load(self, uids: Int64, arrays: Mapping[str, Array]) -> None:
        """Put what `export` gave in place; states without it are after no gap."""
        self._rows.reserve(int(uids.max(initial=-1)) + 1)
        self._rows.reset(uids)
        self._rows.load(uids, arrays)
