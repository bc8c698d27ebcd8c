"""What the MAL residual learns from: tokens, and the moments of the errors that follow them.

The squared error after a correction c is quadratic in c: with r the errors of the forecasts
without it and u = (1, x) the inputs that c weighs, all in units of the scale s, the mean over a
band of steps is mean r^2 - 2 c . mean r u + c' (mean u u') c. So a token needs these moments
and no steps. Tokens and forecasts come from the kernels that serve.

Letters: B series, T tokens, R bands of steps, C corrections of a band.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from titans_stream.forecasting.mal import residual
from titans_stream.forecasting.multi import forecaster as multi_step
from titans_stream.forecasting.multi import kernels, layout, points
from titans_stream.forecasting.multi import series as multi_series
from titans_stream.forecasting.multi.clock import Reading
from titans_stream.forecasting.multi.state import State
from titans_stream.forecasting.period.state import workspace
from titans_stream.jit import njit
from titans_stream.records import Float64, Int64, Records

PAIRS = residual.CORRECTIONS * (residual.CORRECTIONS + 1) // 2
FIRST = 10 * layout.COARSE
"""Readings before the first token that is learned from."""


class Examples(NamedTuple):
    """Tokens of series whose period is 24 readings; of one series without the axis B."""

    tokens: Float64
    """[B, T, INPUTS]"""
    errors: Float64
    """[B, T, R]: mean r^2; NaN where a target is missing."""
    cross: Float64
    """[B, T, R, C]: mean r u."""
    square: Float64
    """[B, T, R, PAIRS]: mean u u', upper triangle."""
    scale: Float64
    """[B, T]: s in the unit of the series."""


def examples(series: Sequence[Float64], weights: Mapping[str, Float64], seed: int) -> Examples:
    """Examples of series of equal length, NaN: missing; forecasts follow tokens by 0 to 5
    readings, drawn by `seed`, as they do in service."""
    ages = np.random.default_rng(seed).integers(0, residual.LENGTH, len(series[0]))
    parts = [_of_series(values, weights, ages) for values in series]
    return Examples(*(np.stack(column) for column in zip(*parts, strict=True)))


def _of_series(values: Float64, weights: Mapping[str, Float64], ages: Int64) -> Examples:
    w, gram = (weights[name] for name in layout.weight_shapes())
    shared = multi_series.Shared(w, gram, True, True, True, True, True, np.zeros(0, np.uint8))
    specs = multi_step.state_layout()
    state = multi_step.states_of({name: spec.rows(1)[0] for name, spec in specs.items()})
    count = max(0, (len(values) - FIRST) // residual.LENGTH)
    made = Examples(
        tokens=np.zeros((count, residual.INPUTS)),
        errors=np.full((count, residual.BANDS), np.nan),
        cross=np.zeros((count, residual.BANDS, residual.CORRECTIONS)),
        square=np.zeros((count, residual.BANDS, PAIRS)),
        scale=np.ones(count),
    )
    values = np.ascontiguousarray(values, np.float64)
    _gather(state, shared, values, ages, workspace(), made)
    return made


@njit()
def _gather(
    state: State,
    shared: multi_series.Shared,
    values: Float64,
    ages: Int64,
    space: Records,
    out: Examples,
) -> None:
    view = multi_series.new_view()
    series, own = state.series, state.residual
    meta = series.meta
    x = np.empty(residual.INPUTS)
    made, due = 0, -1
    for t in range(values.shape[0]):
        reading = Reading(values[t], math.nan, math.nan, 0.0)
        kernels.take(series, state.finder, shared, view, reading, float(layout.COARSE), space[0])
        if meta.count == 0.0 or not points.look(series, shared, view):
            continue
        newest = int(meta.coarse_cell) + 1
        if newest % residual.LENGTH == 0 and newest > own.meta.newest:
            own.meta.newest = newest
            residual.token(own, series, view, x)
            own.meta.count += 1.0
            if t >= FIRST and made < out.tokens.shape[0] and own.meta.scale > residual.TINIEST:
                out.tokens[made] = x
                out.scale[made] = own.meta.scale
                due = t + ages[made]
        if t == due:
            unit = own.meta.scale / meta.unit
            _moments(series, shared, view, values, t, unit, out, made)
            made += 1


@njit()
def _moments(
    series: multi_series.Series,
    shared: multi_series.Shared,
    view: multi_series.View,
    values: Float64,
    t: int,
    scale: float,
    out: Examples,
    made: int,
) -> None:
    meta = series.meta
    errors, cross, square = out.errors[made], out.cross[made], out.square[made]
    period = meta.period
    fine, coarse = multi_series.fine_cells(period), multi_series.coarse_cells(period)
    x, u = np.empty(layout.FEATURES), np.ones(residual.CORRECTIONS)
    begin = 1
    for r in range(residual.BANDS):
        end = residual.ENDS[r]
        if t + end >= values.shape[0]:
            return
        known, total = 0, 0.0
        for step in range(begin, end + 1):
            value = values[t + step]
            if math.isnan(value):
                continue
            error = (value - meta.offset) / meta.unit
            error -= points.point(series, shared, view, x, step, 0.0, period, fine, coarse)
            error /= scale
            for k in range(layout.FEATURES):
                u[1 + k] = x[k] / scale
            known += 1
            total += error * error
            pair = 0
            for i in range(residual.CORRECTIONS):
                cross[r, i] += error * u[i]
                for j in range(i, residual.CORRECTIONS):
                    square[r, pair] += u[i] * u[j]
                    pair += 1
        begin = end + 1
        if known > 0:
            errors[r] = total / known
            for i in range(residual.CORRECTIONS):
                cross[r, i] /= known
            for pair in range(PAIRS):
                square[r, pair] /= known
