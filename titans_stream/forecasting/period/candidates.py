"""Candidate periods from three rings of means of 1, 8 and 64 readings; p: a period in readings."""

from __future__ import annotations

from titans_stream.forecasting.period.state import RINGS, SCALES, Rings, Workspace
from titans_stream.forecasting.period.structure import accumulate, dip, prepare, refine, structure
from titans_stream.jit import njit
from titans_stream.records import Float64, Int64

MINIMUM_PERIOD = 4.0
MINIMUM_ENTRIES = 8.0
"""Entries a period needs in a ring of means to be told from the others."""
MINIMUM_DIP = 0.1
CANDIDATES = 24
DIVISORS = (2, 3, 4, 5, 7)
CLEARLY = 0.88
"""A longer period must leave less than this share of its skill to a shorter one."""


@njit(inner=True)
def load(rings: Rings) -> bool:
    """Prepare the rings' values in place; False where the finest shows nothing."""
    for ring in range(RINGS):
        length = rings.lengths[ring]
        rings.complete[ring] = 0
        if length > 0 and not prepare(rings.values[ring], length):
            rings.lengths[ring] = length = 0
        if length > 0:
            accumulate(rings.values[ring], length, rings.sums[ring], rings.counts[ring])
            rings.complete[ring] = 1 if rings.counts[ring, length] == float(length) else 0
    shown: bool = rings.lengths[0] > 0
    return shown


@njit(inner=True)
def usable(hint: float) -> float:
    """The calendar's length if it can be a period, else -1."""
    return hint if hint >= MINIMUM_PERIOD else -1.0


@njit(inner=True)
def add_candidate(candidates: Float64, taken: int, p: float, lengths: Int64) -> int:
    """Put p after candidates[:taken] if three cycles of it are held; how many there are then."""
    if not (p >= MINIMUM_PERIOD) or taken >= candidates.shape[0]:
        return taken
    if p * 3.0 > max(lengths[0], SCALES[1] * lengths[1], SCALES[2] * lengths[2]):
        return taken
    for i in range(taken):
        if abs(candidates[i] - p) <= 0.008 * p:
            return taken
    candidates[taken] = p
    return taken + 1


@njit(inner=True)
def first_candidates(
    candidates: Float64, lengths: Int64, hints: Float64, one: float, two: float
) -> int:
    """The calendar's hints and two periods that are known already; how many."""
    taken = 0
    for hint in hints:
        taken = add_candidate(candidates, taken, hint, lengths)
    taken = add_candidate(candidates, taken, one, lengths)
    return add_candidate(candidates, taken, two, lengths)


@njit(inner=True)
def _ring_candidates(
    space: Workspace, lags: int, ring: int, lengths: Int64, candidates: Float64, taken: int
) -> int:
    """The shortest clear dip, the deepest dips and their divisors that dip too."""
    D, depths = space.structure, space.depths
    shortest = int(MINIMUM_PERIOD if ring == 0 else MINIMUM_ENTRIES)
    last = min(2 * lags // 3, lags - 1)
    for k in range(last + 1):
        depths[k] = 0.0
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
        taken = add_candidate(candidates, taken, p * SCALES[ring], lengths)
    if D[lowest] < CLEARLY * D[k]:
        taken = add_candidate(candidates, taken, refine(D, lags, lowest) * SCALES[ring], lengths)
    least = max(0.5 * MINIMUM_DIP, 0.25 * depths[deepest])
    for divisor in DIVISORS:
        part = p / divisor
        k = int(part + 0.5)
        if k >= shortest and dip(D, lags, k) > least:
            taken = add_candidate(candidates, taken, part * SCALES[ring], lengths)
    return taken


@njit(inner=True)
def propose(rings: Rings, space: Workspace, candidates: Float64, taken: int) -> int:
    """Add candidate periods from the dips of every ring's structure function; how many then."""
    lengths = rings.lengths
    for ring in range(RINGS):
        n = lengths[ring]
        if n < 12 or (ring > 0 and lengths[0] < 1024) or (ring == 2 and lengths[1] < 768):
            continue
        lags = structure(rings.values[ring], n, rings.complete[ring] == 1, space)
        taken = _ring_candidates(space, lags, ring, lengths, candidates, taken)
    return taken
