"""The day beside a cycle that is too short for its cells."""

from __future__ import annotations

import numpy as np
import pytest

from tests.forecasting.test_multi_step import (
    LEVELS,
    MIDNIGHT,
    WEIGHTS,
    feed,
    fresh,
)
from titans_stream.engine.clock import LocalTime
from titans_stream.forecasting.multi.forecaster import ForecastOptions, MultiStepForecaster
from titans_stream.records import Float64
from titans_stream.times import parse_timestamp

pytestmark = pytest.mark.timeout(1_200)
DAY = 86_400


def course(seconds: Float64) -> Float64:
    """A level over the day, by local seconds."""
    turns = seconds / DAY
    level: Float64 = 3.0 * np.sin(2 * np.pi * turns) + 1.5 * np.cos(4 * np.pi * turns)
    return level


def cycle(n: int, period: float) -> Float64:
    turns = np.arange(n) / period
    shape: Float64 = np.sin(2 * np.pi * turns) + 0.7 * np.cos(4 * np.pi * turns)
    return shape


def mae(a: Float64, b: Float64) -> float:
    return float(np.abs(a - b).mean())


@pytest.mark.parametrize(
    ("interval", "period", "days"), [(60, 60, 4), (60, 17, 4), (10, 282, 4), (300, 27.6, 9)]
)
def test_the_day_is_used_beside_a_short_cycle(interval: int, period: float, days: int) -> None:
    """Whether the day is found first, as a multiple of the cycle, or second; six hours ahead."""
    ahead, day = DAY // 4 // interval, DAY // interval
    n = days * day + 123
    seconds = MIDNIGHT + float(interval) * np.arange(n + ahead)
    truth = course(seconds) + cycle(n + ahead, period)
    x = truth + 0.3 * np.random.default_rng(0).normal(size=n + ahead)
    at = [n - 1 - k * day // 5 for k in reversed(range(5))]
    then = np.stack([truth[i + 1 : i + 1 + ahead] for i in at])
    errors = []
    for longer in (True, False):
        made = feed(
            x[:n], dict.fromkeys(at, ahead), seconds=seconds[:n], interval=interval * 1e9,
            options=ForecastOptions(longer=longer),
        )  # fmt: skip
        errors.append(mae(made.median.reshape(then.shape), then))
        if longer:
            assert abs(made.period[-1] - period) <= 0.01 * period
            assert made.longer[-1] == day
    assert errors[0] < 0.4 * errors[1]


def test_a_long_cycle_is_found_to_the_reading() -> None:
    """A few cycles do not tell 281, 282 and 283 apart, a hundred do."""
    n = 4 * 8_640
    seconds = MIDNIGHT + 10.0 * np.arange(n)
    turns = 2 * np.pi * np.arange(n) / 282
    for seed in (0, 2, 4):
        rng = np.random.default_rng(seed)
        a = rng.normal(size=6)
        x = np.zeros(n)
        for k in range(3):
            wave = a[2 * k] * np.sin((k + 1) * turns) + a[2 * k + 1] * np.cos((k + 1) * turns)
            x += wave / (k + 1)
        x = x / x.std() + 0.3 * rng.normal(size=n)
        made = feed(x, {n - 1: 1}, seconds=seconds, interval=10e9)
        assert made.period[0] == 282


def test_where_there_is_no_day_nothing_is_lost() -> None:
    """A level that wanders by itself: no course over the day says where to."""
    ratios = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        n = 6 * 1_440
        level = np.zeros(n)
        for t in range(1, n):
            level[t] = 0.995 * level[t - 1] + 0.1 * rng.normal()
        x = level + cycle(n, 45) + 0.3 * rng.normal(size=n)
        seconds = MIDNIGHT + 60.0 * np.arange(n)
        at = range(3 * 1_440, n - 360, 173)
        truth = np.stack([x[i + 1 : i + 361] for i in at])
        errors = [
            mae(
                feed(
                    x, dict.fromkeys(at, 360), seconds=seconds, interval=60e9,
                    options=ForecastOptions(longer=longer),
                ).median.reshape(-1, 360),
                truth,
            )
            for longer in (True, False)
        ]  # fmt: skip
        ratios.append(errors[0] / errors[1])
    assert max(ratios) < 1.02


def test_any_cutting_gives_the_same_bits_and_gaps_pass() -> None:
    n = 5_000
    seconds = MIDNIGHT + 60.0 * np.arange(n)
    x = course(seconds) + cycle(n, 60) + 0.3 * np.random.default_rng(1).normal(size=n)
    x[3_000:3_130], x[4_001] = np.nan, np.nan
    keep = np.arange(n) < 3_500
    keep[3_900:] = True
    x, seconds = x[keep], seconds[keep]
    asked = dict.fromkeys(range(2_000, len(x), 271), 300)
    whole = feed(x, asked, seconds=seconds, interval=60e9)
    assert np.isfinite(whole.median).all() and (whole.longer[-4:] == 1_440).all()
    arrays, medians = fresh(1), []
    for first in range(0, len(x), 613):
        part = slice(first, first + 613)
        steps = {at - first: count for at, count in asked.items() if first <= at < first + 613}
        made = feed(x[part], steps, arrays=arrays, seconds=seconds[part], interval=60e9)
        medians.append(made.median)
    np.testing.assert_array_equal(np.concatenate(medians), whole.median)


def test_it_moves_with_level_and_scale_and_a_new_unit_changes_nothing() -> None:
    n = 3 * 1_440
    seconds = MIDNIGHT + 60.0 * np.arange(n)
    x = course(seconds) + cycle(n, 60) + 0.3 * np.random.default_rng(2).normal(size=n)
    x[n // 2 :] += 30.0
    options = ForecastOptions(period=60, learn_bounds=False)

    def last(values: Float64) -> Float64:
        steps = {n - 1: 360}
        made = feed(values, steps, seconds=seconds, interval=60e9, options=options)
        return made.median

    plain = last(x)
    np.testing.assert_allclose((last(4_000.0 * x - 3_000.0) + 3_000.0) / 4_000.0, plain, atol=5e-3)
    grown = np.exp(6.9 * np.minimum(np.arange(n) / 1_440.0, 1.0)) * x
    np.testing.assert_allclose(last(1e6 * grown) / 1e6, last(grown), rtol=5e-3, atol=1.0)


def test_steps_beyond_a_change_of_clocks_have_their_own_time_of_day() -> None:
    """Vienna, 2025-03-30: at 01:00 UTC clocks go from 02:00 to 03:00; the cycle does not care."""
    local = LocalTime("Europe/Vienna")
    start = parse_timestamp("2025-03-24T00:00:00Z")
    n, ahead = 6 * 1_440, 720
    times = start + 60_000_000_000 * np.arange(n + ahead, dtype=np.int64)
    seconds = local.seconds(times)
    truth = course(seconds) + cycle(n + ahead, 47)
    x = truth + 0.2 * np.random.default_rng(3).normal(size=n + ahead)
    steps = np.zeros(n, np.int64)
    steps[-1] = ahead
    forecaster = MultiStepForecaster(WEIGHTS, LEVELS)
    args = np.zeros(n, np.int64), x[:n], seconds[:n], np.full(n, 60e9), times[:n], steps
    aware = forecaster.run(fresh(1), *args, local.seconds)
    blind = forecaster.run(fresh(1), *args)
    assert aware.period[0] == 47 and aware.longer[0] == 1_440
    late = slice(180, 540)
    assert mae(aware.median[late], truth[n:][late]) < 0.9 * mae(blind.median[late], truth[n:][late])
