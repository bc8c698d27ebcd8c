"""How one series of the multi-step forecaster learns from its stream, compiled by numba.

Two *twins* of the slot memory follow the stream 4 and 30 periods late, fed from the ring of
coarse cells, so that they are what the memory was at an origin whose targets are all in by now.
From them the near and the far bands of the structured head learn. The bands for steps shorter than
a coarse cell learn from sampled forecasts, one under way for each band.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from titans_stream.forecasting.multi import layout
from titans_stream.forecasting.multi.carry import begin_carry
from titans_stream.forecasting.multi.day import begin_day, drop_samples
from titans_stream.forecasting.multi.fallback import (
    errors_of,
    merge,
    merge_cycle,
    scale_errors,
    sum_errors,
)
from titans_stream.forecasting.multi.heads import (
    ENDS,
    add_pair,
    add_pairs,
    band_of,
    sum_pairs,
    weighted,
)
from titans_stream.forecasting.multi.layout import COARSE, FEATURES, FINER_BANDS, RING
from titans_stream.forecasting.multi.levels import believe, believe_longer, take_deviation
from titans_stream.forecasting.multi.longer import (
    DELAYS,
    NO_ROW,
    begin_longer,
    first_row,
    forget_shares,
    learn_longer,
    longer_inputs,
    longer_weighted,
    next_row,
    read_longer,
    write_longer,
)
from titans_stream.forecasting.multi.series import (
    Series,
    Shared,
    View,
    cell_of,
    coarse_cells,
    features,
    fine_cells,
    read_memory,
    write_memory,
)
from titans_stream.forecasting.multi.values import take_cell
from titans_stream.jit import njit
from titans_stream.records import Float32

NEAR, FAR = 0, 1


class Origin(NamedTuple):
    """A coarse cell whose targets `begin` + 1 .. `end` coarse cells later are all known now."""

    twin: int
    """The twin that is what the memory was then."""
    coarse_cell: int
    begin: int
    end: int
    last: float
    """The last reading then; NaN: missing."""
    weight: float
    """How many origins it stands for."""


@njit(inner=True)
def fill(values: Float32, value: float) -> None:
    """values <- value, in place."""
    for i in range(values.shape[0]):
        values[i] = value


@njit(inner=True)
def start(
    series: Series, shared: Shared, period: float, tick: float, keep: bool, same_day: bool
) -> None:
    """Begin anew with a period (0: none); `tick` is the first that will be learned.

    Weights and gates stay, as they are counted in shares of a period: they keep all of what they
    were learned from where the period is nearly the one before (`keep`), else `CARRIED` of it. The
    memory of a day beside the period stays where it is the same (`same_day`).
    """
    meta = series.meta
    begun = False
    for band in range(layout.BANDS):
        for i in range(FEATURES):
            begun = begun or series.own[band, i] != 0.0
    for i in range(2):
        fill(series.memory[i], math.nan)
        fill(series.twins[NEAR, i], math.nan)
        fill(series.twins[FAR, i], math.nan)
    fill(series.ring, math.nan)
    fill(series.lasts, math.nan)
    for p in range(series.visits.shape[0]):
        series.visits[p] = 0
    for p in range(series.rest.shape[0]):
        series.rest[p] = 0
    series.values.usual = series.values.cells = 0.0
    if not keep:
        fill(series.spreads, 0.0)
        fill(series.floors, 0.0)
        series.values.spread = 0.0
    for band in range(layout.BANDS):
        if not begun:
            _begin_band(series, shared, band)
        elif not keep and period > 0.0:
            _weigh(series, band, layout.CARRIED)
    for band in range(FINER_BANDS):
        under_way = series.samples[band]
        fill(under_way.x, 0.0)
        under_way.anchor = under_way.forecast = under_way.latest = under_way.step = 0.0
        meta.due[band] = 0.0
    if meta.day > 0.0:
        if same_day:
            drop_samples(series)
        else:
            begin_day(series)
            forget_shares(series)
    else:
        for copy in range(series.longer.shape[0]):
            fill(series.longer[copy], math.nan)
        if not (begun and keep):
            begin_longer(series, shared)
    begin_carry(series, begun and keep)
    meta.period = period
    meta.fine_sum = meta.fine_count = meta.coarse_sum = meta.coarse_count = 0.0
    if period > 0.0:
        meta.fine_cell = cell_of(tick, fine_cells(period), period)
        meta.started = cell_of(tick, coarse_cells(period), period)
        meta.coarse_cell = meta.started - 1.0
        meta.snapshot = meta.longer_snapshot = meta.started


@njit(inner=True)
def _weigh(series: Series, band: int, factor: float) -> None:
    """Let what a band has been learned from count `factor` of what it did."""
    sums, gate = series.sums[band], series.gate[band]
    for k in range(layout.PRODUCTS):
        sums.products[k] *= factor
    for i in range(FEATURES):
        sums.cross[i] *= factor
    sums.mass *= factor
    scale_errors(gate, factor)
    gate.mass *= factor
    gate.longer_mass *= factor
    gate.cycle_mass *= factor


@njit(inner=True)
def _begin_band(series: Series, shared: Shared, band: int) -> None:
    """The first weights of a band are the shared ones; nothing has been learned."""
    sums, gate = series.sums[band], series.gate[band]
    fill(sums.products, 0.0)
    fill(sums.cross, 0.0)
    sums.mass = gate.mass = gate.share = gate.naive = 0.0
    gate.model = gate.seasonal = gate.seasonal_cross = gate.seasonal_square = 0.0
    gate.repeat = gate.repeat_cross = gate.repeat_square = 0.0
    gate.cycle = gate.cycle_cross = gate.cycle_square = 0.0
    gate.cycle_model = gate.cycle_mass = 0.0
    gate.longer_cross = gate.longer_square = gate.longer_mass = gate.longer = 0.0
    for i in range(FEATURES):
        w = shared.w[band, i]
        series.own[band, i] = w
        if band >= FINER_BANDS:
            series.kept[0, band - FINER_BANDS, i] = w
            series.kept[1, band - FINER_BANDS, i] = w


@njit(inner=True)
def learn_tick(
    series: Series, shared: Shared, view: View, tick: float, z: float, last: float
) -> None:
    """Take the reading z (NaN: missing) of a tick; `last` is the latest reading, z included.

    Ticks come in order; those left out are missing.
    """
    meta = series.meta
    period = meta.period
    fine, coarse = fine_cells(period), coarse_cells(period)
    coarse_cell = cell_of(tick, coarse, period)
    fine_cell = cell_of(tick, fine, period)
    if meta.fine_cell != fine_cell:
        _end_fine(series, shared, fine)
        meta.fine_cell = fine_cell
    before = int(meta.coarse_cell)
    if coarse_cell > before + 1:
        # everything that is left of the stream before a long gap is in the ring and the twins
        for skipped in range(max(before + 1, coarse_cell - 2 * RING), coarse_cell):
            _end_coarse(series, shared, view, skipped, coarse, math.nan)
    if not math.isnan(z):
        meta.last_place = fine_cell % fine
        meta.fine_sum += z
        meta.fine_count += 1.0
        meta.coarse_sum += z
        meta.coarse_count += 1.0
    if cell_of(tick + 1.0, fine, period) != fine_cell:
        _end_fine(series, shared, fine)
    if cell_of(tick + 1.0, coarse, period) != coarse_cell:
        _end_coarse(series, shared, view, coarse_cell, coarse, last)


@njit(inner=True)
def _end_fine(series: Series, shared: Shared, fine: int) -> None:
    """A fine cell is complete: into the slot memory."""
    meta = series.meta
    if meta.fine_count > 0.0:
        value = meta.fine_sum / meta.fine_count
        p = int(meta.fine_cell) % fine
        take_cell(series, p, value, series.memory[1, p])
        take_deviation(series.values, value, series.memory[0, p], fine)
        write_memory(series.memory, series.visits, 0, p, value, shared.memory)
        meta.fine_sum = meta.fine_count = 0.0


@njit(inner=True)
def _end_coarse(
    series: Series, shared: Shared, view: View, coarse_cell: int, cells: int, last: float
) -> None:
    """A coarse cell is complete: into the ring; the twins move on by one, and learning is due."""
    meta = series.meta
    value = math.nan
    if meta.coarse_count > 0.0:
        value = meta.coarse_sum / meta.coarse_count
        meta.coarse_sum = meta.coarse_count = 0.0
    series.ring[coarse_cell % RING] = value
    usual = series.values.usual
    if not math.isnan(value):
        write_longer(series, 0, coarse_cell, cells, value)
        moved = believe(series.memory, fine_cells(meta.period), usual)
        if moved != 0.0:
            series.values.jumped = moved
        believe_longer(series, 0, coarse_cell, cells)
    present = math.nan if math.isnan(value) else last
    meta.coarse_cell = coarse_cell
    near = layout.NEAR_EVERY if cells % 11 else layout.NEAR_EVERY_11
    far = layout.FAR_EVERY if cells % 5 else layout.FAR_EVERY_5
    if coarse_cell % near == 0:
        series.lasts[(coarse_cell // near) % layout.NEAR_LASTS] = present
    if coarse_cell % far == 0:
        series.lasts[layout.NEAR_LASTS + (coarse_cell // far) % layout.FAR_LASTS] = present
    if meta.cycle > 0.0:
        for copy in range(1, len(DELAYS)):
            _advance_longer(series, view, copy, coarse_cell, cells)
    for twin in range(2):
        delay = (layout.NEAR_PERIODS if twin == NEAR else layout.PERIODS) * cells
        origin = coarse_cell - delay
        if origin < meta.started:
            continue
        entering = series.ring[origin % RING]
        if not math.isnan(entering):
            first = layout.FINE + twin * COARSE
            p = origin % cells
            write_memory(series.twins[twin], series.visits, first, p, entering, shared.memory)
            believe(series.twins[twin], cells, usual)
        every = near if twin == NEAR else far
        if origin % every == 0 and origin - meta.started >= layout.READY_PERIODS * cells:
            at = (origin // every) % (layout.NEAR_LASTS if twin == NEAR else layout.FAR_LASTS)
            then = series.lasts[at if twin == NEAR else layout.NEAR_LASTS + at]
            begin = 0 if twin == NEAR else layout.NEAR_PERIODS * cells
            matured = Origin(twin, origin, begin, delay, then, float(every))
            _mature(series, shared, view, matured, cells)


@njit(inner=True)
def _advance_longer(series: Series, view: View, copy: int, coarse_cell: int, cells: int) -> None:
    """Move a late copy of the longer cycle's memory on by one cell, and learn where that is due."""
    origin = coarse_cell - DELAYS[copy] * cells
    if origin < series.meta.started:
        return
    entering = series.ring[origin % RING]
    if not math.isnan(entering):
        write_longer(series, copy, origin, cells, entering)
        believe_longer(series, copy, origin, cells)
    if copy < len(DELAYS) - 1:
        every = layout.NEAR_EVERY if cells % 11 else layout.NEAR_EVERY_11
        at = (origin // every) % layout.NEAR_LASTS
    else:
        every = layout.FAR_EVERY if cells % 5 else layout.FAR_EVERY_5
        at = layout.NEAR_LASTS + (origin // every) % layout.FAR_LASTS
    if origin % every == 0:
        learn_longer(series, view, copy, origin, cells, series.lasts[at], float(every))


@njit(inner=True)
def _mature(series: Series, shared: Shared, view: View, origin: Origin, cells: int) -> None:
    """Learn from the targets of an origin, band by band."""
    at = origin.coarse_cell
    if not read_memory(series.twins[origin.twin], cells, origin.last, at % cells, view):
        return
    level = view.levels[0].level
    has_longer = series.meta.cycle > 0.0 and read_longer(
        series, 2 + origin.twin, at, cells, level, origin.last, at, 0.0, view
    )
    kept = series.kept[1 if at >= series.meta.snapshot else 0]
    levels = view.levels[0]
    shift = levels.level - levels.centre
    # the steps below a coarse cell have bands of their own where a coarse cell is many readings
    split = series.meta.period > COARSE
    pairs, sums = view.pairs, view.sums
    place, p = (at + origin.begin) % RING, (at + origin.begin) % cells
    k = origin.begin
    while k < origin.end:
        band = band_of((k + 1.0) * COARSE / cells)
        w = kept[band - FINER_BANDS]
        reach = int(math.floor((ENDS[band - FINER_BANDS] + 1e-9) * cells / COARSE))
        last_step = min(origin.end, reach)
        width = last_step - k
        n = 0
        longer = series.longer_own[2, band - FINER_BANDS]
        row = first_row(view, at + k + 1) if has_longer else NO_ROW
        while k < last_step:
            k += 1
            here = row
            if has_longer:
                row = next_row(view, row)
            place = place + 1 if place < RING - 1 else 0
            p = p + 1 if p < cells - 1 else 0
            value = series.ring[place]
            if math.isnan(value):
                continue
            memory = view.memory[p]
            latest = view.latest[p]
            anchor = memory + shift
            pairs.value[n] = value
            pairs.anchor[n] = anchor
            pairs.memory[n] = memory
            pairs.latest[n] = latest
            model = anchor + w[0] * (latest - anchor) + w[1] * (memory - anchor)
            model += w[2] * levels.now + w[3] * (levels.level - anchor)
            pairs.head[n] = model
            # the steps below a coarse cell have no part in it, as they have none in forecasts
            pairs.longer[n] = model
            if has_longer:
                ago = series.ring[here.week]
                pairs.cycle[n] = latest if math.isnan(ago) else ago
            if has_longer and not (split and k == 1):
                base = longer_inputs(series, view, here)
                pairs.longer[n] = base + longer_weighted(longer, view.longer_x)
            n += 1
        if n > 0:
            # a band's steps count as one origin together
            weight = origin.weight / width
            sum_pairs(pairs, n, levels.level, levels.now, sums)
            add_pairs(series.sums[band], sums, n, weight)
            if shared.fallback or has_longer:
                gate = series.gate[band]
                errors = sum_errors(pairs, n, gate.longer, has_longer, origin.last)
                end = layout.ENDS[band - FINER_BANDS] * cells / COARSE
                half_life = max(layout.FALLBACK_HALF_LIFE * cells, 3.0 * end)
                merge(gate, errors, weight, 0.5 ** (origin.weight / half_life))
                if has_longer:
                    half_life = max(layout.CYCLE_HALF_LIFE * cells, 3.0 * end)
                    merge_cycle(gate, errors, weight, 0.5 ** (origin.weight / half_life))


@njit(inner=True)
def sample(series: Series, view: View, tick: float, z: float, fallback: bool) -> None:
    """Bands below a coarse cell: learn where a sampled forecast is due, then begin the next."""
    meta = series.meta
    period = meta.period
    fine = fine_cells(period)
    x = view.x
    band = FINER_BANDS - 1
    end = 0.5 * period / COARSE
    while band >= 0 and end >= 1.0 - 1e-9:
        under_way = series.samples[band]
        due = meta.due[band]
        if due <= tick and not math.isnan(z):
            if due == tick:
                anchor = under_way.anchor
                for i in range(FEATURES):
                    x[i] = under_way.x[i]
                add_pair(series.sums[band], x, z - anchor)
                if fallback:
                    seasonal = anchor + under_way.x[0]
                    errors = errors_of(z, under_way.forecast, seasonal, under_way.latest)
                    half_life = layout.FALLBACK_HALF_LIFE * period / max(1.0, math.floor(end))
                    merge(series.gate[band], errors, 1.0, 0.5 ** (1.0 / half_life))
            first, last = int(math.floor(0.5 * end + 1e-9)) + 1, int(math.floor(end + 1e-9))
            first = min(first, last)
            step = int(under_way.step) + 1
            if step > last or step < first:
                step = first
            p = cell_of(tick + step, fine, period) % fine
            anchor = features(view, p, x)
            for i in range(FEATURES):
                under_way.x[i] = x[i]
            under_way.anchor = anchor
            under_way.forecast = anchor + weighted(series.own[band], x)
            under_way.latest = view.levels[0].last
            under_way.step = step
            meta.due[band] = tick + step
        band -= 1
        end *= 0.5
