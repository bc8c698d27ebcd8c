"""What the shared weights of the multi-step forecaster are fitted to, from the serving kernels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from titans_stream.forecasting.multi import layout
from titans_stream.forecasting.multi.clock import keep_scale, take_scale
from titans_stream.forecasting.multi.layout import (
    BANDS,
    COARSE,
    FEATURES,
    HEAD_INPUTS,
    HEAD_OUTPUTS,
)
from titans_stream.forecasting.multi.learning import FAR, learn_tick, sample, start
from titans_stream.forecasting.multi.series import (
    Series,
    Shared,
    coarse_cells,
    fine_cells,
    new_view,
    read_memory,
    read_window,
)
from titans_stream.jit import njit
from titans_stream.records import Float64


@dataclass(frozen=True, slots=True)
class HeadStatistics:
    """Sums over matured origins, in units of the series' variance; addable over series."""

    xx: Float64
    """[BANDS, FEATURES, FEATURES] of x x', each origin's mean over the band's steps."""
    xy: Float64
    """[BANDS, FEATURES] of x (y - anchor)."""
    mass: Float64
    """[BANDS] origins."""

    def __add__(self, other: HeadStatistics) -> HeadStatistics:
        return HeadStatistics(self.xx + other.xx, self.xy + other.xy, self.mass + other.mass)


class WindowSamples(NamedTuple):
    """Inputs and targets of the shared head at M origins, in units of the series' deviation."""

    inputs: Float64
    """[M, HEAD_INPUTS]"""
    targets: Float64
    """[M, HEAD_OUTPUTS] less the window's mean; NaN: missing."""
    slots: Float64
    """[M, COARSE] forecast of the structured head's anchor for the next period, less the same."""
    origins: Float64
    """[M] index of the last reading known."""


def _fresh() -> Series:
    """The state of one series, zero."""
    return Series(*(spec.rows(1)[0] for spec in layout.state_layout().values()))


def _shared() -> Shared:
    """No weights: the memory alone."""
    w, gram, window = (np.zeros(shape) for shape in layout.weight_shapes().values())
    return Shared(w, gram, window, True, False, False, False, False)


def head_statistics(values: Float64, period: float) -> HeadStatistics:
    """Statistics of one series: values [T], NaN: missing; `period` in readings.

    ValueError for a period below 2 readings.
    """
    if not period >= 2.0:
        raise ValueError(f"period: {period:g} is less than 2 readings")
    series = _fresh()
    _learn(series, _shared(), np.ascontiguousarray(values, np.float64), float(period))
    scale = (_unit(series) * _inverse_deviation(values)) ** 2
    sums = series.sums
    xx = np.empty((BANDS, FEATURES, FEATURES))
    upper = np.triu_indices(FEATURES)
    products = sums["products"].astype(np.float64) * scale
    xx[:, upper[0], upper[1]] = xx[:, upper[1], upper[0]] = products
    xy = sums["cross"].astype(np.float64) * scale
    return HeadStatistics(xx, xy, sums["mass"].astype(np.float64))


def _unit(series: Series) -> float:
    return float(series.meta["unit"])  # type: ignore[index]


def window_samples(values: Float64, period: float, every: int = 25) -> WindowSamples:
    """Origins of one series, `every` coarse cells apart: values [T], NaN: missing.

    ValueError for a period below 24 readings, which has fewer coarse cells than the head inputs.
    """
    if not period >= COARSE:
        raise ValueError(f"period: {period:g} is less than {COARSE} readings")
    values = np.ascontiguousarray(values, np.float64)
    most = max(0, int(len(values) * COARSE / period) // every + 1)
    samples = WindowSamples(
        np.empty((most, HEAD_INPUTS)),
        np.empty((most, HEAD_OUTPUTS)),
        np.empty((most, COARSE)),
        np.empty(most),
    )
    series = _fresh()
    m = _gather(series, _shared(), values, float(period), every, samples)
    scale = _unit(series) * _inverse_deviation(values)
    inputs, targets, slots = (array[:m] * scale for array in samples[:3])
    return WindowSamples(inputs, targets, slots, samples.origins[:m])


def _inverse_deviation(values: Float64) -> float:
    """One over the deviation of a whole series, 0 where it is constant."""
    known = values[np.isfinite(values)]
    sd = float(known.std()) if len(known) else 0.0
    return 1.0 / sd if sd > 0.0 else 0.0


@njit()
def _learn(series: Series, shared: Shared, values: Float64, period: float) -> None:
    meta = series.meta
    view = new_view()
    start(series, shared, period, 0.0, False)
    for t in range(values.shape[0]):
        if t % layout.REFIT_EVERY == 0:
            keep_scale(series)
        z = take_scale(series, values[t]) if math.isfinite(values[t]) else math.nan
        meta.tick = t
        if meta.count == 0.0:
            continue
        learn_tick(series, shared, view, float(t), z, meta.last_z)
        seen = meta.coarse_cell - meta.started
        if period <= COARSE or seen < layout.READY_PERIODS * coarse_cells(period):
            continue
        if read_memory(series.memory, fine_cells(period), z, int(meta.last_place), view):
            sample(series, view, float(t), z, shared.fallback)


@njit()
def _gather(
    series: Series,
    shared: Shared,
    values: Float64,
    period: float,
    every: int,
    samples: WindowSamples,
) -> int:
    """Learn a series and write its samples; returns how many."""
    inputs, targets, slots, origins = samples
    meta = series.meta
    view = new_view()
    start(series, shared, period, 0.0, False)
    cells = coarse_cells(period)
    ahead = layout.PERIODS * cells
    made = 0
    done = int(meta.started)
    unit, offset = 0.0, 0.0
    for t in range(values.shape[0]):
        z = take_scale(series, values[t]) if math.isfinite(values[t]) else math.nan
        if meta.count == 0.0:
            continue
        learn_tick(series, shared, view, float(t), z, meta.last_z)
        origin = int(meta.coarse_cell) - ahead
        if origin <= done or origin % every != 0:
            continue
        if origin - meta.started < layout.READY_PERIODS * cells:
            continue
        done = origin
        last = series.ring[origin % layout.RING]
        if math.isnan(last) or not read_memory(
            series.twins[FAR], cells, last, origin % cells, view
        ):
            continue
        if meta.unit != unit or meta.offset != offset:
            # samples are kept in the unit that the series has in the end
            for m in range(made):
                inputs[m] *= unit / meta.unit
                targets[m] *= unit / meta.unit
                slots[m] *= unit / meta.unit
            unit, offset = meta.unit, meta.offset
        read_window(series.ring, origin, cells, cells, view)
        inputs[made] = view.inputs
        base = view.levels[0].base
        level = view.levels[0].level - view.levels[0].centre
        for k in range(ahead):
            targets[made, k] = series.ring[(origin + 1 + k) % layout.RING] - base
        for k in range(cells):
            slots[made, k] = view.memory[(origin + 1 + k) % cells] + level - base
        origins[made] = math.floor((origin + 1) * period / cells + 1e-9) - 1.0
        made += 1
    return made
