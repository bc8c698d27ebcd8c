"""The second stage: from the statistic S to how rare an episode this strange is, per series.

A fixed map from S to a false-alarm rate is right on average only; this stage learns the tail of
each series' own block maxima of S, in three exponential pieces that lean on one another and on
the population, so that short histories borrow and long ones speak for themselves; below the tail,
where budgets of more than one episode in ten blocks have their thresholds, the bulk of the series'
own block maxima (docs/method.md). Also the per-reading p-value, from the series' own distribution
of S. Host code, one row after another.

`rarity` C = -log10 of the expected number of episodes per 100 readings.
"""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple

from titans_stream.detection.layout import BLOCK_DECAY
from titans_stream.jit import njit, scratch
from titans_stream.memory.rows import Record
from titans_stream.records import Float64

BLOCK = 100.0
U = 0.25
"""Where the tail begins, in S."""
WIDTHS = (0.2, 0.3)
PRIOR_MASS = (8.0, 2.0, 1.5)
PRIOR_SCALE = 0.23
PRIOR_RATE = 0.13
PRIOR_BLOCKS = 10.0
RATE_FLOOR = 0.05
COUNT_DECAY = 0.998
TAIL_DECAY = 0.997
WINSOR = 3.0
BULK_GROWTH = 0.26
"""Block maxima grow by this with each tenfold history, as S ranks among more blocks."""
BULK_MEAN = -0.2
BULK_MEAN_BLOCKS = 2.0
BULK_SPREAD = 0.1
BULK_SPREAD_BLOCKS = 3.0
"""Mean and standard deviation of the population's maxima without that growth, and the blocks that
they count for."""
BULK_LEAST = 0.01
BULK_DECAY = 0.97
BULK_WINSOR = 3.0
WAIT = 8
"""Blocks that a rare maximum waits before it enters the tail."""
WAIT_FROM = 0.2
WAIT_ABOVE = 0.5
"""The S and the rarity from which it waits: others are not of the tail, and 0 is no maximum."""
_WINSOR_FACTOR = 1.0 / (1.0 - math.exp(-WINSOR))
_WIDTH = math.sqrt(6.0) / math.pi
_EULER = 0.5772
"""A Gumbel distribution's scale in its standard deviations, and its mean above its mode, in
scales."""
_FIRST_WIDTH = _WIDTH * BULK_SPREAD
_FIRST_MODE = BULK_MEAN - _EULER * _FIRST_WIDTH


class Tail(Record):
    """What the second stage keeps of one series' block maxima."""

    seen: float
    """Readings so far."""
    block_max: float
    """Highest S of the block that is being filled."""
    k_sum: float
    """Decaying number of maxima, and of those above U."""
    n_sum: float
    excess: Annotated[Float64, 3]
    """Per piece of the tail: decaying sum of lengths, and number of maxima that end in it."""
    ended: Annotated[Float64, 3]
    blocks: float
    waiting: Annotated[Float64, WAIT]
    """Rare maxima that wait to enter the tail, by block modulo WAIT; 0: none."""
    maxima: float
    """Decaying number of block maxima, and of them without growth the sum and sum of squares."""
    sum: float
    squares: float
    mode: float
    """The Gumbel distribution of the next block's maximum; width 0: of no block yet."""
    width: float


# Histogram of S for the p-value
BINS = 96
BIN_WIDTH = 0.05
BIN_ORIGIN = -1.0
PRIOR_COUNT = 50.0
HISTOGRAM_DECAY = 1.0 - 1.0 / 20_000.0
# Survival of S in the population: logistic body, exponential tail
PRIOR_CENTRE = 0.02
PRIOR_BODY = 0.075
PRIOR_TAIL_AT = 0.25
PRIOR_TAIL = 0.16


class Histogram(Record):
    """The distribution of one series' S."""

    bins: Annotated[Float64, BINS]
    mass: float
    """Sum of the bins."""
    unit: float
    """What one new reading counts: it grows instead of every bin shrinking."""


_FADED = 0.02
"""Above U the bulk's rate falls e-fold over this much of S."""

_sigma = scratch(3)
_weight = scratch(3)


class Space(NamedTuple):
    """Scratch space: the scales of the tail's three pieces and the weights behind them."""

    sigma: Float64
    weight: Float64


@njit(inline="always")
def new_space() -> Space:
    """Scratch space for any series."""
    return Space(_sigma(), _weight())


@njit(inner=True)
def rarity(state: Tail, statistic: float, space: Space) -> float:
    """C of a statistic."""
    r = max(RATE_FLOOR, (PRIOR_BLOCKS * PRIOR_RATE + state.n_sum) / (PRIOR_BLOCKS + state.k_sum))
    d = statistic - U
    log_rate = math.log(r)
    bulk = _bulk_log_rate(state, min(statistic, U))
    if d <= 0.0:
        return -max(log_rate, bulk) / math.log(10.0)
    scales(state, space)
    start = 0.0
    for j in range(3):
        length = d - start
        if j < 2:
            length = min(length, WIDTHS[j])
        log_rate -= space.weight[j] * math.log1p(length / (space.weight[j] * space.sigma[j]))
        if j == 2 or d <= start + WIDTHS[j]:
            break
        start += WIDTHS[j]
    # what the bulk says at U ends fast above it, but not at once: C has no jump there
    return -max(log_rate, bulk - d / _FADED) / math.log(10.0)


@njit(inner=True)
def _bulk_log_rate(state: Tail, statistic: float) -> float:
    """ln of the expected number of episodes per 100 readings, by the bulk of the block maxima."""
    if state.width == 0.0:
        return (_FIRST_MODE - statistic) / _FIRST_WIDTH
    rate: float = (state.mode - statistic) / state.width
    return rate


@njit(inner=True)
def scales(state: Tail, space: Space) -> None:
    """Write the scales of the three pieces and the weights behind them."""
    guess = PRIOR_SCALE * (1.0 + 0.3 / (1.0 + state.blocks))
    for j in range(3):
        space.weight[j] = PRIOR_MASS[j] + state.ended[j]
        space.sigma[j] = (PRIOR_MASS[j] * guess + state.excess[j]) / space.weight[j]
        guess = 0.95 * space.sigma[j]


@njit(inner=True)
def learn(state: Tail, statistic: float, space: Space) -> None:
    """Take a reading into the current block; at the block's end, its maximum into the tail.

    A rare maximum waits for WAIT blocks, so that an event does not hide the next one; where maxima
    come in no order, a delay changes no rate.
    """
    if state.seen % BLOCK == 0.0:
        state.block_max = statistic
    else:
        state.block_max = max(state.block_max, statistic)
    state.seen += 1.0
    if state.seen % BLOCK != 0.0:
        return
    top = state.block_max
    rare = top > WAIT_FROM and rarity(state, top, space) >= WAIT_ABOVE
    _learn_bulk(state, top)
    scales(state, space)
    state.blocks += 1.0
    state.k_sum *= COUNT_DECAY
    state.n_sum *= COUNT_DECAY
    for j in range(3):
        state.excess[j] *= TAIL_DECAY
        state.ended[j] *= TAIL_DECAY
    place = int(state.blocks) % WAIT
    if state.waiting[place] > 0.0:
        _enter(state, state.waiting[place], space.sigma[2])
    state.waiting[place] = top if rare else 0.0
    if not rare:
        _enter(state, top, space.sigma[2])


@njit(inner=True)
def _growth(blocks: float) -> float:
    """How far the maxima of a series' next block have grown after so many."""
    history = (1.0 - BLOCK_DECAY**blocks) / (1.0 - BLOCK_DECAY)
    return BULK_GROWTH * math.log10(0.5 + history)


@njit(inner=True)
def _bulk_moments(state: Tail) -> tuple[float, float]:
    """Mean and standard deviation of block maxima without their growth."""
    mean = (BULK_MEAN_BLOCKS * BULK_MEAN + state.sum) / (BULK_MEAN_BLOCKS + state.maxima)
    around = state.squares - 2.0 * mean * state.sum + mean * mean * state.maxima
    squares = BULK_SPREAD_BLOCKS * BULK_SPREAD**2 + max(around, 0.0)
    return mean, max(BULK_LEAST, math.sqrt(squares / (BULK_SPREAD_BLOCKS + state.maxima)))


@njit(inner=True)
def _learn_bulk(state: Tail, top: float) -> None:
    """Take a block's maximum into the bulk, winsorised at 3 deviations above the mean."""
    mean, spread = _bulk_moments(state)
    maximum = min(top - _growth(state.blocks + 1.0), mean + BULK_WINSOR * spread)
    state.maxima = BULK_DECAY * state.maxima + 1.0
    state.sum = BULK_DECAY * state.sum + maximum
    state.squares = BULK_DECAY * state.squares + maximum * maximum
    mean, spread = _bulk_moments(state)
    state.width = _WIDTH * spread
    state.mode = mean - _EULER * state.width + _growth(state.blocks + 2.0)


@njit(inner=True)
def _enter(state: Tail, top: float, last_scale: float) -> None:
    """Take a block's maximum into the tail; the last piece is winsorised at 3 of its scales."""
    state.k_sum += 1.0
    d = top - U
    if d <= 0.0:
        return
    state.n_sum += 1.0
    start = 0.0
    for j in range(2):
        state.excess[j] += min(d - start, WIDTHS[j])
        if d <= start + WIDTHS[j]:
            state.ended[j] += 1.0
            return
        start += WIDTHS[j]
    state.excess[2] += min(d - start, WINSOR * last_scale) * _WINSOR_FACTOR
    state.ended[2] += 1.0


@njit(inner=True)
def prior_survival(statistic: float) -> float:
    """Share of readings with at least this statistic in the population."""
    at = 1.0 / (1.0 + math.exp((PRIOR_TAIL_AT - PRIOR_CENTRE) / PRIOR_BODY))
    if statistic > PRIOR_TAIL_AT:
        return at * math.exp(-(statistic - PRIOR_TAIL_AT) / PRIOR_TAIL)
    return 1.0 / (1.0 + math.exp((statistic - PRIOR_CENTRE) / PRIOR_BODY))


@njit(inner=True)
def p_value(histogram: Histogram, statistic: float) -> float:
    """Share of the series' normal readings with at least this statistic, in (0, 1).

    The population's survival enters as PRIOR_COUNT readings, so that the tail beyond what was
    seen stays strictly ordered.
    """
    prior_mass = PRIOR_COUNT * max(histogram.unit, 1.0)
    position = (statistic - BIN_ORIGIN) / BIN_WIDTH
    i = int(math.floor(min(max(position, 0.0), BINS - 1.0)))
    inside = min(max(position - i, 0.0), 1.0)
    above = histogram.bins[i] * (1.0 - inside)
    for j in range(i + 1, BINS):
        above += histogram.bins[j]
    share: float = (prior_mass * prior_survival(statistic) + above) / (prior_mass + histogram.mass)
    return share


@njit(inner=True)
def remember(histogram: Histogram, statistic: float) -> None:
    """Take a reading into the histogram; also one inside an episode, else p would drift down."""
    position = (statistic - BIN_ORIGIN) / BIN_WIDTH
    i = int(math.floor(min(max(position, 0.0), BINS - 1.0)))
    unit = max(histogram.unit, 1.0) / HISTOGRAM_DECAY
    if unit > 1e6:
        for j in range(BINS):
            histogram.bins[j] /= unit
        histogram.mass /= unit
        unit = 1.0
    histogram.unit = unit
    histogram.bins[i] += unit
    histogram.mass += unit


@njit()
def score(statistic: float) -> float:
    """The anomaly score in (0, 1): strictly increasing in S, one half at S = U, no saturation."""
    x = 2.0 * (statistic - U)
    return 0.5 + 0.5 * x / (1.0 + abs(x))
