"""The search for a period and a second one in three rings of means of 1, 8 and 64 readings.

Letters: L rings, n cells of a ring, p a period in readings. Method: docs/forecasting.md.
"""

from __future__ import annotations

import math

import numpy as np

from titans_stream.forecasting.period.candidates import CLEARLY, MINIMUM_CELLS, RINGS, SCALES
from titans_stream.forecasting.period.evidence import (
    CORRELATION,
    CYCLES,
    ERROR,
    FOLD,
    LEAST_SKILL,
    POWER,
    SKILL,
    STRENGTH,
    fold,
    remove_profile,
)
from titans_stream.forecasting.period.structure import accumulate
from titans_stream.jit import njit
from titans_stream.records import Float32, Float64, Int64

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
USUAL = (7.0, 12.0, 24.0, 48.0, 60.0, 96.0, 144.0, 168.0, 288.0, 336.0, 672.0, 720.0, 1440.0,
         2016.0, 2880.0, 4320.0, 5760.0, 10080.0)  # fmt: skip
"""Readings in a minute, an hour, a day, a week or a year at usual intervals."""
WHOLE = 5e-4
"""A calendar's length this close to a whole number of readings, as a share, is that number."""
CLIMB = 0.08
"""Largest step in the search for the best length: this share of a cycle over all that is held."""
REMEMBERED = 48
"""Folds of one choice that are kept, not to be worked out twice."""
POLISH = 0.02
"""Skill that may be lost when a period is rounded."""


@njit(inner=True)
def judge_ring(p: float, n: Int64) -> int:
    """The finest ring with many cycles of p; without one, that which holds most cycles."""
    for ring in range(RINGS):
        cells = p / SCALES[ring]
        if (ring == 0 or cells >= MINIMUM_CELLS) and n[ring] >= MANY_CYCLES * cells:
            return ring
    best, most = 0, 0.0
    for ring in range(RINGS):
        cells = p / SCALES[ring]
        if (ring == 0 or cells >= MINIMUM_CELLS) and n[ring] / cells > 1.1 * most:
            best, most = ring, n[ring] / cells
    return best


@njit(inner=True)
def evidence(
    x: Float32, n: Int64, sums: Float64, counts: Float64, p: float, ring: int, out: Float64
) -> None:
    """`fold` of the period p (readings) in one ring -> out [FOLD]."""
    if n[ring] < 8:
        out[:] = 0.0
        return
    fold(x[ring], n[ring], p / SCALES[ring], sums[ring], counts[ring], out)


@njit(inner=True)
def recalled(
    x: Float32,
    n: Int64,
    sums: Float64,
    counts: Float64,
    memo: Float64,
    p: float,
    ring: int,
    out: Float64,
) -> None:
    """`evidence`, worked out once for each period and ring: memo [REMEMBERED, 2 + FOLD], whose
    first column is zero where a row is free."""
    k = 0
    while k < REMEMBERED and memo[k, 0] != 0.0 and (memo[k, 0] != p or memo[k, 1] != ring):
        k += 1
    if k < REMEMBERED and memo[k, 0] == p:
        for i in range(FOLD):
            out[i] = memo[k, 2 + i]
        return
    evidence(x, n, sums, counts, p, ring, out)
    if k < REMEMBERED:
        memo[k, 0], memo[k, 1] = p, ring
        for i in range(FOLD):
            memo[k, 2 + i] = out[i]


@njit(inner=True)
def accepted(found: Float64, hint: int) -> bool:
    """Whether a fold shows a period; less is asked of a day or week of the calendar (`hint`)."""
    cycles = found[CYCLES]
    few = cycles < FEW_CYCLES
    if hint != NO_HINT:
        bound = found[CORRELATION] - found[ERROR]
        strength = 3.5 if hint == DAY else 4.5
        if few:
            strength += 0.5
        enough = cycles >= 3.0 and found[SKILL] > 0.04 and bound > 0.15
    else:
        bound = found[CORRELATION] - 2.0 * found[ERROR]
        strength = 7.0 if few else 5.5
        enough = cycles >= 4.0 and found[SKILL] > 0.08 and bound > 0.25
    stands: bool = enough and found[STRENGTH] > strength
    return stands


@njit(inner=True)
def failed(found: Float64) -> bool:
    """Whether a period in use has lost what it was taken for."""
    bound = found[CORRELATION] - found[ERROR]
    lost: bool = found[SKILL] <= LEAST_SKILL or bound <= 0.1 or found[STRENGTH] <= 2.0
    return lost and found[CYCLES] >= 3.0


@njit(inner=True)
def _common_ring(long: float, n: Int64) -> int:
    ring = 0
    while ring < RINGS - 1 and n[ring] < 4.0 * long / SCALES[ring]:
        ring += 1
    return ring


@njit(inner=True)
def _better(
    x: Float32,
    n: Int64,
    sums: Float64,
    counts: Float64,
    memo: Float64,
    short: float,
    long: float,
    share: float,
) -> bool:
    """Whether, on the same cells, the longer period leaves less than `share` to the shorter."""
    ring = _common_ring(long, n)
    if n[ring] < 3.0 * long / SCALES[ring] or (ring > 0 and short < 4.0 * SCALES[ring]):
        return False
    one, other = np.empty(FOLD), np.empty(FOLD)
    recalled(x, n, sums, counts, memo, short, ring, one)
    recalled(x, n, sums, counts, memo, long, ring, other)
    better: bool = one[SKILL] * one[POWER] < share * other[SKILL] * other[POWER]
    return better


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
    x: Float32,
    n: Int64,
    sums: Float64,
    counts: Float64,
    candidates: Float64,
    taken: int,
    hints: Float64,
    current: float,
    out: Float64,
) -> float:
    """The period (readings) among the candidates, 0 if none stands; its fold -> out [FOLD].

    The one in use stands until it fails outright, and another one as long must be clearly better.
    """
    memo = np.empty((REMEMBERED, 2 + FOLD))
    memo[:, 0] = 0.0
    found = np.empty(FOLD)
    standing = np.empty(taken)
    count = 0
    day = 0.0
    _sort(candidates, taken)
    for i in range(taken):
        p = candidates[i]
        recalled(x, n, sums, counts, memo, p, judge_ring(p, n), found)
        if p != current and current > 0.0 and abs(p - current) <= 1e-3 * current:
            continue
        if accepted(found, which_hint(p, hints)) or (p == current and not failed(found)):
            standing[count] = p
            count += 1
            if abs(p - hints[0]) <= SAME * hints[0] and day != hints[0]:
                day = p
    out[:] = 0.0
    if count == 0:
        return 0.0
    best = standing[0]
    for i in range(1, count):
        p = standing[i]
        share = _share(best, p, current)
        if not _better(x, n, sums, counts, memo, best, p, share):
            continue
        if p == current or abs(p - best) <= SAME * best or _adds(x, n, sums, counts, best, p):
            best = p
    best = _prefer_day(x, n, sums, counts, memo, best, day, hints[DAY])
    best = polish(x, n, sums, counts, memo, best, current, hints)
    if best != current:
        recalled(x, n, sums, counts, memo, best, judge_ring(best, n), out)
    return best


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
def _adds(x: Float32, n: Int64, sums: Float64, counts: Float64, short: float, long: float) -> bool:
    """Whether the longer period stands by itself in what the shorter one leaves."""
    ring = judge_ring(long, n)
    p = short / SCALES[ring]
    if p < 2.0:
        return True
    length = n[ring]
    y = np.empty(length, np.float32)
    remove_profile(x[ring], length, p, sums[ring], counts[ring], y)
    y_sums, y_counts = np.empty(length + 1), np.empty(length + 1)
    accumulate(y, length, y_sums, y_counts)
    found = np.empty(FOLD)
    fold(y, length, long / SCALES[ring], y_sums, y_counts, found)
    return accepted(found, NO_HINT)


@njit(inner=True)
def _prefer_day(
    x: Float32,
    n: Int64,
    sums: Float64,
    counts: Float64,
    memo: Float64,
    best: float,
    day: float,
    hint: float,
) -> float:
    """The calendar's day in place of a period that is not much better; `day` 0 if it fell."""
    if hint <= 0.0 or abs(best - hint) <= SAME * hint:
        return best
    if best > hint:
        days = best / hint
        if abs(days - math.floor(days + 0.5)) < SAME * days:
            if day == 0.0 and days > FEW_DAYS:
                found = np.empty(FOLD)
                recalled(x, n, sums, counts, memo, best, judge_ring(best, n), found)
                if accepted(found, NO_HINT) and found[SKILL] > CLEAR_SKILL:
                    return best
            return best if _better(x, n, sums, counts, memo, hint, best, DAY_SHARE) else hint
        if day > 0.0 and not _better(x, n, sums, counts, memo, day, best, HINT_SHARE):
            return day
    elif day > 0.0 and _better(x, n, sums, counts, memo, best, day, 1.0 / HINT_SHARE):
        return day
    return best


@njit(inner=True)
def _climb(
    x: Float32, n: Int64, sums: Float64, counts: Float64, memo: Float64, p: float, ring: int
) -> float:
    """The length around p that has the most skill, in ever smaller steps."""
    found = np.empty(FOLD)
    recalled(x, n, sums, counts, memo, p, ring, found)
    best, most = p, found[SKILL]
    step = CLIMB * p * p / (n[ring] * SCALES[ring])
    for _ in range(3):
        centre = best
        for way in (-2.0, -1.0, 1.0, 2.0):
            length = centre + way * step
            recalled(x, n, sums, counts, memo, length, ring, found)
            if found[SKILL] > most:
                best, most = length, found[SKILL]
        step *= 0.4
    return best


@njit(inner=True)
def polish(
    x: Float32,
    n: Int64,
    sums: Float64,
    counts: Float64,
    memo: Float64,
    p: float,
    current: float,
    hints: Float64,
) -> float:
    """p at the calendar's length, a usual one or a whole number where that fits as well."""
    if p == current and p == math.floor(p):
        return p
    ring = judge_ring(p, n)
    found = np.empty(FOLD)
    recalled(x, n, sums, counts, memo, p, ring, found)
    least = found[SKILL] - POLISH
    for hint in hints:
        if abs(p - hint) <= SAME * hint:
            if p == current and abs(p - hint) <= WHOLE * hint:
                return p
            recalled(x, n, sums, counts, memo, hint, ring, found)
            if found[SKILL] >= least - POLISH:
                whole = float(math.floor(hint + 0.5))
                return whole if abs(whole - hint) <= WHOLE * hint else hint
    if p != current:
        p = _climb(x, n, sums, counts, memo, p, ring)
        recalled(x, n, sums, counts, memo, p, ring, found)
        least = found[SKILL] - POLISH
    whole = float(math.floor(p + 0.5))
    for usual in USUAL:
        if abs(p - usual) <= 0.02 * p and usual != p:
            recalled(x, n, sums, counts, memo, usual, ring, found)
            if found[SKILL] >= least:
                return usual
    recalled(x, n, sums, counts, memo, whole, ring, found)
    return whole if found[SKILL] >= least else p
