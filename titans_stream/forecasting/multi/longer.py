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

from titans_stream.forecasting.multi import layout
from titans_stream.forecasting.multi.heads import ENDS, band_of, solve
from titans_stream.forecasting.multi.layout import FINER_BANDS, LONGER_FEATURES, RING, LongerSums
from titans_stream.forecasting.multi.series import Series, Shared, View
from titans_stream.jit import njit, scratch
from titans_stream.records import Float64

DELAYS = (0, 2, layout.NEAR_PERIODS, layout.PERIODS)
"""Periods that the copies of the memory are late."""

_system = scratch((LONGER_FEATURES, LONGER_FEATURES))
_right = scratch(LONGER_FEATURES)


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
    seen = (coarse_cell - meta.started) // length + 1.0
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


@njit(inline="always")
def _ago(series: Series, coarse_cell: int, origin: int, length: int) -> float:
    """The mean of the last known coarse cell that lies whole `length`s before one that is not."""
    back = max(1, (coarse_cell - origin + length - 1) // length)
    value: float = series.ring[(coarse_cell - back * length) % RING]
    return value


@njit(inner=True)
def cycle_ago(series: Series, view: View, coarse_cell: int) -> float:
    """The mean of a target's coarse cell whole cycles ago, NaN where that is missing."""
    found = view.longer[0]
    return _ago(series, coarse_cell, int(found.origin), int(found.length))


@njit(inner=True)
def longer_features(series: Series, view: View, coarse_cell: int, detail: float) -> float:
    """Inputs of the longer head for a target -> view.longer_x; returns its anchor.

    `detail`: what the slot memory says of the target's fine cell beside its coarse one.
    """
    found, x = view.longer[0], view.longer_x
    length, origin, cells = int(found.length), int(found.origin), int(found.cells)
    level = found.level
    day = _ago(series, coarse_cell, origin, cells)
    days = _ago(series, coarse_cell - cells, origin - cells, cells)
    week = _ago(series, coarse_cell, origin, length)
    anchor: float = series.longer[int(found.copy), coarse_cell % length]
    anchor = level if math.isnan(anchor) else anchor + found.shift
    x[0] = 0.0 if math.isnan(day) else day - anchor
    x[1] = 0.0 if math.isnan(days) else days - anchor
    x[2] = found.now
    x[3] = level - anchor
    x[4] = 0.0 if math.isnan(week) else week + found.change - anchor
    x[5] = found.change
    x[6] = found.since
    x[7] = found.today
    return anchor + detail


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
    x = view.longer_x
    split = series.meta.period > layout.COARSE
    k, end = DELAYS[copy - 1] * cells, DELAYS[copy] * cells
    while k < end:
        band = band_of((k + 1.0) * layout.COARSE / cells) - FINER_BANDS
        sums = series.longer_sums[band]
        reach = min(end, int(math.floor((ENDS[band] + 1e-9) * cells / layout.COARSE)))
        share = weight / (reach - k)
        while k < reach:
            k += 1
            value = series.ring[(origin + k) % RING]
            # the steps below a coarse cell have no part in it, as they have none in forecasts
            if math.isnan(value) or (split and k == 1):
                continue
            residual = value - longer_features(series, view, origin + k, 0.0)
            _add(sums, x, residual, share)


@njit(inner=True)
def _add(sums: LongerSums, x: Float64, residual: float, weight: float) -> None:
    """Learn one pair of inputs x and target less anchor, which counts `weight`."""
    k = 0
    for i in range(LONGER_FEATURES):
        weighted = weight * x[i]
        for j in range(i, LONGER_FEATURES):
            sums.products[k] += weighted * x[j]
            k += 1
        sums.cross[i] += weighted * residual
    sums.mass += weight


@njit(inner=True)
def begin_longer(series: Series, shared: Shared) -> None:
    """Forget what was learned of a longer cycle."""
    for band in range(len(layout.ENDS)):
        sums, gate = series.longer_sums[band], series.gate[FINER_BANDS + band]
        for k in range(layout.LONGER_PRODUCTS):
            sums.products[k] = 0.0
        for i in range(LONGER_FEATURES):
            sums.cross[i] = 0.0
            for copy in range(3):
                series.longer_own[copy, band, i] = prior_weight(shared, band, i)
        sums.mass = 0.0
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
                series.longer_own[0, band, i] = right[i]
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
