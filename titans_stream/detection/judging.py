"""N readings of single series through the second stage, one after another.

Each reading is first held against what its series would normally show (watch.py), then judged
with its statistic (episodes.py); then reference, runs and habits learn from it, unless it is
strange: an episode holds its own reference still.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from titans_stream.detection import (
    budget,
    episodes,
    habits,
    implausible,
    levels,
    tail,
    watch,
    watch_state,
)
from titans_stream.detection.episodes import (
    Judged,
    Permission,
    Reading,
    Settings,
    Tables,
    crossed,
    deviates,
    judged_of,
    violates,
)
from titans_stream.detection.evidence import Evidence
from titans_stream.detection.normal import Moment, least_normal, moment_of
from titans_stream.jit import njit, scratch
from titans_stream.records import Float64, Int8, Int64, Records

NEWS = 128.0
"""Readings for which runs and levels of a member that stands out count in its asset: one that stays
so is told once, and hides no other."""
HOLDS = 2.5
"""The rarity from which a reading holds the reference still, however few alerts are accepted: else
a tight budget would let the reference follow what goes on."""
ROUNDED = 1e-13
"""Of its value: a series that moves by no more than this moves by rounding alone."""
_band = scratch(3)


class Readings(NamedTuple):
    """N readings as columns; `band` [N, 3] is the one-step forecast; `rule` [N].

    `local` is local time in seconds, NaN without; `gap` is 1 on the first reading after a gap;
    `grouped` is 1 where no episode opens because a group's does.
    """

    time: Int64
    local: Float64
    value: Float64
    statistic: Float64
    band: Float64
    cause: Int8
    interval: Float64
    gap: Int8
    rule: Records
    grouped: Int8


class Events(NamedTuple):
    """What a run writes: by reading [N] all but the last two; by event the state.

    `normal` [N, 3] is what would have been normal, with its band.
    """

    judgement: Records
    normal: Float64
    alert: Int8
    event: Int8
    episode: Records
    times: Records


@njit(inner=True)
def _normal(
    found: watch_state.Found,
    series: watch_state.Series,
    value: float,
    time: float,
    interval: float,
    out: Float64,
) -> None:
    """What would be normal, in the value's units; of a counter, from its last value on."""
    reference = found.reference
    out[0] = reference.expected
    out[1] = reference.lower
    out[2] = reference.upper
    if series.watch.counter == 1.0 and series.watch.time > 0.0:
        passed = time - series.watch.time
        if passed <= 0.0:
            passed = interval
        for k in range(3):
            out[k] = series.watch.value + out[k] * passed / 1e9
        return
    least = least_normal(series.normal, value)
    if out[0] < least:
        # the guess is too low: at the least that is possible, with its upper half width
        out[0], out[2] = least, out[2] - out[0] + least
    if out[1] < least:
        out[1] = least


@njit(inner=True)
def step(
    judged: Judged,
    settings: Settings,
    series: watch_state.Series,
    readings: Readings,
    i: int,
    space: tail.Space,
    written: Events,
) -> int:
    """Judge reading i and learn from it; returns its event, 0 where nobody is to be told."""
    time, value, interval = float(readings.time[i]), readings.value[i], readings.interval[i]
    local, rule = readings.local[i], judged.rule
    moment = moment_of(local)
    was_open = judged.episode.open == 1.0
    found = watch.look(series, moment, value, time, interval, readings.band[i], was_open)
    beyond = found.big or found.leap
    normal = written.normal[i]
    _normal(found, series, value, time, interval, normal)
    reading = Reading(
        readings.time[i], value, readings.statistic[i], normal[0], normal[1], normal[2],
        readings.cause[i], interval, -math.inf,
    )  # fmt: skip
    violated = violates(rule, value)
    soon = readings.gap[i] == 1 or found.turned or series.watch.since_gap < watch.AFTER_GAP
    after_gap = soon and series.watch.seen >= implausible.SEEN
    # what the statistic says of a counter's value is about its rise and its resets
    usable = series.watch.counter == 0.0 or found.far > 2.0 or found.rarity > 0.0
    # what never moved and does not move now is no news, however quiet
    rounded = ROUNDED * abs(found.x)
    usable = usable and not (found.reference.scale <= rounded and found.size <= rounded)
    permission = Permission(
        deviates(rule, value, normal[0]) and (found.strange or not after_gap) and usable,
        violated,
        rule.enabled == 1.0 and readings.grouped[i] == 0,
    )
    episode = judged.episode
    at = habits.NONE
    known_far = -1.0
    if episode.open == 0.0:
        at = habits.find(series.habits, local)
        if habits.is_known(series.habits, at, local, found.far):
            known_far = habits.LARGER * max(1.0, series.habits.size[at])
    rarity = found.rarity
    if readings.grouped[i] == 1 and series.watch.standing >= NEWS:
        rarity = -9.0
    evidence = Evidence(
        rarity, found.what, found.first, found.second, found.third, found.far, beyond,
        found.fresh and found.big, found.minor, crossed(rule, value), known_far,
        found.side,
    )  # fmt: skip
    out = written.judgement[i]
    event = episodes.judge(judged, settings, reading, permission, evidence, space, out)
    unusual = found.rarity > 0.0 or out.rarity > 0.0
    series.watch.standing = series.watch.standing + 1.0 if unusual else 0.0
    if episode.open == 1.0 and not was_open:
        implausible.begin(series.watch)
        begun = habits.NONE
        if not violated:
            begun = habits.note(series.habits, at, local, min(found.far, 1e3))
        series.watch.habit = begun + 1.0
    elif episode.open == 1.0 and series.watch.habit > 0.0:
        k = int(series.watch.habit) - 1
        series.habits.size[k] = max(series.habits.size[k], min(found.far, 1e3))
    hold = episode.open == 1.0 or beyond
    strangest = max(found.rarity, out.rarity)
    if not hold and strangest >= budget.LEAST_THRESHOLD:
        threshold = episodes.threshold_of(judged, settings, interval)
        hold = strangest >= min(threshold, HOLDS)
    watch.learn(series, moment, found, value, time, readings.gap[i] == 1, hold)
    # a young series is replayed without its episodes
    if was_open and episode.open == 0.0 and series.watch.seen >= watch_state.SETTLED:
        if episode.readings >= settings.max_duration:
            watch.settle(series, found.reference.profile)
        levels.forget(series.watch)
    if episode.known == 1.0:
        event = 0
    written.alert[i] = 1 if episode.open == 1.0 and episode.known == 0.0 else 0
    written.event[i] = event
    return event


@njit(inner=True)
def _step_at(
    slot: int, tables: Tables, watches: watch_state.State, settings: Settings, readings: Readings,
    i: int, space: tail.Space, written: Events, count: int,
) -> int:  # fmt: skip
    """Judge reading i of a run after `count` events; apart from `run`, as it borrows arrays only.

    Returns 1 where there is an event.
    """
    judged = judged_of(tables, slot, readings.rule[i])
    series = watch_state.series_of(watches, slot)
    if step(judged, settings, series, readings, i, space, written) == 0:
        return 0
    written.episode[count] = judged.episode
    written.times[count] = judged.times
    return 1


@njit(nogil=True)
def run(
    slots: Int64,
    readings: Readings,
    tables: Tables,
    watches: watch_state.State,
    settings: Settings,
    written: Events,
) -> int:
    """Judge N readings in order; slots [N] names each reading's slot of tables and watches.

    Returns the number of events.
    """
    space = tail.new_space()
    count = 0
    for i in range(slots.shape[0]):
        count += _step_at(slots[i], tables, watches, settings, readings, i, space, written, count)
    return count


@njit(inner=True)
def learn_again(
    series: watch_state.Series, time: float, local: float, value: float, interval: float,
    band: Float64,
) -> None:  # fmt: skip
    """Let a series learn a reading of its youth again; `band` [3] is NaN."""
    moment: Moment = moment_of(local)
    found = watch.look(series, moment, value, time, interval, band, False)
    watch.learn(series, moment, found, value, time, False, False)


@njit(nogil=True)
def replay(
    slots: Int64,
    times: Int64,
    local: Float64,
    values: Float64,
    intervals: Float64,
    watches: watch_state.State,
) -> None:
    """Let series learn N readings of their youth again, of which none held its reference."""
    band = _band()
    band[:] = math.nan
    for i in range(slots.shape[0]):
        series = watch_state.series_of(watches, slots[i])
        learn_again(series, float(times[i]), local[i], values[i], intervals[i], band)
