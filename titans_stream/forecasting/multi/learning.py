"""How one row of the multi-step forecaster learns from its stream, compiled by numba.

Two *twins* of the slot memory follow the stream 4 and 30 periods late, fed from the ring of
coarse cells, so that they are what the memory was at an origin whose targets are all in by now.
From them the near and the far rows of the structured head learn. The rows for steps shorter than
a coarse cell learn from sampled forecasts, one under way for each row.
"""

from __future__ import annotations

import math

import numpy as np

from titans_stream.forecasting.multi import fallback as F
from titans_stream.forecasting.multi import heads as H
from titans_stream.forecasting.multi import layout as L
from titans_stream.forecasting.multi import rows as R
from titans_stream.jit import njit
from titans_stream.records import Float64

NEAR, FAR = 0, 1


@njit(inner=True)
def fill(values: Float64, value: float) -> None:
    """values <- value, in place."""
    for i in range(values.shape[0]):
        values[i] = value


@njit(inner=True)
def start(row: R.Row, shared: R.Shared, period: float, tick: float, keep: bool) -> None:
    """Begin anew with a period (0: none); `tick` is the first that will be learned.

    Weights and gates stay, as they are counted in shares of a period: they keep all of what they
    were learned from where the period is nearly the one before (`keep`), else `CARRIED` of it.
    """
    meta = row.meta
    begun = False
    for r in range(L.ROWS):
        for i in range(L.FEATURES):
            begun = begun or row.own[r, i] != 0.0
    for i in range(2):
        fill(row.slots[i], math.nan)
        fill(row.twins[NEAR, i], math.nan)
        fill(row.twins[FAR, i], math.nan)
    fill(row.ring, math.nan)
    fill(row.lasts, math.nan)
    for p in range(row.visits.shape[0]):
        row.visits[p] = 0
    if begun and not keep and period > 0.0:
        for r in range(L.ROWS):
            for k in range(L.SUMS):
                row.sums[r, k] *= L.CARRIED
            for k in range(L.GATE_MASS + 1):
                row.gate[r, k] *= L.CARRIED
    for r in range(0 if begun else L.ROWS):
        fill(row.sums[r], 0.0)
        fill(row.gate[r], 0.0)
        row.gate[r, L.OTHER] = L.OTHER_START
        for i in range(L.FEATURES):
            row.own[r, i] = shared.w[r, i]
            if r >= L.FINER_ROWS:
                row.kept[0, r - L.FINER_ROWS, i] = row.kept[1, r - L.FINER_ROWS, i] = shared.w[r, i]
    for r in range(L.FINER_ROWS):
        fill(row.samples[r], 0.0)
        meta[L.DUE + r] = 0.0
    meta[L.PERIOD] = period
    meta[L.FINE_SUM] = meta[L.FINE_COUNT] = meta[L.COARSE_SUM] = meta[L.COARSE_COUNT] = 0.0
    if period > 0.0:
        meta[L.FINE_CELL] = R.cell_of(tick, R.fine_cells(period), period)
        meta[L.STARTED] = R.cell_of(tick, R.coarse_cells(period), period)
        meta[L.CELL] = meta[L.STARTED] - 1.0
        meta[L.SNAPSHOT] = meta[L.STARTED]


@njit(inner=True)
def learn_tick(
    row: R.Row, shared: R.Shared, view: R.View, tick: float, z: float, last: float
) -> None:
    """Take the reading z (NaN: missing) of a tick; `last` is the latest reading, z included.

    Ticks come in order; those left out are missing.
    """
    meta = row.meta
    period = meta[L.PERIOD]
    fine, coarse = R.fine_cells(period), R.coarse_cells(period)
    cell = R.cell_of(tick, coarse, period)
    fine_cell = R.cell_of(tick, fine, period)
    if meta[L.FINE_CELL] != fine_cell:
        _end_fine(row, shared, fine)
        meta[L.FINE_CELL] = fine_cell
    before = int(meta[L.CELL])
    if cell > before + 1:
        # everything that is left of the stream before a long gap is in the ring and the twins
        for skipped in range(max(before + 1, cell - 2 * L.RING), cell):
            _end_coarse(row, shared, view, skipped, coarse, math.nan)
    if not math.isnan(z):
        meta[L.LAST_PLACE] = fine_cell % fine
        meta[L.FINE_SUM] += z
        meta[L.FINE_COUNT] += 1.0
        meta[L.COARSE_SUM] += z
        meta[L.COARSE_COUNT] += 1.0
    if R.cell_of(tick + 1.0, fine, period) != fine_cell:
        _end_fine(row, shared, fine)
    if R.cell_of(tick + 1.0, coarse, period) != cell:
        _end_coarse(row, shared, view, cell, coarse, last)


@njit(inner=True)
def _end_fine(row: R.Row, shared: R.Shared, fine: int) -> None:
    meta = row.meta
    if meta[L.FINE_COUNT] > 0.0:
        value = meta[L.FINE_SUM] / meta[L.FINE_COUNT]
        p = int(meta[L.FINE_CELL]) % fine
        R.write_slot(row.slots, row.visits, 0, p, value, shared.memory)
        meta[L.FINE_SUM] = meta[L.FINE_COUNT] = 0.0


@njit(inner=True)
def _end_coarse(
    row: R.Row, shared: R.Shared, view: R.View, cell: int, cells: int, last: float
) -> None:
    """A coarse cell is complete: into the ring; the twins move on by one, and learning is due."""
    meta = row.meta
    value = np.nan
    if meta[L.COARSE_COUNT] > 0.0:
        value = meta[L.COARSE_SUM] / meta[L.COARSE_COUNT]
        meta[L.COARSE_SUM] = meta[L.COARSE_COUNT] = 0.0
    row.ring[cell % L.RING] = value
    present = math.nan if math.isnan(value) else last
    meta[L.CELL] = cell
    near = L.NEAR_EVERY if cells % 11 else L.NEAR_EVERY_11
    far = L.FAR_EVERY if cells % 5 else L.FAR_EVERY_5
    if cell % near == 0:
        row.lasts[(cell // near) % L.NEAR_LASTS] = present
    if cell % far == 0:
        row.lasts[L.NEAR_LASTS + (cell // far) % L.FAR_LASTS] = present
    for twin in range(2):
        delay = (L.NEAR_PERIODS if twin == NEAR else L.PERIODS) * cells
        origin = cell - delay
        if origin < meta[L.STARTED]:
            continue
        entering = row.ring[origin % L.RING]
        p = origin % cells
        if not math.isnan(entering):
            first = L.FINE + twin * L.COARSE
            R.write_slot(row.twins[twin], row.visits, first, p, entering, shared.memory)
        every = near if twin == NEAR else far
        if origin % every == 0 and origin - meta[L.STARTED] >= L.READY_PERIODS * cells:
            at = (origin // every) % (L.NEAR_LASTS if twin == NEAR else L.FAR_LASTS)
            then = row.lasts[at if twin == NEAR else L.NEAR_LASTS + at]
            begin = 0 if twin == NEAR else L.NEAR_PERIODS * cells
            _mature(row, shared, view, twin, origin, begin, delay, cells, then, float(every))


@njit(inner=True)
def _mature(
    row: R.Row,
    shared: R.Shared,
    view: R.View,
    twin: int,
    origin: int,
    begin: int,
    end: int,
    cells: int,
    last: float,
    weight: float,
) -> None:
    """Learn from the targets `begin` + 1 .. `end` coarse cells after an origin."""
    if not R.read_slots(row.twins[twin], cells, last, origin % cells, view):
        return
    if shared.shared_head:
        R.read_window(row.ring, origin, cells, cells, view)
    kept = row.kept[1 if origin >= row.meta[L.SNAPSHOT] else 0]
    shift = view.numbers[R.LEVEL] - view.numbers[R.CENTRE]
    split = row.meta[L.PERIOD] > L.COARSE
    pairs = np.empty((L.PAIR, L.WIDEST))
    sums = np.zeros(L.SUMS)
    errors = np.zeros(L.GATE)
    place, p = (origin + begin) % L.RING, (origin + begin) % cells
    k = begin
    while k < end:
        r = H.row_of((k + 1.0) * L.COARSE / cells)
        w = kept[r - L.FINER_ROWS]
        last_step = min(end, int(math.floor((H.ENDS[r - L.FINER_ROWS] + 1e-9) * cells / L.COARSE)))
        width = last_step - k
        n = 0
        while k < last_step:
            k += 1
            place = place + 1 if place < L.RING - 1 else 0
            p = p + 1 if p < cells - 1 else 0
            value = row.ring[place]
            if math.isnan(value):
                continue
            slot = view.slots[p]
            latest = view.latest[p]
            anchor = slot + shift
            pairs[L.VALUE, n] = value
            pairs[L.ANCHOR_OF, n] = anchor
            pairs[L.SLOT_OF, n] = slot
            pairs[L.LATEST_OF, n] = latest
            model = anchor + w[0] * (latest - anchor) + w[1] * (slot - anchor)
            model += w[2] * view.numbers[R.NOW] + w[3] * (view.numbers[R.LEVEL] - anchor)
            pairs[L.HEAD_OF, n] = model
            pairs[L.OTHER_OF, n] = model
            if shared.shared_head and not (split and k == 1):
                j = int(math.floor(k * L.COARSE / cells + 0.5))
                read = H.shared_read(shared.window, view.inputs, j)
                pairs[L.OTHER_OF, n] = view.numbers[R.BASE] + read
            n += 1
        if n > 0:
            H.sum_pairs(pairs, n, view.numbers[R.LEVEL], view.numbers[R.NOW], sums)
            if shared.fallback or shared.shared_head:
                F.add_matured(pairs, n, row.gate[r, L.OTHER], last, errors)
            _flush(row, r, sums, errors, width, weight, cells)


@njit(inner=True)
def _flush(
    row: R.Row,
    r: int,
    sums: Float64,
    errors: Float64,
    width: int,
    weight: float,
    cells: int,
) -> None:
    """Means over the steps of a row of the heads into its sums."""
    for k in range(L.SUMS):
        row.sums[r, k] += weight / width * sums[k]
    if errors[L.GATE_MASS] > 0.0:
        end = L.ENDS[r - L.FINER_ROWS] * cells / L.COARSE
        half_life = max(L.FALLBACK_HALF_LIFE * cells, 3.0 * end)
        F.merge(row.gate[r], errors, weight / width, 0.5 ** (weight / half_life))


@njit(inner=True)
def sample(row: R.Row, shared: R.Shared, view: R.View, tick: float, z: float) -> None:
    """Rows below a coarse cell: learn where a sampled forecast is due, then begin the next."""
    meta = row.meta
    period = meta[L.PERIOD]
    cell = period / L.COARSE
    fine = R.fine_cells(period)
    x = np.empty(L.FEATURES)
    r = L.FINER_ROWS - 1
    end = 0.5 * cell
    while r >= 0 and end >= 1.0 - 1e-9:
        own = row.samples[r]
        due = meta[L.DUE + r]
        if due <= tick and not math.isnan(z):
            if due == tick:
                sums = np.zeros(L.SUMS)
                for i in range(L.FEATURES):
                    x[i] = own[i]
                H.add_pair(sums, x, z - own[L.SAMPLE_ANCHOR])
                for k in range(L.SUMS):
                    row.sums[r, k] += sums[k]
                if shared.fallback:
                    errors = np.zeros(L.GATE)
                    anchor = own[L.SAMPLE_ANCHOR]
                    F.add_errors(
                        errors, z, own[L.SAMPLE_FORECAST], anchor + own[0], own[L.SAMPLE_LATEST]
                    )
                    half_life = L.FALLBACK_HALF_LIFE * period / max(1.0, math.floor(end))
                    F.merge(row.gate[r], errors, 1.0, 0.5 ** (1.0 / half_life))
            first, last = int(math.floor(0.5 * end + 1e-9)) + 1, int(math.floor(end + 1e-9))
            first = min(first, last)
            step = int(own[L.SAMPLE_STEP]) + 1
            if step > last or step < first:
                step = first
            p = R.cell_of(tick + step, fine, period) % fine
            anchor = R.features(view, p, x)
            for i in range(L.FEATURES):
                own[i] = x[i]
            own[L.SAMPLE_ANCHOR] = anchor
            own[L.SAMPLE_FORECAST] = anchor + H.weighted(row.own[r], x)
            own[L.SAMPLE_LATEST] = view.numbers[R.LATEST]
            own[L.SAMPLE_STEP] = step
            meta[L.DUE + r] = tick + step
        r -= 1
        end *= 0.5
