"""The clock of a group: which reading opens a frame, which are in it, and when it is whole.

A frame is whole when each live member has reported: one that was in any of the last LIVE frames.
A reading of the group with a later time ends it in any case. Times are nanoseconds.
"""

from __future__ import annotations

from typing import Annotated

from titans_stream.engine.order import NEVER
from titans_stream.jit import njit
from titans_stream.memory.rows import Record
from titans_stream.records import Int64

CLOCK_STEP = 20
"""Readings in a row of a member that is far ahead of its group, after which they are believed."""
LIVE = 100
"""Frames for which a member that was seen is waited for."""


class Member(Record):
    """A series as a member of its group."""

    group: int
    """The group's uid, -1: none."""
    last: int
    """Time and number of the last frame that it was in."""
    index: int
    mark: int
    """1 + the clock's epoch in which it was left behind."""


class FrameClock(Record):
    """The clock of one group."""

    frame: int
    """Time of the open frame, NEVER: none is open."""
    closed: int
    """Time of the last closed frame."""
    number: int
    """Number of the open frame, or of the last one."""
    count: int
    """Members in the frame NUMBER, and in the one before."""
    size: int
    alive: int
    """Live members."""
    late: int
    """Members that are left behind, and those of them that the newest frame holds too."""
    back: int
    epoch: int
    ahead: int
    """Readings in a row that were too far ahead."""
    seen: Annotated[Int64, LIVE]
    """Members last seen in each of the LIVE newest frames."""


class FrameJump(Record):
    """What a group's clock may have to take back; NEVER: nothing."""

    before: int
    """The time that the clock had before it went back."""
    ahead: int
    """The frame with which the group started anew, while no later one has confirmed it."""


SAME, NEXT, NONE = 0, 1, 2
"""Where a reading belongs: in the open frame, in a next one, in none."""


@njit(inner=True)
def join(member: Member, group: int) -> None:
    """Begin a membership."""
    member.group = group
    member.last = NEVER
    member.index = -LIVE
    member.mark = 0


@njit(inner=True)
def forget(clock: FrameClock) -> None:
    """Put a group's clock at its beginning; what its members remember of it counts no longer."""
    clock.frame = NEVER
    clock.closed = NEVER
    clock.number += LIVE
    clock.count = 0
    clock.size = 0
    clock.alive = 0
    clock.late = 0
    clock.back = 0
    clock.epoch += 1
    clock.ahead = 0
    clock.seen[:] = 0


@njit(inner=True)
def _report(clock: FrameClock, member: Member, time: int) -> None:
    """Note that a member was in the frame NUMBER, the open one or the last closed."""
    number = clock.number
    if member.index > number - LIVE:
        clock.seen[member.index % LIVE] -= 1
        clock.alive -= 1
    clock.seen[number % LIVE] += 1
    clock.alive += 1
    clock.count += 1
    member.last = time
    member.index = number


@njit(inner=True)
def place(clock: FrameClock, jump: FrameJump, member: Member, time: int, reach: float) -> int:
    """Where a reading belongs: in the open frame, in a next one, or in none.

    Readings of times that have passed are outside. Where more members are left behind by over
    `reach` nanoseconds than keep up, the clock was led astray by the few: it goes back, and
    members that are that far ahead stay outside, for at most CLOCK_STEP readings in a row.
    """
    latest = max(clock.frame, clock.closed)
    if latest == NEVER:
        return NEXT
    if time > latest:
        astray = member.last > latest and time - latest > reach
        if astray and clock.ahead < CLOCK_STEP:
            clock.ahead += 1
            return NONE
        return NEXT
    if time == latest:
        if member.last == time:
            return NONE
        if clock.frame != NEVER:
            return SAME
        _report(clock, member, time)  # the frame closed without it; the next one waits for it
        return NONE
    if latest - time <= reach:
        return NONE
    if member.mark != 1 + clock.epoch:
        member.mark = 1 + clock.epoch
        clock.late += 1
        if member.last == latest or (member.last == clock.closed and member.last != NEVER):
            clock.back += 1
    if clock.late > max(clock.count, clock.size) - clock.back:
        jump.before = max(jump.before, latest)
        forget(clock)
        return NEXT
    return NONE


@njit(inner=True)
def begin(clock: FrameClock, time: int) -> None:
    """Open a frame; no other is open."""
    clock.number += 1
    place = clock.number % LIVE
    clock.alive -= clock.seen[place]
    clock.seen[place] = 0
    clock.frame = time
    clock.size = clock.count
    clock.count = 0
    clock.back = 0


@njit(inner=True)
def enter(clock: FrameClock, member: Member, time: int) -> None:
    """Take a member into the open frame; it keeps up from now on."""
    _report(clock, member, time)
    clock.ahead = 0
    if member.mark == 1 + clock.epoch:
        member.mark = 0
        clock.late -= 1


@njit(inner=True)
def complete(clock: FrameClock) -> bool:
    """Whether the open frame is whole; the first one never is, as nobody knows who belongs."""
    return bool(clock.count == clock.alive and clock.closed != NEVER)


@njit(inner=True)
def close(clock: FrameClock) -> None:
    """Close the open frame."""
    clock.closed = clock.frame
    clock.frame = NEVER
