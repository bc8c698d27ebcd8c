"""Event time: duplicates, late readings, gaps and silences; which readings are scored.

All decisions are per series and depend on its own readings alone, so that neither the grouping
into calls nor another series' clock can change them. Times are nanoseconds.

A stamp is the time that a reading came with. Where readings come faster than the resolution of
their stamps, several different values share one: they are taken in order, each an interval after
the one before, and the interval is the time from stamp to stamp divided by the readings of the
first. A value that its stamp has had is a resend, as far as REMEMBERED values can tell.
"""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple

import numpy as np

from titans_stream.jit import njit
from titans_stream.memory.rows import Record
from titans_stream.records import Float64, Int8, Int64, Records, Status

NEVER = np.iinfo(np.int64).min
DEFAULT_INTERVAL = 60e9
KNOWN = 10.0
"""Intervals from which a series' pace is known."""
REMEMBERED = 32
"""Newest different values of a stamp by which a resend is recognised."""
EXPIRE_INTERVALS = 10.0
"""A silence of fewer of a series' own intervals does not make it start anew."""
UNCONFIRMED, ANEW, RESUMED = 1, 2, 3
"""Values of `expired`: a time that is not believed yet; the reading that confirms it, with which
the series starts anew, or goes on because its interval is that long."""


class Clock(Record):
    """A series' time."""

    last: int
    """Time of the last reading that was not late."""
    late_last: int
    late_run: int
    """Late readings in a row, each newer than the one before, and the time of the newest."""


class Jump(Record):
    """What a series' clock may have to take back."""

    ahead: int
    """A time so far ahead that only the next reading tells a silence from a wrong clock."""
    before: int
    """The time that was believed before the clock was set back."""


class Pace(Record):
    """The interval between a series' readings, in nanoseconds, and from how many it is known."""

    interval: float
    count: float


class Stamp(Record):
    """The readings that share the time of the last one."""

    count: float
    """0: not known, as in states from before there was this."""
    values: Annotated[Float64, REMEMBERED]
    """Reading k of the stamp is at k modulo REMEMBERED; NaN: a missing one."""


class Clocks(NamedTuple):
    """State by slot."""

    clock: Records
    jump: Records
    held: Float64
    """[slots, 1]: the value of the reading at `jump.ahead`."""
    pace: Records
    stamp: Records


class OrderSettings(NamedTuple):
    """Nanoseconds; an expected interval of 0 is learned."""

    expected_interval: float
    gap_factor: float
    expire_after: int
    keep_order: bool
    """Different values of one stamp follow one another; else those after the first are
    duplicates."""
    clock_reset: int
    """Late readings in a row, each newer than the one before, that mean a clock set back; 0: none
    do, old readings are no news however many."""


class Arrivals(NamedTuple):
    """N readings in order; `slot` names the slot of each reading's series."""

    slot: Int64
    time: Int64
    value: Float64
    duplicate: Int8


class Judgements(NamedTuple):
    """What became of N readings: status (scored, duplicate, late or missing), gap, interval.

    `rank` numbers the readings of a stamp from 0. `expired` is UNCONFIRMED where a series seems
    to have been silent for too long (`silence_limit`): the reading has no score and waits. It is
    ANEW or RESUMED for the next one where that confirms it; `held_time` and `held_value` then tell
    the reading that waited, with which the series starts anew or goes on.
    """

    status: Int8
    gap: Int8
    interval: Float64
    rank: Int64
    expired: Int8
    held_time: Int64
    held_value: Float64

    @classmethod
    def empty(cls, count: int) -> Judgements:
        """Room for the judgements of `count` readings."""
        status, gap, expired = (np.empty(count, np.int8) for _ in range(3))
        rank, held_time = np.empty(count, np.int64), np.empty(count, np.int64)
        return cls(status, gap, np.empty(count), rank, expired, held_time, np.empty(count))


@njit(nogil=True)
def judge(arrivals: Arrivals, clocks: Clocks, settings: OrderSettings, written: Judgements) -> None:
    """Judge N readings in order."""
    for i in range(arrivals.slot.shape[0]):
        judge_one(i, arrivals, clocks, settings, written)


@njit(inner=True)
def judge_one(
    i: int, arrivals: Arrivals, clocks: Clocks, settings: OrderSettings, written: Judgements
) -> None:
    """Judge reading i.

    A step of more than `silence_limit` is a silence only when the next reading confirms it: one
    wild time does not cost a series its memory. Nor does a clock that was set back and is set
    right again. A series that is young goes on where the next step is as long.
    """
    expected = settings.expected_interval
    slot, time, value = arrivals.slot[i], arrivals.time[i], arrivals.value[i]
    clock, jump, pace = clocks.clock[slot], clocks.jump[slot], clocks.pace[slot]
    stamp = clocks.stamp[slot]
    last = clock.last
    written.gap[i] = 0
    written.rank[i] = 0
    written.expired[i] = 0
    written.interval[i] = interval_of(pace, expected)
    present = math.isfinite(value)
    written.status[i] = 0 if present else 4
    again = time == last and settings.keep_order and not _has_had(stamp, value)
    if arrivals.duplicate[i] == 1 or (time == last and not again) or time == jump.ahead:
        written.status[i] = 2
        return
    if again:
        written.rank[i] = int(stamp.count)
        _note(stamp, value)
        clock.late_run = 0
        clock.late_last = NEVER
        jump.ahead = NEVER
        return
    stepped = False
    if time < last:
        run = clock.late_run + 1 if time > clock.late_last else 1
        if settings.keep_order and time == clock.late_last:
            run = clock.late_run
        clock.late_last = time
        clock.late_run = run
        if settings.clock_reset == 0 or run < settings.clock_reset:
            written.status[i] = 3
            return
        stepped = True
        jump.before = max(jump.before, last)
    limit = silence_limit(pace, settings.expire_after)
    silent = last != NEVER and not stepped and time - last > limit
    if silent and jump.before != NEVER and _near(time, jump.before, limit):
        silent = False
        stepped = True
    if silent and (jump.ahead == NEVER or time < jump.ahead):
        jump.ahead = time
        clocks.held[slot, 0] = value
        written.expired[i] = UNCONFIRMED
        written.status[i] = 1 if present else 4
        return
    clock.late_run = 0
    clock.late_last = NEVER
    clock.last = time
    if silent or time >= jump.before:
        jump.before = NEVER
    if silent:
        alike = float(jump.ahead - last) <= EXPIRE_INTERVALS * float(time - jump.ahead)
        written.expired[i] = RESUMED if alike and pace.count < KNOWN else ANEW
        written.held_time[i] = jump.ahead
        written.held_value[i] = clocks.held[slot, 0]
        pace.count = 0.0
        stamp.count = 1.0
        last = jump.ahead
    jump.ahead = NEVER
    if last != NEVER and not stepped:
        shared = max(stamp.count, 1.0)
        step = float(time - last)
        if pace.count >= KNOWN or expected > 0.0:
            pause = step - (shared - 1.0) * written.interval[i]
            written.gap[i] = 1 if pause > settings.gap_factor * written.interval[i] else 0
        learn_interval(pace, step / shared)
        written.interval[i] = interval_of(pace, expected)
    stamp.count = 0.0
    _note(stamp, value)


@njit(inner=True)
def _has_had(stamp: Stamp, value: float) -> bool:
    """Whether a value is known to have come with this stamp; any where nothing is known."""
    if stamp.count == 0.0:
        return True
    present = math.isfinite(value)
    for j in range(int(min(stamp.count, float(REMEMBERED)))):
        other = stamp.values[j]
        if value == other or (not present and math.isnan(other)):
            return True
    return False


@njit(inner=True)
def _note(stamp: Stamp, value: float) -> None:
    """Take a reading into its stamp."""
    place = int(stamp.count) % REMEMBERED
    stamp.values[place] = value if math.isfinite(value) else math.nan
    stamp.count += 1.0


def segments(uids: Int64, expired: Int8) -> list[tuple[int, int, list[int]]]:
    """Cut N readings so that the series which start anew in a part all do so at its beginning.

    Each part is (first, last, the readings that confirm a silence). Only a series that
    has been seen in a part makes another one necessary.
    """
    anew = np.flatnonzero(expired >= ANEW)
    if len(anew) == 0:
        return [(0, len(uids), [])]
    order = np.argsort(uids, kind="stable")
    before = np.full(len(uids), -1)
    same = uids[order[1:]] == uids[order[:-1]]
    before[order[1:][same]] = order[:-1][same]
    parts: list[tuple[int, int, list[int]]] = []
    first = 0
    starting: list[int] = []
    for at in anew.tolist():
        if before[at] >= first:
            parts.append((first, at, starting))
            first, starting = at, []
        starting.append(at)
    return [*parts, (first, len(uids), starting)]


@njit(inline="always")
def _near(time: int, other: int, reach: float) -> bool:
    """Whether two times are at most `reach` apart."""
    return bool(time - other <= reach and other - time <= reach)


@njit(inner=True)
def silence_limit(pace: Pace, expire_after: int) -> float:
    """Nanoseconds of silence after which a series or group starts anew."""
    limit = float(expire_after)
    if pace.count > 0.0:
        limit = max(limit, EXPIRE_INTERVALS * pace.interval)
    return limit


@njit(inner=True)
def interval_of(pace: Pace, expected_interval: float) -> float:
    """The interval to reckon with: the expected one, the learned one, or a first guess."""
    if expected_interval > 0.0:
        return expected_interval
    return pace.interval if pace.count > 0.0 else DEFAULT_INTERVAL


@njit(inner=True)
def learn_interval(pace: Pace, step: float) -> None:
    """A robust running mean of log intervals: one gap moves it little."""
    n = pace.count
    if n == 0.0:
        pace.interval = step
    else:
        ratio = min(0.7, max(-0.7, math.log(step / pace.interval)))
        pace.interval *= math.exp(ratio / min(n + 1.0, 50.0))
    pace.count = min(n + 1.0, 1e6)


assert (Status.SCORED, Status.DUPLICATE, Status.LATE, Status.MISSING) == (0, 2, 3, 4)
