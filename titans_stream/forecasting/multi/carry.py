"""What is left in the errors of a series' forecasts, carried on over the steps; compiled by numba.

A decaying mean x of the errors one step ahead, of the last quarter of a period, times a weight for
each band of steps: where a level drifts, all steps are off by what the last readings were off by,
or by more. The weights are learned from sampled forecasts without the correction, two under way
for each band, w = [S(x e) + w_before p] / [S(x x) + p], with w_before that of the band before, 0
for the first, and p some periods' worth of S(x x). A band is corrected only where that explains a
fair share of its squared errors; most series are left alone. Beyond the last band its correction
fades.
"""

from __future__ import annotations

import math

from titans_stream.forecasting.multi.clock import is_lone
from titans_stream.forecasting.multi.day import day_effect
from titans_stream.forecasting.multi.layout import (
    CARRY_BANDS,
    CARRY_SAMPLES,
    CARRY_SHARE,
    COARSE,
    RING,
)
from titans_stream.forecasting.multi.layout import CARRY_ENDS as ENDS
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
from titans_stream.jit import njit
from titans_stream.records import Float64

RECENT = 0.25
"""Periods of the mean error's memory."""
HALF_LIFE = 5.0 * COARSE
"""Coarse cells, of what weights are learned from."""
PERIODS = 4.0
"""Worth of errors that hold a weight at that of the band before."""
EXPLAINED = (0.05, 0.2)
"""Share of the squared errors from which a band is corrected, and from which in full."""
MOST = 1.5
"""Largest weight, and the least is as far below 0: errors that once were next to nothing explain
all that came after them."""
BOUND = 2.0
"""Root mean squares that one sample's errors count for at most."""
CROSS, SQUARE, TOTAL, MASS = range(4)
INPUT, FORECAST, DUE = range(3)


@njit(inner=True)
def observe_carry(
    series: Series, shared: Shared, view: View, x: Float64, known: bool, next_: bool
) -> None:
    """Learn the last reading, whose forecast was that of the reading before, and its coarse cell.

    known: whether there was a value; next_: whether it comes right after the one before. The view
    is that after it, x [FEATURES] scratch space.
    """
    meta, own = series.meta, series.carry
    period = meta.period
    if coarse_cells(period) < COARSE:
        return
    if series.values.jumped != 0.0:
        drop_carry(series)
    fine = fine_cells(period)
    if known and not is_lone(meta):
        if own.ready != 0.0 and next_:
            own.error += (meta.last_z - own.forecast - own.error) / (RECENT * period)
        own.forecast = point(series, shared, view, x, 1, 0.0, period, fine, COARSE)
        own.forecast += day_effect(series, view, meta.tick + 1.0)
        own.ready = 1.0
    else:
        own.ready = 0.0
    newest = int(meta.coarse_cell)
    if newest == own.cell:
        return
    own.cell = newest
    value = series.ring[newest % RING]
    aligned = own.ready != 0.0 and cell_of(meta.tick, COARSE, period) == newest
    learned = False
    for k in range(CARRY_SAMPLES):
        sample = own.samples[k]
        band = k >> 1
        first = ENDS[band - 1] if band > 0 else 0
        if sample[DUE] == newest and not math.isnan(value):
            _learn(series, band, sample[INPUT], value - sample[FORECAST], first)
            learned = True
        if sample[DUE] <= newest and aligned and (newest + k) % SAMPLE_EVERY == 0:
            cells = cells_ahead(newest, first, ENDS[band])
            step = int(math.floor((cells - 0.5) * period / COARSE + 1.0))
            sample[INPUT] = own.error
            sample[FORECAST] = point(series, shared, view, x, step, 0.0, period, fine, COARSE)
            sample[FORECAST] += day_effect(series, view, meta.tick + step)
            sample[DUE] = newest + cells
    if learned:
        _settle(series)


@njit(inner=True)
def _learn(series: Series, band: int, x: float, error: float, first: int) -> None:
    """Learn a sampled forecast of a band that begins after the coarse cell `first`."""
    sums = series.carry.bands[band]
    weight = 0.5 * max(float(SAMPLE_EVERY), 0.5 * (first + ENDS[band]))
    decay = math.exp2(-weight / HALF_LIFE)
    if sums[MASS] > COARSE:
        # else the day after a jump would decide what is carried on for weeks
        x = _bounded(x, sums[SQUARE] / sums[MASS])
        error = _bounded(error, sums[TOTAL] / sums[MASS])
    sums[CROSS] = decay * sums[CROSS] + weight * x * error
    sums[SQUARE] = decay * sums[SQUARE] + weight * x * x
    sums[TOTAL] = decay * sums[TOTAL] + weight * error * error
    sums[MASS] = decay * sums[MASS] + weight


@njit(inline="always")
def _bounded(value: float, square: float) -> float:
    """A value within so many root mean squares."""
    bound = BOUND * math.sqrt(square)
    return min(bound, max(-bound, value))


@njit(inner=True)
def _settle(series: Series) -> None:
    """The weights of all bands from their sums, and how much of them is applied."""
    before = 0.0
    low, high = EXPLAINED
    for band in range(CARRY_BANDS):
        sums = series.carry.bands[band]
        sums[CARRY_SHARE] = 0.0
        if sums[MASS] <= 0.0 or sums[SQUARE] <= 0.0 or sums[TOTAL] <= 0.0:
            continue
        prior = PERIODS * max(COARSE, ENDS[band]) * sums[SQUARE] / sums[MASS]
        w = (sums[CROSS] + before * prior) / (sums[SQUARE] + prior)
        w = min(MOST, max(-MOST, w))
        explained = (2.0 * w * sums[CROSS] - w * w * sums[SQUARE]) / sums[TOTAL]
        sums[CARRY_SHARE] = w * min(1.0, max(0.0, (explained - low) / (high - low)))
        before = w


@njit(inner=True)
def drop_carry(series: Series) -> None:
    """Forget errors and samples, not what was learned from them."""
    own = series.carry
    own.error = own.forecast = own.ready = 0.0
    for k in range(CARRY_SAMPLES):
        own.samples[k, DUE] = 0.0


@njit(inner=True)
def begin_carry(series: Series, keep: bool) -> None:
    """Begin anew with a period; `keep` what was learned."""
    drop_carry(series)
    series.carry.cell = 0.0
    if not keep:
        for band in range(CARRY_BANDS):
            for k in range(CARRY_SHARE + 1):
                series.carry.bands[band, k] = 0.0
