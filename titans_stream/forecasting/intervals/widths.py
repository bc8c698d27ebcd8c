"""Quantiles of a forecast from what `intervals_kernels.py` has learned, one row at a time."""

from __future__ import annotations

import math

import numpy as np

from titans_stream.forecasting.intervals import kernels as K
from titans_stream.jit import njit
from titans_stream.records import Float64

LEAST_WIDTH = 1e-3
"""Least half width in deviations of the series."""
OWN_MASS = 1.0
NU = 2.0
"""Independent errors at which an anchor's own quantile has half the say; least degrees of freedom
of Student's t."""

# Columns of a row of `intervals.level_table`
COVERAGE = 0
SIDE = 1
NORMAL = 2
FACTOR = 3
FACTORS = 56
FACTORS_PER_OCTAVE = 8.0
LEVEL = FACTOR + FACTORS


@njit(inner=True)
def _log_quantile(histogram: Float64, wanted: float) -> float:
    """log2 of the value below which `wanted` of a histogram's mass lies."""
    below = 0.0
    b = 0
    while b < K.BINS - 1 and below + histogram[b] < wanted:
        below += histogram[b]
        b += 1
    inside = (wanted - below) / histogram[b] if histogram[b] > 0.0 else 1.0
    return K.BIN_ORIGIN + (b + min(inside, 1.0)) / K.BINS_PER_OCTAVE


@njit(inner=True)
def _anchor_widths(
    state: Float64, histograms: Float64, sd: float, level: Float64, count: int, out: Float64
) -> None:
    """Half widths at the first `count` anchors of the interval of a row of the level table."""
    growth = K.GROWTH if state[K.PERIOD] > 0.0 else K.GROWTH_NO_PERIOD
    carried = math.log2(sd * level[NORMAL])
    units = np.empty(K.ANCHORS)
    K.log_units(state, sd, units)
    for i in range(count):
        step = state[K.STEP + i]
        if i > 0:
            carried += growth * math.log2(step / state[K.STEP + i - 1])
        mass = K.total(histograms[i])
        independent = mass / state[K.UNIT + i] * state[K.STRIDE + i] / step
        if mass > 0.0:
            own = _log_quantile(histograms[i], level[COVERAGE] * mass)
            own += units[i]
            share = independent / (independent + OWN_MASS) if i > 0 else 1.0
            carried = share * own + (1.0 - share) * carried
        place = min(FACTORS_PER_OCTAVE * math.log2(1.0 + independent), FACTORS - 1.001)
        j = int(place)
        factor = level[FACTOR + j]
        factor += (place - j) * (level[FACTOR + j + 1] - factor)
        out[i] = max(factor * math.exp2(carried + state[K.STALE]), LEAST_WIDTH * sd)


@njit(inner=True)
def _between(state: Float64, widths: Float64, count: int, out: Float64) -> None:
    """Half widths for steps 1, 2, ... from those at the anchors: lines between points that follow
    a power of the step and lie at most a factor of sqrt 2 apart."""
    steps = out.shape[0]
    growth = K.GROWTH if state[K.PERIOD] > 0.0 else K.GROWTH_NO_PERIOD
    out[0] = widths[0]
    done = 1
    i = 0
    left, left_width = 1.0, widths[0]
    while done < steps:
        if i + 1 < count:
            ratio = state[K.STEP + i + 1] / left
            rise = widths[i + 1] / left_width
        else:
            ratio = 2.0
            rise = ratio**growth
        pieces = math.ceil(2.0 * math.log2(ratio))
        ratio = ratio ** (1.0 / pieces)
        rise = rise ** (1.0 / pieces)
        for _ in range(pieces):
            right, right_width = left * ratio, left_width * rise
            slope = (right_width - left_width) / (right - left)
            end = min(int(right + 1e-6), steps)
            for k in range(done, end):
                out[k] = left_width + (k + 1.0 - left) * slope
            done = max(done, end)
            left, left_width = right, right_width
        i += 1


@njit()
def quantiles(
    state: Float64,
    histograms: Float64,
    sd: float,
    levels: Float64,
    median: Float64,
    out: Float64,
) -> None:
    """Quantiles of the forecast made after the last reading; out [Q, H].

    median [H] holds the steps 1 to H; levels [Q, LEVEL] is a `level_table`.
    """
    steps = median.shape[0]
    count = 1
    while count < K.ANCHORS and state[K.STEP + count - 1] < steps:
        count += 1
    widths = np.empty(K.ANCHORS)
    for q in range(levels.shape[0]):
        twin = 0
        while levels[twin, COVERAGE] != levels[q, COVERAGE]:
            twin += 1
        if twin < q:
            for k in range(steps):
                out[q, k] = out[twin, k]
        else:
            _anchor_widths(state, histograms, sd, levels[q], count, widths)
            _between(state, widths, count, out[q])
    for q in range(levels.shape[0]):
        for k in range(steps):
            out[q, k] = median[k] + levels[q, SIDE] * out[q, k]
