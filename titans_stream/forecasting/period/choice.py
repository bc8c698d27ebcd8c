"""The choice of a period among candidates, in three rings of means of 1, 8 and 64 readings.

p is a period in readings. Method: docs/forecasting.md.
"""

from __future__ import annotations

import math

from titans_stream.forecasting.period.candidates import CANDIDATES, CLEARLY, MINIMUM_ENTRIES
from titans_stream.forecasting.period.evidence import LEAST_SKILL, Fold, fold, remove_profile
from titans_stream.forecasting.period.state import REMEMBERED, RINGS, SCALES, Rings, Workspace
from titans_stream.forecasting.period.structure import accumulate
from titans_stream.jit import njit, scratch
from titans_stream.records import Float64, Int64

MANY_CYCLES = 8.0
"""The finest ring that holds this many cycles is the one that judges."""
FEW_CYCLES = 5.0
DAY, WEEK, NO_HINT = 0, 1, -1
SAME = 0.03
"""Two periods closer than this are one."""
KEEP = 0.95
"""A period within `SAME` of the one in use must leave it less than this share of its skill."""
HOLD = 0.95
"""Factor on these shares in favour of the period in use."""
HINT_SHARE = 0.5
"""The calendar's day keeps its place down to this share of the best skill; so does a period whose
fifth or higher multiple is better, as the day's course inside a week."""
DAY_SHARE = 0.25
"""The same for a period of whole days, of which the day need not stand by itself up to `FEW_DAYS`
of them: noise and a day's course make such multiples, not longer ones."""
FEW_DAYS = 4.5
CLEAR_SKILL = 0.2
"""Skill from which a longer one stands without a day that does."""
USUAL = (7.0, 12.0, 24.0, 48.0, 60.0, 96.0, 144.0, 168.0, 288.0, 300.0, 336.0, 600.0, 672.0,
         720.0, 900.0, 1440.0, 2016.0, 2880.0, 3600.0, 4320.0, 5760.0, 10080.0)  # fmt: skip
"""Readings in a minute, five, an hour, a day, a week or a year at usual intervals."""
WHOLE = 5e-4
"""A calendar's length this close to a whole number of readings, as a share, is that number."""
CLIMB = 0.08
"""Largest step in the search for the best length: this share of a cycle over all that is held."""
LONG, CLEARER = 200.0, 0.95
"""Periods from here on, of which the finest ring holds five at most, move to a neighbour that
leaves less than this share of what they leave."""
POLISH = 0.02
"""Skill that may be lost when a period is rounded."""

_standing = scratch(CANDIDATES)


@njit(inner=True)
def judge_ring(p: float, lengths: Int64) -> int:
    """The finest ring with many cycles of p; without one, that which holds most cycles."""
    for ring in range(RINGS):
        entries = p / SCALES[ring]
        if (ring == 0 or entries >= MINIMUM_ENTRIES) and lengths[ring] >= MANY_CYCLES * entries:
            return ring
    best, most = 0, 0.0
    for ring in range(RINGS):
        entries = p / SCALES[ring]
        if (ring == 0 or entries >= MINIMUM_ENTRIES) and lengths[ring] / entries > 1.1 * most:
            best, most = ring, lengths[ring] / entries
    return best


@njit(inner=True)
def evidence(rings: Rings, space: Workspace, p: float, ring: int) -> Fold:
    """`fold` of the period p in one ring."""
    n = rings.lengths[ring]
    if n < 8:
        return Fold(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    return fold(
        rings.values[ring], n, p / SCALES[ring], rings.sums[ring], rings.counts[ring], space.cycle
    )


@njit(inner=True)
def recalled(rings: Rings, space: Workspace, p: float, ring: int) -> Fold:
    """`evidence`, worked out once for each period and ring of a choice."""
    memo = space.memo
    k = 0
    while k < REMEMBERED and memo[k, 0] != 0.0 and (memo[k, 0] != p or memo[k, 1] != ring):
        k += 1
    if k < REMEMBERED and memo[k, 0] == p:
        kept = memo[k, 2:]
        return Fold(kept[0], kept[1], kept[2], kept[3], kept[4], kept[5])
    found = evidence(rings, space, p, ring)
    if k < REMEMBERED:
        memo[k, 0], memo[k, 1] = p, ring
        for i in range(len(found)):
            memo[k, 2 + i] = found[i]
    return found


@njit(inner=True)
def accepted(found: Fold, hint: int) -> bool:
    """Whether a fold shows a period; less is asked of a day or week of the calendar (`hint`)."""
    cycles = found.cycles
    few = cycles < FEW_CYCLES
    if hint != NO_HINT:
        bound = found.correlation - found.error
        strength = 3.5 if hint == DAY else 4.5
        if few:
            strength += 0.5
        enough = cycles >= 3.0 and found.skill > 0.04 and bound > 0.15
    else:
        bound = found.correlation - 2.0 * found.error
        strength = 7.0 if few else 5.5
        enough = cycles >= 4.0 and found.skill > 0.08 and bound > 0.25
    stands: bool = enough and found.strength > strength
    return stands


@njit(inner=True)
def failed(found: Fold) -> bool:
    """Whether a period in use has lost what it was taken for."""
    bound = found.correlation - found.error
    lost: bool = found.skill <= LEAST_SKILL or bound <= 0.1 or found.strength <= 2.0
    return lost and found.cycles >= 3.0


@njit(inner=True)
def _common_ring(long: float, lengths: Int64) -> int:
    """The finest ring that holds four cycles, or the coarsest."""
    ring = 0
    while ring < RINGS - 1 and lengths[ring] < 4.0 * long / SCALES[ring]:
        ring += 1
    return ring


@njit(inner=True)
def _better(rings: Rings, space: Workspace, short: float, long: float, share: float) -> bool:
    """Whether, on the same entries, the longer period leaves less than `share` to the shorter."""
    ring = _common_ring(long, rings.lengths)
    too_few = rings.lengths[ring] < 3.0 * long / SCALES[ring]
    if too_few or (ring > 0 and short < 4.0 * SCALES[ring]):
        return False
    one = recalled(rings, space, short, ring)
    other = recalled(rings, space, long, ring)
    return one.skill * one.power < share * other.skill * other.power


@njit(inner=True)
def _sort(values: Float64, n: int) -> None:
    for i in range(1, n):
        value = values[i]
        j = i
        while j > 0 and values[j - 1] > value:
            values[j] = values[j - 1]
            j -= 1
        values[j] = value


@njit(inner=True)
def which_hint(p: float, hints: Float64) -> int:
    """DAY, WEEK or NO_HINT."""
    for hint in range(hints.shape[0]):
        if abs(p - hints[hint]) <= SAME * hints[hint]:
            return hint
    return NO_HINT


@njit(inner=True)
def choose(
    rings: Rings, space: Workspace, candidates: Float64, taken: int, hints: Float64, current: float
) -> tuple[float, float]:
    """The period among candidates[:taken], 0 if none stands, and the strength of a new one.

    The one in use stands until it fails outright, and another one as long must be clearly better.
    """
    for k in range(REMEMBERED):
        space.memo[k, 0] = 0.0
    lengths = rings.lengths
    standing = _standing()
    count = 0
    day = 0.0
    _sort(candidates, taken)
    for i in range(taken):
        p = candidates[i]
        found = recalled(rings, space, p, judge_ring(p, lengths))
        if p != current and current > 0.0 and abs(p - current) <= 1e-3 * current:
            continue
        if accepted(found, which_hint(p, hints)) or (p == current and not failed(found)):
            standing[count] = p
            count += 1
            if abs(p - hints[DAY]) <= SAME * hints[DAY] and day != hints[DAY]:
                day = p
    if count == 0:
        return 0.0, 0.0
    best = standing[0]
    for i in range(1, count):
        p = standing[i]
        if not _better(rings, space, best, p, _share(best, p, current)):
            continue
        if p == current or abs(p - best) <= SAME * best or _adds(rings, space, best, p):
            best = p
    best = _prefer_day(rings, space, best, day, hints[DAY])
    best = polish(rings, space, best, current, hints)
    strength = 0.0
    if best != current:
        strength = recalled(rings, space, best, judge_ring(best, lengths)).strength
    return best, strength


@njit(inner=True)
def _share(short: float, long: float, current: float) -> float:
    """What a longer period must leave the shorter one of its skill less than."""
    if abs(long - short) <= SAME * short:
        return KEEP if short == current else (1.0 / KEEP if long == current else 0.99)
    multiple = long / short
    whole = abs(multiple - math.floor(multiple + 0.5)) < SAME * multiple
    share = HINT_SHARE if whole and multiple > 4.5 else CLEARLY
    if short == current:
        return share * HOLD
    return min(1.0, share / HOLD) if long == current else share


@njit(inner=True)
def _adds(rings: Rings, space: Workspace, short: float, long: float) -> bool:
    """Whether the longer period stands by itself in what the shorter one leaves."""
    ring = judge_ring(long, rings.lengths)
    p = short / SCALES[ring]
    if p < 2.0:
        return True
    n = rings.lengths[ring]
    rest, sums, counts = space.trial[:n], space.trial_sums[: n + 1], space.trial_counts[: n + 1]
    remove_profile(
        rings.values[ring], n, p, rings.sums[ring], rings.counts[ring], space.cycle, rest
    )
    accumulate(rest, n, sums, counts)
    return accepted(fold(rest, n, long / SCALES[ring], sums, counts, space.cycle), NO_HINT)


@njit(inner=True)
def _prefer_day(rings: Rings, space: Workspace, best: float, day: float, hint: float) -> float:
    """The calendar's day in place of a period that is not much better; `day` 0 if it fell."""
    if hint <= 0.0 or abs(best - hint) <= SAME * hint:
        return best
    if best > hint:
        days = best / hint
        if abs(days - math.floor(days + 0.5)) < SAME * days:
            if day == 0.0 and days > FEW_DAYS:
                found = recalled(rings, space, best, judge_ring(best, rings.lengths))
                if accepted(found, NO_HINT) and found.skill > CLEAR_SKILL:
                    return best
            return best if _better(rings, space, hint, best, DAY_SHARE) else hint
        if day > 0.0 and not _better(rings, space, day, best, HINT_SHARE):
            return day
    elif day > 0.0 and _better(rings, space, best, day, 1.0 / HINT_SHARE):
        return day
    return best


@njit(inner=True)
def _climb(rings: Rings, space: Workspace, p: float, ring: int) -> float:
    """The length around p that has the most skill, in ever smaller steps."""
    found = recalled(rings, space, p, ring)
    best, most = p, found.skill
    step = CLIMB * p * p / (rings.lengths[ring] * SCALES[ring])
    for _ in range(3):
        centre = best
        for way in (-2.0, -1.0, 1.0, 2.0):
            length = centre + way * step
            found = recalled(rings, space, length, ring)
            if found.skill > most:
                best, most = length, found.skill
        step *= 0.4
    return best


@njit(inner=True)
def _neighbour(rings: Rings, space: Workspace, p: float, ring: int, hints: Float64) -> float:
    """A long whole period in use, or one reading more or less where that leaves clearly less: what
    few cycles could not tell apart, many do."""
    if p < LONG or which_hint(p, hints) != NO_HINT:
        return p
    for usual in USUAL:
        if p == usual:
            return p
    best = p
    rest = CLEARER * (1.0 - recalled(rings, space, p, ring).skill)
    for other in (p - 1.0, p + 1.0):
        left = 1.0 - recalled(rings, space, other, ring).skill
        if left < rest:
            best, rest = other, left
    return best


@njit(inner=True)
def polish(rings: Rings, space: Workspace, p: float, current: float, hints: Float64) -> float:
    """p at the calendar's length, a usual one or a whole number where that fits as well."""
    ring = judge_ring(p, rings.lengths)
    if p == current and p == math.floor(p):
        return _neighbour(rings, space, p, ring, hints)
    found = recalled(rings, space, p, ring)
    least = found.skill - POLISH
    for hint in hints:
        if abs(p - hint) <= SAME * hint:
            if p == current and abs(p - hint) <= WHOLE * hint:
                return p
            found = recalled(rings, space, hint, ring)
            if found.skill >= least - POLISH:
                whole = float(math.floor(hint + 0.5))
                return whole if abs(whole - hint) <= WHOLE * hint else hint
    if p != current:
        p = _climb(rings, space, p, ring)
        found = recalled(rings, space, p, ring)
        least = found.skill - POLISH
    whole = float(math.floor(p + 0.5))
    for usual in USUAL:
        if abs(p - usual) <= 0.02 * p and usual != p:
            found = recalled(rings, space, usual, ring)
            if found.skill >= least:
                return usual
    found = recalled(rings, space, whole, ring)
    return whole if found.skill >= least else p
