"""Candidate periods from three rings of means of 1, 8 and 64 readings.

Letters: n cells of each ring, p a period in readings.
"""

from __future__ import annotations

import numpy as np

from titans_stream.forecasting.period.structure import accumulate, dip, prepare, refine, structure
from titans_stream.jit import njit
from titans_stream.records import Float32, Float64, Int64

RINGS = 3
SCALES = (1, 8, 64)
"""Readings per cell of each ring."""
MINIMUM_PERIOD = 4.0
MINIMUM_CELLS = 8.0
"""Cells a period needs in a ring of means to be told from the others."""
MINIMUM_DIP = 0.1
CANDIDATES = 24
DIVISORS = (2, 3, 4, 5, 7)
CLEARLY = 0.88
"""A longer period must leave less than this share of its skill to a shorter one."""


@njit(inner=True)
def load(rings: Float32, n: Int64, complete: Int64, sums: Float64, counts: Float64) -> bool:
    """Prepare the linear rings [RINGS, n] in place; False where the finest shows nothing."""
    for ring in range(RINGS):
        length = n[ring]
        if length > 0 and not prepare(rings[ring], length):
            n[ring] = 0
        if n[ring] > 0:
            accumulate(rings[ring], n[ring], sums[ring], counts[ring])
            complete[ring] = 1 if counts[ring, n[ring]] == float(n[ring]) else 0
    shown: bool = n[0] > 0
    return shown


@njit(inner=True)
def usable(hint: float) -> float:
    """The calendar's length if it can be a period, else -1."""
    return hint if hint >= MINIMUM_PERIOD else -1.0


@njit(inner=True)
def add_candidate(candidates: Float64, taken: int, p: float, n: Int64) -> int:
    """Put p after candidates[:taken] if three cycles of it are held; how many there are then."""
    if not (p >= MINIMUM_PERIOD) or taken >= candidates.shape[0]:
        return taken
    if p * 3.0 > max(n[0], SCALES[1] * n[1], SCALES[2] * n[2]):
        return taken
    for i in range(taken):
        if abs(candidates[i] - p) <= 0.008 * p:
            return taken
    candidates[taken] = p
    return taken + 1


@njit(inner=True)
def first_candidates(candidates: Float64, n: Int64, hints: Float64, one: float, two: float) -> int:
    """The calendar's hints and two periods that are known already; how many."""
    taken = 0
    for hint in hints:
        taken = add_candidate(candidates, taken, hint, n)
    taken = add_candidate(candidates, taken, one, n)
    return add_candidate(candidates, taken, two, n)


@njit(inner=True)
def _ring_candidates(
    D: Float32, lags: int, ring: int, n: Int64, candidates: Float64, taken: int
) -> int:
    """The shortest clear dip, the deepest dips and their divisors that dip too."""
    shortest = int(MINIMUM_PERIOD if ring == 0 else MINIMUM_CELLS)
    last = min(2 * lags // 3, lags - 1)
    depths = np.zeros(last + 1)
    deepest, lowest = 0, 0
    for k in range(shortest, last + 1):
        if D[k] <= D[k - 1] and D[k] < D[k + 1]:
            depth = dip(D, lags, k)
            if depth > MINIMUM_DIP:
                depths[k] = depth
                if deepest == 0 or depth > depths[deepest]:
                    deepest = k
                if lowest == 0 or D[k] < CLEARLY * D[lowest]:
                    lowest = k
    if deepest == 0:
        return taken
    for share in (0.6, 0.9):
        k = shortest
        while depths[k] < share * depths[deepest]:
            k += 1
        p = refine(D, lags, k)
        taken = add_candidate(candidates, taken, p * SCALES[ring], n)
    if D[lowest] < CLEARLY * D[k]:
        taken = add_candidate(candidates, taken, refine(D, lags, lowest) * SCALES[ring], n)
    least = max(0.5 * MINIMUM_DIP, 0.25 * depths[deepest])
    for divisor in DIVISORS:
        part = p / divisor
        k = int(part + 0.5)
        if k >= shortest and dip(D, lags, k) > least:
            taken = add_candidate(candidates, taken, part * SCALES[ring], n)
    return taken


@njit(inner=True)
def propose(
    x: Float32, n: Int64, complete: Int64, D: Float32, candidates: Float64, taken: int
) -> int:
    """Candidate periods (readings) from the dips of every ring's structure function."""
    for ring in range(RINGS):
        if n[ring] < 12 or (ring > 0 and n[0] < 1024):
            continue
        if ring == 2 and n[1] < 768:
            continue
        lags = structure(x[ring], n[ring], complete[ring] == 1, D)
        taken = _ring_candidates(D, lags, ring, n, candidates, taken)
    return taken
