"""How far the level of a series has been from normal for a while, and how rare that is.

Levels are running means of the deviation from normal, in usual deviations; each has a rarity from
its own largest of past blocks of readings. Beside them is the rise (rise.py), calibrated alike.
"""

from __future__ import annotations

import math

from titans_stream.detection import rise as rises
from titans_stream.detection.normal import Moment
from titans_stream.detection.watch_state import LEVELS, Found, Series, Watch
from titans_stream.jit import njit

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
LEVEL_SHARES = (1.0, 1.0, 1.3, 1.3)
"""-log10 of the share of the budget of each level and the rise; at a time of day: days are fewer
than blocks."""


@njit(inner=True)
def scaled(deviation: float, scale: float) -> float:
    """A deviation in usual ones, at most FAR."""
    if scale > 0.0:
        near: float = min(FAR, max(-FAR, deviation / scale))
        return near
    return 0.0 if deviation == 0.0 else (FAR if deviation > 0.0 else -FAR)


@njit(inner=True)
def drift_with(watch: Watch, k: int, deviation: float) -> float:
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
def rarity_of(watch: Watch, k: int, drift: float) -> float:
    """-log10 of how often, per 100 readings, a level this far off is due."""
    beta = watch.scale[k]
    excess = abs(drift) - (PRIOR_MAXIMUM + watch.above[k] - 0.577 * beta)
    rarity: float = excess / beta
    if k == BY_SEASON and rarity > 0.0:
        # with few independent blocks the tail itself is uncertain
        blocks = _independent(watch)
        rarity = blocks * math.log(1.0 + rarity / blocks)
    return rarity / math.log(10.0)


@njit(inner=True)
def _independent(watch: Watch) -> float:
    """How many independent blocks the level at a time of day knows: what wanders for days has few.

    By the correlation of one block's end with the next one's, as for the mean of an autoregression.
    """
    together = 0.0
    if watch.season_power > 0.0:
        together = min(max(watch.season_product / watch.season_power, 0.0), 0.99)
    blocks: float = watch.weight[BY_SEASON] * (1.0 - together) / (1.0 + together)
    return max(1.0, blocks)


@njit(inner=True)
def forget(watch: Watch) -> None:
    """An episode is over: what it left in the running means is no evidence for another."""
    watch.off = 0.0
    watch.rise_slow = watch.rise_quick
    for k in range(LEVELS):
        watch.since[k] = 0.0
        watch.drift[k] = 0.0


@njit(inner=True)
def forget_blocks(watch: Watch) -> None:
    """Begin anew."""
    watch.season_last = 0.0
    watch.season_product = 0.0
    watch.season_power = 0.0
    for k in range(LEVELS):
        watch.weight[k] = 0.0
        watch.total[k] = 0.0
        watch.square[k] = 0.0
        watch.above[k] = 0.0


@njit(inner=True)
def learn(series: Series, moment: Moment, found: Found, time: float, event: bool) -> None:
    """Running means of the deviations, and their largest of each block."""
    watch, reference, x = series.watch, found.reference, found.x
    deviation = scaled(x - reference.expected, reference.scale)
    watch.level += (x - watch.level) / SPANS[SHORT]
    off, season, risen = 0.0, 0.0, 0.0
    if reference.own:
        off = x - reference.profile
        season = scaled(off, reference.scale)
        rise = rises.look(series, moment, off)
        risen = rises.scaled(rise)
        rises.learn(series, moment, off, rise, event)
    watch.off += (off - watch.off) / SPANS[BY_SEASON]
    for k in range(LEVELS):
        if k == RISE:
            watch.drift[k] = risen
        else:
            watch.drift[k] = drift_with(watch, k, season if k == BY_SEASON else deviation)
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
    if reference.own:
        season = watch.drift[BY_SEASON]
        watch.season_product = BLOCK_DECAY * watch.season_product + season * watch.season_last
        watch.season_power = BLOCK_DECAY * watch.season_power + season * season
        watch.season_last = season
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
