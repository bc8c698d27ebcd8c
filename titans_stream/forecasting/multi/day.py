"""How the level of a series with a short cycle goes over the day; compiled by numba.

Where the period is a cycle too short for the cells of a day, its level l, the mean of the last
period, is followed over the time of day: D(c) <- D(c) + a (l - D(c)) for each of `CELLS` cells of a
day, and W(h) likewise for the hours of a week. Both are linear Titans memories as the slot memory
is; a cell takes the mean of what l was in it once it is over. A forecast for the tick u from the
tick t is corrected by g w . x with x = [D(u) - D(t'); D(t') - l; l - mean(e); W(u) - W(t') less the
first], e the slot memory and t' half a period before t, when the level was l. `day_learning.py`
learns w and g.

A series has either a longer cycle or a day beside its period, so this lies in the arrays of the
longer cycle: in `longer` the rows D, W, the samples, and what the cells are filled with; in
`longer_sums` a record for each band; in `longer_own` the weights, when samples are due, and which
cells are being filled.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from titans_stream.forecasting.multi.clock import DAY_SECONDS, WEEK
from titans_stream.forecasting.multi.layout import Meta
from titans_stream.forecasting.multi.series import Series, View
from titans_stream.jit import njit
from titans_stream.records import Float32

CELLS = 144
"""Of a day: ten minutes."""
HOURS = 24
ENDS = (3, 6, 12, 24, 48, 144)
"""Last steps of the bands, in cells of a day; the last serves beyond a day, too."""
BANDS = len(ENDS)
FEATURES = 4
EXPLAINED = 0.5
"""Share of a new level up to which what the time of day leaves of it is chance."""
RATE = 1.0 - 0.5 ** (1.0 / 5.0)
"""Of the memories: half of a value is younger than five days, or weeks."""
DAY, WEEK_HOURS, SAMPLE, FILLING = range(4)
"""Rows of `longer`."""
SHARE = FEATURES
"""Where a band's weights have the share that is applied."""
CELL, HOUR, CELL_COUNT, HOUR_COUNT, STARTED, SEEN, OPEN = range(7)
"""In `longer_own[2, 0]`: the cell and the hour that are being filled, plus 1 (0: none), and from
how many levels; the tick of the first reading; the last coarse cell that was looked at; the cell,
plus 1, of a new level of which it is open whether it is the day's course (0: none)."""
BEFORE, AFTER = 2, 3
"""In the row `FILLING`: the levels before and after that."""


class Course(NamedTuple):
    """What the memories say of a target, NaN: nothing; in the series' unit."""

    day: float
    """D at the target and at the origin."""
    now: float
    level: float
    """At the origin, and the mean of the slot memory."""
    centre: float
    week: float
    """W at both."""
    week_now: float


@njit(inline="always")
def cell_of_day(meta: Meta, tick: float) -> int:
    """Which cell of a day a tick lies in."""
    turns = (tick - meta.midnight) / meta.day
    return min(CELLS - 1, int((turns - math.floor(turns)) * CELLS))


@njit(inline="always")
def hour_of_week(meta: Meta, tick: float) -> int:
    """Which hour of a week, counted from a Thursday, a tick lies in."""
    turns = (tick - meta.midnight) / meta.day
    whole = math.floor(turns)
    days = meta.epoch + whole
    hour = min(HOURS - 1, int((turns - whole) * HOURS))
    return int(days - WEEK * math.floor(days / WEEK)) * HOURS + hour


@njit(inline="always")
def band_of_day(ahead: float) -> int:
    """The band of a step of so many cells."""
    band = 0
    while band < BANDS - 1 and ahead > ENDS[band]:
        band += 1
    return band


@njit(inner=True)
def begin_day(series: Series) -> None:
    """Forget all of it."""
    for row in range(series.longer.shape[0]):
        for k in range(series.longer.shape[1]):
            series.longer[row, k] = math.nan
    for band in range(series.longer_sums.shape[0]):
        sums = series.longer_sums[band]
        for k in range(sums.products.shape[0]):
            sums.products[k] = 0.0
        for k in range(sums.cross.shape[0]):
            sums.cross[k] = 0.0
        sums.mass = 0.0
        for copy in range(3):
            for k in range(series.longer_own.shape[2]):
                series.longer_own[copy, band, k] = 0.0


@njit(inner=True)
def drop_samples(series: Series) -> None:
    """Forget the forecasts that are under way: coarse cells are others now."""
    for row in range(series.longer_own.shape[1]):
        for k in range(series.longer_own.shape[2]):
            series.longer_own[1, row, k] = 0.0


@njit(inner=True)
def write_day(series: Series, seconds: float, level: float, known: bool) -> None:
    """Take the level after the last tick, whose local time is `seconds`; what is old says nothing
    of later hours, where the tick had no value (not `known`)."""
    meta, place = series.meta, series.longer_own[2, 0]
    turns = seconds / DAY_SECONDS
    meta.epoch = math.floor(turns)
    meta.midnight = meta.tick - (turns - meta.epoch) * meta.day
    if series.values.jumped != 0.0:
        _take_jump(series, level)
    if not known:
        return
    if place[OPEN] != 0.0:
        _close(series, level)
    if place[STARTED] == 0.0:
        place[STARTED] = meta.tick
    then = meta.tick - 0.5 * meta.period
    seen = (meta.tick - place[STARTED]) / meta.day + 1.0
    cell, hour = cell_of_day(meta, then), hour_of_week(meta, then)
    if place[CELL] != cell + 1.0:
        _keep(series.longer[DAY], int(place[CELL]) - 1, series.longer[FILLING, DAY], seen)
        place[CELL], place[CELL_COUNT] = cell + 1.0, 0.0
    if place[HOUR] != hour + 1.0:
        filled = series.longer[FILLING, WEEK_HOURS]
        _keep(series.longer[WEEK_HOURS], int(place[HOUR]) - 1, filled, seen / WEEK + 1.0)
        place[HOUR], place[HOUR_COUNT] = hour + 1.0, 0.0
    for row in range(2):
        place[CELL_COUNT + row] += 1.0
        before = level if place[CELL_COUNT + row] == 1.0 else series.longer[FILLING, row]
        series.longer[FILLING, row] = before + (level - before) / place[CELL_COUNT + row]


@njit(inline="always")
def _keep(memory: Float32, cell: int, value: float, seen: float) -> None:
    """One step of a memory with what a cell (-1: none) was; `seen` turns have begun."""
    if cell < 0:
        return
    before = memory[cell]
    if math.isnan(before):
        memory[cell] = value
    else:
        memory[cell] += max(RATE, 1.0 / math.floor(seen)) * (value - before)


@njit(inner=True)
def _take_jump(series: Series, level: float) -> None:
    """A new level has been believed. All levels move by what the time of day does not explain of
    it; where that is little and forecasts follow the day, nothing has happened."""
    meta, place, filling = series.meta, series.longer_own[2, 0], series.longer[FILLING]
    jumped = series.values.jumped
    change = level - series.longer[DAY, cell_of_day(meta, meta.tick - 0.5 * meta.period)]
    if math.isnan(change):
        if place[OPEN] == 0.0:
            filling[BEFORE] = filling[AFTER] = level - jumped
        filling[AFTER] += jumped
        place[OPEN] = cell_of_day(meta, meta.tick - meta.period) + 1.0
        return
    if abs(change) <= EXPLAINED * abs(jumped):
        if day_is_used(series):
            series.values.jumped = 0.0
        return
    for cell in range(series.longer.shape[1]):
        series.longer[DAY, cell] += change
        series.longer[WEEK_HOURS, cell] += change
        series.longer[FILLING, cell] += change
    drop_samples(series)


@njit(inner=True)
def _close(series: Series, level: float) -> None:
    """A level that was new at a time of day not seen before has lasted until one that was: then it
    was no course of the day, and what is older moves."""
    meta, place, filling = series.meta, series.longer_own[2, 0], series.longer[FILLING]
    cell = cell_of_day(meta, meta.tick - 0.5 * meta.period)
    off, change = level - series.longer[DAY, cell], filling[AFTER] - filling[BEFORE]
    if math.isnan(off):
        return
    end = int(place[OPEN]) - 1
    place[OPEN] = 0.0
    if off * change < EXPLAINED * change * change or change == 0.0:
        return
    while cell != end:
        series.longer[DAY, cell] += change
        cell = (cell + 1) % CELLS
    drop_samples(series)


@njit(inner=True)
def recall_day(series: Series, view: View, target: float) -> Course:
    """What the memories say of the tick `target`, seen from the last one with a value. Where the
    week is not known of both it is taken for the day."""
    meta, place = series.meta, series.longer_own[2, 0]
    day = series.longer[DAY, cell_of_day(meta, target)]
    week = series.longer[WEEK_HOURS, hour_of_week(meta, target)]
    now, week_now = math.nan, math.nan
    if place[CELL] > 0.0:
        now = series.longer[DAY, int(place[CELL]) - 1]
        week_now = series.longer[WEEK_HOURS, int(place[HOUR]) - 1]
    if math.isnan(week) or math.isnan(week_now):
        week, week_now = day, now
    return Course(day, now, view.levels[0].level, view.levels[0].centre, week, week_now)


@njit(inline="always")
def weigh_day(w: Float32, course: Course) -> float:
    """w . x"""
    change = course.day - course.now
    total: float = w[0] * change + w[1] * (course.now - course.level)
    total += w[2] * (course.level - course.centre)
    total += w[3] * (course.week - course.week_now - change)
    return total


@njit(inner=True)
def day_effect(series: Series, view: View, target: float) -> float:
    """What the day adds to the forecast of a tick, in the series' unit; 0 without one."""
    meta = series.meta
    if meta.day == 0.0:
        return 0.0
    w = series.longer_own[0, band_of_day((target - meta.tick) * CELLS / meta.day)]
    if w[SHARE] == 0.0:
        return 0.0
    effect = w[SHARE] * weigh_day(w, recall_day(series, view, target))
    return 0.0 if math.isnan(effect) else effect


@njit(inner=True)
def day_is_used(series: Series) -> bool:
    """Whether forecasts follow the day at some steps by more than a trifle."""
    most = 0.0
    for band in range(BANDS):
        most = max(most, series.longer_own[0, band, SHARE])
    used: bool = series.meta.day > 0.0 and most > 0.1
    return used
