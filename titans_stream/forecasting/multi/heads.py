"""The heads of the multi-step forecaster for one row, compiled by numba.

The structured head has four weights for each range of steps; each series learns its own from
matured targets, shrunk to the shared ones: w = (A + Q)^-1 (v + Q w_shared). The shared head is
linear in window and memory. A forecast is the mean of both.
"""

from __future__ import annotations

import math

import numpy as np

from titans_stream.forecasting.multi import layout as L
from titans_stream.forecasting.multi import rows as R
from titans_stream.jit import ASSOCIATIVE, njit
from titans_stream.records import Float64

ENDS = np.array(L.ENDS, np.float64)


@njit(inner=True)
def row_of(ahead: float) -> int:
    """Row of the heads for a step of `ahead` 24ths of a period."""
    if ahead <= 0.5 + 1e-9:
        octaves = int(math.floor(1e-9 - math.log2(ahead)))
        return max(0, L.FINER_ROWS - octaves)
    r = 0
    while r < ENDS.shape[0] - 1 and ahead > ENDS[r] + 1e-9:
        r += 1
    return L.FINER_ROWS + r


@njit(inline="always")
def weighted(w: Float64, x: Float64) -> float:
    """w . x of four features."""
    total: float = w[0] * x[0] + w[1] * x[1] + w[2] * x[2] + w[3] * x[3]
    return total


@njit(inner=True, fastmath=ASSOCIATIVE)
def shared_read(window: Float64, inputs: Float64, ahead: int) -> float:
    """The shared head's forecast `ahead` 24ths of a period on, from the window's mean.

    Beyond its last output the last period repeats.
    """
    j = ahead - 1
    if j >= L.A_OUTPUTS:
        j = L.A_OUTPUTS - L.COARSE + (j - L.A_OUTPUTS) % L.COARSE
    j = max(j, 0)
    total = 0.0
    for i in range(L.A_INPUTS):
        total += window[j, i] * inputs[i]
    return total


@njit(inline="always")
def add_pair(sums: Float64, x: Float64, residual: float) -> None:
    """One pair of inputs and target less anchor into sums [SUMS]."""
    k = 0
    for i in range(L.FEATURES):
        for j in range(i, L.FEATURES):
            sums[k] += x[i] * x[j]
            k += 1
    for i in range(L.FEATURES):
        sums[L.CROSS + i] += x[i] * residual
    sums[L.MASS] += 1.0


@njit(inner=True, fastmath=ASSOCIATIVE)
def sum_pairs(pairs: Float64, n: int, level: float, now: float, sums: Float64) -> None:
    """As `add_pair` of each of the targets pairs[:, :n], from zero: -> sums [SUMS].

    level: mean of the last period; now: the last reading less the anchor of its own cell.
    """
    aa, ab, ad, bb, bd, dd = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    a, b, d, e, ae, be, de = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        anchor = pairs[L.ANCHOR_OF, i]
        one = pairs[L.LATEST_OF, i] - anchor
        two = pairs[L.SLOT_OF, i] - anchor
        four = level - anchor
        residual = pairs[L.VALUE, i] - anchor
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
    sums[0], sums[1], sums[2], sums[3] = aa, ab, a * now, ad
    sums[4], sums[5], sums[6] = bb, b * now, bd
    sums[7], sums[8], sums[9] = n * now * now, d * now, dd
    sums[L.CROSS], sums[L.CROSS + 1] = ae, be
    sums[L.CROSS + 2], sums[L.CROSS + 3] = e * now, de
    sums[L.MASS] = n


@njit(inner=True)
def refit(row: R.Row, shared: R.Shared) -> None:
    """A series' own weights from its sums.

    The prior counts for PRIOR + PRIOR_PER_STEP x end origins, in units of the series' variance.
    """
    variance = row.meta[L.VAR]
    if variance <= 0.0:
        return
    system = np.empty((L.FEATURES, L.FEATURES))
    right = np.empty(L.FEATURES)
    for r in range(L.ROWS):
        sums = row.sums[r]
        if sums[L.MASS] <= 0.0:
            continue
        end = 1.0 if r < L.FINER_ROWS else ENDS[r - L.FINER_ROWS]
        strength = (L.PRIOR + L.PRIOR_PER_STEP * end) * variance
        gram = shared.gram[r]
        ridge = 0.0
        for i in range(L.FEATURES):
            ridge += gram[i, i] / L.FEATURES
        k = 0
        for i in range(L.FEATURES):
            right[i] = sums[L.CROSS + i]
            for j in range(i, L.FEATURES):
                system[i, j] = system[j, i] = sums[k]
                k += 1
        for i in range(L.FEATURES):
            for j in range(L.FEATURES):
                q = gram[i, j] + (L.PRIOR_RIDGE * ridge if i == j else 0.0)
                system[i, j] += strength * q
                right[i] += strength * q * shared.w[r, j]
        if _solve(system, right):
            for i in range(L.FEATURES):
                row.own[r, i] = right[i]


@njit(inner=True)
def _solve(a: Float64, b: Float64) -> bool:
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
