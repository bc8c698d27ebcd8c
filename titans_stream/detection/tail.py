"""The second stage: from the statistic S to how rare an episode this strange is, per series.

A fixed map from S to a false-alarm rate is right on average only; this stage learns the tail of
each series' own block maxima of S, in three exponential pieces that lean on one another and on
the population, so that short histories borrow and long ones speak for themselves
(docs/method.md). Also the per-reading p-value, from the series' own distribution of S. Host
code, one row after another.

`rarity` C = -log10 of the expected number of episodes per 100 readings.
"""

from __future__ import annotations

import math

from titans_stream.jit import njit
from titans_stream.records import Float64

BLOCK = 100.0
U = 0.25
"""Where the tail begins, in S."""
WIDTHS = (0.2, 0.3)
PRIOR_MASS = (8.0, 2.0, 2.0)
PRIOR_SCALE = 0.23
PRIOR_RATE = 0.13
PRIOR_BLOCKS = 10.0
BULK_SCALE = 0.06
RATE_FLOOR = 0.05
COUNT_DECAY = 0.998
TAIL_DECAY = 0.997
WINSOR = 3.0
WAIT = 8
"""Blocks that a rare maximum waits before it enters the tail."""
WAIT_ABOVE = 0.5
"""The rarity from which it waits."""
_WINSOR_FACTOR = 1.0 / (1.0 - math.exp(-WINSOR))

# Columns of the tail state
SEEN = 0
BLOCK_MAX = 1
K_SUM = 2
N_SUM = 3
E = 4
M = 7
BLOCKS = 10
WAITING = 11
TAIL = WAITING + WAIT

# Histogram of S for the p-value
BINS = 96
BIN_WIDTH = 0.05
BIN_ORIGIN = -1.0
MASS = BINS
UNIT = BINS + 1
HISTOGRAM = BINS + 2
PRIOR_COUNT = 50.0
HISTOGRAM_DECAY = 1.0 - 1.0 / 20_000.0
# Survival of S in the population: logistic body, exponential tail
PRIOR_CENTRE = 0.02
PRIOR_BODY = 0.075
PRIOR_TAIL_AT = 0.25
PRIOR_TAIL = 0.16


@njit()
def rarity(state: Float64, statistic: float, sigma: Float64, mass: Float64) -> float:
    """C of a statistic; sigma and mass are scratch [3]."""
    r = max(RATE_FLOOR, (PRIOR_BLOCKS * PRIOR_RATE + state[N_SUM]) / (PRIOR_BLOCKS + state[K_SUM]))
    d = statistic - U
    log_rate = math.log(r)
    if d <= 0.0:
        return -(log_rate - d / BULK_SCALE) / math.log(10.0)
    scales(state, sigma, mass)
    start = 0.0
    for j in range(3):
        length = d - start
        if j < 2:
            length = min(length, WIDTHS[j])
        log_rate -= mass[j] * math.log1p(length / (mass[j] * sigma[j]))
        if j == 2 or d <= start + WIDTHS[j]:
            break
        start += WIDTHS[j]
    return -log_rate / math.log(10.0)


@njit()
def scales(state: Float64, sigma: Float64, mass: Float64) -> None:
    """Write the scales of the three pieces and the weights behind them."""
    guess = PRIOR_SCALE * (1.0 + 0.3 / (1.0 + state[BLOCKS]))
    for j in range(3):
        mass[j] = PRIOR_MASS[j] + state[M + j]
        sigma[j] = (PRIOR_MASS[j] * guess + state[E + j]) / mass[j]
        guess = 0.95 * sigma[j]


@njit()
def learn(state: Float64, statistic: float, sigma: Float64, mass: Float64) -> None:
    """Take a reading into the current block; at the block's end, its maximum into the tail.

    A rare maximum waits for WAIT blocks, so that an event does not hide the next one; where maxima
    come in no order, a delay changes no rate.
    """
    if state[SEEN] % BLOCK == 0.0:
        state[BLOCK_MAX] = statistic
    else:
        state[BLOCK_MAX] = max(state[BLOCK_MAX], statistic)
    state[SEEN] += 1.0
    if state[SEEN] % BLOCK != 0.0:
        return
    top = state[BLOCK_MAX]
    rare = rarity(state, top, sigma, mass) >= WAIT_ABOVE
    scales(state, sigma, mass)
    state[BLOCKS] += 1.0
    state[K_SUM] *= COUNT_DECAY
    state[N_SUM] *= COUNT_DECAY
    for j in range(3):
        state[E + j] *= TAIL_DECAY
        state[M + j] *= TAIL_DECAY
    slot = WAITING + int(state[BLOCKS]) % WAIT
    if state[slot] > 0.0:
        _enter(state, state[slot], sigma[2])
    state[slot] = top if rare else 0.0  # a rare maximum is above 0
    if not rare:
        _enter(state, top, sigma[2])


@njit()
def _enter(state: Float64, top: float, last_scale: float) -> None:
    """Take a block's maximum into the tail; the last piece is winsorised at 3 of its scales."""
    state[K_SUM] += 1.0
    d = top - U
    if d <= 0.0:
        return
    state[N_SUM] += 1.0
    start = 0.0
    for j in range(2):
        state[E + j] += min(d - start, WIDTHS[j])
        if d <= start + WIDTHS[j]:
            state[M + j] += 1.0
            return
        start += WIDTHS[j]
    state[E + 2] += min(d - start, WINSOR * last_scale) * _WINSOR_FACTOR
    state[M + 2] += 1.0


@njit()
def prior_survival(statistic: float) -> float:
    """Share of readings with at least this statistic in the population."""
    at = 1.0 / (1.0 + math.exp((PRIOR_TAIL_AT - PRIOR_CENTRE) / PRIOR_BODY))
    if statistic > PRIOR_TAIL_AT:
        return at * math.exp(-(statistic - PRIOR_TAIL_AT) / PRIOR_TAIL)
    return 1.0 / (1.0 + math.exp((statistic - PRIOR_CENTRE) / PRIOR_BODY))


@njit()
def p_value(counts: Float64, statistic: float) -> float:
    """Share of the series' normal readings with at least this statistic, in (0, 1).

    counts [HISTOGRAM]: bins of S, their mass, and the size of one new reading (see `remember`).
    The population's survival enters as PRIOR_COUNT readings, so that the tail beyond what was
    seen stays strictly ordered.
    """
    prior_mass = PRIOR_COUNT * max(counts[UNIT], 1.0)
    position = (statistic - BIN_ORIGIN) / BIN_WIDTH
    i = int(math.floor(min(max(position, 0.0), BINS - 1.0)))
    inside = min(max(position - i, 0.0), 1.0)
    above = counts[i] * (1.0 - inside)
    for j in range(i + 1, BINS):
        above += counts[j]
    share: float = (prior_mass * prior_survival(statistic) + above) / (prior_mass + counts[MASS])
    return share


@njit()
def remember(counts: Float64, statistic: float) -> None:
    """Take a reading into the histogram; also one inside an episode, else p would drift down."""
    position = (statistic - BIN_ORIGIN) / BIN_WIDTH
    i = int(math.floor(min(max(position, 0.0), BINS - 1.0)))
    # the unit grows instead of every bin shrinking
    unit = max(counts[UNIT], 1.0) / HISTOGRAM_DECAY
    if unit > 1e6:
        for j in range(MASS + 1):
            counts[j] /= unit
        unit = 1.0
    counts[UNIT] = unit
    counts[i] += unit
    counts[MASS] += unit


@njit()
def score(statistic: float) -> float:
    """The anomaly score in (0, 1): strictly increasing in S, one half at S = U, no saturation."""
    x = 2.0 * (statistic - U)
    return 0.5 + 0.5 * x / (1.0 + abs(x))
