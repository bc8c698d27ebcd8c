"""What a reading is against what the series would normally show, beside the statistic S.

Per reading: how far it is from normal (normal.py), whether it is beyond anything plausible, how
long the series has stayed where it is (dwell.py), and how far its level has been from normal for a
while. Run lengths and levels have a rarity of their own, from their own history, and a small
share of the alert budget. A counter (it only rises, or begins again) is watched by its rate.
"""

from __future__ import annotations

import math

from titans_stream.detection import dwell as dwells
from titans_stream.detection import implausible
from titans_stream.detection import normal as normals
from titans_stream.detection import rise as rises
from titans_stream.detection.implausible import FIRST, SEEN
from titans_stream.detection.normal import Moment, Reference
from titans_stream.detection.watch_state import LEVELS, SETTLED, Found, Series, Watch
from titans_stream.jit import njit
from titans_stream.records import Float64

PATTERN, VALUE, BIG, CHANGE, LEVEL, SEASON, RATE, DWELL, NOISE, LEAP, RISEN = range(11)
"""What stands out: an unusual course of usual values, the reading itself, one beyond anything
plausible, the step from the last one, the level against before and against the time of day, a
counter's rate, the time at one value, the size of the changes, a step beyond
anything plausible, how fast the level leaves the time of day's."""

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

SPANS = (8.0, 32.0, 96.0)
"""Readings of the levels: two against normal, the last against what the time of day alone says."""
QUICK, SHORT, BY_SEASON, RISE = range(LEVELS)
"""The last is no level, but how fast the series leaves what the time of day says."""
FAR = 20.0
"""A reading counts for at most this many usual deviations in a level."""
BLOCK = 100.0
BLOCK_DECAY = 0.98
PRIOR_BLOCKS = 5.0
PRIOR_LEAST = 0.5
"""The population's maxima count for PRIOR_BLOCKS; for the level at a time of day, which wanders far
less on most series, for ever fewer, down to PRIOR_LEAST."""
PRIOR_MAXIMUM = 1.2
PRIOR_SPREAD = 0.8
WINSOR = 3.0
SMALL = 0.5
"""Of a block's usual maximum: a drift below it is small."""
BLOCKS = 8.0
"""Blocks after which levels are judged."""
SHARE = 1.0
"""-log10 of the share of the budget that run lengths have."""
LEVEL_SHARES = (1.0, 1.0, 1.3, 1.3)
"""The same of the levels and the rise; at a time of day: days are fewer than blocks."""
AFTER_GAP = 30.0
"""Readings after a gap that need to be strange for the time of day, too."""
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
def _scaled(deviation: float, scale: float) -> float:
    if scale > 0.0:
        near: float = min(FAR, max(-FAR, deviation / scale))
        return near
    return 0.0 if deviation == 0.0 else (FAR if deviation > 0.0 else -FAR)


@njit(inner=True)
def _drift(watch: Watch, k: int, deviation: float) -> float:
    """Level k with a reading that is so far off, both in usual deviations."""
    level: float = watch.drift[k] + (deviation - watch.drift[k]) / SPANS[k]
    return level


@njit(inner=True)
def _prior(watch: Watch, k: int) -> float:
    """The blocks that the population counts for."""
    if k < BY_SEASON:
        return PRIOR_BLOCKS
    left: float = PRIOR_BLOCKS * (1.0 - (1.0 - BLOCK_DECAY) * watch.weight[k])
    return max(PRIOR_LEAST, left)


@njit(inner=True)
def _mean_top(watch: Watch, k: int) -> float:
    """The mean of a block's largest drift."""
    prior = _prior(watch, k)
    mean: float = (prior * PRIOR_MAXIMUM + watch.total[k]) / (prior + watch.weight[k])
    return mean


@njit(inner=True)
def _top_spread(watch: Watch, k: int, mean: float) -> float:
    """The standard deviation of a block's largest drift around its mean."""
    prior = _prior(watch, k)
    square = prior * (PRIOR_MAXIMUM**2 + PRIOR_SPREAD**2) + watch.square[k]
    return math.sqrt(max(square / (prior + watch.weight[k]) - mean * mean, 1e-4))


@njit(inner=True)
def _level_rarity(watch: Watch, k: int, drift: float) -> float:
    """-log10 of how often, per 100 readings, a level this far off is due."""
    beta = watch.scale[k]
    excess = abs(drift) - (PRIOR_MAXIMUM + watch.above[k] - 0.577 * beta)
    rarity: float = excess / beta / math.log(10.0)
    return rarity


@njit(inner=True)
def _away(x: float, reference: Reference) -> float:
    """Half widths from the reference."""
    room = reference.upper - reference.expected
    if x < reference.expected:
        room = reference.expected - reference.lower
    size = abs(x - reference.expected)
    if size == 0.0 or math.isnan(size):
        return 0.0
    return min(1e6, size / room) if room > 0.0 else 1e6


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
    far = _away(x, reference)
    what, first, second, third = PATTERN, math.nan, math.nan, math.nan
    rarity, level, drift, risen = -9.0, 0, 0.0, 0.0
    states = dwells.among_states(series.dwell, value)
    for k in range(LEVELS):
        if watch.weight[k] < 5.0 or (k >= BY_SEASON and not reference.own):
            continue
        if k < BY_SEASON and states:
            continue
        if k == RISE:
            rise = rises.look(series, moment, x - reference.profile)
            so_rare = _level_rarity(watch, k, rises.scaled(rise)) - LEVEL_SHARES[k]
            if so_rare > max(rarity, 0.0):
                rarity, level, drift, risen = so_rare, k, rise.mean, rise.size
            continue
        deviation = x - (reference.profile if k == BY_SEASON else reference.expected)
        here = _drift(watch, k, _scaled(deviation, reference.scale))
        # only while the reading itself is on that side
        if here * deviation > abs(here) * reference.scale:
            so_rare = _level_rarity(watch, k, here) - LEVEL_SHARES[k]
            if so_rare > rarity:
                rarity, level, drift = so_rare, k, here
    off = level == BY_SEASON or rarity > 0.0
    run = dwells.Run(-9.0, 0.0, 0.0)
    if normal.seen >= SEEN:
        run = dwells.look(series.dwell, value, time, watch.seen)
    if run.rarity - SHARE > rarity:
        rarity = run.rarity - SHARE
        off = False
    if run.rarity - SHARE > 0.0 and run.rarity - SHARE >= rarity:
        what, first, second = DWELL, run.time, run.longest
    elif watch.counter == 1.0 and (far > 1.0 or off):
        what, first, second = RATE, x if far > 1.0 else watch.level, reference.expected
    elif big:
        what, first = BIG, implausible.earlier(watch, size, episode)
    elif far > 1.0:
        what, first = VALUE, implausible.earlier(watch, size, episode)
    elif leap:
        what, first, second, third = LEAP, band[0], band[1], band[2]
    elif off:
        start = watch.since[level] if watch.since[level] > 0.0 else time
        if level == BY_SEASON:
            what, first, second = SEASON, watch.off, time - start
        elif level == RISE:
            what, first, second, third = RISEN, drift, time - start, risen
        else:
            what, first, second = LEVEL, drift * reference.scale, time - start
    elif value < band[1] or value > band[2]:
        what, first, second, third = CHANGE, band[0], band[1], band[2]
    elif watch.change_now > NOISY * watch.change or NOISY * watch.change_now < watch.change:
        what, first = NOISE, watch.change_now / max(watch.change, 1e-300)
    return Found(
        x, reference, rarity, what, first, second, third, far, big, leap, watch.large_run == 0.0,
        minor, strange, size, error,
    )  # fmt: skip


@njit(inner=True)
def forget_drifts(watch: Watch) -> None:
    """An episode is over: what it left in the running means is no evidence for another."""
    watch.off = 0.0
    watch.rise_slow = watch.rise_quick
    for k in range(LEVELS):
        watch.since[k] = 0.0
        watch.drift[k] = 0.0


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
    watch.filled = 0.0
    implausible.forget(watch)
    watch.level = value
    watch.rate = 0.0
    forget_drifts(watch)
    for k in range(LEVELS):
        watch.weight[k] = 0.0
        watch.total[k] = 0.0
        watch.square[k] = 0.0
        watch.above[k] = 0.0


@njit(inner=True)
def _learn_levels(series: Series, moment: Moment, found: Found, time: float, event: bool) -> None:
    """Running means of the deviations, and their largest of each block."""
    watch, reference, x = series.watch, found.reference, found.x
    deviation = _scaled(x - reference.expected, reference.scale)
    watch.level += (x - watch.level) / SPANS[SHORT]
    off, season, risen = 0.0, 0.0, 0.0
    if reference.own:
        off = x - reference.profile
        season = _scaled(off, reference.scale)
        rise = rises.look(series, moment, off)
        risen = rises.scaled(rise)
        rises.learn(series, moment, off, rise, event)
    watch.off += (off - watch.off) / SPANS[BY_SEASON]
    for k in range(LEVELS):
        if k == RISE:
            watch.drift[k] = risen
        else:
            watch.drift[k] = _drift(watch, k, season if k == BY_SEASON else deviation)
        size = abs(watch.drift[k])
        watch.top[k] = size if watch.filled == 0.0 else max(watch.top[k], size)
        if size < SMALL * (PRIOR_MAXIMUM + watch.above[k]):
            watch.since[k] = 0.0
        elif watch.since[k] == 0.0:
            watch.since[k] = time
    watch.filled += 1.0
    if watch.filled < BLOCK:
        return
    watch.filled = 0.0
    for k in range(LEVELS):
        known = reference.own if k >= BY_SEASON else True
        if not known or (k == RISE and watch.top[k] == 0.0):
            continue
        mean = _mean_top(watch, k)
        top = min(watch.top[k], mean + WINSOR * _top_spread(watch, k, mean))
        watch.total[k] = BLOCK_DECAY * watch.total[k] + top
        watch.square[k] = BLOCK_DECAY * watch.square[k] + top * top
        watch.weight[k] = BLOCK_DECAY * watch.weight[k] + 1.0
        mean = _mean_top(watch, k)
        watch.above[k] = mean - PRIOR_MAXIMUM
        watch.scale[k] = 0.78 * _top_spread(watch, k, mean)


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
        _learn_levels(series, moment, found, time, hold or watch.hold > 0.0)
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
    watch.since_gap = 0.0 if gap else watch.since_gap + 1.0
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
    forget_drifts(watch)
