"""Random numbers that do not change with the version of numpy.

Only the raw 64-bit stream of PCG64 and elementary functions are used; numpy promises the former
and may change its distributions (NEP 19).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeVar

import numpy as np

from titans_stream.records import Float64, Int64

Choice = TypeVar("Choice")


class Draws:
    """A stream of random numbers; equal seeds give equal numbers."""

    def __init__(self, *seed: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(seed))

    def uniforms(self, count: int) -> Float64:
        """[count] numbers in [0, 1)."""
        raw = np.atleast_1d(self._bits.random_raw(count))
        return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def normals(self, count: int) -> Float64:
        """[count] standard normal numbers (Box and Muller)."""
        half = (count + 1) // 2
        radius = np.sqrt(-2.0 * np.log(1.0 - self.uniforms(half)))
        angle = 2.0 * np.pi * self.uniforms(half)
        return np.concatenate((radius * np.cos(angle), radius * np.sin(angle)))[:count]

    def exponentials(self, count: int, mean: float = 1.0) -> Float64:
        """[count] exponentially distributed numbers."""
        return -mean * np.log(1.0 - self.uniforms(count))

    def student(self, count: int, freedom: int) -> Float64:
        """[count] numbers of Student's t with `freedom` degrees, not scaled."""
        squares: Float64 = (self.normals(count * freedom) ** 2).reshape(freedom, count).sum(axis=0)
        scaled: Float64 = self.normals(count) / np.sqrt(squares / freedom)
        return scaled

    def poisson(self, rate: Float64) -> Float64:
        """[T] counts with mean `rate` [T]; above 30 the rounded normal approximation."""
        count = len(rate)
        level, noise = self.uniforms(count), self.normals(count)
        large = np.maximum(np.round(rate + np.sqrt(rate) * noise), 0.0)
        small = np.zeros(count)
        low = np.minimum(rate, 30.0)
        term = np.exp(-low)
        total = term.copy()
        for k in range(1, 90):
            small += level > total
            term = term * low / k
            total += term
        return np.where(rate > 30.0, large, small)

    def uniform(self, low: float, high: float) -> float:
        """One number in [low, high)."""
        return low + (high - low) * float(self.uniforms(1)[0])

    def log_uniform(self, low: float, high: float) -> float:
        """One number in [low, high), its logarithm uniform."""
        return math.exp(self.uniform(math.log(low), math.log(high)))

    def integer(self, low: int, high: int) -> int:
        """One of low, ..., high - 1."""
        return low + int(self.uniforms(1)[0] * (high - low))

    def choice(self, options: Sequence[Choice]) -> Choice:
        """One of `options`."""
        return options[self.integer(0, len(options))]

    def sign(self) -> float:
        """-1 or 1."""
        return 1.0 if self.uniforms(1)[0] < 0.5 else -1.0

    def autoregressive(self, count: int, memory: float) -> Float64:
        """[count] of a stationary first-order autoregression with deviation 1."""
        steps = self.normals(count)
        steps[1:] *= math.sqrt(1.0 - memory * memory)
        return np.array(list(accumulate(steps.tolist(), lambda y, e: memory * y + e)))

    def times(self, count: int, gap: float, least: int = 1) -> Int64:
        """Increasing rows below `count`, exponential distances of mean `gap`, at least `least`."""
        distances = np.maximum(self.exponentials(int(count / gap * 2) + 20, gap), least)
        rows = np.cumsum(distances).astype(np.int64)
        return rows[rows < count]
