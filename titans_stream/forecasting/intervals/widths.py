"""Quantiles of a forecast from what `kernels.py` has learned of one series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Annotated

import numpy as np

from titans_stream.forecasting.intervals.kernels import (
    BIN_ORIGIN,
    BINS_PER_OCTAVE,
    GROWTH,
    GROWTH_NO_PERIOD,
    log_units,
    total,
)
from titans_stream.forecasting.intervals.state import ANCHORS, BINS, Intervals, Meta
from titans_stream.jit import njit, scratch
from titans_stream.memory.rows import Record, dtype_of
from titans_stream.records import Float32, Float64, Records

LEAST_WIDTH = 1e-3
"""Least half width in deviations of the series."""
OWN_MASS = 1.0
NU = 2.0
"""Independent errors at which an anchor's own quantile has half the say; least degrees of freedom
of Student's t."""

FACTORS = 56
FACTORS_PER_OCTAVE = 8.0

_units = scratch(ANCHORS)
_widths = scratch(ANCHORS)


class Level(Record):
    """What is needed to know of a quantile level; `level_table` makes them."""

    coverage: float
    """Of the symmetric interval that ends at the quantile."""
    side: float
    """-1, 0 or 1: below the median, the median, above it."""
    normal: float
    """The normal quantile."""
    factor: Annotated[Float64, FACTORS]
    """By what an interval grows when the errors behind it are worth n independent ones: Student's t
    with `NU + n` degrees of freedom over the normal quantile, at n + 1 = 2^(j / 8)."""


def level_table(levels: Sequence[float]) -> Records:
    """A `Level` for each quantile level; ValueError for one outside (0, 1)."""
    table = np.zeros(len(levels), dtype_of(Level))
    table["normal"] = table["factor"] = 1.0
    for made, level in zip(table, levels, strict=True):
        if not 0.0 < level < 1.0:
            raise ValueError(f"levels: {level:g} is not between 0 and 1")
        if level == 0.5:
            continue
        z = NormalDist().inv_cdf(max(level, 1.0 - level))
        made["coverage"] = round(abs(2.0 * level - 1.0), 12)
        made["side"] = np.sign(level - 0.5)
        made["normal"] = z
        for j in range(FACTORS):
            freedom = NU - 1.0 + 2.0 ** (j / FACTORS_PER_OCTAVE)
            made["factor"][j] = max(_student(z, made["coverage"], freedom) / z, 1.0)
    return table


def _student(z: float, coverage: float, n: float) -> float:
    """Quantile of |t| with n >= 2 degrees of freedom (Hill 1970, CACM algorithm 396).

    z is the normal quantile for the same coverage.
    """
    p = 1.0 - coverage
    if n <= 2.0:
        return math.sqrt(2.0 / (p * (2.0 - p)) - 2.0)
    a = 1.0 / (n - 0.5)
    b = 48.0 / (a * a)
    c = ((20700.0 * a / b - 98.0) * a - 16.0) * a + 96.36
    d = ((94.5 / (b + c) - 3.0) / b + 1.0) * math.sqrt(a * math.pi / 2.0) * n
    y: float = (d * p) ** (2.0 / n)
    if y > 0.05 + a:
        x = -z
        if n < 5.0:
            c += 0.3 * (n - 4.5) * (x + 0.6)
        c += (((0.05 * d * x - 5.0) * x - 7.0) * x - 2.0) * x + b
        y = x * x
        y = (((((0.4 * y + 6.3) * y + 36.0) * y + 94.5) / c - y - 3.0) / b + 1.0) * x
        y = math.expm1(a * y * y)
    else:
        head = ((n + 6.0) / (n * y) - 0.089 * d - 0.822) * (n + 2.0) * 3.0
        y = ((1.0 / head + 0.5 / (n + 4.0)) * y - 1.0) * (n + 1.0) / (n + 2.0) + 1.0 / y
    return math.sqrt(n * y)


@njit(inner=True)
def _log_quantile(histogram: Float32, wanted: float) -> float:
    """log2 of the value below which `wanted` of a histogram's mass lies."""
    below = 0.0
    b = 0
    while b < BINS - 1 and below + histogram[b] < wanted:
        below += histogram[b]
        b += 1
    inside = (wanted - below) / histogram[b] if histogram[b] > 0.0 else 1.0
    return BIN_ORIGIN + (b + min(inside, 1.0)) / BINS_PER_OCTAVE


@njit(inner=True)
def _anchor_widths(intervals: Intervals, sd: float, level: Level, count: int, out: Float64) -> None:
    """Half widths at the first `count` anchors."""
    meta, histograms = intervals.meta, intervals.histograms
    growth = GROWTH if meta.period > 0.0 else GROWTH_NO_PERIOD
    carried = math.log2(sd * level.normal)
    units = _units()
    log_units(meta, sd, units)
    for i in range(count):
        step = meta.step[i]
        if i > 0:
            carried += growth * math.log2(step / meta.step[i - 1])
        mass = total(histograms[i])
        independent = mass / meta.unit[i] * meta.stride[i] / step
        if mass > 0.0:
            own = _log_quantile(histograms[i], level.coverage * mass)
            own += units[i]
            share = independent / (independent + OWN_MASS) if i > 0 else 1.0
            carried = share * own + (1.0 - share) * carried
        place = min(FACTORS_PER_OCTAVE * math.log2(1.0 + independent), FACTORS - 1.001)
        j = int(place)
        factor = level.factor[j]
        factor += (place - j) * (level.factor[j + 1] - factor)
        out[i] = max(factor * math.exp2(carried + meta.stale), LEAST_WIDTH * sd)


@njit(inner=True)
def _between(meta: Meta, widths: Float64, count: int, out: Float64) -> None:
    """Half widths for steps 1, 2, ... from those at the anchors: lines between points that follow
    a power of the step and lie at most a factor of sqrt 2 apart."""
    steps = out.shape[0]
    growth = GROWTH if meta.period > 0.0 else GROWTH_NO_PERIOD
    out[0] = widths[0]
    done = 1
    i = 0
    left, left_width = 1.0, widths[0]
    while done < steps:
        if i + 1 < count:
            ratio = meta.step[i + 1] / left
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
    intervals: Intervals, sd: float, levels: Records, median: Float64, out: Float64
) -> None:
    """Quantiles of the forecast made after the last reading; out [Q, H].

    median [H] holds the steps 1 to H; levels [Q] is a `level_table`.
    """
    steps = median.shape[0]
    count = 1
    while count < ANCHORS and intervals.meta.step[count - 1] < steps:
        count += 1
    widths = _widths()
    for q in range(levels.shape[0]):
        twin = 0
        while levels[twin].coverage != levels[q].coverage:
            twin += 1
        if twin < q:
            for k in range(steps):
                out[q, k] = out[twin, k]
        else:
            _anchor_widths(intervals, sd, levels[q], count, widths)
            _between(intervals.meta, widths, count, out[q])
    for q in range(levels.shape[0]):
        for k in range(steps):
            out[q, k] = median[k] + levels[q].side * out[q, k]
