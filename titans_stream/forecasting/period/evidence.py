"""How well a period is told by its other cycles, and how improbable that is in plain noise.

Letters: n entries of one ring, oldest first, NaN where nothing was read; p a period in entries.
`sums` and `counts` [n + 1] are their running sums (`structure.accumulate`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from titans_stream.forecasting.period.state import Cycle
from titans_stream.jit import ASSOCIATIVE, njit
from titans_stream.records import Float32, Float64, Int64

HARMONICS = 8
STILL = 1e-6
"""Mean square below which a cycle (of a signal of unit variance) stood still: it tells nothing."""
LEAST_SKILL = 0.02
"""Below it no strength is worked out."""


class Fold(NamedTuple):
    """How well each cycle of a period is told by the mean of the others."""

    skill: float
    """1 - squared error / power, after the moving mean is taken off."""
    correlation: float
    """Mean over the cycles of their correlation with the mean of the others."""
    error: float
    """Its standard error."""
    cycles: float
    """Cycles held that did not stand still."""
    power: float
    """Mean square of the deviations from the moving mean."""
    strength: float
    """How improbable the period is in noise, as a normal deviate; 0 where the skill is too low."""


@njit(inner=True, fastmath=ASSOCIATIVE)
def _moving_means(sums: Float64, counts: Float64, n: int, p: float, out: Float64) -> None:
    """Mean over one period around each entry -> out[:n], the outermost at the ends."""
    low = 0.5 - 0.5 * p
    shift = math.floor(low)
    f = low - shift
    width = int(math.floor(low + p) - shift)
    g = low + p - shift - width
    begin = int(-shift)
    end = n - width - 1 + begin
    for t in range(begin, end):
        i = t - begin
        j = i + width
        total = (1.0 - g) * sums[j] + g * sums[j + 1] - (1.0 - f) * sums[i] - f * sums[i + 1]
        count = (
            (1.0 - g) * counts[j] + g * counts[j + 1] - (1.0 - f) * counts[i] - f * counts[i + 1]
        )
        out[t] = total / max(count, 0.25)
    for t in range(begin):
        out[t] = out[begin]
    for t in range(end, n):
        out[t] = out[end - 1]


@njit(inner=True)
def _profile(x: Float32, n: int, p: float, sums: Float64, counts: Float64, cycle: Cycle) -> int:
    """Lay out x by the phases of a cycle, in `cycle`; returns `first`.

    deviations[first:n]: x less its one-period moving mean; phases[first:n]: their places in the
    cycle; total, seen: sum and number of the deviations at every phase. Only whole cycles count:
    they begin at `first`. There are ceil(p) phases, so that no cycle comes twice into one.
    """
    d, phase, total, seen = cycle.deviations, cycle.phases, cycle.total, cycle.seen
    cycles = int(n / p + 1e-9)
    first = n - int(cycles * p + 1e-9)
    _moving_means(sums, counts, n, p, d)
    phases = phases_of(p)
    turn = phases / p
    begin = first
    for c in range(cycles):
        end = min(n, first + int(math.ceil((c + 1) * p - 1e-6)))
        for t in range(begin, end):
            phase[t] = min(int((t - first - c * p) * turn + 1e-6), phases - 1)
            d[t] = x[t] - d[t]
        begin = end
    for s in range(phases):
        total[s] = 0.0
        seen[s] = 0.0
    for t in range(first, n):
        if not math.isnan(d[t]):
            total[phase[t]] += d[t]
            seen[phase[t]] += 1.0
    return first


@njit(inline="always")
def phases_of(p: float) -> int:
    """Phases that a cycle of length p is divided into."""
    return int(math.ceil(p - 1e-9))


@njit()
def fold(x: Float32, n: int, p: float, sums: Float64, counts: Float64, cycle: Cycle) -> Fold:
    """The evidence for a period p in x[:n]; `cycle` is scratch space."""
    cycles = int(n / p + 1e-9)
    if cycles < 3:
        return Fold(0.0, 0.0, 0.0, n / p, 0.0, 0.0)
    first = _profile(x, n, p, sums, counts, cycle)
    d, phase, total, seen = cycle.deviations, cycle.phases, cycle.total, cycle.seen
    power, error, mean, square, live = 0.0, 0.0, 0.0, 0.0, 0.0
    begin = first
    for c in range(cycles):
        end = min(n, first + int(math.ceil((c + 1) * p - 1e-6)))
        dq, dd, qq = 0.0, 0.0, 0.0
        for t in range(begin, end):
            value = d[t]
            others = seen[phase[t]] - 1.0
            if math.isnan(value) or others < 1.0:
                continue
            other = (total[phase[t]] - value) / others
            dq += value * other
            dd += value * value
            qq += other * other
        begin = end
        if dd <= STILL * p:
            continue
        live += 1.0
        power += dd
        error += dd - 2.0 * dq + qq
        norm = dd * qq
        r = dq / math.sqrt(norm) if norm > 0.0 else 0.0
        mean += r
        square += r * r
    held = n / p - (cycles - live)
    if live < 3.0:
        return Fold(0.0, 0.0, 0.0, held, 0.0, 0.0)
    skill = 1.0 - error / power
    mean /= live
    deviation = math.sqrt(max(square / live - mean * mean, 0.0) / (live - 1.0))
    strength = 0.0
    if skill > LEAST_SKILL:
        for s in range(phases_of(p)):
            total[s] = total[s] / seen[s] if seen[s] > 0.0 else 0.0
        strength = _strength(x, n, p, first, phase, total, cycle.remainder)
    return Fold(skill, mean, deviation, held, power / n, strength)


@njit(inner=True)
def _strength(
    x: Float32, n: int, p: float, first: int, phase: Int64, profile: Float64, y: Float64
) -> float:
    """How improbable the profile's harmonics are in noise of first order with the remainder's
    power and correlation: the largest normal deviate over the first 1, 2, 4 and 8 harmonics.

    y [n] is scratch space.
    """
    mean, count = 0.0, 0.0
    for t in range(first, n):
        y[t] = x[t] - profile[phase[t]]
        if not math.isnan(y[t]):
            mean += y[t]
            count += 1.0
    mean /= count
    square, product, before, pairs = 0.0, 0.0, 0.0, 0.0
    for t in range(first + 1, n):
        a, b = y[t] - mean, y[t - 1] - mean
        if math.isnan(a) or math.isnan(b):
            continue
        square += a * a
        before += b * b
        product += a * b
        pairs += 1.0
    if pairs < 8.0 or before <= 0.0:
        return 0.0
    phi = min(0.9999, max(0.0, product / before))
    cycles = (n - first) / p
    noise = (square - 2.0 * phi * product + phi * phi * before) / pairs
    noise = max(noise, 1e-9) * cycles / (cycles - 1.0)
    phases = phases_of(p)
    total, strongest = 0.0, 0.0
    for h in range(1, min(HARMONICS, phases // 2) + 1):
        turn_re, turn_im = (
            math.cos(2.0 * math.pi * h / phases),
            math.sin(2.0 * math.pi * h / phases),
        )
        re, im, unit_re, unit_im = 0.0, 0.0, 1.0, 0.0
        for s in range(phases):
            re += profile[s] * unit_re
            im += profile[s] * unit_im
            unit_re, unit_im = (
                unit_re * turn_re - unit_im * turn_im,
                unit_re * turn_im + unit_im * turn_re,
            )
        amplitude = 4.0 * (re * re + im * im) / (phases * phases)
        omega = 2.0 * math.pi * h / p
        spectrum = noise / (1.0 - 2.0 * phi * math.cos(omega) + phi * phi)
        total += 0.5 * count * amplitude / spectrum
        if h & (h - 1) == 0:
            k = 2.0 * h
            z = ((total / k) ** (1.0 / 3.0) - 1.0 + 2.0 / (9.0 * k)) / math.sqrt(2.0 / (9.0 * k))
            strongest = max(strongest, z)
    return strongest


@njit(inner=True)
def remove_profile(
    x: Float32, n: int, p: float, sums: Float64, counts: Float64, cycle: Cycle, out: Float32
) -> None:
    """x less the mean course of its period p -> out[:n]; the moving mean stays in.

    `cycle` is scratch space.
    """
    if n < 2.0 * p:
        for t in range(n):
            out[t] = x[t]
        return
    first = _profile(x, n, p, sums, counts, cycle)
    phase, total, seen = cycle.phases, cycle.total, cycle.seen
    phases = phases_of(p)
    for t in range(n):
        if t < first:
            turns = (t - first) / p
            s = min(int((turns - math.floor(turns)) * phases + 1e-6), phases - 1)
        else:
            s = phase[t]
        out[t] = x[t] - (total[s] / seen[s] if seen[s] > 0.0 else 0.0)
