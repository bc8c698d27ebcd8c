"""The search for a second period in what the first leaves: a week beside a day.

Method: docs/forecasting.md.
"""

from __future__ import annotations

from titans_stream.forecasting.period.candidates import CANDIDATES, first_candidates, propose
from titans_stream.forecasting.period.choice import choose, evidence, judge_ring
from titans_stream.forecasting.period.evidence import remove_profile
from titans_stream.forecasting.period.state import RINGS, SCALES, Workspace
from titans_stream.forecasting.period.structure import accumulate
from titans_stream.jit import njit, scratch
from titans_stream.records import Float64

SECOND_SHARE = 0.05
"""Share of the power that a second period must explain beyond the first."""
APART = 0.05
"""Periods closer than this share are one."""

_candidates = scratch(CANDIDATES)


@njit(inner=True)
def _without(candidates: Float64, taken: int, period: float) -> int:
    """Drop the candidates that are `period` itself; how many are left."""
    kept = 0
    for i in range(taken):
        if abs(candidates[i] / period - 1.0) > APART:
            candidates[kept] = candidates[i]
            kept += 1
    return kept


@njit(inner=True)
def choose_second(space: Workspace, period: float, hints: Float64, current: float) -> float:
    """A further period in what the first leaves of space.rings, 0 if there is none."""
    rings, rest = space.rings, space.rest
    for ring in range(RINGS):
        n = rings.lengths[ring]
        rest.lengths[ring] = n
        rest.complete[ring] = rings.complete[ring]
        if n < 8:
            continue
        values = rest.values[ring]
        p = period / SCALES[ring]
        if p >= 2.0:
            remove_profile(
                rings.values[ring], n, p, rings.sums[ring], rings.counts[ring], space.cycle, values
            )
        else:
            for t in range(n):
                values[t] = rings.values[ring, t]
        accumulate(values, n, rest.sums[ring], rest.counts[ring])
    candidates = _candidates()
    taken = first_candidates(candidates, rest.lengths, hints, current, 0.0)
    taken = propose(rest, space, candidates, taken)
    taken = _without(candidates, taken, period)
    second, _ = choose(rest, space, candidates, taken, hints, current)
    if second == 0.0 or abs(second / period - 1.0) <= APART:
        return 0.0
    ring = judge_ring(second, rest.lengths)
    whole = evidence(rings, space, second, ring)
    found = evidence(rest, space, second, ring)
    return second if found.skill * found.power >= SECOND_SHARE * whole.power else 0.0
