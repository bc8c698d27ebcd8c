"""What the shared weights of the multi-step forecaster are fitted to, from the serving kernels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from titans_stream.forecasting.multi import clock as C
from titans_stream.forecasting.multi import layout as L
from titans_stream.forecasting.multi import learning as T
from titans_stream.forecasting.multi import rows as R
from titans_stream.jit import njit
from titans_stream.memory.rows import ArraySpec
from titans_stream.records import Float64


@dataclass(frozen=True, slots=True)
class HeadStatistics:
    """Sums over matured origins, in units of the series' variance; addable over series."""

    xx: Float64
    """[ROWS, FEATURES, FEATURES] of x x', each origin's mean over the row's steps."""
    xy: Float64
    """[ROWS, FEATURES] of x (y - anchor)."""
    mass: Float64
    """[ROWS] origins."""

    def __add__(self, other: HeadStatistics) -> HeadStatistics:
        return HeadStatistics(self.xx + other.xx, self.xy + other.xy, self.mass + other.mass)


@dataclass(frozen=True, slots=True)
class WindowSamples:
    """Inputs and targets of the shared head at M origins, in units of the series' deviation."""

    inputs: Float64
    """[M, A_INPUTS]"""
    targets: Float64
    """[M, A_OUTPUTS] less the window's mean; NaN: missing."""
    slots: Float64
    """[M, COARSE] forecast of the structured head's anchor for the next period, less the same."""
    origins: Float64
    """[M] index of the last reading known."""


def fresh_row() -> R.Row:
    """The state of one row, zero."""
    return R.Row(*(_zeros(spec) for spec in L.state_layout().values()))


def _zeros(spec: ArraySpec) -> np.ndarray:
    return np.zeros(spec.shape, spec.dtype)


def _shared(weights: dict[str, Float64] | None = None) -> R.Shared:
    w, gram, window = (
        np.zeros(shape) if weights is None else weights[name]
        for name, shape in L.weight_shapes().items()
    )
    return R.Shared(w, gram, window, True, False, False, False)


def head_statistics(values: Float64, period: float) -> HeadStatistics:
    """Statistics of one series: values [T], NaN: missing; `period` in readings.

    ValueError for a period below 2 readings.
    """
    if not period >= 2.0:
        raise ValueError(f"period: {period:g} is less than 2 readings")
    row = fresh_row()
    _learn(row, _shared(), np.ascontiguousarray(values, np.float64), float(period))
    scale = (row.meta[L.UNIT] * _inverse_deviation(values)) ** 2
    sums = row.sums.astype(np.float64)
    xx = np.empty((L.ROWS, L.FEATURES, L.FEATURES))
    upper = np.triu_indices(L.FEATURES)
    xx[:, upper[0], upper[1]] = xx[:, upper[1], upper[0]] = sums[:, : L.CROSS] * scale
    return HeadStatistics(xx, sums[:, L.CROSS : L.MASS] * scale, sums[:, L.MASS].copy())


def window_samples(values: Float64, period: float, every: int = 25) -> WindowSamples:
    """Origins of one series, `every` coarse cells apart: values [T], NaN: missing.

    ValueError for a period below 24 readings, which has fewer coarse cells than the head inputs.
    """
    if not period >= L.COARSE:
        raise ValueError(f"period: {period:g} is less than {L.COARSE} readings")
    values = np.ascontiguousarray(values, np.float64)
    most = max(0, int(len(values) * L.COARSE / period) // every + 1)
    inputs, targets = np.empty((most, L.A_INPUTS)), np.empty((most, L.A_OUTPUTS))
    slots, origins = np.empty((most, L.COARSE)), np.empty(most)
    row = fresh_row()
    m = _gather(row, _shared(), values, float(period), every, inputs, targets, slots, origins)
    scale = row.meta[L.UNIT] * _inverse_deviation(values)
    return WindowSamples(inputs[:m] * scale, targets[:m] * scale, slots[:m] * scale, origins[:m])


def _inverse_deviation(values: Float64) -> float:
    """One over the deviation of a whole series, 0 where it is constant."""
    known = values[np.isfinite(values)]
    sd = float(known.std()) if len(known) else 0.0
    return 1.0 / sd if sd > 0.0 else 0.0


@njit()
def _learn(row: R.Row, shared: R.Shared, values: Float64, period: float) -> None:
    meta = row.meta
    view = R.new_view()
    T.start(row, shared, period, 0.0, False)
    for t in range(values.shape[0]):
        if t % L.REFIT_EVERY == 0:
            C.keep_scale(row)
        z = C.take_scale(row, values[t]) if math.isfinite(values[t]) else math.nan
        meta[L.TICK] = t
        if meta[L.COUNT] == 0.0:
            continue
        T.learn_tick(row, shared, view, float(t), z, meta[L.LAST_Z])
        seen = meta[L.CELL] - meta[L.STARTED]
        if period <= L.COARSE or seen < L.READY_PERIODS * R.coarse_cells(period):
            continue
        if R.read_slots(row.slots, R.fine_cells(period), z, int(meta[L.LAST_PLACE]), view):
            T.sample(row, shared, view, float(t), z)


@njit()
def _gather(
    row: R.Row,
    shared: R.Shared,
    values: Float64,
    period: float,
    every: int,
    inputs: Float64,
    targets: Float64,
    slots: Float64,
    origins: Float64,
) -> int:
    meta = row.meta
    view = R.new_view()
    T.start(row, shared, period, 0.0, False)
    cells = R.coarse_cells(period)
    ahead = L.PERIODS * cells
    made = 0
    done = int(meta[L.STARTED])
    unit, offset = 0.0, 0.0
    for t in range(values.shape[0]):
        z = C.take_scale(row, values[t]) if math.isfinite(values[t]) else math.nan
        if meta[L.COUNT] == 0.0:
            continue
        T.learn_tick(row, shared, view, float(t), z, meta[L.LAST_Z])
        origin = int(meta[L.CELL]) - ahead
        if origin <= done or origin % every != 0:
            continue
        if origin - meta[L.STARTED] < L.READY_PERIODS * cells:
            continue
        done = origin
        last = row.ring[origin % L.RING]
        if math.isnan(last) or not R.read_slots(
            row.twins[T.FAR], cells, last, origin % cells, view
        ):
            continue
        if meta[L.UNIT] != unit or meta[L.OFFSET] != offset:
            # samples are kept in the unit that the series has in the end
            for m in range(made):
                inputs[m] *= unit / meta[L.UNIT]
                targets[m] *= unit / meta[L.UNIT]
                slots[m] *= unit / meta[L.UNIT]
            unit, offset = meta[L.UNIT], meta[L.OFFSET]
        R.read_window(row.ring, origin, cells, cells, view)
        inputs[made] = view.inputs
        base = view.numbers[R.BASE]
        level = view.numbers[R.LEVEL] - view.numbers[R.CENTRE]
        for k in range(ahead):
            targets[made, k] = row.ring[(origin + 1 + k) % L.RING] - base
        for k in range(cells):
            slots[made, k] = view.slots[(origin + 1 + k) % cells] + level - base
        origins[made] = math.floor((origin + 1) * period / cells + 1e-9) - 1.0
        made += 1
    return made
