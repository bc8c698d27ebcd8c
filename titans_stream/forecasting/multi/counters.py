"""Counters, whose readings only rise but for resets, compiled by numba.

A series is taken for a counter once `RISING` changes in a row were none below zero, half of them
above; a fall to less than half is a reset and ends no row. From then on the forecaster reads its
change per interval and forecasts are published as the last reading and the sum of what is
forecast of the changes. Another fall ends that, and a row must then be `AGAIN` long; so does a
reset less than `OFTEN` readings after the one before: what starts over again and again is a cycle,
whose resets are to be forecast, too.
"""

from __future__ import annotations

import math
from typing import Any

from titans_stream.forecasting.multi.layout import Counter
from titans_stream.jit import njit
from titans_stream.records import Float64

RISING = 48.0
AGAIN = 2_000.0
RESET = 0.5
OFTEN = 2_000.0
COMMON = 0.2
"""Share of the errors of changes that is common to all steps of a forecast, so that it adds up."""


@njit(inner=True)
def take_count(counter: Counter, value: float, ticks: float) -> bool:
    """Take a reading (NaN: missing) `ticks` after the last one; True where the series has become
    a counter, or is none any more."""
    counter.ticks += ticks
    if math.isnan(value):
        counter.change = math.nan
        return False
    first = counter.seen == 0.0
    change = value - counter.last
    reset = change < 0.0 and 0.0 <= value < RESET * counter.last
    counter.change = math.nan if first or reset else change / max(counter.ticks, 1.0)
    counter.seen = 1.0
    counter.last = value
    counter.ticks = 0.0
    if first:
        return False
    counter.since_reset += 1.0
    often = False
    if reset:
        often = counter.fallen != 0.0 or (counter.resets > 0.0 and counter.since_reset < OFTEN)
        counter.resets += 1.0
        counter.since_reset = 0.0
        if not often:
            return False
    if often or change < 0.0:
        counter.row = counter.above = 0.0
        counter.fallen = 1.0
        was: bool = counter.active != 0.0
        counter.active = 0.0
        return was
    counter.row += 1.0
    counter.above += 1.0 if change > 0.0 else 0.0
    wanted = AGAIN if counter.fallen != 0.0 else RISING
    if counter.active != 0.0 or counter.row < wanted or 2.0 * counter.above < counter.row:
        return False
    counter.active = 1.0
    return True


@njit(inner=True)
def add_up(counter: Counter, median: Float64, quantiles: Float64) -> None:
    """From forecasts of the changes, median [H] and quantiles [Q, H], to those of the count.

    The errors of steps are taken for independent but for a share that is common.
    """
    for q in range(quantiles.shape[0]):
        square, common = 0.0, 0.0
        for k in range(median.shape[0]):
            off = quantiles[q, k] - median[k]
            square += off * off
            common += off
            size = math.sqrt(square + (COMMON * common) ** 2)
            quantiles[q, k] = math.copysign(size, common)
    level = counter.last
    for k in range(median.shape[0]):
        level += max(median[k], 0.0)
        median[k] = level
        for q in range(quantiles.shape[0]):
            quantiles[q, k] = max(level + quantiles[q, k], counter.last)


@njit(inner=True)
def _put(row: Any, blank: Any) -> None:
    """Copy a row of one axis: a device has no memory for a copy of an array by itself."""
    for j in range(blank.shape[0]):
        row[j] = blank[j]


@njit(inner=True)
def _put_rows(rows: Any, blank: Any) -> None:
    """The same of two axes."""
    for j in range(blank.shape[0]):
        _put(rows[j], blank[j])


@njit(inner=True)
def _put_tables(tables: Any, blank: Any) -> None:
    """The same of three."""
    for j in range(blank.shape[0]):
        _put_rows(tables[j], blank[j])


@njit(inner=True)
def forget(states: Any, k: int, blank: Any) -> None:
    """The state of the series in slot k as that of a new one; `blank` is that of one, zero."""
    s, b = states.series, blank.series
    s.meta[k] = b.meta[0]
    s.values[k] = b.values[0]
    s.carry[k] = b.carry[0]
    _put_rows(s.memory[k], b.memory[0])
    _put_tables(s.twins[k], b.twins[0])
    _put(s.visits[k], b.visits[0])
    _put_rows(s.own[k], b.own[0])
    _put_tables(s.kept[k], b.kept[0])
    _put_rows(s.longer[k], b.longer[0])
    _put_tables(s.longer_own[k], b.longer_own[0])
    _put(s.rest[k], b.rest[0])
    _put(s.spreads[k], b.spreads[0])
    _put(s.floors[k], b.floors[0])
    for band in range(b.sums.shape[1]):
        s.sums[k, band] = b.sums[0, band]
        s.gate[k, band] = b.gate[0, band]
    for band in range(b.samples.shape[1]):
        s.samples[k, band] = b.samples[0, band]
    for band in range(b.longer_sums.shape[1]):
        s.longer_sums[k, band] = b.longer_sums[0, band]
    f = states.finder
    f.meta[k] = blank.finder.meta[0]
    i = states.intervals
    i.meta[k] = blank.intervals.meta[0]
    _put_rows(i.histograms[k], blank.intervals.histograms[0])
    _put_rows(i.pending[k], blank.intervals.pending[0])
    states.residual.meta[k] = blank.residual.meta[0]
