"""The medians of the steps ahead of one series, from its memory and heads, compiled by numba."""

from __future__ import annotations

import math

from titans_stream.forecasting.mal import residual
from titans_stream.forecasting.mal.residual import Residual
from titans_stream.forecasting.multi import layout
from titans_stream.forecasting.multi.day import day_effect
from titans_stream.forecasting.multi.heads import band_of, weighted
from titans_stream.forecasting.multi.layout import COARSE, FINER_BANDS
from titans_stream.forecasting.multi.longer import (
    cycle_ago,
    longer_features,
    longer_weighted,
    read_longer,
)
from titans_stream.forecasting.multi.series import (
    Series,
    Shared,
    View,
    cell_of,
    coarse_cells,
    coarse_memory,
    features,
    fine_cells,
    read_memory,
)
from titans_stream.forecasting.multi.special import special_effect
from titans_stream.forecasting.multi.state import (
    Model,
    Work,
)
from titans_stream.forecasting.multi.values import lowest_of, spread_of
from titans_stream.jit import njit
from titans_stream.records import Float64, Int64


@njit(inner=True)
def look(series: Series, shared: Shared, view: View) -> bool:
    """Read the memory out for forecasts after the last tick; False: there is no period yet."""
    meta = series.meta
    period = meta.period
    if period <= 0.0:
        return False
    fine, coarse = fine_cells(period), coarse_cells(period)
    if meta.coarse_cell + 1.0 - meta.started < layout.READY_PERIODS * coarse:
        return False
    place = int(meta.last_place)
    if not read_memory(series.memory, fine, meta.last_z, place, view):
        return False
    view.longer[0].ready = 0.0
    if shared.longer and meta.cycle > 0.0:
        own = cell_of(meta.tick, coarse, period)
        detail = view.memory[place] - coarse_memory(view, own % coarse, coarse, fine)
        level, last = view.levels[0].level, view.levels[0].last
        read_longer(series, 0, int(meta.coarse_cell), coarse, level, last, own, detail, view)
    return True


@njit(inline="always")
def point(
    series: Series,
    shared: Shared,
    view: View,
    x: Float64,
    step: int,
    shift: float,
    period: float,
    fine: int,
    coarse: int,
) -> float:
    """The forecast `step` ticks after the last one, in the series' unit; the view is ready.

    shift: ticks by which clocks will have been changed until then; fine, coarse: cells of the
    period.
    """
    meta = series.meta
    tick = meta.tick + shift
    ahead = step * COARSE / period
    band = band_of(ahead)
    fine_cell = cell_of(tick + step, fine, period)
    p = fine_cell % fine
    anchor = features(view, p, x)
    model = anchor + weighted(series.own[band], x)
    gate = series.gate[band]
    beyond = period <= COARSE or ahead > 1.0 + 1e-9
    if beyond and view.longer[0].ready != 0.0 and gate.longer > 0.0:
        longer = longer_point(series, view, band, p, tick + step)
        model += gate.longer * (longer - model)
    share = gate.share
    if shared.fallback and share > 0.0:
        naive = view.latest[p] if gate.naive == 0.0 else view.levels[0].last
        if gate.naive == 2.0:
            naive = _cycle_repeated(series, view, p, tick + step)
        model = naive + (1.0 - share) * (model - naive)
    return model


@njit(inner=True)
def _cycle_repeated(series: Series, view: View, p: int, tick: float) -> float:
    """The reading whole cycles before a tick in fine cell p, or the last period's."""
    naive: float = view.latest[p]
    if view.longer[0].ready == 0.0:
        return naive
    period = series.meta.period
    fine, coarse = fine_cells(period), coarse_cells(period)
    coarse_cell = cell_of(tick, coarse, period)
    ago = cycle_ago(series, view, coarse_cell)
    if math.isnan(ago):
        return naive
    naive = ago + view.memory[p]
    naive -= coarse_memory(view, coarse_cell % coarse, coarse, fine)
    return naive


@njit(inner=True)
def longer_point(series: Series, view: View, band: int, p: int, tick: float) -> float:
    """The longer head's forecast of a tick in fine cell p of a period."""
    period = series.meta.period
    fine, coarse = fine_cells(period), coarse_cells(period)
    coarse_cell = cell_of(tick, coarse, period)
    detail = view.memory[p] - coarse_memory(view, coarse_cell % coarse, coarse, fine)
    base = longer_features(series, view, coarse_cell, detail)
    return base + longer_weighted(series.longer_own[0, band - FINER_BANDS], view.longer_x)


@njit(inline="always")
def _carried(series: Series, ahead: float) -> float:
    """What is added to the forecast of a step of `ahead` 24ths of a period, in the series' unit."""
    band = 0
    while band < layout.CARRY_BANDS - 1 and ahead > layout.CARRY_ENDS[band] + 1e-9:
        band += 1
    total: float = series.carry.bands[band, layout.CARRY_SHARE] * series.carry.error
    if ahead > layout.CARRY_ENDS[layout.CARRY_BANDS - 1]:
        total *= layout.CARRY_ENDS[layout.CARRY_BANDS - 1] / ahead
    return total


@njit(inner=True)
def forecast(
    series: Series, own: Residual, model: Model, work: Work, ready: bool, steps: Int64,
    shifts: Float64, out: Float64, spreads: Float64,
) -> None:  # fmt: skip
    """Forecasts of `steps` [K] after the last tick -> out [K], as values within bounds; shifts [K]
    as in `point`. The spreads of the steps' phases -> spreads [K].

    With the residual's correction where it is active; the last value where no view is ready.
    """
    meta, shared, view, x = series.meta, model.shared, work.read, work.x
    active = model.slow.active
    low, high = lowest_of(series.values, model.limits), model.limits.high
    if not ready:
        for k in range(steps.shape[0]):
            out[k] = min(high, max(low, meta.last))
            spreads[k] = 1.0
        return
    period = meta.period
    fine, coarse = fine_cells(period), coarse_cells(period)
    for k in range(steps.shape[0]):
        # a phase that is counted in ticks knows no clock
        shift = shifts[k] if meta.days > 0.0 else 0.0
        target = meta.tick + shift + steps[k]
        spreads[k] = spread_of(series, target)
        if spreads[k] == 0.0:
            z = view.latest[cell_of(target, fine, period) % fine]
        else:
            z = point(series, shared, view, x, steps[k], shift, period, fine, coarse)
            ahead = steps[k] * COARSE / period
            if active and ahead <= residual.REACH + 1e-9:
                z += residual.correction(own, series, band_of(ahead), x)
            z += _carried(series, ahead) + special_effect(series, shared.special, target)
            z += day_effect(series, view, meta.tick + shifts[k] + steps[k])
        out[k] = min(high, max(low, meta.offset + meta.unit * z))
