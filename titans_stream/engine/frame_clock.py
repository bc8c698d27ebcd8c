"""The clock of a group: which reading opens a frame, which are in it, and when it is whole.

A frame is whole when each live member has reported: one that was in any of the last LIVE frames.
A reading of the group with a later time ends it in any case. Times are nanoseconds.
"""

from __future__ import annotations

from titans_stream.engine import order as B
from titans_stream.jit import njit
from titans_stream.records import Int64

NEVER = B.NEVER
LIVE = 100
"""Frames for which a member that was seen is waited for."""

# Columns of a member (int64): the time and number of its last frame, and whether it is left behind
GROUP = 0
LAST = 1
INDEX = 2
MARK = 3
MEMBER = 4

# Columns of a clock (int64); from SEEN on the members last seen in each of the LIVE frames
FRAME = 0
CLOSED = 1
NUMBER = 2
COUNT = 3
SIZE = 4
ALIVE = 5
LATE = 6
BACK = 7
EPOCH = 8
AHEAD = 9
SEEN = 10
CLOCK = SEEN + LIVE

SAME, NEXT, NONE = 0, 1, 2
"""Where a reading belongs: in the open frame, in a next one, in none."""


@njit()
def join(member: Int64, group: int) -> None:
    """Begin a membership."""
    member[GROUP] = group
    member[LAST] = NEVER
    member[INDEX] = -LIVE
    member[MARK] = 0


@njit()
def forget(clock: Int64) -> None:
    """Put a group's clock at its beginning; what its members remember of it counts no longer."""
    number, epoch = clock[NUMBER], clock[EPOCH]
    clock[:] = 0
    clock[FRAME] = NEVER
    clock[CLOSED] = NEVER
    clock[NUMBER] = number + LIVE
    clock[EPOCH] = epoch + 1


@njit()
def _report(clock: Int64, member: Int64, time: int) -> None:
    """Note that a member was in the frame NUMBER, the open one or the last closed."""
    number = clock[NUMBER]
    if member[INDEX] > number - LIVE:
        clock[SEEN + member[INDEX] % LIVE] -= 1
        clock[ALIVE] -= 1
    clock[SEEN + number % LIVE] += 1
    clock[ALIVE] += 1
    clock[COUNT] += 1
    member[LAST] = time
    member[INDEX] = number


@njit()
def place(clock: Int64, member: Int64, time: int, reach: float) -> int:
    """Where a reading belongs: in the open frame, in a next one, or in none.

    Readings of times that have passed are outside. Where more members are left behind by over
    `reach` nanoseconds than keep up, the clock was led astray by the few: it goes back, and
    members that are that far ahead stay outside, for at most CLOCK_STEP readings in a row.
    """
    latest = max(clock[FRAME], clock[CLOSED])
    if latest == NEVER:
        return NEXT
    if time > latest:
        astray = member[LAST] > latest and time - latest > reach
        if astray and clock[AHEAD] < B.CLOCK_STEP:
            clock[AHEAD] += 1
            return NONE
        return NEXT
    if time == latest:
        if member[LAST] == time:
            return NONE
        if clock[FRAME] != NEVER:
            return SAME
        _report(clock, member, time)  # the frame closed without it; the next one waits for it
        return NONE
    if latest - time <= reach:
        return NONE
    if member[MARK] != 1 + clock[EPOCH]:
        member[MARK] = 1 + clock[EPOCH]
        clock[LATE] += 1
        if member[LAST] == latest or (member[LAST] == clock[CLOSED] and member[LAST] != NEVER):
            clock[BACK] += 1
    if clock[LATE] > max(clock[COUNT], clock[SIZE]) - clock[BACK]:
        forget(clock)
        return NEXT
    return NONE


@njit()
def begin(clock: Int64, time: int) -> None:
    """Open a frame; no other is open."""
    clock[NUMBER] += 1
    slot = SEEN + clock[NUMBER] % LIVE
    clock[ALIVE] -= clock[slot]
    clock[slot] = 0
    clock[FRAME] = time
    clock[SIZE] = clock[COUNT]
    clock[COUNT] = 0
    clock[BACK] = 0


@njit()
def enter(clock: Int64, member: Int64, time: int) -> None:
    """Take a member into the open frame; it keeps up from now on."""
    _report(clock, member, time)
    clock[AHEAD] = 0
    if member[MARK] == 1 + clock[EPOCH]:
        member[MARK] = 0
        clock[LATE] -= 1


@njit()
def complete(clock: Int64) -> bool:
    """Whether the open frame is whole; the first one never is, as nobody knows who belongs."""
    return bool(clock[COUNT] == clock[ALIVE] and clock[CLOSED] != NEVER)


@njit()
def close(clock: Int64) -> None:
    """Close the open frame."""
    clock[CLOSED] = clock[FRAME]
    clock[FRAME] = NEVER
