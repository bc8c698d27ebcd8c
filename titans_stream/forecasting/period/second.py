"""The search for a second period in what the first leaves: a week beside a day.

Letters: L rings, n cells of a ring. Method: docs/forecasting.md.
"""

from __future__ import annotations

import numpy as np

from titans_stream.forecasting.period.candidates import (
    CANDIDATES,
    RINGS,
    SCALES,
    first_candidates,
    propose,
)
from titans_stream.forecasting.period.choice import choose, evidence, judge_ring
from titans_stream.forecasting.period.evidence import FOLD, POWER, SKILL, remove_profile
from titans_stream.forecasting.period.structure import accumulate
from titans_stream.jit import njit
from titans_stream.records import Float32, Float64, Int64

SECOND_SHARE = 0.05
"""Share of the power that a second period must explain beyond the first."""


@njit(inner=True)
def _without(candidates: Float64, taken: int, period: float) -> int:
    """Drop the candidates that are `period` itself; how many are left."""
    kept = 0
    for i in range(taken):
        if abs(candidates[i] / period - 1.0) > 0.05:
            candidates[kept] = candidates[i]
            kept += 1
    return kept


@njit(inner=True)
def choose_second(
    x: Float32,
    n: Int64,
    complete: Int64,
    sums: Float64,
    counts: Float64,
    period: float,
    hints: Float64,
    current: float,
    D: Float32,
) -> float:
    """A further period in what the first leaves, 0 if there is none."""
    y = np.empty_like(x)
    y_sums, y_counts = np.empty_like(sums), np.empty_like(counts)
    for ring in range(RINGS):
        if n[ring] < 8:
            continue
        p = period / SCALES[ring]
        if p >= 2.0:
            remove_profile(x[ring], n[ring], p, sums[ring], counts[ring], y[ring])
        else:
            for t in range(n[ring]):
                y[ring, t] = x[ring, t]
        accumulate(y[ring], n[ring], y_sums[ring], y_counts[ring])
    candidates = np.empty(CANDIDATES)
    taken = first_candidates(candidates, n, hints, current, 0.0)
    taken = propose(y, n, complete, D, candidates, taken)
    kept = _without(candidates, taken, period)
    found = np.empty(FOLD)
    second = choose(y, n, y_sums, y_counts, candidates, kept, hints, current, found)
    if second == 0.0 or abs(second / period - 1.0) <= 0.05:
        return 0.0
    ring = judge_ring(second, n)
    whole = np.empty(FOLD)
    evidence(x, n, sums, counts, second, ring, whole)
    evidence(y, n, y_sums, y_counts, second, ring, found)
    if found[SKILL] * found[POWER] < SECOND_SHARE * whole[POWER]:
        return 0.0
    return second
