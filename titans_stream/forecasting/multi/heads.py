"""The heads of the multi-step forecaster for one series, compiled by numba.

The structured head has four weights for each band of steps; each series learns its own from
matured targets, shrunk to the shared ones: w = (A + Q)^-1 (v + Q w_shared).
"""

from __future__ import annotations

import math

import numpy as np

from titans_stream.forecasting.multi import layout
from titans_stream.forecasting.multi.layout import Sums
from titans_stream.forecasting.multi.series import Pairs, PairSums, Series, Shared
from titans_stream.jit import ASSOCIATIVE, njit, scratch
from titans_stream.records import Float64

ENDS = np.array(layout.ENDS, np.float64)


@njit(inner=True)
def band_of(ahead: float) -> int:
    """The band of a step of `ahead` 24ths of a period."""
    if ahead <= 0.5 + 1e-9:
        octaves = int(math.floor(1e-9 - math.log2(ahead)))
        return max(0, layout.FINER_BANDS - octaves)
    band = 0
    while band < ENDS.shape[0] - 1 and ahead > ENDS[band] + 1e-9:
        band += 1
    return layout.FINER_BANDS + band


@njit(inline="always")
def weighted(w: Float64, x: Float64) -> float:
    """w . x of four features."""
    total: float = w[0] * x[0] + w[1] * x[1] + w[2] * x[2] + w[3] * x[3]
    return total


_system, _right = scratch((layout.FEATURES, layout.FEATURES)), scratch(layout.FEATURES)


@njit(inline="always")
def add_pair(sums: Sums, x: Float64, residual: float) -> None:
    """Learn one pair of inputs x and target less anchor."""
    k = 0
    for i in range(layout.FEATURES):
        for j in range(i, layout.FEATURES):
            sums.products[k] += x[i] * x[j]
            k += 1
    for i in range(layout.FEATURES):
        sums.cross[i] += x[i] * residual
    sums.mass += 1.0


@njit(inner=True)
def add_pairs(sums: Sums, pairs: PairSums, n: int, weight: float) -> None:
    """Learn n pairs, each of which counts `weight`."""
    for k in range(layout.PRODUCTS):
        sums.products[k] += weight * pairs.products[k]
    for i in range(layout.FEATURES):
        sums.cross[i] += weight * pairs.cross[i]
    sums.mass += weight * n


@njit(inner=True, fastmath=ASSOCIATIVE)
def sum_pairs(pairs: Pairs, n: int, level: float, now: float, out: PairSums) -> None:
    """The sums of the first n pairs -> out.

    level: mean of the last period; now: the last reading less the anchor of its own cell.
    """
    aa, ab, ad, bb, bd, dd = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    a, b, d, e, ae, be, de = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        anchor = pairs.anchor[i]
        one = pairs.latest[i] - anchor
        two = pairs.memory[i] - anchor
        four = level - anchor
        residual = pairs.value[i] - anchor
        a += one
        b += two
        d += four
        e += residual
        aa += one * one
        ab += one * two
        ad += one * four
        bb += two * two
        bd += two * four
        dd += four * four
        ae += one * residual
        be += two * residual
        de += four * residual
    products, cross = out
    products[0], products[1], products[2], products[3] = aa, ab, a * now, ad
    products[4], products[5], products[6] = bb, b * now, bd
    products[7], products[8], products[9] = n * now * now, d * now, dd
    cross[0], cross[1], cross[2], cross[3] = ae, be, e * now, de


@njit(inner=True)
def refit(series: Series, shared: Shared) -> None:
    """A series' own weights from its sums.

    The prior counts for PRIOR + PRIOR_PER_STEP x end origins, in units of the series' variance.
    """
    _refit(series, shared, _system(), _right())


@njit(inner=True)
def _refit(series: Series, shared: Shared, system: Float64, right: Float64) -> None:
    variance = series.meta.variance
    if variance <= 0.0:
        return
    for band in range(layout.BANDS):
        sums = series.sums[band]
        if sums.mass <= 0.0:
            continue
        end = 1.0 if band < layout.FINER_BANDS else ENDS[band - layout.FINER_BANDS]
        strength = (layout.PRIOR + layout.PRIOR_PER_STEP * end) * variance
        gram = shared.gram[band]
        ridge = 0.0
        for i in range(layout.FEATURES):
            ridge += gram[i, i] / layout.FEATURES
        k = 0
        for i in range(layout.FEATURES):
            right[i] = sums.cross[i]
            for j in range(i, layout.FEATURES):
                system[i, j] = system[j, i] = sums.products[k]
                k += 1
        for i in range(layout.FEATURES):
            for j in range(layout.FEATURES):
                q = gram[i, j] + (layout.PRIOR_RIDGE * ridge if i == j else 0.0)
                system[i, j] += strength * q
                right[i] += strength * q * shared.w[band, j]
        if solve(system, right):
            for i in range(layout.FEATURES):
                series.own[band, i] = right[i]


@njit(inner=True)
def solve(a: Float64, b: Float64) -> bool:
    """Cholesky: b <- a^-1 b in place; False where `a` is not positive definite."""
    n = b.shape[0]
    for j in range(n):
        d = a[j, j]
        for k in range(j):
            d -= a[j, k] * a[j, k]
        if not d > 0.0 or not math.isfinite(d):
            return False
        d = math.sqrt(d)
        a[j, j] = d
        for i in range(j + 1, n):
            s = a[i, j]
            for k in range(j):
                s -= a[i, k] * a[j, k]
            a[i, j] = s / d
    for i in range(n):
        for k in range(i):
            b[i] -= a[i, k] * b[k]
        b[i] /= a[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            b[i] -= a[k, i] * b[k]
        b[i] /= a[i, i]
    total = 0.0
    for i in range(n):
        total += abs(b[i])
    return math.isfinite(total)
