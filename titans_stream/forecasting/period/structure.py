"""The structure function of one stretch of a series, and the dips in it that periods leave.

Letters: n entries of one ring, oldest first, NaN where nothing was read; p a period in entries.
"""

from __future__ import annotations

import math

import numpy as np

from titans_stream.forecasting.period.state import Workspace
from titans_stream.jit import ASSOCIATIVE, njit, scratch
from titans_stream.records import Float32, Float64

CLIP = 3.0
"""Values farther than this many times the deviation's 90th percentile from the median are cut
(the mean deviation, where that is zero)."""
SAMPLE = 211
"""Entries that median and percentile are taken of."""
STRIDES = (617, 619)
"""Entries between two of the sample; the second where the first divides how many there are."""
MINIMUM_PRESENT = 0.4
FLATTEST = 1e-6
"""A deviation below this share of the level is rounding of the ring's float32."""

_sample = scratch(SAMPLE)


@njit(inner=True)
def _smallest(values: Float64, n: int, rank: int) -> float:
    """The value of this rank among values[:n], whose order changes (Hoare's selection)."""
    low, high = 0, n - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if rank <= j:
            high = j
        elif rank >= i:
            low = i
        else:
            break
    found: float = values[rank]
    return found


@njit()
def prepare(x: Float32, n: int) -> bool:
    """Cut outliers, take the line off and scale x[:n] to unit variance, in place.

    False where too little was read or all of it is the same.
    """
    if n < 8:
        return False
    sample = _sample()
    stride = STRIDES[0] if n % STRIDES[0] else STRIDES[1]
    taken = 0
    for i in range(min(n, SAMPLE)):
        value = x[(i * stride) % n] if n > SAMPLE else x[i]
        if not math.isnan(value):
            sample[taken] = value
            taken += 1
    if taken < MINIMUM_PRESENT * min(n, SAMPLE):
        return False
    median = _smallest(sample, taken, taken // 2)
    mean = 0.0
    for i in range(taken):
        sample[i] = abs(sample[i] - median)
        mean += sample[i] / taken
    most = _smallest(sample, taken, (9 * taken) // 10)
    limit = CLIP * (most if most > 0.0 else mean)
    if limit <= FLATTEST * abs(median):
        return False
    count, st, sx, stt, stx = 0.0, 0.0, 0.0, 0.0, 0.0
    for t in range(n):
        if not math.isnan(x[t]):
            value = min(limit, max(-limit, x[t] - median)) / limit
            x[t] = value
            u = t / n - 0.5
            count += 1.0
            st += u
            sx += value
            stt += u * u
            stx += u * value
    if count < MINIMUM_PRESENT * n:
        return False
    st /= count
    sx /= count
    slope = (stx / count - st * sx) / max(stt / count - st * st, 1e-12)
    power = 0.0
    for t in range(n):
        if not math.isnan(x[t]):
            value = x[t] - sx - slope * (t / n - 0.5 - st)
            x[t] = value
            power += value * value
    power /= count
    if power < 1e-10:
        return False
    factor = np.float32(1.0 / math.sqrt(power))
    for t in range(n):
        x[t] *= factor
    return True


@njit()
def accumulate(x: Float32, n: int, sums: Float64, counts: Float64) -> None:
    """Running sums [n + 1] of the values and of how many there are, for moving means."""
    sums[0] = 0.0
    counts[0] = 0.0
    for t in range(n):
        missing = math.isnan(x[t])
        sums[t + 1] = sums[t] + (0.0 if missing else x[t])
        counts[t + 1] = counts[t] + (0.0 if missing else 1.0)


@njit(inner=True, fastmath=ASSOCIATIVE)
def _distance(later: Float32, earlier: Float32) -> float:
    total = np.float32(0.0)
    for t in range(earlier.shape[0]):
        difference = later[t] - earlier[t]
        total += difference * difference
    mean: float = total / earlier.shape[0]
    return mean


@njit(inner=True, fastmath=ASSOCIATIVE)
def _distance_of_present(
    later: Float32, earlier: Float32, later_mask: Float32, earlier_mask: Float32
) -> float:
    total = np.float32(0.0)
    pairs = np.float32(0.0)
    for t in range(earlier.shape[0]):
        both = later_mask[t] * earlier_mask[t]
        difference = later[t] - earlier[t]
        total += both * difference * difference
        pairs += both
    return float(total / pairs) if pairs >= 8.0 else math.nan


@njit()
def structure(x: Float32, n: int, complete: bool, space: Workspace) -> int:
    """D(k) = mean (x_t - x_{t-k})^2 -> space.structure, k = 0 .. n // 2; returns the last k."""
    out = space.structure
    lags: int = min(n // 2, out.shape[0] - 1)
    out[0] = 0.0
    if complete:
        for lag in range(1, lags + 1):
            out[lag] = _distance(x[lag:n], x[: n - lag])
        return lags
    filled, mask = space.filled[:n], space.mask[:n]
    for t in range(n):
        known = not math.isnan(x[t])
        filled[t] = x[t] if known else 0.0
        mask[t] = 1.0 if known else 0.0
    for lag in range(1, lags + 1):
        cut = n - lag
        out[lag] = _distance_of_present(filled[lag:], filled[:cut], mask[lag:], mask[:cut])
    return lags


@njit(inner=True)
def dip(D: Float32, lags: int, lag: int) -> float:
    """How far D(k) lies below the mean of D(k/2) and D(3k/2), as a share; NaN out of range.

    Zero for a random walk, whose D is a straight line, and below for noise that forgets.
    """
    if 3 * lag > 2 * lags:
        return math.nan
    half = 0.5 * (D[lag // 2] + D[lag - lag // 2])
    more = 0.5 * (D[lag + lag // 2] + D[lag + (lag - lag // 2)])
    around = 0.5 * (half + more)
    depth: float = 1.0 - D[lag] / around if around > 0.0 else math.nan
    return depth


@njit(inner=True)
def _vertex(D: Float32, lag: int) -> float:
    """Place of the parabola's lowest point through three neighbours."""
    left, middle, right = D[lag - 1], D[lag], D[lag + 1]
    bend = left - 2.0 * middle + right
    if not bend > 1e-12:
        return float(lag)
    place: float = lag + min(0.5, max(-0.5, 0.5 * (left - right) / bend))
    return place


@njit()
def refine(D: Float32, lags: int, lag: int) -> float:
    """The period in entries at a minimum of D, from its multiples as far as they are minima."""
    p = _vertex(D, lag)
    m = 2
    last = lag
    while True:
        centre = int(m * p + 0.5)
        reach = 2 if p >= 8.0 else 1
        if centre <= last or centre + reach >= lags:
            return p
        last = centre
        lowest = centre
        for k in range(centre - reach, centre + reach + 1):
            if D[k] < D[lowest]:
                lowest = k
        if not (D[lowest] <= D[lowest - 1] and D[lowest] <= D[lowest + 1]):
            return p
        p = _vertex(D, lowest) / m
        m = max(m + 1, 3 * m // 2)
