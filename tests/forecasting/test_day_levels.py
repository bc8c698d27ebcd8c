"""The day beside a short cycle where levels jump, readings are missing, or the interval wavers."""

from __future__ import annotations

import numpy as np
import pytest

from tests.forecasting.test_day import DAY, course, cycle, mae
from tests.forecasting.test_multi_step import LEVELS, MIDNIGHT, WEIGHTS, feed, fresh
from titans_stream.forecasting.multi.forecaster import ForecastOptions, MultiStepForecaster
from titans_stream.forecasting.multi.layout import FINER_BANDS
from titans_stream.records import Float64

pytestmark = pytest.mark.timeout(1_200)
MINUTES = DAY // 60
AHEAD = MINUTES // 4


def made_of(level: Float64, seed: int = 0) -> tuple[Float64, Float64, Float64]:
    """Seconds, readings and truth of a cycle of an hour, in readings of a minute, on a level."""
    n = len(level)
    truth = level + cycle(n, 60)
    noise = 0.3 * np.random.default_rng(seed).normal(size=n)
    return MIDNIGHT + 60.0 * np.arange(n), truth + noise, truth


def error(x: Float64, truth: Float64, longer: bool = True) -> float:
    """Mean absolute error, six hours ahead, of five forecasts in the last day."""
    n = len(truth) - AHEAD
    at = [n - 1 - k * MINUTES // 5 for k in reversed(range(5))]
    seconds = MIDNIGHT + 60.0 * np.arange(n)
    options = ForecastOptions(longer=longer)
    made = feed(
        x[:n], dict.fromkeys(at, AHEAD), seconds=seconds, interval=60e9, options=options
    ).median.reshape(5, AHEAD)
    assert np.isfinite(made).all()
    return mae(made, np.stack([truth[i + 1 : i + 1 + AHEAD] for i in at]))


def ticks(days: float) -> Float64:
    return np.arange(int(days * MINUTES) + 123 + AHEAD, dtype=np.float64)


def by_day(t: Float64) -> Float64:
    """10 by day, 0 by night: far more than cells are off by, so a new level each time."""
    hour = t % MINUTES / 60
    level: Float64 = np.where((hour > 6) & (hour < 18), 10.0, 0.0)
    return level


@pytest.mark.parametrize("jump", [0.0, 30.0])
def test_a_level_that_switches_every_day_is_the_days_course(jump: float) -> None:
    """Also where it moves as a whole once."""
    t = ticks(6)
    _, x, truth = made_of(by_day(t) + jump * (t > 3.4 * MINUTES))
    assert error(x, truth) < 0.45 * error(x, truth, longer=False)


@pytest.mark.parametrize("day", [0.6, 3.4])
def test_a_new_level_moves_the_whole_day(day: float) -> None:
    """Before it was seen at that time of day, too."""
    t = ticks(6)
    _, x, truth = made_of(course(60.0 * t) + 30.0 * (t > day * MINUTES))
    assert error(x, truth) < 0.7 * error(x, truth, longer=False)


def test_what_is_missing_teaches_the_day_nothing() -> None:
    """A sensor that sends nothing for a day is not at its last level for a day."""
    t = ticks(6)
    _, x, truth = made_of(course(60.0 * t))
    out = x.copy()
    out[4 * MINUTES + 300 : 5 * MINUTES - 200] = np.nan
    assert error(out, truth) < 1.5 * error(x, truth)


def test_forecasts_while_readings_are_missing_know_the_day() -> None:
    """What they start from is the level when there was one."""
    t = ticks(5)
    seconds, x, truth = made_of(course(60.0 * t))
    n = len(t) - AHEAD
    x[n - 200 : n] = np.nan
    errors = [
        mae(
            feed(
                x[:n], {n - 1: AHEAD}, seconds=seconds[:n], interval=60e9,
                options=ForecastOptions(longer=longer),
            ).median,
            truth[n:],
        )
        for longer in (True, False)
    ]  # fmt: skip
    assert errors[0] < 0.4 * errors[1]


def test_an_interval_that_wavers_is_the_same_day() -> None:
    """Of a period that is told, as of one that was found."""
    n = 4 * MINUTES
    seconds, x, _ = made_of(course(60.0 * np.arange(n)))
    steps = np.zeros(n, np.int64)
    steps[-1] = AHEAD
    made = []
    for off in (0.0, 4e-4):
        interval = 60e9 * (1.0 + off * np.sin(np.arange(n) / 200.0))
        forecaster = MultiStepForecaster(WEIGHTS, LEVELS, options=ForecastOptions(period=60))
        args = np.zeros(n, np.int64), x, seconds, interval, (1e9 * seconds).astype(np.int64), steps
        made.append(forecaster.run(fresh(1), *args))
    assert made[0].longer[0] == made[1].longer[0] == MINUTES
    np.testing.assert_allclose(made[1].median, made[0].median, rtol=1e-3, atol=1e-2)


def test_of_a_week_nothing_is_left_beside_the_day() -> None:
    """How a week repeated did says nothing where none is followed; and the other way round."""
    rng = np.random.default_rng(5)
    arrays = fresh(1)
    week, after = 35 * 96, 35 * 96 + 20 * 96
    t = np.arange(after + 30 * 96, dtype=np.float64)
    seconds = MIDNIGHT + 900.0 * t
    x = course(seconds) * (1.0 + (np.floor(t / 96) % 7 > 4)) + 0.3 * rng.normal(size=len(t))
    short = cycle(len(t), 7.5) + 0.1 * rng.normal(size=len(t))
    x[week:after] = 4.0 * short[week:after]
    for first, end in ((0, week), (week, after), (after, len(t))):
        feed(x[first:end], {}, arrays=arrays, seconds=seconds[first:end], interval=900e9)
        meta, gate = arrays["forecast_meta"][0], arrays["forecast_gate"][0, FINER_BANDS:]
        if first == week:
            assert meta["period"] < 10.0 and meta["day"] == 96.0 and meta["cycle"] == 0.0
            for name in ("cycle_mass", "longer_mass", "longer", "cycle", "cycle_model"):
                assert not gate[name].any()
        else:
            assert meta["period"] == 96.0 and meta["day"] == 0.0 and meta["cycle"] == 7.0
            assert gate["cycle_mass"].any()
