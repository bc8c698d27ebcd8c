"""The multi-step forecaster for one row at a time, compiled by numba: one pass per reading.

A reading goes to the finder of periods, to scale and clock, to the memory and the heads that
learn from matured targets, and to the intervals; then the forecasts that are due are made.
"""

from __future__ import annotations

import math

import numpy as np

from titans_stream.forecasting.intervals import kernels as I
from titans_stream.forecasting.intervals import widths as W
from titans_stream.forecasting.mal import residual as M
from titans_stream.forecasting.multi import clock as C
from titans_stream.forecasting.multi import fallback as F
from titans_stream.forecasting.multi import heads as H
from titans_stream.forecasting.multi import layout as L
from titans_stream.forecasting.multi import learning as T
from titans_stream.forecasting.multi import rows as R
from titans_stream.forecasting.period import finder as P
from titans_stream.jit import njit
from titans_stream.records import Float64, Int64

MIDDLE, COARSE = 8, 64
"""Readings in a cell of the finder's second and third ring."""
MOST_MISSING = 2_048.0
"""Missing readings that the finder is told of, at most, one by one."""


@njit(inline="always")
def point(
    row: R.Row,
    shared: R.Shared,
    view: R.View,
    x: Float64,
    step: int,
    period: float,
    fine: int,
    coarse: int,
) -> float:
    """The forecast `step` ticks after the last one, in the series' unit; the view is ready.

    fine, coarse: cells of the period.
    """
    meta = row.meta
    tick = meta[L.TICK]
    ahead = step * L.COARSE / period
    r = H.row_of(ahead)
    p_cell = R.cell_of(tick + step, fine, period)
    p = p_cell % fine
    anchor = R.features(view, p, x)
    model = anchor + H.weighted(row.own[r], x)
    if shared.shared_head and (period <= L.COARSE or ahead > 1.0 + 1e-9):
        cell = p_cell if fine == coarse else R.cell_of(tick + step, coarse, period)
        j = int(math.floor((cell - meta[L.CELL]) * L.COARSE / coarse + 0.5))
        other = view.numbers[R.BASE] + H.shared_read(shared.window, view.inputs, j)
        if fine != coarse:
            other += view.slots[p] - R.coarse_slot(view, cell % coarse, coarse, fine)
        model += row.gate[r, L.OTHER] * (other - model)
    share = row.gate[r, L.SHARE]
    if shared.fallback and share > 0.0:
        naive = view.latest[p] if row.gate[r, L.NAIVE] == 0.0 else view.numbers[R.LATEST]
        model = naive + (1.0 - share) * (model - naive)
    return model


@njit(inner=True)
def forecast(
    row: R.Row,
    shared: R.Shared,
    view: R.View,
    own: M.Residual,
    active: bool,
    ready: bool,
    steps: Int64,
    x: Float64,
    out: Float64,
) -> None:
    """Forecasts of `steps` [K] after the last tick -> out [K], as values.

    With the residual's correction where it is `active`; the last value where no view is ready.
    """
    meta = row.meta
    if not ready:
        for k in range(steps.shape[0]):
            out[k] = meta[L.LAST]
        return
    period = meta[L.PERIOD]
    fine, coarse = R.fine_cells(period), R.coarse_cells(period)
    for k in range(steps.shape[0]):
        z = point(row, shared, view, x, steps[k], period, fine, coarse)
        ahead = steps[k] * L.COARSE / period
        if active and ahead <= M.REACH + 1e-9:
            z += M.correction(own, row, H.row_of(ahead), x)
        out[k] = meta[L.OFFSET] + meta[L.UNIT] * z


@njit(inner=True)
def advance_residual(
    row: R.Row,
    shared: R.Shared,
    view: R.View,
    own: M.Residual,
    slow: M.ResidualWeights,
    x: Float64,
) -> None:
    """Let the residual read its next token where one is complete; the view is ready."""
    if not M.observe(own, slow, row, view):
        return
    period = row.meta[L.PERIOD]
    fine, coarse = R.fine_cells(period), R.coarse_cells(period)
    for k in range(1, M.REACH + 1):
        step = max(1, int(round(k * period / L.COARSE)))
        z = point(row, shared, view, x, step, period, fine, coarse)
        r = H.row_of(float(k)) - L.FINER_ROWS
        M.remember(own, row, k, r, z, M.proposed(own, row, r, x))


@njit(inner=True)
def look(row: R.Row, shared: R.Shared, view: R.View) -> bool:
    """Read the memory out for forecasts after the last tick; False: there is no period yet."""
    meta = row.meta
    period = meta[L.PERIOD]
    if period <= 0.0:
        return False
    fine, coarse = R.fine_cells(period), R.coarse_cells(period)
    if meta[L.CELL] + 1.0 - meta[L.STARTED] < L.READY_PERIODS * coarse:
        return False
    if not R.read_slots(row.slots, fine, meta[L.LAST_Z], int(meta[L.LAST_PLACE]), view):
        return False
    if shared.shared_head:
        R.read_window(row.ring, int(meta[L.CELL]), coarse, fine, view)
    return True


@njit(inner=True)
def _found_value(
    fine: np.ndarray, middle: np.ndarray, coarse: np.ndarray, meta: Float64, back: int
) -> float:
    """The finder's reading `back` ticks ago (0: the last), or the mean that it keeps of it."""
    at = int(meta[P.COUNT]) - 1 - back
    if back < P.FINE:
        return float(fine[at % P.FINE])
    if back < (P.MIDDLE - 1) * MIDDLE:
        return float(middle[(at // MIDDLE) % P.MIDDLE])
    return float(coarse[(at // COARSE) % P.COARSE])


@njit(inner=True)
def begin(
    row: R.Row,
    shared: R.Shared,
    view: R.View,
    fine: np.ndarray,
    middle: np.ndarray,
    coarse: np.ndarray,
    found: Float64,
    period: float,
    days: float,
    seconds: float,
    present: float,
) -> None:
    """Begin with a new period: seed the memory with what the finder's rings still hold.

    `present` is the reading of this tick in the row's unit, NaN: missing; it is learned here.
    """
    meta = row.meta
    before = meta[L.PERIOD]
    keep = before > 0.0 and abs(period - before) <= L.SAME_PERIOD * before
    meta[L.CLOCK] = days
    meta[L.PERIOD] = period
    if period <= 0.0:
        T.start(row, shared, 0.0, 0.0, False)
        return
    if days > 0.0:
        meta[L.TICK] = C.set_phase(meta, -math.inf, meta[L.TICK], seconds)
    limit = P.FINE
    if period > P.FINE / 8.0:
        limit = (P.MIDDLE - 1) * MIDDLE
    if period > P.MIDDLE:
        limit = (P.COARSE - 1) * COARSE
    back = max(1, int(min(found[P.COUNT], limit)))
    if meta[L.TICK] < back - 1.0:
        meta[L.TICK] += period * math.ceil((back - 1.0 - meta[L.TICK]) / period)
        meta[L.TICK] = math.ceil(meta[L.TICK])
    tick = meta[L.TICK]
    T.start(row, shared, period, tick - back + 1.0, keep)
    bound = 4.0 * L.OUTLIER * math.sqrt(max(meta[L.VAR], 0.0))
    last = math.nan
    for b in range(back - 1, -1, -1):
        z = present
        if b > 0:
            kept = _found_value(fine, middle, coarse, found, b)
            z = (kept + found[P.OFFSET] - meta[L.OFFSET]) / meta[L.UNIT]
            if not math.isnan(z):
                z = min(meta[L.MEAN] + bound, max(meta[L.MEAN] - bound, z))
        if not math.isnan(z):
            last = z
        T.learn_tick(row, shared, view, tick - b, z, last)
    renew(row, shared)


@njit(inner=True)
def take(
    row: R.Row,
    shared: R.Shared,
    view: R.View,
    fine: np.ndarray,
    middle: np.ndarray,
    coarse: np.ndarray,
    found: Float64,
    value: float,
    seconds: float,
    interval: float,
    timestamp: float,
    fixed: float,
) -> float:
    """Learn one reading (NaN: missing); returns the ticks it came after the last one."""
    meta = row.meta
    if not math.isfinite(value):
        value = math.nan
    ticks = C.ticks_since(meta, timestamp, interval)
    meta[L.TIME] = timestamp
    if meta[L.COUNT] == 0.0 and math.isnan(value):
        return ticks
    day = C.readings_a_day(seconds, interval)
    week = 7.0 * day if day > 0.0 else math.nan
    hint = day if day > 0.0 else math.nan
    if fixed == 0.0:
        for missing in range(int(min(ticks - 1.0, MOST_MISSING)), -1, -1):
            known = value if missing == 0 else math.nan
            P.observe(fine, middle, coarse, found, known, hint, week)
    z = math.nan
    if not math.isnan(value):
        z = C.take_scale(row, value)
    period = meta[L.PERIOD]
    wanted, days = C.wanted_period(found[P.PERIOD], day, period, meta[L.CLOCK], fixed)
    longest = L.LONGEST_GAP * max(period, 1.0)
    moved = ticks
    if period > 0.0 and ticks > longest:
        moved = ticks - period * math.floor((ticks - longest) / period)
        moved = math.floor(moved + 0.5)
    before = meta[L.TICK]
    if meta[L.COUNT] > 1.0 or math.isnan(z):
        meta[L.TICK] += moved
    if wanted != period or days != meta[L.CLOCK]:
        begin(row, shared, view, fine, middle, coarse, found, wanted, days, seconds, z)
    elif period > 0.0:
        if days > 0.0:
            meta[L.TICK] = C.set_phase(meta, before, meta[L.TICK], seconds)
        if meta[L.TICK] > before:
            T.learn_tick(row, shared, view, meta[L.TICK], z, meta[L.LAST_Z])
    if not math.isnan(z):
        meta[L.REFIT] += 1.0
        if meta[L.REFIT] >= L.REFIT_EVERY:
            meta[L.REFIT] = 0.0
            C.keep_scale(row)
            if meta[L.PERIOD] > 0.0:
                renew(row, shared)
    return ticks


@njit(inner=True)
def renew(row: R.Row, shared: R.Shared) -> None:
    """Solve for the own weights, keep old ones for the fallback's honesty, settle the fallback."""
    meta = row.meta
    if shared.learning:
        H.refit(row, shared)
    if meta[L.CELL] - meta[L.SNAPSHOT] >= L.PERIODS * R.coarse_cells(meta[L.PERIOD]):
        for r in range(row.kept.shape[1]):
            for i in range(L.FEATURES):
                row.kept[0, r, i] = row.kept[1, r, i]
                row.kept[1, r, i] = row.own[L.FINER_ROWS + r, i]
        meta[L.SNAPSHOT] = meta[L.CELL]
    F.settle(row, meta[L.PERIOD])


@njit(nogil=True)
def run(
    rows: Int64,
    values: Float64,
    seconds: Float64,
    interval: Float64,
    timestamps: Int64,
    steps: Int64,
    fixed: float,
    state: R.Row,
    finder: tuple[np.ndarray, np.ndarray, np.ndarray, Float64],
    intervals: tuple[Float64, np.ndarray, Float64],
    residual: M.Residual,
    shared: R.Shared,
    slow: M.ResidualWeights,
    levels: Float64,
    median: Float64,
    quantiles: Float64,
    periods: Float64,
) -> None:
    """Learn N readings in order and write the forecasts that are due.

    rows, values, seconds, interval, timestamps, steps [N] as `MultiStepForecaster.run` has them;
    state, finder, intervals, residual: the arrays of all rows; levels [Q, ...] the intervals'
    level table; median [S], quantiles [Q, S], periods [M]: the forecasts, one after another.
    """
    view = R.new_view()
    x = np.empty(L.FEATURES)
    at_anchors = np.empty(I.ANCHORS, np.int64)
    which = np.empty(I.ANCHORS, np.int64)
    medians = np.empty(I.ANCHORS)
    made = 0
    filled = 0
    for i in range(rows.shape[0]):
        k = rows[i]
        row = R.Row(
            state.meta[k], state.slots[k], state.twins[k], state.visits[k], state.ring[k],
            state.lasts[k], state.sums[k], state.own[k], state.kept[k], state.gate[k],
            state.samples[k],
        )  # fmt: skip
        own = M.Residual(
            residual.memory[k], residual.tail[k], residual.window[k], residual.meta[k],
            residual.head[k], residual.gate[k], residual.pending[k],
        )  # fmt: skip
        meta = row.meta
        ticks = take(
            row, shared, view, finder[0][k], finder[1][k], finder[2][k], finder[3][k],
            values[i], seconds[i], interval[i], float(timestamps[i]), fixed,
        )  # fmt: skip
        waiting, histograms, pending = intervals[0][k], intervals[1][k], intervals[2][k]
        ready = False
        if meta[L.COUNT] > 0.0:
            sd = C.deviation(meta)
            ready = look(row, shared, view)
            if ready and meta[L.PERIOD] > L.COARSE:
                known = math.isfinite(values[i]) and not C.is_lone(meta)
                z = meta[L.LAST_Z] if known else math.nan
                T.sample(row, shared, view, meta[L.TICK], z)
            if ready and slow.active and M.wants(own.meta, meta):
                advance_residual(row, shared, view, own, slow, x)
            if ticks > 1.0:
                I.skip(waiting, pending, int(min(ticks - 1.0, 1e9)))
            I.observe(waiting, histograms, pending, values[i], sd, meta[L.PERIOD])
            count = 0
            for a in range(I.ANCHORS):
                step = I.due(waiting, a)
                if step > 0:
                    at_anchors[count] = step
                    which[count] = a
                    count += 1
            forecast(
                row, shared, view, own, slow.active, ready, at_anchors[:count], x, medians
            )  # fmt: skip
            for a in range(count):
                I.remember(waiting, pending, which[a], medians[a])
        if steps[i] > 0:
            end = filled + steps[i]
            if meta[L.COUNT] == 0.0:
                for step in range(filled, end):
                    median[step] = math.nan
                    for q in range(quantiles.shape[0]):
                        quantiles[q, step] = math.nan
            else:
                ahead = np.arange(1, steps[i] + 1)
                forecast(
                    row, shared, view, own, slow.active, ready, ahead, x, median[filled:end]
                )  # fmt: skip
                W.quantiles(
                    waiting, histograms, sd, levels, median[filled:end], quantiles[:, filled:end]
                )
            periods[made] = meta[L.PERIOD] if ready else math.nan
            made += 1
            filled = end
