"""What a reading is against what the series would normally show, beside the statistic S.

Per reading: how far it is from normal (normal.py), whether it is beyond anything plausible, how
long the series has stayed where it is (dwell.py), and how far its level has been from normal for a
while. Run lengths and levels have a rarity of their own, from their own history, and a small
share of the alert budget. A counter (it only rises, or begins again) is watched by its rate.
"""

from __future__ import annotations

import math

from titans_stream.detection import dwell as dwells
from titans_stream.detection import implausible, levels, turns
from titans_stream.detection import normal as normals
from titans_stream.detection import rise as rises
from titans_stream.detection.implausible import FIRST, SEEN
from titans_stream.detection.normal import Moment, Reference
from titans_stream.detection.watch_state import LEVELS, SETTLED, Found, Series, Watch
from titans_stream.jit import njit
from titans_stream.records import Float64

PATTERN, VALUE, BIG, CHANGE, LEVEL, SEASON, RATE, DWELL, NOISE, LEAP, RISEN, TURN = range(12)
"""What stands out: an unusual course of usual values, the reading itself, one beyond anything
plausible, the step from the last one, the level against before and against the time of day, a
counter's rate, the time at one value, the size of the changes, a step beyond
anything plausible, how fast the level leaves the time of day's, where or how soon it turned."""

CHANGE_BOUND = 100.0
"""A lone outlier enters the usual size of the changes as so many of them at most."""
MINOR = 0.01
"""Of its value: a move of a constant series by less is no critical one."""

COUNTER_RISES = 100.0
RISING = 300.0
"""Rises of a counter, and readings without a fall, that show it to be one."""
RESET = 0.1
"""Of the value before: a fall below it is a reset."""
RISES_A_RESET = 8.0
"""Rises that a reset takes back: what falls as often as it rises is a state, no counter."""

SHARE = 1.0
"""-log10 of the share of the budget that run lengths have."""
TURN_SHARE = 1.3
"""That of the turns."""
AFTER_GAP = 30.0
"""Readings after a gap, or a step that the turn of the day explains, that need to be strange for
the time of day, too."""
EXPLAINED = 0.5
"""A step is the profile's if it differs from that by at most this part of it."""
STRANGE = 4.0
"""Usual deviations that are strange."""
HELD = 16.0
HELD_MOST = 2_000.0
"""Readings that the reference is held still after a strange one, and in a row at most."""
ARRIVED = 96.0
NOISY = 2.0
CHANGES = 3_000.0


@njit(inner=True)
def quantity(watch: Watch, value: float, time: float, interval: float) -> float:
    """What is watched of a reading: its value, or the rate of a counter."""
    if watch.counter == 0.0 or watch.time == 0.0:
        return value
    step = value - watch.value
    if step < 0.0:
        return watch.rate
    passed = time - watch.time
    if passed <= 0.0:
        passed = interval
    return step / passed * 1e9


@njit(inner=True)
def _away(x: float, reference: Reference, least: float) -> float:
    """Half widths from the reference, or from the least that can be normal."""
    room = reference.upper - reference.expected
    if x < reference.expected:
        room = reference.expected - reference.lower
    size = abs(x - reference.expected)
    if reference.expected < least:
        size = abs(x - least)
    if size == 0.0 or math.isnan(size):
        return 0.0
    return min(1e6, size / room) if room > 0.0 else 1e6


@njit(inner=True)
def _turned(
    series: Series, moment: Moment, value: float, time: float, reference: Reference
) -> bool:
    """Whether the step to a value is that from one kind of day to the other, which is known."""
    watch = series.watch
    if not reference.own or watch.counter == 1.0 or watch.time == 0.0:
        return False
    then = normals.earlier(moment, (time - watch.time) / 1e9)
    before = Moment(rises.day_of(watch, then), then.bin, then.part, then.local)
    if before.day == moment.day:
        return False
    due = reference.profile - normals.usual_at(series.profile, before)
    return abs(value - watch.value - due) < EXPLAINED * abs(due)


@njit(inner=True)
def look(
    series: Series,
    moment: Moment,
    value: float,
    time: float,
    interval: float,
    band: Float64,
    episode: bool,
) -> Found:
    """What is found of a reading; `band` [3] is the one-step forecast of it.

    `episode`: one is open.
    """
    watch, normal = series.watch, series.normal
    x = quantity(watch, value, time, interval)
    reference = normals.read(normal, series.profile, moment)
    size = abs(x - reference.expected) if normal.seen > 0.0 else 0.0
    big = implausible.far_off(series, reference, size)
    error = abs(value - band[0]) if watch.counter == 0.0 else math.nan
    leap = not big and implausible.leaps(watch, error)
    minor = reference.scale == 0.0 and size <= MINOR * abs(reference.expected)
    strange = size > watch.largest
    if not math.isnan(reference.profile):
        strange = abs(x - reference.profile) > STRANGE * reference.scale
    far = _away(x, reference, normals.least_normal(normal, x))
    off_now = levels.scaled(x - reference.expected, reference.scale) if normal.seen > 0.0 else 0.0
    side = levels.drift_with(watch, levels.QUICK, off_now)
    turned = _turned(series, moment, value, time, reference)
    what, first, second, third = PATTERN, math.nan, math.nan, math.nan
    rarity, level, drift, risen = -9.0, 0, 0.0, 0.0
    for k in range(LEVELS):
        if watch.weight[k] < 5.0 or (k >= levels.BY_SEASON and not reference.own):
            continue
        if k < levels.BY_SEASON and dwells.among_states(series.dwell, value):
            continue
        if k == levels.RISE:
            rise = rises.look(series, moment, x - reference.profile)
            so_rare = levels.rarity_of(watch, k, rises.scaled(rise)) - levels.LEVEL_SHARES[k]
            if so_rare > max(rarity, 0.0):
                rarity, level, drift, risen = so_rare, k, rise.mean, rise.size
            continue
        deviation = x - (reference.profile if k == levels.BY_SEASON else reference.expected)
        here = levels.drift_with(watch, k, levels.scaled(deviation, reference.scale))
        # only while the reading itself is on that side
        if here * deviation > abs(here) * reference.scale:
            so_rare = levels.rarity_of(watch, k, here) - levels.LEVEL_SHARES[k]
            if so_rare > rarity:
                rarity, level, drift = so_rare, k, here
    off = level == levels.BY_SEASON or rarity > 0.0
    run = dwells.Run(-9.0, 0.0, 0.0)
    if normal.seen >= SEEN:
        run = dwells.look(series.dwell, value, time, watch.seen)
    if run.rarity - SHARE > rarity:
        rarity = run.rarity - SHARE
        off = False
    turn = turns.Turn(-1, -9.0, -1, math.nan, math.nan)
    if watch.counter == 0.0 and watch.seen >= SETTLED:
        smooth = normals.middle(x, normal.last, normal.before)
        turn = turns.look(series.turns, smooth, watch.change)
    if turn.rarity - TURN_SHARE > max(rarity, 0.0):
        rarity = turn.rarity - TURN_SHARE
        off = False
        what, first, second, third = TURN, turn.was, turn.usual, float(turn.strangest)
    elif run.rarity - SHARE > 0.0 and run.rarity - SHARE >= rarity:
        what, first, second = DWELL, run.time, run.longest
    elif watch.counter == 1.0 and (far > 1.0 or off):
        what, first, second = RATE, x if far > 1.0 else watch.level, reference.expected
    elif big:
        what, first = BIG, implausible.earlier(watch, size, episode)
    elif far > 1.0:
        what, first = VALUE, implausible.earlier(watch, size, episode)
        if leap:
            second = band[0]
    elif leap:
        what, first, second, third = LEAP, band[0], band[1], band[2]
    elif off:
        start = watch.since[level] if watch.since[level] > 0.0 else time
        if level == levels.BY_SEASON:
            what, first, second = SEASON, watch.off, time - start
        elif level == levels.RISE:
            what, first, second, third = RISEN, drift, time - start, risen
        else:
            what, first, second = LEVEL, drift * reference.scale, time - start
    elif value < band[1] or value > band[2]:
        what, first, second, third = CHANGE, band[0], band[1], band[2]
    elif watch.change_now > NOISY * watch.change or NOISY * watch.change_now < watch.change:
        what, first = NOISE, watch.change_now / max(watch.change, 1e-300)
    return Found(
        x, reference, rarity, what, first, second, third, far, big, leap, watch.large_run == 0.0,
        minor, strange, size, error, turned, turn, side,
    )  # fmt: skip


@njit(inner=True)
def _recognise(series: Series, value: float) -> None:
    """Whether the series is a counter; it begins anew where that changes."""
    watch = series.watch
    step = value - watch.value
    if watch.time == 0.0:
        return
    watch.since_fall += 1.0
    if step > 0.0:
        watch.rises += 1.0
    elif step < 0.0:
        watch.rises = max(0.0, watch.rises - RISES_A_RESET)
        if not 0.0 <= value < RESET * watch.value or watch.rises == 0.0:
            watch.rises = 0.0
            watch.since_fall = 0.0
    is_counter = watch.rises >= COUNTER_RISES and watch.since_fall >= RISING
    if watch.counter == 1.0:
        is_counter = watch.since_fall > 0.0
    if is_counter == (watch.counter == 1.0):
        return
    watch.counter = 1.0 if is_counter else 0.0
    normals.forget(series.normal, series.profile)
    rises.forget(series)
    turns.forget(series.turns)
    watch.filled = 0.0
    implausible.forget(watch)
    watch.level = value
    watch.rate = 0.0
    levels.forget(watch)
    levels.forget_blocks(watch)


@njit(inner=True)
def learn(
    series: Series,
    moment: Moment,
    found: Found,
    value: float,
    time: float,
    gap: bool,
    hold: bool,
) -> None:
    """Take a reading in; `hold`: the reference stays as it is, because of this reading."""
    watch, normal = series.watch, series.normal
    gap = gap and watch.seen >= SETTLED
    dwells.step(series.dwell, series.lengths, value, time, watch.seen, watch.change, gap)
    if watch.counter == 0.0 and watch.seen >= SETTLED:
        smooth = value
        if not gap and normal.seen > 0.0:
            # a lone outlier is no turn; what was before a gap, or another kind of series, neither
            smooth = normals.middle(value, normal.last, normal.before)
        turns.learn(series.turns, found.turn, smooth, time, watch.change, gap)
    if watch.time > 0.0:
        n = min(watch.seen, CHANGES)
        size = abs(value - watch.value)
        if n > FIRST and watch.change > 0.0:
            size = min(size, CHANGE_BOUND * watch.change)
        watch.change += (size - watch.change) / n
        watch.change_now += (size - watch.change_now) / min(n, 32.0)
    else:
        watch.level = found.x
    if normal.seen > 0.0:
        levels.learn(series, moment, found, time, hold or watch.hold > 0.0)
    if normal.seen >= FIRST:
        implausible.learn(series, found, gap)
    if watch.seen >= SETTLED and hold:
        watch.hold = HELD
    if watch.hold > 0.0:
        watch.hold -= 1.0
        watch.held += 1.0
    else:
        watch.held = 0.0
    normals.learn(normal, series.profile, moment, found.x, found.reference, watch.held > 0.0)
    if watch.held >= HELD_MOST:
        settle(series, found.reference.profile)
    watch.since_gap = 0.0 if gap or found.turned else watch.since_gap + 1.0
    if watch.counter == 1.0:
        watch.rate = found.x
    _recognise(series, value)
    watch.seen += 1.0
    watch.value = value
    watch.time = time


@njit(inner=True)
def settle(series: Series, usual: float) -> None:
    """What went on for long is the new normal; `usual` as in `Reference.profile`."""
    watch, normal = series.watch, series.normal
    # the running means need some readings to arrive where the series is
    level = watch.level if watch.held >= ARRIVED else normal.last
    off = math.nan if math.isnan(usual) else level - usual
    normals.settle(normal, series.profile, level, off)
    watch.hold = 0.0
    watch.held = 0.0
    if not math.isnan(off):
        watch.rise_quick = 0.0
    levels.forget(watch)
