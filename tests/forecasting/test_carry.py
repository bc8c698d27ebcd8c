"""Errors of the last readings that are carried on over the steps of a forecast."""

from __future__ import annotations

import numpy as np
import pytest

from tests.forecasting.test_multi_step import daily, feed, fresh
from titans_stream.forecasting.multi.forecaster import ForecastOptions
from titans_stream.records import Float64

pytestmark = pytest.mark.timeout(1_200)
ON = ForecastOptions(period=24)
UNBOUNDED = ForecastOptions(period=24, learn_bounds=False)
OFF = ForecastOptions(period=24, carry=False)


def drifting(n: int, seed: int) -> Float64:
    """A day's course on a level that swings in weeks: what is missed now is missed later, too."""
    rng = np.random.default_rng(seed)
    t = np.arange(n)
    level: Float64 = 6.0 * np.sin(2.0 * np.pi * (t / 391.0 + rng.uniform()))
    x: Float64 = level + 2.0 * np.sin(2.0 * np.pi * t / 24.0) + 0.05 * rng.normal(size=n)
    return x


def error(x: Float64, options: ForecastOptions) -> float:
    """Root mean square of two days' forecasts from origins of the second half."""
    origins = np.arange(len(x) // 2, len(x) - 48, 17)
    made = feed(x, dict.fromkeys(origins.tolist(), 48), options=options)
    truth = np.stack([x[at + 1 : at + 49] for at in origins])
    return float(np.sqrt(np.mean((made.median.reshape(-1, 48) - truth) ** 2)))


def test_a_level_that_drifts_is_followed() -> None:
    series = [drifting(1_000, seed) for seed in range(5)]
    assert sum(error(x, ON) for x in series) < 0.98 * sum(error(x, OFF) for x in series)


def test_a_series_that_repeats_loses_nothing() -> None:
    ratios = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        x = np.sin(2.0 * np.pi * np.arange(1_500) / 24.0) + 0.3 * rng.normal(size=1_500)
        ratios.append(error(x, ON) / error(x, OFF))
    assert max(ratios) < 1.01


def test_any_cutting_gives_the_same_bits_and_missing_readings_pass() -> None:
    x = drifting(1_000, 5)
    x[400:430], x[700] = np.nan, np.nan
    asked = dict.fromkeys(range(300, 1_000, 61), 60)
    whole = feed(x, asked, options=ON)
    assert np.isfinite(whole.median).all()
    assert np.abs(whole.median - feed(x, asked, options=OFF).median).max() > 0.01
    arrays, medians = fresh(1), []
    for first in range(0, 1_000, 97):
        steps = {at - first: count for at, count in asked.items() if first <= at < first + 97}
        medians.append(feed(x[first : first + 97], steps, arrays=arrays, options=ON).median)
    np.testing.assert_array_equal(np.concatenate(medians), whole.median)


def test_it_moves_with_level_and_scale() -> None:
    x = drifting(1_000, 6)
    steps = {999: 96}
    plain = feed(x, steps, options=UNBOUNDED).median
    moved = feed(4_000.0 * x - 3_000.0, steps, options=UNBOUNDED).median
    np.testing.assert_allclose((moved + 3_000.0) / 4_000.0, plain, atol=1e-3)


def test_a_new_unit_changes_no_forecast() -> None:
    """The deviation grows a thousandfold, and the state is expressed in another unit on the way."""
    x = 1e-3 * drifting(1_000, 7)
    x[600:] *= np.exp(np.linspace(0.0, 9.0, 400))
    whole = [feed(scale * x, {999: 48}, options=UNBOUNDED).median / scale for scale in (1.0, 1e6)]
    np.testing.assert_allclose(whole[0], whole[1], rtol=1e-2)


def test_after_a_jump_nothing_is_carried_on() -> None:
    x = daily(1_500, seed=8)
    x[1_200:] += 40.0
    steps = dict.fromkeys(range(1_230, 1_400, 13), 24)
    with_it, without = feed(x, steps, options=ON), feed(x, steps, options=OFF)
    truth = np.concatenate([x[at + 1 : at + 25] for at in steps])
    a, b = (float(np.abs(made.median - truth).mean()) for made in (with_it, without))
    assert a < 1.05 * b
