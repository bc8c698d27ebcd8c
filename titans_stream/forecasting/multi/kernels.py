"""The multi-step forecaster for one series at a time, compiled by numba: one pass per reading.

A reading goes to the finder of periods (`watch`), to scale and clock, to the memory and the heads
that learn from matured targets, and to the intervals (`learn`); then the forecasts that are due are
made (`publish`).
"""

from __future__ import annotations

import math

from titans_stream.forecasting.intervals.kernels import due, skip
from titans_stream.forecasting.intervals.kernels import observe as observe_error
from titans_stream.forecasting.intervals.kernels import remember as keep_median
from titans_stream.forecasting.intervals.state import ANCHORS, Intervals
from titans_stream.forecasting.intervals.widths import quantiles
from titans_stream.forecasting.mal import residual
from titans_stream.forecasting.mal.residual import Residual
from titans_stream.forecasting.multi import layout
from titans_stream.forecasting.multi.ahead import bring
from titans_stream.forecasting.multi.carry import observe_carry
from titans_stream.forecasting.multi.clock import (
    WEEK,
    Reading,
    deviation,
    is_lone,
    keep_scale,
    readings_a_day,
    set_day,
    set_phase,
    take_scale,
    ticks_since,
    wanted_period,
)
from titans_stream.forecasting.multi.counters import add_up, forget, take_count
from titans_stream.forecasting.multi.day import day_effect, day_is_used, write_day
from titans_stream.forecasting.multi.day_learning import observe_day
from titans_stream.forecasting.multi.fallback import settle
from titans_stream.forecasting.multi.heads import band_of, refit
from titans_stream.forecasting.multi.layout import COARSE, FINER_BANDS
from titans_stream.forecasting.multi.learning import learn_tick, sample, start
from titans_stream.forecasting.multi.levels import calm
from titans_stream.forecasting.multi.longer import (
    longer_is_used,
    refit_longer,
)
from titans_stream.forecasting.multi.points import forecast, look, point
from titans_stream.forecasting.multi.series import (
    Series,
    Shared,
    View,
    coarse_cells,
    fine_cells,
)
from titans_stream.forecasting.multi.special import note_day, special_effect
from titans_stream.forecasting.multi.state import (
    Batch,
    Model,
    State,
    Work,
    Written,
    new_work,
    state_of,
)
from titans_stream.forecasting.multi.values import (
    limit,
    settle_floor,
    spread_of,
    take_floor,
    take_spread,
    take_value,
)
from titans_stream.forecasting.period.finder import is_near, reach, recall
from titans_stream.forecasting.period.finder import observe as observe_period
from titans_stream.forecasting.period.state import Finder, Workspace
from titans_stream.jit import njit
from titans_stream.records import Float64, Int64, Records

MOST_MISSING = 2_048.0
"""Missing readings that the finder is told of, at most, one by one."""


@njit(inner=True)
def advance_residual(series: Series, own: Residual, model: Model, view: View, x: Float64) -> None:
    """Let the residual read its next token where one is complete; the view is ready."""
    if not residual.observe(own, model.slow, series, view):
        return
    period = series.meta.period
    fine, coarse = fine_cells(period), coarse_cells(period)
    for k in range(1, residual.REACH + 1):
        step = max(1, int(round(k * period / COARSE)))
        z = point(series, model.shared, view, x, step, 0.0, period, fine, coarse)
        z += day_effect(series, view, series.meta.tick + step)
        band = band_of(float(k)) - FINER_BANDS
        residual.remember(own, series, k, band, z, residual.proposed(own, series, band, x))


@njit(inner=True)
def begin(
    series: Series,
    finder: Finder,
    shared: Shared,
    view: View,
    wanted: tuple[float, float, float, float],
    seconds: float,
    present: float,
) -> None:
    """Begin with a new period: fill the memory from what the finder's rings still hold.

    wanted: as `wanted_period` returns it; present: the reading of this tick in the series' unit,
    NaN: missing; it is learned here.
    """
    meta = series.meta
    period, days, cycle, day = wanted
    before = meta.period
    had_day = meta.day > 0.0
    same_day = day > 0.0 and day == meta.day
    keep = before > 0.0 and abs(period - before) <= layout.SAME_PERIOD * before
    keep = keep and cycle == meta.cycle and (day > 0.0) == had_day
    meta.days = days
    meta.period = period
    meta.cycle = cycle
    meta.day = day
    if period <= 0.0:
        start(series, shared, 0.0, 0.0, False, False)
        return
    if days > 0.0:
        meta.tick = set_phase(meta, -math.inf, meta.tick, seconds)
        meta.tick = set_day(meta, meta.tick, seconds)
    back = reach(finder, period)
    if meta.tick < back - 1.0:
        turn = WEEK * period
        meta.tick += turn * math.ceil((back - 1.0 - meta.tick) / turn)
        meta.tick = math.ceil(meta.tick)
    tick = meta.tick
    start(series, shared, period, tick - back + 1.0, keep, same_day)
    bound = 4.0 * layout.OUTLIER * math.sqrt(max(meta.variance, 0.0))
    last = math.nan
    for b in range(back - 1, -1, -1):
        z = present
        if b > 0:
            z = (recall(finder, b) - meta.offset) / meta.unit
            if not math.isnan(z):
                z = min(meta.mean + bound, max(meta.mean - bound, z))
        if not math.isnan(z):
            last = z
        learn_tick(series, shared, view, tick - b, z, last)
    series.values.jumped = 0.0
    renew(series, shared)


@njit(inner=True)
def take(
    series: Series,
    finder: Finder,
    shared: Shared,
    view: View,
    reading: Reading,
    fixed: float,
    space: Workspace,
) -> float:
    """Learn one reading; returns the ticks it came after the last one.

    fixed: the period, 0 where the finder is to find it; `space` is its scratch space.
    """
    ticks = ticks_since(series.meta, reading)
    if fixed == 0.0:
        watch(series, finder, reading, ticks, space)
    learn(series, finder, shared, view, reading, ticks, fixed)
    return ticks


@njit(inner=True)
def watch(series: Series, finder: Finder, reading: Reading, ticks: float, space: Workspace) -> None:
    """Let the finder of periods see a reading, and the missing ones before it."""
    if series.meta.count == 0.0 and math.isnan(reading.value):
        return
    day = readings_a_day(reading)
    hint = day if day > 0.0 else math.nan
    for missing in range(int(min(ticks - 1.0, MOST_MISSING)), -1, -1):
        value = reading.value if missing == 0 else math.nan
        observe_period(finder, value, hint, 7.0 * hint, space)


@njit(inner=True)
def learn(
    series: Series,
    finder: Finder,
    shared: Shared,
    view: View,
    reading: Reading,
    ticks: float,
    fixed: float,
) -> None:
    """Let scale, clock, memory and heads learn one reading, with the period found by now."""
    meta = series.meta
    meta.time = reading.timestamp
    if meta.count == 0.0 and math.isnan(reading.value):
        return
    z = math.nan
    if not math.isnan(reading.value):
        z = take_scale(series, reading.value)
        take_value(series.values, series.floors, reading.value)
    period = meta.period
    wanted = wanted_period(
        meta, finder.meta.period, finder.meta.second, readings_a_day(reading), fixed
    )
    longest = layout.LONGEST_GAP * max(period, 1.0)
    moved = ticks
    if period > 0.0 and ticks > longest:
        moved = ticks - period * math.floor((ticks - longest) / period)
        moved = math.floor(moved + 0.5)
    before = meta.tick
    if meta.count > 1.0 or math.isnan(z):
        meta.tick += moved
    if not shared.longer:
        wanted = wanted[0], wanted[1], 0.0, 0.0
    changed = wanted[0] != period or wanted[1] != meta.days
    if changed or wanted[2] != meta.cycle or wanted[3] != meta.day:
        begin(series, finder, shared, view, wanted, reading.seconds, z)
    elif period > 0.0:
        if meta.days > 0.0:
            meta.tick = set_phase(meta, before, meta.tick, reading.seconds)
            if meta.tick > before and meta.cycle > 0.0:
                meta.tick = set_day(meta, meta.tick, reading.seconds)
        if shared.special.shape[0] > 0 and not math.isnan(z):
            note_day(meta, reading.seconds)
            z -= special_effect(series, shared.special, meta.tick)
            meta.last_z = z
        if meta.tick > before:
            learn_tick(series, shared, view, meta.tick, z, meta.last_z)
    if not math.isnan(z):
        meta.refit += 1.0
        often = meta.cycle > 0.0 and meta.refit % layout.LONGER_REFIT_EVERY == 0.0
        if often and meta.refit < layout.REFIT_EVERY:
            if shared.learning:
                refit_longer(series, shared)
            settle(series, meta.period)
        if meta.refit >= layout.REFIT_EVERY:
            meta.refit = 0.0
            keep_scale(series)
            if meta.period > 0.0:
                renew(series, shared)


@njit(inner=True)
def renew(series: Series, shared: Shared) -> None:
    """Solve for the own weights, keep old ones for the fallback's honesty, settle the fallback."""
    meta = series.meta
    if shared.learning:
        refit(series, shared)
        refit_longer(series, shared)
    if meta.coarse_cell - meta.snapshot >= layout.PERIODS * coarse_cells(meta.period):
        for band in range(series.kept.shape[1]):
            for i in range(layout.FEATURES):
                series.kept[0, band, i] = series.kept[1, band, i]
                series.kept[1, band, i] = series.own[FINER_BANDS + band, i]
        meta.snapshot = meta.coarse_cell
    settle(series, meta.period)


@njit(inner=True)
def follow(
    series: Series,
    intervals: Intervals,
    own: Residual,
    model: Model,
    work: Work,
    reading: Reading,
    ticks: float,
) -> bool:
    """What depends on the memory after a reading: samples, residual and intervals learn it.

    Returns whether the view is ready for forecasts.
    """
    meta, view = series.meta, work.read
    if meta.count == 0.0:
        return False
    sd = deviation(meta)
    spread = spread_of(series, meta.tick)
    ready = look(series, model.shared, view)
    known = not math.isnan(reading.value)
    if ready and meta.period > COARSE:
        z = meta.last_z if known and not is_lone(meta) else math.nan
        sample(series, view, meta.tick, z, model.shared.fallback)
    if ready and model.slow.active and residual.wants(own.meta, meta):
        advance_residual(series, own, model, view, work.x)
    if ready and meta.day > 0.0 and not math.isnan(reading.seconds):
        write_day(series, reading.seconds, view.levels[0].level, known)
        if model.shared.learning:
            observe_day(series, model.shared, view, work.x)
    if ready and model.shared.learning and model.shared.carry:
        observe_carry(series, model.shared, view, work.x, known, ticks == 1.0)
    if ticks > 1.0:
        skip(intervals, int(min(ticks - 1.0, 1e9)))
    calm(series, intervals)
    error = observe_error(intervals, reading.value, sd, meta.period, spread)
    take_spread(series, error, intervals.meta.one_period.slow)
    if known:
        take_floor(series, reading.value)
    steps, which, medians = work.steps, work.which, work.medians
    count = 0
    for anchor in range(ANCHORS):
        step = due(intervals.meta, anchor)
        if step > 0:
            steps[count] = step
            which[count] = anchor
            count += 1
    forecast(series, own, model, work, ready, steps[:count], work.unshifted, medians, work.spreads)
    for k in range(count):
        keep_median(intervals, which[k], medians[k])
    return ready


@njit(inner=True)
def publish(
    state: State, model: Model, work: Work, ready: bool, ahead: Int64, shifts: Float64,
    spreads: Float64, median: Float64, out: Float64,
) -> None:  # fmt: skip
    """Forecasts of the steps `ahead` [H], shifts [H] as in `point`, -> median [H], out [Q, H].

    NaN before the first value. spreads [H] is written too.
    """
    meta = state.series.meta
    if meta.count == 0.0:
        median[:] = math.nan
        out[:] = math.nan
        return
    series = state.series
    forecast(series, state.residual, model, work, ready, ahead, shifts, median, spreads)
    quantiles(state.intervals, deviation(meta), model.levels, median, out)
    for q in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[q, k] = median[k] + spreads[k] * (out[q, k] - median[k])
        limit(series.values, model.limits, out[q])
    limit(series.values, model.limits, median)
    if model.limits.learned and meta.period > 0.0:
        settle_floor(series, model.levels, shifts, median, out)
    if series.counter.active != 0.0:
        add_up(series.counter, median, out)


@njit(nogil=True)
def run(
    batch: Batch, states: State, blank: State, model: Model, space: Records, written: Written
) -> None:
    """Learn N readings in order and write the forecasts that are due.

    states: the arrays of all series, `blank` those of a new one; space [1]: scratch space of the
    finder of periods.
    """
    work = new_work()
    made, filled = 0, 0
    for i in range(batch.slots.shape[0]):
        bring(states, batch.slots, i)
        if take_one(batch, i, states, blank, model, space, work, written, made, filled):
            made += 1
            filled += batch.steps[i]


@njit(inner=True)
def may_look(batch: Batch, i: int, states: State, model: Model) -> bool:
    """Whether reading i may make the finder look for a period, for which it needs its space."""
    if model.fixed != 0.0:
        return False
    state = state_of(states, batch.slots[i])
    time = float(batch.timestamps[i])
    reading = Reading(batch.values[i], batch.seconds[i], batch.interval[i], time)
    ticks = ticks_since(state.series.meta, reading)
    return is_near(state.finder.meta, min(ticks, MOST_MISSING + 1.0))


@njit(inner=True)
def take_one(
    batch: Batch, i: int, states: State, blank: State, model: Model, space: Records, work: Work,
    written: Written, made: int, filled: int,
) -> bool:  # fmt: skip
    """Learn reading i and write its forecast after the `made` before, which have `filled` steps;
    whether there is one."""
    state = state_of(states, batch.slots[i])
    series = state.series
    value = batch.values[i] if math.isfinite(batch.values[i]) else math.nan
    time = float(batch.timestamps[i])
    if model.counters:
        counter = series.counter
        reading = Reading(value, batch.seconds[i], batch.interval[i], time)
        if take_count(counter, value, ticks_since(series.meta, reading)):
            forget(states, batch.slots[i], blank)
        if counter.active != 0.0:
            value = counter.change
    reading = Reading(value, batch.seconds[i], batch.interval[i], time)
    ticks = take(series, state.finder, model.shared, work.read, reading, model.fixed, space[0])
    ready = follow(series, state.intervals, state.residual, model, work, reading, ticks)
    if batch.steps[i] <= 0:
        return False
    end = filled + batch.steps[i]
    publish(
        state, model, work, ready, batch.ahead[: batch.steps[i]], batch.shifts[filled:end],
        written.spreads[filled:end], written.median[filled:end], written.quantiles[:, filled:end],
    )  # fmt: skip
    period, cycle = series.meta.period, series.meta.cycle
    written.periods[made, 0] = period if ready else math.nan
    used = ready and longer_is_used(series)
    longer = cycle * period if used else math.nan
    written.periods[made, 1] = series.meta.day if ready and day_is_used(series) else longer
    return True
