"""Episodes that come every week at the same time are a habit after a few of them.

A habit is a time of the week with how often episodes began then, how far from normal their
readings went, and when the last one was. One that was not seen for some weeks is forgotten.
"""

from __future__ import annotations

import math
from typing import Annotated

from titans_stream.jit import njit
from titans_stream.memory.rows import Record
from titans_stream.records import Float64

WEEK = 604_800.0
HABITS = 12
NEAR = 2_700.0
"""Seconds between times of the week that are the same."""
KNOWN = 3.0
"""Earlier episodes that make a habit."""
FORGOTTEN = 3.5 * WEEK
LARGER = 2.0
"""Times the largest of the earlier ones: beyond it the next one is no habit."""
NONE = -1


class Habits(Record):
    """Times of the week at which episodes began."""

    time: Annotated[Float64, HABITS]
    """Seconds of the week."""
    count: Annotated[Float64, HABITS]
    """Weeks in which one began."""
    size: Annotated[Float64, HABITS]
    """How far from normal their readings went at most."""
    last: Annotated[Float64, HABITS]
    """Local seconds."""


@njit(inner=True)
def find(habits: Habits, local: float) -> int:
    """The habit of a local time, NONE where there is none, or no time."""
    if math.isnan(local):
        return NONE
    time = local % WEEK
    for k in range(HABITS):
        apart = abs(time - habits.time[k])
        near = min(apart, WEEK - apart) <= NEAR
        if near and habits.count[k] > 0.0 and local - habits.last[k] <= FORGOTTEN:
            return k
    return NONE


@njit(inner=True)
def is_known(habits: Habits, at: int, local: float, size: float) -> bool:
    """Whether an episode of a size, that begins now, is a habit."""
    if at == NONE or size > LARGER * max(habits.size[at], 1.0):
        return False
    this_week = local - habits.last[at] < 0.5 * WEEK
    return bool(habits.count[at] - (1.0 if this_week else 0.0) >= KNOWN)


@njit(inner=True)
def note(habits: Habits, at: int, local: float, size: float) -> int:
    """An episode begins at a local time; `at` as `find` gave it. Returns its habit."""
    if math.isnan(local):
        return NONE
    if at == NONE:
        at = 0
        for k in range(1, HABITS):
            if habits.last[k] < habits.last[at]:
                at = k
        habits.count[at] = 0.0
        habits.size[at] = 0.0
        habits.last[at] = -math.inf
    if local - habits.last[at] > 0.5 * WEEK:
        habits.count[at] += 1.0
    habits.time[at] = local % WEEK
    habits.last[at] = local
    habits.size[at] = max(habits.size[at], size)
    return at
