"""Frames: the readings of a group's members that share a timestamp, judged together.

A frame's statistic is how unusual its members are, evenly over all that have a score, and how
much, by the JOINT largest magnitudes (`detection.fusion.fuse` gives both parts). It goes through
the group's own second stage and episodes; a member that is rare by itself makes the frame so, that
none is lost among many that are well. A frame closes when each live member has reported
(frame_clock.py), or when a reading of the group with a later time arrives; both follow from the
readings alone, in their order. One reading after another; a group's state has a fixed size and
holds no more of its members than the channels that an alert names.

Where members share a stamp among several readings, their first ones are a frame, their second
ones the next, and so on: inside, frame k of a stamp is k nanoseconds after it.
"""

from __future__ import annotations

import math

from titans_stream.detection import claims, tail
from titans_stream.detection.claims import Claims
from titans_stream.detection.episodes import (
    EXPIRED,
    OPENED,
    Episode,
    Permission,
    Reading,
    Rule,
    crossed,
    deviates,
    judged_of,
    open_at_once,
    step,
    violates,
)
from titans_stream.engine import frame_clock
from titans_stream.engine.frame_state import (
    CHANNELS,
    DRIVER,
    JOINT,
    LISTED,
    SILENT_GROUP,
    SILENT_MEMBER,
    Batch,
    FrameChannel,
    Limits,
    State,
    Sums,
    Written,
)
from titans_stream.engine.order import (
    NEVER,
    UNCONFIRMED,
    interval_of,
    learn_interval,
    silence_limit,
)
from titans_stream.jit import njit
from titans_stream.memory.rows import ArraySpec
from titans_stream.records import Records, Status

_NO_TAIL = ArraySpec.of(tail.Tail).rows(1)
_NO_HISTOGRAM = ArraySpec.of(tail.Histogram).rows(1)
_NO_EPISODE = ArraySpec.of(Episode).rows(1)
_NO_CLAIMS = ArraySpec.of(Claims).rows(1)


@njit(inner=True)
def _interval(s: State, limits: Limits, g: int) -> float:
    """Nanoseconds from frame to frame of a group."""
    expected = limits.order.expected_interval
    return interval_of(s.pace[g], expected) / (
        1.0 if expected > 0.0 else float(max(s.stamp[g].before, 1))
    )


@njit(inner=True)
def _begin(s: State, limits: Limits, g: int, time: int, rank: int) -> None:
    """Open a frame at `time`; no other is open."""
    clock, sums, pace, stamp = s.clock[g], s.sums[g], s.pace[g], s.stamp[g]
    stamped = time - rank
    if stamp.time == NEVER:
        stamp.time = clock.closed
    if clock.closed == NEVER or stamped != stamp.time:
        if clock.closed != NEVER and stamped > stamp.time:
            learn_interval(pace, float(stamped - stamp.time))
            stamp.before = stamp.count
        stamp.time = stamped
        stamp.count = 0
    stamp.count += 1
    frame_clock.begin(clock, time)
    sums.positive = 0.0
    sums.even = 0.0
    sums.scored = 0.0
    for j in range(JOINT):
        sums.magnitudes[j] = -math.inf
    sums.alone = -math.inf
    sums.filled = 0.0
    sums.violated = 0.0
    sums.opened = 0.0


@njit(inner=True)
def _expire(s: State, w: Written, i: int, g: int, time: int) -> None:
    """A group that was silent for too long starts anew; an open episode ends."""
    judged = judged_of(s.judged, g, s.rule[g])
    if judged.episode.open == 1.0:
        _note_event(s, w, i, g, time, EXPIRED)
    frame_clock.forget(s.clock[g])
    jump, pace = s.jump[g], s.pace[g]
    jump.before = NEVER
    jump.ahead = time
    pace.interval = 0.0
    pace.count = 0.0
    s.stamp[g].before = 0
    s.kept.tail[g] = s.judged.tail[g]
    kept, histogram = s.kept.histogram[g], s.judged.histogram[g]
    for j in range(tail.BINS):
        kept[j] = histogram.bins[j]
    kept[tail.BINS] = histogram.mass
    kept[tail.BINS + 1] = histogram.unit
    s.kept.episode[g] = s.judged.episode[g]
    s.kept.claims[g] = s.claims[g]
    s.judged.tail[g] = _NO_TAIL[0]
    s.judged.histogram[g] = _NO_HISTOGRAM[0]
    s.judged.episode[g] = _NO_EPISODE[0]
    s.claims[g] = _NO_CLAIMS[0]
    judged.times.onset = 0
    judged.times.peak = 0


@njit(inner=True)
def _take_back(s: State, g: int) -> None:
    """The time that made a group start anew was wrong: its memory goes on."""
    s.judged.tail[g] = s.kept.tail[g]
    kept, histogram = s.kept.histogram[g], s.judged.histogram[g]
    for j in range(tail.BINS):
        histogram.bins[j] = kept[j]
    histogram.mass = kept[tail.BINS]
    histogram.unit = kept[tail.BINS + 1]
    s.judged.episode[g] = s.kept.episode[g]
    s.judged.episode[g].open = 0.0
    s.claims[g] = s.kept.claims[g]
    s.jump[g].ahead = NEVER


@njit(inner=True)
def _write(channel: FrameChannel, b: Batch, i: int) -> None:
    channel.uid = b.uid[i]
    channel.surprise = b.statistic[i]
    channel.value = b.value[i]
    channel.expected = b.band[i, 0]
    channel.lower = b.band[i, 1]
    channel.upper = b.band[i, 2]
    channel.cause = b.cause[i]


@njit(inner=True)
def _rank(sums: Sums, channels: Records, b: Batch, i: int) -> None:
    """Put a scored reading of the frame in its place; of equal ones the first stays first."""
    statistic = b.statistic[i]
    sums.positive += max(statistic, 0.0)
    filled = int(sums.filled)
    at = filled + 1
    while at > 1 and channels[at - 1].surprise < statistic:
        at -= 1
    if at > LISTED:
        return
    for j in range(min(filled, LISTED - 1), at - 1, -1):
        channels[j + 1] = channels[j]
    _write(channels[at], b, i)
    sums.filled = min(filled + 1, LISTED)


@njit(inner=True)
def _add(sums: Sums, b: Batch, i: int) -> None:
    """Take a scored reading into the sums behind the frame's statistic."""
    sums.even += b.joint[i, 0]
    sums.scored += 1.0
    sums.alone = max(sums.alone, b.rarity[i])
    magnitude = b.joint[i, 1]
    for j in range(JOINT):
        if magnitude > sums.magnitudes[j]:
            kept = sums.magnitudes[j]
            sums.magnitudes[j] = magnitude
            magnitude = kept


@njit(inner=True)
def _statistic(sums: Sums) -> float:
    """S of the open frame, NaN where no member has a score."""
    n = int(sums.scored)
    if n == 0:
        return math.nan
    largest = min(n, JOINT)
    total = 0.0
    for j in range(largest):
        total += sums.magnitudes[j]
    return sums.even / n + total / largest


@njit(inner=True)
def _copy_channels(target: Records, source: Records) -> None:
    for j in range(CHANNELS):
        target[j] = source[j]


@njit(inner=True)
def _note_event(s: State, w: Written, i: int, g: int, time: int, kind: int) -> None:
    counts = w.counts[0]
    n = counts.events
    mark = w.event_mark[n]
    mark.at = i
    mark.group = g
    mark.time = time
    mark.kind = kind
    w.event_episode[n] = s.judged.episode[g]
    w.event_times[n] = s.judged.times[g]
    w.event_sums[n] = s.sums[g]
    _copy_channels(w.event_channels[n], s.peak[g])
    counts.events = n + 1
    if kind == OPENED:
        w.onset[i] = 1


@njit(inner=True)
def _violate(s: State, limits: Limits, b: Batch, w: Written, i: int, g: int) -> None:
    """A member's value is outside its range: the group's episode opens at once."""
    judged = judged_of(s.judged, g, s.rule[g])
    if judged.episode.open == 1.0 or judged.rule.enabled == 0.0:
        return
    time = b.time[i] - b.rank[i]
    reading = Reading(
        time, b.value[i], math.nan, b.band[i, 0], b.band[i, 1], b.band[i, 2],
        int(b.cause[i]), _interval(s, limits, g), -math.inf,
    )  # fmt: skip
    open_at_once(judged, limits.alerts, reading)
    judged.episode.limit = crossed(s.series_rule[b.uid[i]], b.value[i])
    sums = s.sums[g]
    sums.opened = 1.0
    sums.peak_positive = 0.0
    sums.peak_filled = 0.0
    _write(s.peak[g, DRIVER], b, i)
    _note_event(s, w, i, g, time, OPENED)
    w.event_episode[w.counts[0].events - 1].readings = 1.0


@njit(inner=True)
def _enter(s: State, b: Batch, i: int, g: int) -> None:
    """Take a reading into the open frame; a missing value or one without score adds nothing."""
    uid = b.uid[i]
    sums, own = s.sums[g], s.series_rule[uid]
    frame_clock.enter(s.clock[g], s.member[uid], b.time[i])
    if own.enabled == 0.0:
        return
    if _leaves_range(own, b.value[i]) and sums.violated == 0.0:
        sums.violated = 1.0
        _write(s.channels[g, DRIVER], b, i)
    if not math.isnan(b.statistic[i]):
        _rank(sums, s.channels[g], b, i)
        _add(sums, b, i)


@njit(inner=True)
def _leaves_range(rule: Rule, value: float) -> bool:
    return violates(rule, value) and bool(rule.enabled == 1.0)


@njit(inner=True)
def _choose_driver(s: State, g: int) -> bool:
    """Put the driving channel of the open frame in its place; whether the rules let it alert.

    It is the first one outside its range, else the one with the highest S. Of a frame without
    any, an open episode's peak stays what it is.
    """
    driver, sums, judged = s.channels[g, DRIVER], s.sums[g], judged_of(s.judged, g, s.rule[g])
    episode = judged.episode
    if sums.filled > 0.0 and sums.violated == 0.0:
        s.channels[g, DRIVER] = s.channels[g, 1]
    elif sums.violated == 0.0:
        driver.value = episode.peak_value
        driver.expected = episode.peak_expected
        driver.lower = episode.peak_lower
        driver.upper = episode.peak_upper
        driver.cause = episode.cause
        return False
    own = s.series_rule[int(driver.uid)]
    return deviates(judged.rule, driver.value, driver.expected) and deviates(
        own, driver.value, driver.expected
    )


@njit(inner=True)
def _close(s: State, limits: Limits, w: Written, i: int, g: int, space: tail.Space) -> None:
    """Judge the open frame of a group, which reading i closes."""
    clock, sums, counts = s.clock[g], s.sums[g], w.counts[0]
    judged = judged_of(s.judged, g, s.rule[g])
    episode, out = judged.episode, w.judgement[counts.frames]
    time = clock.frame
    frame_clock.close(clock)
    filled = int(sums.filled)
    violated = sums.violated == 1.0
    known = filled > 0 or violated
    permitted = _choose_driver(s, g)
    driver = s.channels[g, DRIVER]
    statistic = _statistic(sums)
    alone = -math.inf
    if filled > 0:
        alone = claims.judge(s.claims[g], claims.stated(sums.alone, sums.scored))
    reading = Reading(
        time if known else judged.times.peak, driver.value, statistic, driver.expected,
        driver.lower, driver.upper, int(driver.cause),
        _interval(s, limits, g), alone,
    )  # fmt: skip
    permission = Permission(permitted, violated, judged.rule.enabled == 1.0)
    kind = step(judged, limits.alerts, reading, permission, space, out)
    if violated:
        episode.limit = crossed(s.series_rule[int(driver.uid)], driver.value)
    followed = kind != 0 or episode.open == 1.0
    if followed and known and judged.times.peak == time:
        _copy_channels(s.peak[g], s.channels[g])
        sums.peak_positive = sums.positive
        sums.peak_filled = sums.filled
    stamped = s.stamp[g].time if s.stamp[g].time != NEVER else time
    if judged.times.peak == time:
        judged.times.peak = stamped
    if judged.times.onset == time:
        judged.times.onset = stamped
    out.statistic = statistic
    mark = w.mark[counts.frames]
    mark.at = i
    mark.group = g
    mark.time = stamped
    mark.open = 1 if episode.open == 1.0 else 0
    mark.onset = 1 if kind == OPENED or sums.opened == 1.0 else 0
    counts.frames += 1
    if kind != 0:
        _note_event(s, w, i, g, stamped, kind)


@njit(inner=True)
def _take(
    s: State, limits: Limits, b: Batch, w: Written, i: int, g: int, space: tail.Space
) -> None:
    """Close a frame that reading i ends, take the reading in, close the frame if it is whole."""
    clock, jump, member, time = s.clock[g], s.jump[g], s.member[b.uid[i]], b.time[i]
    order = limits.order
    latest = max(clock.frame, clock.closed)
    limit = silence_limit(s.pace[g], order.expire_after)
    if latest != NEVER and time - latest > limit:
        if jump.before != NEVER and abs(time - jump.before) <= limit:
            frame_clock.forget(clock)  # the clock is set right: the group's memory goes on
            jump.before = NEVER
        elif jump.ahead == latest:  # the second such step in a row is the group's interval
            _take_back(s, g)
        else:
            _expire(s, w, i, g, time)
    reach = order.gap_factor * interval_of(s.pace[g], order.expected_interval)
    place = frame_clock.place(clock, jump, member, time, reach)
    if place == frame_clock.NEXT and jump.ahead != NEVER:
        if time < jump.ahead:
            _take_back(s, g)
        elif time > jump.ahead:
            jump.ahead = NEVER
    if place == frame_clock.NEXT:
        if clock.frame != NEVER:
            _close(s, limits, w, i, g, space)
        _begin(s, limits, g, time, b.rank[i])
    if place == frame_clock.NONE:
        w.counts[0].outside += 1
    else:
        _enter(s, b, i, g)
    if _leaves_range(s.series_rule[b.uid[i]], b.value[i]):
        _violate(s, limits, b, w, i, g)
    if place != frame_clock.NONE and frame_clock.complete(clock):
        _close(s, limits, w, i, g, space)


@njit(nogil=True)
def run(first: int, b: Batch, s: State, limits: Limits, w: Written) -> int:
    """Take readings in order, from `first` on; the first that is left.

    Some are left where the arrays of events are nearly full. A late or duplicate reading is in
    no frame and gets no mark.
    """
    space = tail.new_space()
    for i in range(first, len(b.uid)):
        g = b.group[i]
        if g < 0:
            continue
        if w.counts[0].events + 4 > w.event_mark.shape[0]:
            return i
        member = s.member[b.uid[i]]
        if b.expired[i] == UNCONFIRMED or member.group != g:
            frame_clock.join(member, g)
        if b.status[i] == 2 or b.status[i] == 3:
            continue
        own, rule = s.series_rule[b.uid[i]], s.rule[g]
        enabled, own_enabled = rule.enabled, own.enabled
        if b.silent[i] & SILENT_GROUP:
            rule.enabled = 0.0
        if b.silent[i] & SILENT_MEMBER:
            own.enabled = 0.0
        _take(s, limits, b, w, i, g, space)
        rule.enabled, own.enabled = enabled, own_enabled
        w.alert[i] = 1 if s.judged.episode[g].open == 1.0 else 0
    return len(b.uid)


assert (Status.DUPLICATE, Status.LATE) == (2, 3)
