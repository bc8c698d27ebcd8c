"""Forecasts stay what the series' values can be: bounds, whole numbers, rests, counters, jumps."""

from __future__ import annotations

import numpy as np
import pytest

from tests.forecasting.test_multi_step import HOUR, MIDNIGHT, WEIGHTS, feed, fresh
from titans_stream.forecasting.multi.forecaster import (
    ForecastOptions,
    Forecasts,
    MultiStepForecaster,
)
from titans_stream.records import Float64

pytestmark = pytest.mark.timeout(1_200)
LEVELS = (0.025, 0.1, 0.9, 0.975)
N = 1_440
NIGHT = np.r_[0:6, 19:24]


def forecast(
    values: Float64, steps: dict[int, int], options: ForecastOptions | None = None
) -> Forecasts:
    """Hourly readings with timestamps, from midnight on."""
    n = len(values)
    seconds = MIDNIGHT + 3600.0 * np.arange(n)
    wanted = np.zeros(n, np.int64)
    wanted[list(steps)] = list(steps.values())
    return MultiStepForecaster(WEIGHTS, LEVELS, options=options).run(
        fresh(1), np.zeros(n, np.int64), values, seconds, np.full(n, float(HOUR)),
        (seconds * 1e9).astype(np.int64), wanted,
    )  # fmt: skip


def solar(n: int) -> Float64:
    height = np.maximum(0.0, np.sin(2 * np.pi * (np.arange(n) % 24 - 6) / 24))
    return np.round(1000.0 * height * np.random.default_rng(15).uniform(0.3, 1.0, n), 2)


def test_what_never_was_negative_is_not_forecast_so() -> None:
    made = forecast(solar(N), {N - 1: 48})
    assert made.median.min() >= 0.0
    assert made.quantiles.min() >= 0.0
    queue = np.maximum(0.0, np.random.default_rng(16).normal(0.5, 1.0, N))
    assert forecast(queue, {N - 1: 48}).quantiles.min() == 0.0
    free = forecast(queue, {N - 1: 48}, ForecastOptions(learn_bounds=False))
    assert free.quantiles.min() < -0.5
    below = forecast(queue - 3.0, {N - 1: 48}, ForecastOptions(bounds=(None, 0.0)))
    assert below.quantiles.min() < -3.5


def test_a_phase_at_rest_has_no_width() -> None:
    made = forecast(solar(N), {N - 1: 24})
    np.testing.assert_allclose(made.median[NIGHT], 0.0, atol=1e-6)
    np.testing.assert_allclose(made.quantiles[:, NIGHT], 0.0, atol=1e-6)
    assert (made.quantiles[3] - made.quantiles[0])[12] > 300.0


def test_widths_follow_the_phase() -> None:
    """Noise of 1 at night and of 10 by day."""
    t = np.arange(24 * 170)
    size = np.where((t % 24 >= 8) & (t % 24 < 20), 10.0, 1.0)
    x = 100.0 + size * np.random.default_rng(1).normal(size=len(t))
    asked = dict.fromkeys(range(24 * 50 - 1, len(t) - 24, 24), 24)
    made = forecast(x, asked)
    low, high = made.quantiles[1].reshape(-1, 24), made.quantiles[2].reshape(-1, 24)
    ahead = np.array([x[at + 1 : at + 25] for at in asked])
    width, covered = (high - low).mean(0), ((ahead >= low) & (ahead <= high)).mean(0)
    assert width[10:18].mean() > 4.0 * width[:6].mean()
    assert 0.7 < covered[:7].mean() < 0.9
    assert 0.7 < covered[9:19].mean() < 0.9


def test_configured_bounds_hold() -> None:
    x = 95.0 + 6.0 * np.random.default_rng(2).normal(size=N)
    made = forecast(np.minimum(x, 100.0), {N - 1: 48}, ForecastOptions(bounds=(90.0, 100.0)))
    for numbers in (made.median, made.quantiles):
        assert numbers.min() >= 90.0
        assert numbers.max() <= 100.0


def test_counts_are_whole_and_rare_ones_mostly_none() -> None:
    rng = np.random.default_rng(3)
    counts = rng.poisson(5.0, N).astype(float)
    made = forecast(counts, {N - 1: 48})
    np.testing.assert_array_equal(made.median, np.round(made.median))
    np.testing.assert_array_equal(made.quantiles, np.round(made.quantiles))
    rare = np.where(rng.random(N) < 0.08, rng.integers(1, 50, N), 0).astype(float)
    made = forecast(rare, {N - 1: 48})
    np.testing.assert_array_equal(made.median, 0.0)
    assert made.quantiles[3].min() > 0.0
    assert forecast(counts + 0.5, {N - 1: 48}).median[0] % 1.0 != 0.0


@pytest.mark.parametrize("scale", [1.0, 1e20])
def test_a_counter_is_forecast_to_go_on_rising(scale: float) -> None:
    rng = np.random.default_rng(4)
    x = scale * (12_000.0 + np.cumsum(rng.poisson(20.0, N + 96)))
    made = forecast(x[:N], {N - 1: 96})
    assert abs(made.median[-1] / x[-1] - 1.0) < 0.01
    assert (np.diff(made.median) >= 0.0).all()
    assert made.quantiles.min() >= x[N - 1]
    ahead = x[N:]
    assert ((ahead >= made.quantiles[0]) & (ahead <= made.quantiles[3])).mean() > 0.8


def test_a_reset_is_no_change_of_rate() -> None:
    rng = np.random.default_rng(5)
    steps = rng.uniform(15.0, 25.0, N)
    x = np.cumsum(steps)
    reset = x.copy()
    reset[N - 30 :] -= x[N - 30]
    kept = forecast(x, {N - 1: 24}).median - x[-1]
    moved = forecast(reset, {N - 1: 24}).median - reset[-1]
    np.testing.assert_allclose(kept, moved, rtol=0.05)
    assert 440.0 < moved[-1] < 520.0


def test_missing_readings_of_a_counter_share_their_change() -> None:
    x = np.cumsum(np.random.default_rng(6).uniform(9.0, 11.0, N))
    x[200:230] = np.nan
    x[600:603] = np.nan
    made = forecast(x, {N - 1: 24})
    assert 225.0 < made.median[-1] - x[-1] < 255.0


def test_what_falls_again_is_no_counter() -> None:
    """A slow wave rises for hundreds of readings; after its first fall it is what it was."""
    x = 100.0 + 50.0 * np.sin(2 * np.pi * np.arange(6_000) / 1_000.0 - 1.0)
    made = feed(x, {900: 10, 5_000: 50})
    assert np.isfinite(made.median).all()
    assert np.abs(made.median[10:] - x[5_001:5_051]).max() < 20.0


def test_a_new_level_is_believed_after_a_day() -> None:
    rng = np.random.default_rng(7)
    t = np.arange(24 * 60)
    jump = 24 * 45
    x = 50.0 + 5.0 * np.sin(2 * np.pi * t / 24) + rng.normal(size=len(t)) + 20.0 * (t >= jump)
    origins = np.r_[jump - 48 : jump - 24 : 6, jump + 24 : jump + 96 : 6]
    made = forecast(x, {int(at) - 1: 24 for at in origins})
    ahead = np.array([x[at : at + 24] for at in origins])
    error = np.sqrt(((made.median.reshape(-1, 24) - ahead) ** 2).mean(1))
    width = (made.quantiles[3] - made.quantiles[0]).reshape(-1, 24).mean(1)
    assert error[4:].mean() < 2.6
    assert error[4:].max() < 3.6
    assert width[-4:].mean() < 2.0 * width[:4].mean()


def test_a_constant_stays() -> None:
    made = forecast(np.full(N, 21.5), {N - 1: 48})
    np.testing.assert_array_equal(made.median, 21.5)
    np.testing.assert_allclose(made.quantiles, 21.5, rtol=1e-6)


def test_any_cutting_gives_the_same_bits_for_a_counter() -> None:
    x = np.cumsum(np.random.default_rng(8).poisson(5.0, 400)).astype(float)
    x[300:] = np.random.default_rng(9).normal(size=100)
    whole = feed(x, {200: 20, 250: 20, 399: 20})
    arrays = fresh(1)
    parts = [feed(x[:200], {}, arrays=arrays)]
    parts.append(feed(x[200:251], {0: 20, 50: 20}, arrays=arrays))
    parts.append(feed(x[251:], {148: 20}, arrays=arrays))
    medians = np.concatenate([part.median for part in parts])
    np.testing.assert_array_equal(medians, whole.median)
