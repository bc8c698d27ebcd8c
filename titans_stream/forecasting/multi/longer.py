"""The longer cycle of one series, a week beside a day, compiled by numba.

A memory of the longer cycle holds a value for each of its coarse cells, a linear Titans memory
with one-hot keys as the slot memory is. At an origin k, with l the mean of the last period and
L the memory's mean over the same cells, its anchor is W[c] + l - L: the shape comes from the
longer cycle, the level from the last period. The *longer head* has eight weights for each band,
own ones of every series, and its forecast is anchor + w . x with x = [reading a period ago -
anchor; reading two periods ago - anchor; last reading - anchor of its own cell; l - anchor;
reading a cycle ago, shifted by what the level has changed since, - anchor; that change; the last
reading less the one a cycle before, less that change; last reading - the one a period before].
The share of this head in the forecast is what matured errors ask for.

The memory has copies that are 2, 4 and 30 periods late: what it was at origins whose targets are
all in by now. The bands of the first two periods learn from the first, the next two from the
second, the others from the last; all other inputs come from the ring of coarse cells.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from titans_stream.forecasting.multi import layout
from titans_stream.forecasting.multi.heads import ENDS, band_of, solve
from titans_stream.forecasting.multi.layout import FINER_BANDS, LONGER_FEATURES, RING, LongerSums
from titans_stream.forecasting.multi.series import Inputs, InputSums, Series, Shared, View
from titans_stream.jit import ASSOCIATIVE, njit, scratch
from titans_stream.records import Float64

DELAYS = (0, 2, layout.NEAR_PERIODS, layout.PERIODS)
"""Periods that the copies of the memory are late."""

MOST = 3.0
"""Largest weight, and the least is as far below 0: of a stretch in which hardly anything differs,
weights of ten and more can be learned, and what comes after it does differ."""

_system = scratch((LONGER_FEATURES, LONGER_FEATURES))
_right = scratch(LONGER_FEATURES)

VARIES = (0, 1, -1, 2, 3, -1, -1, -1)
"""Which of the inputs that differ between the targets of an origin (`Inputs`) each one is."""


@njit(inner=True)
def write_longer(series: Series, copy: int, coarse_cell: int, cells: int, value: float) -> None:
    """One step of a copy of the memory with the mean of a coarse cell; `cells` a period."""
    meta = series.meta
    if meta.cycle == 0.0:
        return
    length = cells * int(meta.cycle)
    memory = series.longer[copy]
    p = coarse_cell % length
    before = memory[p]
    if math.isnan(before):
        memory[p] = value
        return
    seen = (coarse_cell - int(meta.started)) // length + 1.0
    memory[p] += max(layout.LONGER_RATE, 1.0 / seen) * (value - before)


@njit(inner=True)
def read_longer(
    series: Series, copy: int, origin: int, cells: int, level: float, last: float, own: int,
    detail: float, view: View,
) -> bool:  # fmt: skip
    """What an origin, the last complete coarse cell, says -> view.longer; False: too little.

    `level` is the mean of the last period, NaN: it is taken from the ring; `last` the last reading,
    in coarse cell `own`, and `detail` what the slot memory says of its fine cell beside that.
    """
    meta, found = series.meta, view.longer[0]
    found.ready = 0.0
    if meta.cycle == 0.0 or math.isnan(last):
        return False
    length = cells * int(meta.cycle)
    if origin - meta.started < length + cells:
        return False
    memory = series.longer[copy]
    p, late, before = origin % length, origin % RING, (origin - length) % RING
    mean, ago, near, known, present, here = 0.0, 0.0, 0.0, 0, 0, 0
    for _ in range(cells):
        if not math.isnan(memory[p]):
            mean += memory[p]
            present += 1
        if not math.isnan(series.ring[before]):
            ago += series.ring[before]
            known += 1
        if not math.isnan(series.ring[late]):
            near += series.ring[late]
            here += 1
        p = p - 1 if p > 0 else length - 1
        before = before - 1 if before > 0 else RING - 1
        late = late - 1 if late > 0 else RING - 1
    if 2 * present < cells or 2 * here < cells:
        return False
    if math.isnan(level):
        level = near / here
    found.copy, found.origin, found.length, found.cells = copy, origin, length, cells
    found.level = level
    found.shift = level - mean / present
    found.change = level - ago / known if 2 * known >= cells else 0.0
    anchor = memory[own % length]
    found.now = 0.0 if math.isnan(anchor) else last - (anchor + found.shift + detail)
    then = series.ring[(own - length) % RING]
    found.since = 0.0 if math.isnan(then) else last - then - detail - found.change
    then = series.ring[(own - cells) % RING]
    found.today = 0.0 if math.isnan(then) else last - then - detail
    found.ready = 1.0
    return True


class Row(NamedTuple):
    """Where what is known of a target lies."""

    day: int
    """In the ring, the last known coarse cells that lie whole periods, whole periods and one more,
    and whole cycles before it."""
    days: int
    week: int
    place: int
    """In the ring, and in the memory of the cycle, the target itself."""
    p: int


NO_ROW = Row(0, 0, 0, 0, 0)


@njit(inline="always")
def _ago(coarse_cell: int, origin: int, length: int) -> int:
    back = max(1, (coarse_cell - origin + length - 1) // length)
    return (coarse_cell - back * length) % RING


@njit(inner=True)
def first_row(view: View, coarse_cell: int) -> Row:
    """The row of a target's coarse cell."""
    found = view.longer[0]
    length, origin, cells = int(found.length), int(found.origin), int(found.cells)
    return Row(
        _ago(coarse_cell, origin, cells),
        _ago(coarse_cell - cells, origin - cells, cells),
        _ago(coarse_cell, origin, length),
        coarse_cell % RING,
        coarse_cell % length,
    )


@njit(inline="always")
def _next(place: int, last: int, length: int) -> int:
    """The place after one in the ring, where the last `length` ones up to `last` come in turn."""
    after = place + 1 if place != last else last - length + 1
    if after < 0:
        return after + RING
    return after if after < RING else 0


@njit(inline="always")
def next_row(view: View, row: Row) -> Row:
    """The row of the coarse cell after a target's."""
    found = view.longer[0]
    length, origin, cells = int(found.length), int(found.origin) % RING, int(found.cells)
    before = origin - cells if origin >= cells else origin - cells + RING
    return Row(
        _next(row.day, origin, cells),
        _next(row.days, before, cells),
        _next(row.week, origin, length),
        row.place + 1 if row.place < RING - 1 else 0,
        row.p + 1 if row.p < length - 1 else 0,
    )


@njit(inner=True)
def cycle_ago(series: Series, view: View, coarse_cell: int) -> float:
    """The mean of a target's coarse cell whole cycles ago, NaN where that is missing."""
    found = view.longer[0]
    value: float = series.ring[_ago(coarse_cell, int(found.origin), int(found.length))]
    return value


@njit(inline="always")
def longer_inputs(series: Series, view: View, row: Row) -> float:
    """Inputs of the longer head for a target's coarse cell -> view.longer_x; returns its anchor."""
    found, x = view.longer[0], view.longer_x
    day, days, week = series.ring[row.day], series.ring[row.days], series.ring[row.week]
    level = found.level
    anchor: float = series.longer[int(found.copy), row.p]
    anchor = level if math.isnan(anchor) else anchor + found.shift
    x[0] = 0.0 if math.isnan(day) else day - anchor
    x[1] = 0.0 if math.isnan(days) else days - anchor
    x[2] = found.now
    x[3] = level - anchor
    x[4] = 0.0 if math.isnan(week) else week + found.change - anchor
    x[5] = found.change
    x[6] = found.since
    x[7] = found.today
    return anchor


@njit(inner=True)
def longer_features(series: Series, view: View, coarse_cell: int, detail: float) -> float:
    """`longer_inputs` of any coarse cell; returns the anchor of a fine cell in it, of which the
    slot memory says `detail` beside the coarse one."""
    return longer_inputs(series, view, first_row(view, coarse_cell)) + detail


@njit(inline="always")
def longer_weighted(w: Float64, x: Float64) -> float:
    """w . x of the longer head."""
    total: float = w[0] * x[0] + w[1] * x[1] + w[2] * x[2] + w[3] * x[3]
    total += w[4] * x[4] + w[5] * x[5] + w[6] * x[6] + w[7] * x[7]
    return total


@njit(inner=True)
def learn_longer(
    series: Series, view: View, copy: int, origin: int, cells: int, last: float, weight: float
) -> None:
    """Learn from the targets of an origin that is as late as a copy of the memory, but for those
    that an earlier copy has learned from. The origin counts `weight`."""
    if not read_longer(series, copy, origin, cells, math.nan, last, origin, 0.0, view):
        return
    split = series.meta.period > layout.COARSE
    k, end = DELAYS[copy - 1] * cells, DELAYS[copy] * cells
    while k < end:
        band = band_of((k + 1.0) * layout.COARSE / cells) - FINER_BANDS
        reach = min(end, int(math.floor((ENDS[band] + 1e-9) * cells / layout.COARSE)))
        share = weight / (reach - k)
        # the steps below a coarse cell have no part in it, as they have none in forecasts
        first = k + 2 if split and k == 0 else k + 1
        n = _gather(series, view, origin + first, reach + 1 - first)
        if n > 0:
            _add(series.longer_sums[band], view, n, share)
        k = reach


@njit(inner=True)
def _gather(series: Series, view: View, target: int, count: int) -> int:
    """Inputs of `count` coarse cells from `target` on, but for missing ones, -> view.inputs; how
    many there are."""
    inputs, x = view.inputs, view.longer_x
    row = first_row(view, target)
    n = 0
    for _ in range(count):
        value = series.ring[row.place]
        if not math.isnan(value):
            anchor = longer_inputs(series, view, row)
            inputs.day[n], inputs.days[n], inputs.level[n], inputs.cycle[n] = x[0], x[1], x[3], x[4]
            inputs.residual[n] = value - anchor
            n += 1
        row = next_row(view, row)
    return n


@njit(inner=True, fastmath=ASSOCIATIVE)
def _sum_inputs(inputs: Inputs, n: int, out: InputSums) -> None:
    """The sums of n targets -> out."""
    a, b, c, d, e = 0.0, 0.0, 0.0, 0.0, 0.0
    aa, ab, ac, ad, ae, bb, bc, bd, be = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    cc, cd, ce, dd, de = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        one, two, three, four = inputs.day[i], inputs.days[i], inputs.level[i], inputs.cycle[i]
        residual = inputs.residual[i]
        a += one
        b += two
        c += three
        d += four
        e += residual
        aa += one * one
        ab += one * two
        ac += one * three
        ad += one * four
        ae += one * residual
        bb += two * two
        bc += two * three
        bd += two * four
        be += two * residual
        cc += three * three
        cd += three * four
        ce += three * residual
        dd += four * four
        de += four * residual
    sums, squares, cross = out
    sums[0], sums[1], sums[2], sums[3], sums[4] = a, b, c, d, e
    cross[0], cross[1], cross[2], cross[3] = ae, be, ce, de
    squares[0, 0], squares[0, 1], squares[0, 2], squares[0, 3] = aa, ab, ac, ad
    squares[1, 1], squares[1, 2], squares[1, 3] = bb, bc, bd
    squares[2, 2], squares[2, 3], squares[3, 3] = cc, cd, dd


@njit(inner=True)
def _add(target: LongerSums, view: View, n: int, weight: float) -> None:
    """Learn the n targets of view.inputs, each of which counts `weight`."""
    _sum_inputs(view.inputs, n, view.input_sums)
    sums, squares, cross = view.input_sums
    x = view.longer_x  # of the last target: what does not vary is the same for all
    k = 0
    for i in range(LONGER_FEATURES):
        one = VARIES[i]
        for j in range(i, LONGER_FEATURES):
            two = VARIES[j]
            if one >= 0 and two >= 0:
                product = squares[one, two]
            elif one >= 0:
                product = sums[one] * x[j]
            elif two >= 0:
                product = sums[two] * x[i]
            else:
                product = n * x[i] * x[j]
            target.products[k] += weight * product
            k += 1
        target.cross[i] += weight * (cross[one] if one >= 0 else sums[4] * x[i])
    target.mass += weight * n


@njit(inner=True)
def begin_longer(series: Series, shared: Shared) -> None:
    """Forget what was learned of a longer cycle."""
    forget_shares(series)
    for band in range(len(layout.ENDS)):
        sums = series.longer_sums[band]
        for k in range(layout.LONGER_PRODUCTS):
            sums.products[k] = 0.0
        for i in range(LONGER_FEATURES):
            sums.cross[i] = 0.0
            for copy in range(3):
                series.longer_own[copy, band, i] = prior_weight(shared, band, i)
        sums.mass = 0.0


@njit(inner=True)
def forget_shares(series: Series) -> None:
    """Forget how far forecasts follow a longer cycle: its head, and its repetition."""
    for band in range(len(layout.ENDS)):
        gate = series.gate[FINER_BANDS + band]
        gate.longer_cross = gate.longer_square = gate.longer_mass = gate.longer = 0.0
        gate.cycle = gate.cycle_cross = gate.cycle_square = 0.0
        gate.cycle_model = gate.cycle_mass = 0.0


@njit(inline="always")
def prior_weight(shared: Shared, band: int, i: int) -> float:
    """A weight of the longer head before anything was learned: the fading of the last reading is
    that of the structured head."""
    weight: float = layout.LONGER_PRIOR[i]
    return weight * shared.w[FINER_BANDS + band, 2] if i == 2 else weight


@njit(inner=True)
def refit_longer(series: Series, shared: Shared) -> None:
    """The own weights of the longer head from its sums, and copies of older ones."""
    if series.meta.cycle > 0.0 and series.meta.variance > 0.0:
        _refit(series, shared, _system(), _right())


@njit(inner=True)
def _refit(series: Series, shared: Shared, system: Float64, right: Float64) -> None:
    meta = series.meta
    for band in range(len(layout.ENDS)):
        sums = series.longer_sums[band]
        if sums.mass <= 0.0:
            continue
        share = layout.LONGER_RIDGE + layout.LONGER_ORIGINS / sums.mass
        k = 0
        for i in range(LONGER_FEATURES):
            right[i] = sums.cross[i]
            for j in range(i, LONGER_FEATURES):
                system[i, j] = system[j, i] = sums.products[k]
                k += 1
        least = layout.LONGER_LEAST * sums.mass * meta.variance
        for i in range(LONGER_FEATURES):
            held = share * (system[i, i] + least)
            system[i, i] += held
            right[i] += held * prior_weight(shared, band, i)
        if solve(system, right):
            for i in range(LONGER_FEATURES):
                series.longer_own[0, band, i] = min(MOST, max(-MOST, right[i]))
    cells = layout.NEAR_PERIODS * min(layout.COARSE, math.floor(meta.period + 1e-9))
    if meta.coarse_cell - meta.longer_snapshot >= cells:
        for band in range(len(layout.ENDS)):
            for i in range(LONGER_FEATURES):
                series.longer_own[2, band, i] = series.longer_own[1, band, i]
                series.longer_own[1, band, i] = series.longer_own[0, band, i]
        meta.longer_snapshot = meta.coarse_cell


@njit(inner=True)
def longer_is_used(series: Series) -> bool:
    """Whether forecasts follow the longer head by more than a trifle at some steps."""
    most = 0.0
    for band in range(FINER_BANDS, layout.BANDS):
        most = max(most, series.gate[band].longer)
    used: bool = series.meta.cycle > 0.0 and most > layout.LONGER_TRIFLE
    return used
