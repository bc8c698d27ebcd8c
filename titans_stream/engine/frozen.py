"""Readings that are scored but not learned.

The short past of a series moves on with such a reading (its last values, running means over some
readings, the run that goes on, the episode), what it has learned does not: memories, calibration,
scales, profile, run lengths, habits. Each reading is learned, then what was learned is put back.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from titans_stream.engine.admission import WARM
from titans_stream.engine.store import Array, Store
from titans_stream.records import Int64

LEARNED = (
    "memory", "cells", "next_value", "transitions", "blocks", "one_step_memory",
    "one_step_errors", "profile", "profile_known", "dwell_lengths", "habits", "tail", "histogram",
    "rises",
)  # fmt: skip
"""Arrays that are put back whole."""
MOVING = {
    "core": (
        "last_deviation", "last_value", "ema24", "ema192", "p_smooth", "day", "deviations",
        "error", "next_error", "u", "before", "transition", "change",
    ),
    "one_step": ("last", "run", "history"),
    "normal": ("last", "before"),
    "dwell": ("anchor", "reach", "run", "started", "state", "before"),
    "turns": ("direction", "extreme", "extreme_time", "turned"),
    "watch": (
        "value", "time", "change_now", "large_run", "since_gap", "hold", "held", "drift",
        "since", "level", "off", "rate", "standing", "rise_quick", "rise_slow",
    ),
}  # fmt: skip
"""Records of which these fields move on; the others are put back."""


def rounds(uids: Int64) -> Iterator[Int64]:
    """The places of `uids` [N], in parts that hold each uid once at most and keep its order."""
    if len(uids) == 0:
        return
    order = np.argsort(uids, kind="stable")
    first = np.flatnonzero(np.r_[True, np.diff(uids[order]) != 0])
    number = np.arange(len(uids)) - np.repeat(first, np.diff(np.r_[first, len(uids)]))
    for k in range(int(number.max()) + 1):
        yield np.sort(order[number == k])


class Learned:
    """What distinct series, by their slots, had learned."""

    def __init__(self, store: Store, slots: Int64) -> None:
        self._store = store
        self._slots = slots
        names = (*LEARNED, *MOVING) if len(slots) else ()
        self._rows = {name: store.read(name, slots) for name in names}

    def put_back(self) -> None:
        """Have them know just that again."""
        for name, rows in self._rows.items():
            fields = MOVING.get(name, ())
            now = self._store.read(name, self._slots) if fields else rows
            for field in fields:
                rows[field] = now[field]
            self._store.write(name, self._slots, rows)


def settled(uids: Int64, seen: Int64, frozen: Array, scored: Array) -> Array:
    """Which of N readings, in order, are really frozen: those of series of WARM readings or more.

    `seen` [N] are the readings that each one's series has had before the first of them; `scored`
    [N] tells which count. A younger series is kept as its readings, and takes them in.
    """
    found = frozen.copy()
    had: dict[int, int] = {}
    mine = np.isin(uids, uids[frozen])
    for i in np.flatnonzero(mine).tolist():
        uid = int(uids[i])
        before = had.setdefault(uid, int(seen[i]))
        found[i] = frozen[i] and before >= WARM
        had[uid] = before + int(bool(scored[i]) and not found[i])
    return found
