"""How well a period is told by its other cycles, and how improbable that is in plain noise.

Letters: n cells of one ring, oldest first, NaN where nothing was read; p a period in cells.
"""

from __future__ import annotations

import math

import numpy as np

from titans_stream.jit import ASSOCIATIVE, njit
from titans_stream.records import Float32, Float64, Int64

# Columns of what `fold` writes
SKILL = 0
CORRELATION = 1
ERROR = 2
CYCLES = 3
POWER = 4
STRENGTH = 5
FOLD = 6

HARMONICS = 8
STILL = 1e-6
"""Mean square below which a cycle (of a signal of unit variance) stood still: it tells nothing."""
LEAST_SKILL = 0.02
"""Below it no strength is worked out."""


@njit(inner=True, fastmath=ASSOCIATIVE)
def _moving_means(sums: Float64, counts: Float64, n: int, p: float, out: Float64) -> None:
    """Mean over one period around each cell -> out[:n], the outermost at the ends."""
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
def _deviations(
    x: Float32, n: int, p: float, sums: Float64, counts: Float64, d: Float64, slot: Int64
) -> int:
    """x less its one-period moving mean -> d, its place in the cycle -> slot; [first:n].

    Only whole cycles count: `first` is returned. There are ceil(p) slots, so that no cycle comes
    twice into one.
    """
    cycles = int(n / p + 1e-9)
    first = n - int(cycles * p + 1e-9)
    _moving_means(sums, counts, n, p, d)
    slots = int(math.ceil(p - 1e-9))
    turn = slots / p
    begin = first
    for c in range(cycles):
        end = min(n, first + int(math.ceil((c + 1) * p - 1e-6)))
        for t in range(begin, end):
            slot[t] = min(int((t - first - c * p) * turn + 1e-6), slots - 1)
            d[t] = x[t] - d[t]
        begin = end
    return first


@njit(inner=True)
def _profile(d: Float64, slot: Int64, first: int, n: int, total: Float64, seen: Float64) -> None:
    for t in range(first, n):
        if not math.isnan(d[t]):
            total[slot[t]] += d[t]
            seen[slot[t]] += 1.0


@njit()
def fold(x: Float32, n: int, p: float, sums: Float64, counts: Float64, out: Float64) -> None:
    """How well each live cycle of length p is told by the mean of the others -> out [FOLD].

    SKILL: 1 - squared error / power after the moving mean is taken off; CORRELATION: mean over
    the cycles of their correlation with the mean of the others, ERROR: its standard error.
    """
    out[:] = 0.0
    cycles = int(n / p + 1e-9)
    out[CYCLES] = n / p
    if cycles < 3:
        return
    d = np.empty(n)
    slot = np.empty(n, np.int64)
    first = _deviations(x, n, p, sums, counts, d, slot)
    slots = int(math.ceil(p - 1e-9))
    total, seen = np.zeros(slots), np.zeros(slots)
    _profile(d, slot, first, n, total, seen)
    power, error, mean, square, live = 0.0, 0.0, 0.0, 0.0, 0.0
    begin = first
    for c in range(cycles):
        end = min(n, first + int(math.ceil((c + 1) * p - 1e-6)))
        dq, dd, qq = 0.0, 0.0, 0.0
        for t in range(begin, end):
            value = d[t]
            others = seen[slot[t]] - 1.0
            if math.isnan(value) or others < 1.0:
                continue
            other = (total[slot[t]] - value) / others
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
    out[CYCLES] -= cycles - live
    if live < 3.0:
        return
    out[SKILL] = 1.0 - error / power
    out[POWER] = power / n
    mean /= live
    out[CORRELATION] = mean
    out[ERROR] = math.sqrt(max(square / live - mean * mean, 0.0) / (live - 1.0))
    if out[SKILL] > LEAST_SKILL:
        for s in range(slots):
            total[s] = total[s] / seen[s] if seen[s] > 0.0 else 0.0
        out[STRENGTH] = _strength(x, n, p, first, slot, total)


@njit(inner=True)
def _strength(x: Float32, n: int, p: float, first: int, slot: Int64, profile: Float64) -> float:
    """How improbable the profile's harmonics are in noise of first order with the remainder's
    power and correlation: the largest normal deviate over the first 1, 2, 4 and 8 harmonics.
    """
    mean, count = 0.0, 0.0
    y = np.empty(n)
    for t in range(first, n):
        y[t] = x[t] - profile[slot[t]]
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
    slots = profile.shape[0]
    total, strongest = 0.0, 0.0
    for h in range(1, min(HARMONICS, slots // 2) + 1):
        turn_re, turn_im = math.cos(2.0 * math.pi * h / slots), math.sin(2.0 * math.pi * h / slots)
        re, im, unit_re, unit_im = 0.0, 0.0, 1.0, 0.0
        for s in range(slots):
            re += profile[s] * unit_re
            im += profile[s] * unit_im
            unit_re, unit_im = (
                unit_re * turn_re - unit_im * turn_im,
                unit_re * turn_im + unit_im * turn_re,
            )
        amplitude = 4.0 * (re * re + im * im) / (slots * slots)
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
    x: Float32, n: int, p: float, sums: Float64, counts: Float64, out: Float32
) -> None:
    """x less the mean course of its period p -> out[:n]; the moving mean stays in."""
    if n < 2.0 * p:
        for t in range(n):
            out[t] = x[t]
        return
    d = np.empty(n)
    slot = np.empty(n, np.int64)
    first = _deviations(x, n, p, sums, counts, d, slot)
    slots = int(math.ceil(p - 1e-9))
    total, seen = np.zeros(slots), np.zeros(slots)
    _profile(d, slot, first, n, total, seen)
    for t in range(n):
        s = slot[t]
        if t < first:
            turns = (t - first) / p
            s = min(int((turns - math.floor(turns)) * slots + 1e-6), slots - 1)
        out[t] = x[t] - (total[s] / seen[s] if seen[s] > 0.0 else 0.0)
