"""A new level that is believed after a period, compiled by numba.

Where every cell of the last period lies to the same side of the memory, by .6 of the mean or
more, and that mean is far above what cells are off by, the memory moves there at once: what it
would else learn in weeks. The late copies do the same when they come to that place.
"""

from __future__ import annotations

import math

from titans_stream.forecasting.intervals.state import Intervals
from titans_stream.forecasting.multi import layout
from titans_stream.forecasting.multi.layout import RING, Values
from titans_stream.forecasting.multi.series import Series
from titans_stream.jit import njit
from titans_stream.records import Float32

JUMP = 7.0
"""Mean deviations of a cell that a new level is off by, at least."""
STEADY = 0.6
"""Share of that which every cell is off by, at least."""
BOUND = 4.0
"""Mean deviations that one deviation counts for at most in their mean."""
PERIODS = 7.0
"""Of the mean deviation's memory."""
LEAST_CELLS = 6


@njit(inner=True)
def take_deviation(values: Values, value: float, expected: float, cells: int) -> None:
    """Learn by how much a cell was off its memory."""
    if math.isnan(expected):
        return
    off = abs(value - expected)
    values.cells += 1.0
    if values.cells > 2.0 * cells:
        off = min(off, BOUND * values.usual)
    values.usual += max(1.0 / (PERIODS * cells), 1.0 / values.cells) * (off - values.usual)


@njit(inner=True)
def believe(memory: Float32, cells: int, usual: float) -> float:
    """Move a memory [2, >= cells] to the level of its latest values where that is new; by how
    much, 0: it is not."""
    if cells < LEAST_CELLS:
        return 0.0
    low, high, total = math.inf, -math.inf, 0.0
    for p in range(cells):
        off = memory[1, p] - memory[0, p]
        if math.isnan(off):
            return 0.0
        low, high = min(low, off), max(high, off)
        if low <= 0.0 <= high:
            return 0.0  # not all to one side
        total += off
    mean = total / cells
    if not _is_new(low, high, mean, usual):
        return 0.0
    for p in range(cells):
        memory[0, p] += mean
    return mean


@njit(inner=True)
def believe_longer(series: Series, copy: int, origin: int, cells: int) -> None:
    """The same for a copy of the longer cycle's memory after the coarse cell `origin`."""
    length = cells * int(series.meta.cycle)
    since = origin - int(series.meta.started)
    if cells < LEAST_CELLS or length == 0 or since < 2 * length:
        return
    seen = since // length + 1.0
    memory = series.longer[copy]
    low, high, total = math.inf, -math.inf, 0.0
    late, p = origin % RING, origin % length
    for _ in range(cells):
        off = series.ring[late] - memory[p]
        if math.isnan(off):
            return
        low, high = min(low, off), max(high, off)
        if low <= 0.0 <= high:
            return  # not all to one side
        total += off
        late = late - 1 if late > 0 else RING - 1
        p = p - 1 if p > 0 else length - 1
    mean = total / cells
    if not _is_new(low, high, mean, series.values.usual):
        return
    # cells of the last period have moved a part of the way by themselves
    rest = 1.0 - max(layout.LONGER_RATE, 1.0 / seen)
    for p in range(length):
        memory[p] += mean / rest
    for back in range(cells):
        memory[(origin - back) % length] += mean - mean / rest


@njit(inline="always")
def _is_new(low: float, high: float, mean: float, usual: float) -> bool:
    """Whether cells that are off by `low` to `high` are at a new level."""
    least = low if mean > 0.0 else -high
    return least >= STEADY * abs(mean) and abs(mean) > JUMP * usual and usual > 0.0


@njit(inner=True)
def calm(series: Series, intervals: Intervals) -> None:
    """After a new level was believed, errors are again what they were before, and forecasts from
    then are not waited for; else those of some periods ago are kept for it."""
    values, meta = series.values, intervals.meta
    one = meta.one_period
    if values.jumped != 0.0:
        values.jumped = 0.0
        intervals.pending[:] = math.nan
        if values.calm[1] > 0.0:
            one.fast = min(one.fast, values.calm[0])
            one.slow = min(one.slow, values.calm[1])
            for i in range(2):
                values.calm[2 + i] = values.calm[i]
        return
    period = math.floor(series.meta.period + 0.5)
    if period > 0.0 and meta.clock % period == 0.0:
        for i in range(2):
            values.calm[i] = values.calm[2 + i]
        values.calm[2] = one.fast
        values.calm[3] = one.slow
