"""What the values of a series can be, compiled by numba: its bounds, whole numbers, phases at rest.

A phase is *at rest* when its cell has had the same value so often that chance, at the share of
cells that repeat theirs, makes that of in less than `REST_CHANCE`: solar power at night. Its
forecast is that value, without a width. The *spread* of a phase is the mean size of its errors
one period ahead beside that of all phases; the widths of intervals follow it.

Where more than half of a phase's readings are the least value of all, as in counts of rare events,
that is its median, and its quantiles below that share.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from titans_stream.forecasting.multi.layout import Values
from titans_stream.forecasting.multi.series import Series, cell_of, coarse_cells, fine_cells
from titans_stream.jit import njit
from titans_stream.records import Float32, Float64, Records

SAME_RATE = 0.02
"""Per complete cell, of the share of cells that repeat the value of the period before."""
LEAST_REST, MOST_REST = 7.0, 250.0
"""Periods with the same value before a phase is at rest."""
REST_CHANCE = 1e-3
ALL_SAME = 0.99
"""Share of cells that repeat theirs from which on a series is constant."""
SPREAD_RATE = 0.04
EARLY_SPREAD = 5.0
"""The n-th error of a phase moves its spread by 1 / (n + EARLY_SPREAD), at least SPREAD_RATE."""
FLOOR_RATE = 0.03
"""Per visit of a phase, of the share of its readings that are the least of all."""
MOST_WHOLE = 1e15
"""Whole numbers beyond are whole by rounding."""
LARGEST = 6.0
"""Mean errors that one error counts at most in a spread."""
LEAST_SPREAD, MOST_SPREAD = 0.05, 4.0


class Limits(NamedTuple):
    """What forecasts may not leave."""

    low: float
    """-inf: unbounded."""
    high: float
    learned: bool
    """Whether a series that never was negative is not forecast below zero, and one of whole
    numbers is forecast in these."""


@njit(inner=True)
def take_value(values: Values, floors: Float32, value: float) -> None:
    """Learn from one reading what values can be."""
    if values.seen == 0.0:
        values.lowest = value
        values.whole = 1.0
    values.seen += 1.0
    if value < values.lowest:
        values.lowest = value
        for c in range(floors.shape[0]):
            floors[c] = 0.0
    if abs(value) > MOST_WHOLE or value != math.floor(value):
        values.whole = 0.0


@njit(inner=True)
def take_cell(series: Series, p: int, value: float, before: float) -> None:
    """A fine cell p of the period is complete; `before` is its value a period ago, NaN: none."""
    if math.isnan(before):
        return
    values = series.values
    same = value == before
    values.same += SAME_RATE * ((1.0 if same else 0.0) - values.same)
    rest = series.rest[p]
    series.rest[p] = min(rest + 1, 255) if same else 0
    need = LEAST_REST
    if values.same > 0.0:
        chance = math.log(min(values.same, 1.0 - 1e-9))
        need = max(LEAST_REST, math.log(REST_CHANCE) / chance)
    values.need = need if need <= MOST_REST else 1e9


@njit(inline="always")
def at_rest(series: Series, p: int) -> bool:
    """Whether the phase of fine cell p is at rest."""
    values = series.values
    rests: bool = values.need > 0.0 and series.rest[p] >= values.need
    return rests


@njit(inner=True)
def spread_of(series: Series, tick: float) -> float:
    """Size of the errors at a tick's phase beside the others'; 0: at rest, 1: no period."""
    period = series.meta.period
    if period <= 0.0:
        return 1.0
    fine, coarse = fine_cells(period), coarse_cells(period)
    if at_rest(series, cell_of(tick, fine, period) % fine):
        return 0.0
    spread = 1.0 + series.spreads[cell_of(tick, coarse, period) % coarse]
    mean = 1.0 + series.values.spread
    bounded: float = min(MOST_SPREAD, max(LEAST_SPREAD, spread / max(mean, LEAST_SPREAD)))
    return bounded


@njit(inner=True)
def take_spread(series: Series, error: float, usual: float) -> None:
    """Learn the spread of the last tick's phase from its error one period ahead, of mean `usual`.

    Spreads are kept less 1, so that they start at 1.
    """
    meta = series.meta
    period = meta.period
    if not error >= 0.0 or not usual > 0.0 or period <= 0.0:
        return
    fine, coarse = fine_cells(period), coarse_cells(period)
    place = cell_of(meta.tick, coarse, period) % coarse
    seen = series.visits[cell_of(meta.tick, fine, period) % fine]
    rate = max(SPREAD_RATE, 1.0 / (seen + EARLY_SPREAD)) * min(1.0, coarse / period)
    series.spreads[place] += rate * (min(error / usual, LARGEST) - 1.0 - series.spreads[place])
    total = 0.0
    for c in range(coarse):
        total += series.spreads[c]
    series.values.spread = total / coarse


@njit(inner=True)
def take_floor(series: Series, value: float) -> None:
    """Learn from the last tick's value how often its phase has the least value of all."""
    period = series.meta.period
    if period <= 0.0:
        return
    fine, coarse = fine_cells(period), coarse_cells(period)
    place = cell_of(series.meta.tick, coarse, period) % coarse
    seen = series.visits[cell_of(series.meta.tick, fine, period) % fine]
    rate = max(FLOOR_RATE, 1.0 / (seen + 1.0)) * min(1.0, coarse / period)
    least = 1.0 if value == series.values.lowest else 0.0
    series.floors[place] += rate * (least - series.floors[place])


@njit(inner=True)
def settle_floor(
    series: Series, levels: Records, shifts: Float64, median: Float64, quantiles: Float64
) -> None:
    """Median [H] and quantiles [Q, H] of phases that have the least value more often than not;
    shifts [H]: ticks by which clocks will have been changed."""
    period, lowest = series.meta.period, series.values.lowest
    if series.values.same > ALL_SAME:
        return
    coarse = coarse_cells(period)
    for k in range(median.shape[0]):
        tick = series.meta.tick + k + 1.0
        if series.meta.days > 0.0:
            tick += shifts[k]
        share = series.floors[cell_of(tick, coarse, period) % coarse]
        if share <= 0.5:
            continue
        median[k] = lowest
        for q in range(levels.shape[0]):
            if 0.5 + 0.5 * levels[q].side * levels[q].coverage < share:
                quantiles[q, k] = lowest
            else:
                quantiles[q, k] = max(quantiles[q, k], lowest)


@njit(inner=True)
def lowest_of(values: Values, limits: Limits) -> float:
    """What a series' forecasts are not below."""
    low: float = limits.low
    if limits.learned and values.seen > 0.0 and values.lowest >= 0.0:
        low = max(low, 0.0)
    return low


@njit(inner=True)
def limit(values: Values, limits: Limits, numbers: Float64) -> None:
    """Numbers [H] of a forecast within bounds, and whole where the series is."""
    low, high = lowest_of(values, limits), limits.high
    whole = limits.learned and values.whole != 0.0 and values.seen > 0.0
    for k in range(numbers.shape[0]):
        value = numbers[k]
        if whole and abs(value) <= MOST_WHOLE:
            value = math.floor(value + 0.5)
        numbers[k] = min(high, max(low, value))
