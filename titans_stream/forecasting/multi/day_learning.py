"""How the day beside a short cycle is learned; compiled by numba.

A few forecasts of each band of steps are under way, with inputs as they were at the origin. When
one is due, its error e, without the day, teaches the weights: w = (S x x' + Q)^-1 (S x e + Q w'),
w' of the band before, Q some days' worth of the inputs' squares; and the correction c = w . x that
was known at the origin teaches the share g = S c e / (S c c + q), within 0 and 1.
"""

from __future__ import annotations

import math

from titans_stream.forecasting.multi.day import (
    BANDS,
    CELLS,
    ENDS,
    FEATURES,
    SAMPLE,
    SEEN,
    SHARE,
    recall_day,
    weigh_day,
)
from titans_stream.forecasting.multi.heads import solve
from titans_stream.forecasting.multi.layout import RING
from titans_stream.forecasting.multi.points import point
from titans_stream.forecasting.multi.series import (
    SAMPLE_EVERY,
    Series,
    Shared,
    View,
    cell_of,
    cells_ahead,
    coarse_cells,
    fine_cells,
)
from titans_stream.jit import njit, scratch
from titans_stream.records import Float32, Float64

SAMPLES = 3
"""Forecasts of a band that are under way."""
NUMBERS = 8
"""Of a sample, all of them levels: what `recall_day` finds, then the forecast without and with
w . x."""
DUE = 8
"""Samples whose times a row of `longer_own[1]` has."""
HALF_LIFE = 10.0
"""Days, of what weights and shares are learned from."""
HELD, HELD_SHARE = 0.25, 0.15
"""Days' worth of evidence that holds weights at those of the band before, and shares at 0."""
FIRST = (1.0, 0.0, 0.0, 0.0)
"""Weights before anything is learned."""
LEAST = 0.1
"""Of the first input's square that each is taken for having, at least."""
MOST = 1.5
"""Largest weight, and the least is as far below 0: what was learned from hardly any course of the
day would else be the larger, the smaller that was."""
DIAGONAL = (0, 4, 7, 9)
"""Where a band's products have the inputs' squares."""
SQUARE = FEATURES * (FEATURES + 1) // 2
"""Where a band's products have those of corrections; the errors' with them are in
`cross[FEATURES]`."""

_system, _right = scratch((FEATURES, FEATURES)), scratch(FEATURES)


@njit(inner=True)
def observe_day(series: Series, shared: Shared, view: View, x: Float64) -> None:
    """Learn from the coarse cell that the last reading has completed; the view is that after it,
    x [FEATURES of the structured head] scratch space."""
    meta, place = series.meta, series.longer_own[2, 0]
    newest = int(meta.coarse_cell)
    if newest == place[SEEN]:
        return
    place[SEEN] = newest
    period = meta.period
    fine, coarse = fine_cells(period), coarse_cells(period)
    value = series.ring[newest % RING]
    aligned = cell_of(meta.tick, coarse, period) == newest
    per_cell = meta.day / CELLS * coarse / period
    learned = False
    for k in range(BANDS * SAMPLES):
        band = k // SAMPLES
        due = series.longer_own[1, k // DUE]
        sample = series.longer[SAMPLE, k * NUMBERS : (k + 1) * NUMBERS]
        first = ENDS[band - 1] if band > 0 else 0
        if due[k % DUE] == newest and not math.isnan(value):
            weight = (0.5 * (first + ENDS[band]) + SAMPLE_EVERY / per_cell) / (SAMPLES * CELLS)
            _learn(series, band, sample, value, weight)
            learned = True
        if due[k % DUE] <= newest and aligned and (newest + k) % SAMPLE_EVERY == 0:
            cells = max(1, int(cells_ahead(newest, first, ENDS[band]) * per_cell))
            step = int(math.floor((cells - 0.5) * period / coarse + 1.0))
            course = recall_day(series, view, meta.tick + step)
            if not math.isnan(course.day - course.now):
                sample[0], sample[1], sample[2] = course.day, course.now, course.level
                sample[3], sample[4], sample[5] = course.centre, course.week, course.week_now
                plain = point(series, shared, view, x, step, 0.0, period, fine, coarse)
                sample[6] = plain
                sample[7] = plain + weigh_day(series.longer_own[0, band], course)
                due[k % DUE] = newest + cells
    if learned:
        _settle(series, _system(), _right())


@njit(inner=True)
def _learn(series: Series, band: int, sample: Float32, value: float, weight: float) -> None:
    """Learn a sampled forecast of a band, which counts `weight` days."""
    sums = series.longer_sums[band]
    change = sample[0] - sample[1]
    week = sample[4] - sample[5] - change
    x = change, sample[1] - sample[2], sample[2] - sample[3], week
    error, correction = value - sample[6], sample[7] - sample[6]
    decay = math.exp2(-weight / HALF_LIFE)
    k = 0
    for i in range(FEATURES):
        for j in range(i, FEATURES):
            sums.products[k] = decay * sums.products[k] + weight * x[i] * x[j]
            k += 1
        sums.cross[i] = decay * sums.cross[i] + weight * x[i] * error
    sums.products[SQUARE] = decay * sums.products[SQUARE] + weight * correction * correction
    sums.cross[FEATURES] = decay * sums.cross[FEATURES] + weight * correction * error
    sums.mass = decay * sums.mass + weight


@njit(inner=True)
def _settle(series: Series, system: Float64, right: Float64) -> None:
    """The weights and shares of all bands from their sums."""
    for band in range(BANDS):
        sums, own = series.longer_sums[band], series.longer_own[0, band]
        if sums.mass <= 0.0:
            continue
        k = 0
        for i in range(FEATURES):
            right[i] = sums.cross[i]
            for j in range(i, FEATURES):
                system[i, j] = system[j, i] = sums.products[k]
                k += 1
        for i in range(FEATURES):
            prior: float = series.longer_own[0, band - 1, i] if band > 0 else FIRST[i]
            held = HELD / sums.mass * max(sums.products[DIAGONAL[i]], LEAST * sums.products[0])
            system[i, i] += held
            right[i] += held * prior
        if solve(system, right):
            for i in range(FEATURES):
                own[i] = min(MOST, max(-MOST, right[i]))
        square = sums.products[SQUARE]
        own[SHARE] = 0.0
        if square > 0.0:
            share = sums.cross[FEATURES] / (square * (1.0 + HELD_SHARE / sums.mass))
            own[SHARE] = min(1.0, max(0.0, share))
