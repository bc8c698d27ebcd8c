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
from titans_stream.forecasting.multi.clock import (
    Reading,
    deviation,
    is_lone,
    keep_scale,
    readings_a_day,
    set_phase,
    take_scale,
    ticks_since,
    wanted_period,
)
from titans_stream.forecasting.multi.fallback import settle
from titans_stream.forecasting.multi.heads import band_of, refit, shared_read, weighted
from titans_stream.forecasting.multi.layout import COARSE, FINER_BANDS
from titans_stream.forecasting.multi.learning import learn_tick, sample, start
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
    read_window,
)
from titans_stream.forecasting.multi.state import (
    Batch,
    Model,
    State,
    Work,
    Written,
    new_work,
    state_of,
)
from titans_stream.forecasting.period.finder import observe as observe_period
from titans_stream.forecasting.period.finder import reach, recall
from titans_stream.forecasting.period.state import Finder, Workspace
from titans_stream.jit import njit
from titans_stream.records import Float64, Int64, Records

MOST_MISSING = 2_048.0
"""Missing readings that the finder is told of, at most, one by one."""


@njit(inline="always")
def point(
    series: Series,
    shared: Shared,
    view: View,
    x: Float64,
    step: int,
    period: float,
    fine: int,
    coarse: int,
) -> float:
    """The forecast `step` ticks after the last one, in the series' unit; the view is ready.

    fine, coarse: cells of the period.
    """
    meta = series.meta
    tick = meta.tick
    ahead = step * COARSE / period
    band = band_of(ahead)
    fine_cell = cell_of(tick + step, fine, period)
    p = fine_cell % fine
    anchor = features(view, p, x)
    model = anchor + weighted(series.own[band], x)
    gate = series.gate[band]
    if shared.shared_head and (period <= COARSE or ahead > 1.0 + 1e-9):
        coarse_cell = fine_cell if fine == coarse else cell_of(tick + step, coarse, period)
        j = int(math.floor((coarse_cell - meta.coarse_cell) * COARSE / coarse + 0.5))
        other = view.levels[0].base + shared_read(shared.window, view.inputs, j)
        if fine != coarse:
            other += view.memory[p] - coarse_memory(view, coarse_cell % coarse, coarse, fine)
        model += gate.other * (other - model)
    share = gate.share
    if shared.fallback and share > 0.0:
        naive = view.latest[p] if gate.naive == 0.0 else view.levels[0].last
        model = naive + (1.0 - share) * (model - naive)
    return model


@njit(inner=True)
def forecast(
    series: Series, own: Residual, model: Model, work: Work, ready: bool, steps: Int64, out: Float64
) -> None:
    """Forecasts of `steps` [K] after the last tick -> out [K], as values.

    With the residual's correction where it is active; the last value where no view is ready.
    """
    meta, shared, view, x = series.meta, model.shared, work.read, work.x
    active = model.slow.active
    if not ready:
        for k in range(steps.shape[0]):
            out[k] = meta.last
        return
    period = meta.period
    fine, coarse = fine_cells(period), coarse_cells(period)
    for k in range(steps.shape[0]):
        z = point(series, shared, view, x, steps[k], period, fine, coarse)
        ahead = steps[k] * COARSE / period
        if active and ahead <= residual.REACH + 1e-9:
            z += residual.correction(own, series, band_of(ahead), x)
        out[k] = meta.offset + meta.unit * z


@njit(inner=True)
def advance_residual(series: Series, own: Residual, model: Model, view: View, x: Float64) -> None:
    """Let the residual read its next token where one is complete; the view is ready."""
    if not residual.observe(own, model.slow, series, view):
        return
    period = series.meta.period
    fine, coarse = fine_cells(period), coarse_cells(period)
    for k in range(1, residual.REACH + 1):
        step = max(1, int(round(k * period / COARSE)))
        z = point(series, model.shared, view, x, step, period, fine, coarse)
        band = band_of(float(k)) - FINER_BANDS
        residual.remember(own, series, k, band, z, residual.proposed(own, series, band, x))


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
    if not read_memory(series.memory, fine, meta.last_z, int(meta.last_place), view):
        return False
    if shared.shared_head:
        read_window(series.ring, int(meta.coarse_cell), coarse, fine, view)
    return True


@njit(inner=True)
def begin(
    series: Series,
    finder: Finder,
    shared: Shared,
    view: View,
    wanted: tuple[float, float],
    seconds: float,
    present: float,
) -> None:
    """Begin with a new period: fill the memory from what the finder's rings still hold.

    wanted: as `wanted_period` returns it; present: the reading of this tick in the series' unit,
    NaN: missing; it is learned here.
    """
    meta = series.meta
    period, days = wanted
    before = meta.period
    keep = before > 0.0 and abs(period - before) <= layout.SAME_PERIOD * before
    meta.days = days
    meta.period = period
    if period <= 0.0:
        start(series, shared, 0.0, 0.0, False)
        return
    if days > 0.0:
        meta.tick = set_phase(meta, -math.inf, meta.tick, seconds)
    back = reach(finder, period)
    if meta.tick < back - 1.0:
        meta.tick += period * math.ceil((back - 1.0 - meta.tick) / period)
        meta.tick = math.ceil(meta.tick)
    tick = meta.tick
    start(series, shared, period, tick - back + 1.0, keep)
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
    period = meta.period
    wanted = wanted_period(meta, finder.meta.period, readings_a_day(reading), fixed)
    longest = layout.LONGEST_GAP * max(period, 1.0)
    moved = ticks
    if period > 0.0 and ticks > longest:
        moved = ticks - period * math.floor((ticks - longest) / period)
        moved = math.floor(moved + 0.5)
    before = meta.tick
    if meta.count > 1.0 or math.isnan(z):
        meta.tick += moved
    if wanted[0] != period or wanted[1] != meta.days:
        begin(series, finder, shared, view, wanted, reading.seconds, z)
    elif period > 0.0:
        if meta.days > 0.0:
            meta.tick = set_phase(meta, before, meta.tick, reading.seconds)
        if meta.tick > before:
            learn_tick(series, shared, view, meta.tick, z, meta.last_z)
    if not math.isnan(z):
        meta.refit += 1.0
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
    ready = look(series, model.shared, view)
    if ready and meta.period > COARSE:
        known = not math.isnan(reading.value) and not is_lone(meta)
        sample(series, view, meta.tick, meta.last_z if known else math.nan, model.shared.fallback)
    if ready and model.slow.active and residual.wants(own.meta, meta):
        advance_residual(series, own, model, view, work.x)
    if ticks > 1.0:
        skip(intervals, int(min(ticks - 1.0, 1e9)))
    observe_error(intervals, reading.value, sd, meta.period)
    steps, which, medians = work.steps, work.which, work.medians
    count = 0
    for anchor in range(ANCHORS):
        step = due(intervals.meta, anchor)
        if step > 0:
            steps[count] = step
            which[count] = anchor
            count += 1
    forecast(series, own, model, work, ready, steps[:count], medians)
    for k in range(count):
        keep_median(intervals, which[k], medians[k])
    return ready


@njit(inner=True)
def publish(
    state: State, model: Model, work: Work, ready: bool, ahead: Int64, median: Float64, out: Float64
) -> None:
    """Forecasts of the steps `ahead` [H] -> median [H], out [Q, H]; NaN before the first value."""
    meta = state.series.meta
    if meta.count == 0.0:
        median[:] = math.nan
        out[:] = math.nan
        return
    forecast(state.series, state.residual, model, work, ready, ahead, median)
    quantiles(state.intervals, deviation(meta), model.levels, median, out)


@njit(nogil=True)
def run(batch: Batch, states: State, model: Model, space: Records, written: Written) -> None:
    """Learn N readings in order and write the forecasts that are due.

    states: the arrays of all series; space [1]: scratch space of the finder of periods.
    """
    work = new_work()
    made = 0
    filled = 0
    for i in range(batch.slots.shape[0]):
        state = state_of(states, batch.slots[i])
        series = state.series
        value = batch.values[i]
        reading = Reading(
            value if math.isfinite(value) else math.nan,
            batch.seconds[i],
            batch.interval[i],
            float(batch.timestamps[i]),
        )
        ticks = take(series, state.finder, model.shared, work.read, reading, model.fixed, space[0])
        ready = follow(series, state.intervals, state.residual, model, work, reading, ticks)
        if batch.steps[i] > 0:
            end = filled + batch.steps[i]
            publish(
                state, model, work, ready, batch.ahead[: batch.steps[i]],
                written.median[filled:end], written.quantiles[:, filled:end],
            )  # fmt: skip
            written.periods[made] = series.meta.period if ready else math.nan
            made += 1
            filled = end
