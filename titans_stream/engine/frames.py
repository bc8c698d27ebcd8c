"""Frames: the readings of a group's members that share a timestamp, judged together.

A frame's statistic is the mean of the JOINT highest S among its members that have a score. It goes
through the group's own second stage and episodes. A frame closes when each live member has
reported (frame_clock.py), or when a reading of the group with a later time arrives; both follow
from the readings alone, in their order. Host code, one reading after another; a group's state has
a fixed size and holds no more of its members than the channels that an alert names.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from titans_stream.detection import episodes as E
from titans_stream.engine import frame_clock as C
from titans_stream.engine import order as B
from titans_stream.jit import njit
from titans_stream.records import Float64, Int8, Int64, Status

JOINT = 3
"""Members whose mean S is the statistic of a frame."""
LISTED = 10
"""Channels that an alert names."""

# Columns of a group's sums over the open frame, and over the peak frame of its episode
POSITIVE = 0
FILLED = 1
VIOLATED = 2
OPENED = 3
PEAK_POSITIVE = 4
PEAK_FILLED = 5
SUMS = 6

# A channel of a frame: row 0 is the driving one, the others are the highest S in falling order
UID = 0
SURPRISE = 1
VALUE = 2
EXPECTED = 3
LOWER = 4
UPPER = 5
CAUSE = 6
CHANNEL = 7
DRIVER = 0
CHANNELS = LISTED + 1

# Columns of what comes of a closed frame: numbers (after E.RARITY, E.P_VALUE, E.SCORE), integers
STATISTIC = 3
OUT = 4
AT, WHOSE, WHEN, OPEN, ONSET = 0, 1, 2, 3, 4
MARKS = 5
KIND = 3
"""Column of an event's integers, which are AT, WHOSE, WHEN and this."""

# What is counted
FRAMES, EVENTS, OUTSIDE = 0, 1, 2
COUNTS = 3


class Batch(NamedTuple):
    """N readings in order. `group` is -1 where there is none; `band` [N, 3]."""

    row: Int64
    group: Int64
    time: Int64
    value: Float64
    status: Int8
    expired: Int8
    statistic: Float64
    band: Float64
    cause: Int8


class State(NamedTuple):
    """State arrays: `member` and `series_rule` by series, the others by group."""

    member: Int64
    series_rule: Float64
    clock: Int64
    pace: Float64
    sums: Float64
    channels: Float64
    peak: Float64
    tail: Float64
    histogram: Float64
    episode: Float64
    episode_times: Int64
    rule: Float64


class Settings(NamedTuple):
    """`alerts` as of E.run; an expected interval of 0 is learned. Times are nanoseconds."""

    alerts: Float64
    expected_interval: float
    gap_factor: float
    expire_after: int


class Written(NamedTuple):
    """What a run writes: `alert` and `onset` [N]; `out` and `marks` by frame; the rest by event.

    `counts` [COUNTS] is how much was written so far, `scratch` [2, 3] is for the second stage.
    """

    alert: Int8
    onset: Int8
    out: Float64
    marks: Int64
    event_marks: Int64
    event_states: Float64
    event_times: Int64
    event_sums: Float64
    event_channels: Float64
    counts: Int64
    scratch: Float64


@njit()
def _begin(s: State, settings: Settings, g: int, time: int) -> None:
    """Open a frame at `time`; no other is open."""
    clock, sums = s.clock[g], s.sums[g]
    if clock[C.CLOSED] != C.NEVER:
        B.learn_interval(s.pace[g], float(time - clock[C.CLOSED]))
    C.begin(clock, time)
    sums[POSITIVE] = 0.0
    sums[FILLED] = 0.0
    sums[VIOLATED] = 0.0
    sums[OPENED] = 0.0


@njit()
def _expire(s: State, g: int) -> None:
    """A group that was silent for too long starts anew."""
    C.forget(s.clock[g])
    s.pace[g] = 0.0
    s.tail[g] = 0.0
    s.histogram[g] = 0.0
    s.episode[g] = 0.0
    s.episode_times[g] = 0


@njit()
def _write(channel: Float64, b: Batch, i: int) -> None:
    channel[UID] = b.row[i]
    channel[SURPRISE] = b.statistic[i]
    channel[VALUE] = b.value[i]
    channel[EXPECTED] = b.band[i, 0]
    channel[LOWER] = b.band[i, 1]
    channel[UPPER] = b.band[i, 2]
    channel[CAUSE] = b.cause[i]


@njit()
def _rank(sums: Float64, channels: Float64, b: Batch, i: int) -> None:
    """Put a scored reading of the frame in its place; of equal ones the first stays first."""
    statistic = b.statistic[i]
    sums[POSITIVE] += max(statistic, 0.0)
    filled = int(sums[FILLED])
    at = filled + 1
    while at > 1 and channels[at - 1, SURPRISE] < statistic:
        at -= 1
    if at > LISTED:
        return
    for j in range(min(filled, LISTED - 1), at - 1, -1):
        channels[j + 1] = channels[j]
    _write(channels[at], b, i)
    sums[FILLED] = min(filled + 1, LISTED)


@njit()
def _note_event(s: State, w: Written, i: int, g: int, time: int, kind: int) -> None:
    n = w.counts[EVENTS]
    w.event_marks[n, AT] = i
    w.event_marks[n, WHOSE] = g
    w.event_marks[n, WHEN] = time
    w.event_marks[n, KIND] = kind
    w.event_states[n] = s.episode[g]
    w.event_times[n] = s.episode_times[g]
    w.event_sums[n] = s.sums[g]
    w.event_channels[n] = s.peak[g]
    w.counts[EVENTS] += 1
    if kind == E.OPENED:
        w.onset[i] = 1


@njit()
def _violate(s: State, settings: Settings, b: Batch, w: Written, i: int, g: int) -> None:
    """A member's value is outside its range: the group's episode opens at once."""
    if s.episode[g, E.OPEN] == 1.0 or s.rule[g, E.ENABLED] == 0.0:
        return
    interval = B.interval_of(s.pace[g], settings.expected_interval)
    E.open_at_once(
        s.episode[g], s.episode_times[g], s.rule[g], settings.alerts, b.time[i], b.value[i],
        b.band[i], b.cause[i], interval,
    )  # fmt: skip
    sums = s.sums[g]
    sums[OPENED] = 1.0
    sums[PEAK_POSITIVE] = 0.0
    sums[PEAK_FILLED] = 0.0
    _write(s.peak[g, DRIVER], b, i)
    _note_event(s, w, i, g, b.time[i], E.OPENED)
    w.event_states[w.counts[EVENTS] - 1, E.READINGS] = 1.0


@njit()
def _enter(s: State, b: Batch, i: int, g: int) -> None:
    """Take a reading into the open frame; a missing value or one without score adds nothing."""
    uid = b.row[i]
    clock, member, own = s.clock[g], s.member[uid], s.series_rule[uid]
    C.enter(clock, member, b.time[i])
    if own[E.ENABLED] == 0.0:
        return
    if _violates(own, b.value[i]) and s.sums[g, VIOLATED] == 0.0:
        s.sums[g, VIOLATED] = 1.0
        _write(s.channels[g, DRIVER], b, i)
    if not math.isnan(b.statistic[i]):
        _rank(s.sums[g], s.channels[g], b, i)


@njit()
def _violates(rule: Float64, value: float) -> bool:
    outside: bool = value < rule[E.LOW] or value > rule[E.HIGH]
    return outside and bool(rule[E.ENABLED] == 1.0)


@njit()
def _choose_driver(s: State, g: int) -> bool:
    """Put the driving channel of the open frame in its row; whether the rules let it alert.

    It is the first one outside its range, else the one with the highest S. Of a frame without
    any, an open episode's peak stays what it is.
    """
    driver, sums, episode = s.channels[g, DRIVER], s.sums[g], s.episode[g]
    if sums[FILLED] > 0.0 and sums[VIOLATED] == 0.0:
        driver[:] = s.channels[g, 1]
    elif sums[VIOLATED] == 0.0:
        driver[VALUE] = episode[E.PEAK_VALUE]
        driver[EXPECTED] = episode[E.PEAK_EXPECTED]
        driver[LOWER] = episode[E.PEAK_LOWER]
        driver[UPPER] = episode[E.PEAK_UPPER]
        driver[CAUSE] = episode[E.CAUSE]
        return False
    own = s.series_rule[int(driver[UID])]
    return E.deviates(s.rule[g], driver[VALUE], driver[EXPECTED]) and E.deviates(
        own, driver[VALUE], driver[EXPECTED]
    )


@njit()
def _close(s: State, settings: Settings, w: Written, i: int, g: int) -> None:
    """Judge the open frame of a group, which reading i closes."""
    clock, sums, episode, out = s.clock[g], s.sums[g], s.episode[g], w.out[w.counts[FRAMES]]
    time = clock[C.FRAME]
    C.close(clock)
    filled = int(sums[FILLED])
    violated = sums[VIOLATED] == 1.0
    known = filled > 0 or violated
    permitted = _choose_driver(s, g)
    driver = s.channels[g, DRIVER]
    statistic = math.nan
    if filled > 0:
        joint = min(filled, JOINT)
        statistic = s.channels[g, 1 : joint + 1, SURPRISE].sum() / joint
    kind = E.step(
        episode, s.episode_times[g], s.tail[g], s.histogram[g], s.rule[g], settings.alerts,
        time if known else s.episode_times[g, E.PEAK_TIME], driver[VALUE], statistic,
        driver[EXPECTED : UPPER + 1], int(driver[CAUSE]),
        B.interval_of(s.pace[g], settings.expected_interval), permitted, violated,
        s.rule[g, E.ENABLED] == 1.0, w.scratch[0], w.scratch[1], out,
    )  # fmt: skip
    followed = kind != 0 or episode[E.OPEN] == 1.0
    if followed and known and s.episode_times[g, E.PEAK_TIME] == time:
        s.peak[g] = s.channels[g]
        sums[PEAK_POSITIVE] = sums[POSITIVE]
        sums[PEAK_FILLED] = sums[FILLED]
    out[STATISTIC] = statistic
    marks = w.marks[w.counts[FRAMES]]
    marks[AT] = i
    marks[WHOSE] = g
    marks[WHEN] = time
    marks[OPEN] = 1 if episode[E.OPEN] == 1.0 else 0
    marks[ONSET] = 1 if kind == E.OPENED or sums[OPENED] == 1.0 else 0
    w.counts[FRAMES] += 1
    if kind != 0:
        _note_event(s, w, i, g, time, kind)


@njit()
def _take(s: State, settings: Settings, b: Batch, w: Written, i: int, g: int) -> None:
    """Close a frame that reading i ends, take the reading in, close the frame if it is whole."""
    clock, member, time = s.clock[g], s.member[b.row[i]], b.time[i]
    latest = max(clock[C.FRAME], clock[C.CLOSED])
    if latest != C.NEVER and time - latest > settings.expire_after:
        _expire(s, g)
    reach = settings.gap_factor * B.interval_of(s.pace[g], settings.expected_interval)
    place = C.place(clock, member, time, reach)
    if place == C.NEXT:
        if clock[C.FRAME] != C.NEVER:
            _close(s, settings, w, i, g)
        _begin(s, settings, g, time)
    if place == C.NONE:
        w.counts[OUTSIDE] += 1
    else:
        _enter(s, b, i, g)
    if _violates(s.series_rule[b.row[i]], b.value[i]):
        _violate(s, settings, b, w, i, g)
    if place != C.NONE and C.complete(clock):
        _close(s, settings, w, i, g)


@njit(nogil=True)
def run(first: int, b: Batch, s: State, settings: Settings, w: Written) -> int:
    """Take readings in order, from `first` on; the first that is left.

    Some are left where the arrays of events are nearly full. A late or duplicate reading is in
    no frame and gets no mark.
    """
    for i in range(first, len(b.row)):
        g = b.group[i]
        if g < 0:
            continue
        if w.counts[EVENTS] + 3 > w.event_marks.shape[0]:
            return i
        member = s.member[b.row[i]]
        if b.expired[i] == 1 or member[C.GROUP] != g:
            C.join(member, g)
        if b.status[i] == 2 or b.status[i] == 3:
            continue
        _take(s, settings, b, w, i, g)
        w.alert[i] = 1 if s.episode[g, E.OPEN] == 1.0 else 0
    return len(b.row)


assert (Status.DUPLICATE, Status.LATE) == (2, 3)
