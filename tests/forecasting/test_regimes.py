"""Streams that change what they are: forecasts stay sane, and are the same in any cutting."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.forecasting.test_day import DAY, course, cycle
from tests.forecasting.test_multi_step import MIDNIGHT, feed, fresh
from titans_stream.forecasting.multi.forecaster import ForecastOptions
from titans_stream.records import Float64

pytestmark = pytest.mark.timeout(1_200)
INTERVALS = (1.0, 10.0, 60.0, 300.0, 600.0, 900.0, 3_600.0, 7_200.0)
PERIODS = (2.0, 3.0, 5.0, 7.5, 12.0, 17.0, 24.0, 47.0, 60.0, 96.0, 144.0, 282.0)


def piece(kind: int, rng: np.random.Generator, seconds: Float64, base: Float64) -> Float64:
    """One regime of a stream; base: its cycle."""
    hour = seconds % DAY / 3_600
    if kind == 0:
        return np.zeros(len(seconds))
    if kind == 1:
        return base + course(seconds) * rng.choice([0.1, 1.0, 5.0])
    if kind == 2:
        return base + np.where((hour > 6) & (hour < 18), 10.0, 0.0)
    if kind == 3:
        return np.ones(len(seconds))
    if kind == 4:
        return base + course(seconds) * (1.0 + (seconds // DAY % 7 > 4))
    return np.cumsum(rng.normal(size=len(seconds)))


def stream(seed: int) -> tuple[Float64, Float64, float, float]:
    """Seconds, readings, their interval in seconds, and a period that is in them."""
    rng = np.random.default_rng(seed)
    n, interval = int(rng.integers(1_500, 6_000)), rng.choice(INTERVALS)
    period = rng.choice(PERIODS)
    seconds, x = MIDNIGHT + interval * np.arange(n), np.zeros(n)
    for a, b in pairwise([0, *np.sort(rng.integers(0, n, 3)), n]):
        base = cycle(n, period if rng.random() < 0.6 else rng.uniform(2.0, 300.0))[a:b]
        level = rng.choice([0.0, 1e3, -50.0]) * (rng.random() < 0.3)
        x[a:b] = piece(int(rng.integers(0, 6)), rng, seconds[a:b], base) + level
    x = (x + rng.choice([0.0, 0.1, 0.5]) * rng.normal(size=n)) * 10.0 ** rng.integers(-8, 9)
    x[rng.random(n) < rng.choice([0.0, 0.02])] = np.nan
    for missing in (True, False):
        if rng.random() < 0.4:
            first = rng.integers(0, n)
            end = first + rng.integers(1, 1_500)
            if missing:
                x[first:end] = np.nan
            else:
                x, seconds = np.delete(x, np.s_[first:end]), np.delete(seconds, np.s_[first:end])
    return seconds, x, float(interval), float(period)


@example(29)
@example(57)
@example(106)
@example(319)
@example(509)
@example(615)
@given(st.integers(0, 2**31))
@settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
def test_forecasts_stay_sane_and_are_the_same_in_any_cutting(seed: int) -> None:
    """Of the examples all but the last went up to thousands of times beyond what had been."""
    seconds, x, interval, period = stream(seed)
    n = len(x)
    rng = np.random.default_rng(seed)
    steps = int(rng.choice([1, 30, 300, int(2.5 * min(DAY / interval, 1_000)) + 1]))
    asked = dict.fromkeys(np.sort(rng.choice(np.arange(50, n), 12, replace=False)).tolist(), steps)
    told = int(period) if rng.random() < 0.2 else None
    options = ForecastOptions(period=told, learn_bounds=bool(rng.random() < 0.5))

    def forecasts(part: slice, arrays: dict[str, np.ndarray]) -> Float64:
        """[1 + Q, H] the median and quantiles of what is asked for inside."""
        wanted = {at - part.start: k for at, k in asked.items() if part.start <= at < part.stop}
        made = feed(
            x[part], wanted, arrays=arrays, seconds=seconds[part], interval=1e9 * interval,
            options=options,
        )  # fmt: skip
        return np.vstack((made.median, made.quantiles))

    whole = forecasts(slice(0, n), fresh(1))
    some, arrays, every = [], fresh(1), int(rng.integers(50, 900))
    for first in range(0, n, every):
        some.append(forecasts(slice(first, min(n, first + every)), arrays))
        arrays = {name: array.copy() for name, array in arrays.items()}
    np.testing.assert_array_equal(np.hstack(some), whole)
    began = np.repeat(sorted(asked), steps) >= np.flatnonzero(~np.isnan(x))[0]
    assert np.isfinite(whole[:, began]).all()
    assert (np.diff(whole[1:, began], axis=0) >= 0.0).all()
    assert np.abs(whole[0, began]).max(initial=0.0) <= 8.0 * np.nanmax(np.abs(x))
