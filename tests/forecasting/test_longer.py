"""The longer cycle beside the period: weeks, clocks that are changed, what holds for any."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pytest

from tests.forecasting.test_multi_step import HOUR, LEVELS, MIDNIGHT, WEIGHTS, feed, fresh
from titans_stream.engine.clock import LocalTime
from titans_stream.forecasting.multi.forecaster import (
    ForecastOptions,
    MultiStepForecaster,
    state_layout,
)
from titans_stream.records import Float64, Forecast, Int64
from titans_stream.times import parse_timestamp

pytestmark = pytest.mark.timeout(1_200)
WEEK = 168


def office(local: Float64) -> Float64:
    """Load by local seconds: 100 on weekdays from 8 to 18 h, else 20."""
    hour, day = (local // 3600) % 24, (local // 86_400 + 3) % 7
    load: Float64 = np.where((hour >= 8) & (hour < 18) & (day < 5), 100.0, 20.0)
    return load


def hours(n: int) -> Float64:
    return MIDNIGHT + 3600.0 * np.arange(n)


def rmse(a: Float64, b: Float64) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2)))


@pytest.mark.parametrize("end", [0, 3, 5, 8])
def test_weekdays_and_weekends_are_told_apart(end: int) -> None:
    """Whatever day the history ends on: as good as last week repeated, which errs by 2.8."""
    n = 24 * (7 * 11 + end)
    seconds = hours(n + WEEK)
    noise = np.random.default_rng(1).normal(0.0, 2.0, n + WEEK)
    truth = office(seconds)
    made = feed((truth + noise)[:n], {n - 1: WEEK}, seconds=seconds[:n], interval=HOUR)
    assert (made.period[0], made.longer[0]) == (24.0, 168.0)
    assert rmse(made.median, truth[n:]) < 2.8
    plain = feed(
        (truth + noise)[:n], {n - 1: WEEK}, seconds=seconds[:n], interval=HOUR,
        options=ForecastOptions(longer=False),
    )  # fmt: skip
    assert rmse(plain.median, truth[n:]) > 15.0


def test_a_week_that_only_moves_the_level_is_forecast() -> None:
    n = 24 * 7 * 12 - 72
    seconds = hours(n + WEEK)
    day = (seconds // 86_400 + 3) % 7
    truth = 60.0 + 20.0 * np.sin(2 * np.pi * seconds / 86_400) - 15.0 * (day >= 5)
    x = truth + np.random.default_rng(2).normal(0.0, 2.0, n + WEEK)
    made = feed(x[:n], {n - 1: WEEK}, seconds=seconds[:n], interval=HOUR)
    assert rmse(made.median, truth[n:]) < rmse(x[n - WEEK : n], truth[n:])


def with_holidays(
    days: list[int], end: int, table: npt.NDArray[np.bool_], cut: int | None = None
) -> tuple[Float64, Float64]:
    """Truth and forecast of the week after `end` days, with these days of it like Sundays."""
    n = 24 * end
    seconds = hours(n + WEEK)
    quiet = np.isin((seconds - MIDNIGHT) // 86_400, days)
    truth = np.where(quiet, 20.0, office(seconds))
    x = truth + np.random.default_rng(5).normal(0.0, 2.0, len(truth))
    steps = np.zeros(n, np.int64)
    steps[-1] = WEEK
    forecaster = MultiStepForecaster(WEIGHTS, LEVELS, special_days=table)
    arrays, medians = fresh(1), np.zeros(0)
    for part in (slice(0, cut or 0), slice(cut or 0, n)):
        count = part.stop - part.start
        medians = forecaster.run(
            arrays, np.zeros(count, np.int64), x[:n][part], seconds[:n][part],
            np.full(count, float(HOUR)), (seconds[:n][part] * 1e9).astype(np.int64), steps[part],
        ).median  # fmt: skip
    return truth[n:], medians


def test_a_holiday_is_forecast_as_a_sunday_and_the_days_after_one_as_they_are() -> None:
    """Day 0 is a Monday; the forecast begins on a Wednesday, and the Tuesday before is a holiday,
    as are two days of the history and the Thursday and Saturday ahead."""
    holidays = [24, 51, 78, 80, 82]
    table = np.zeros(30_000, np.bool_)
    table[MIDNIGHT // 86_400 + np.array(holidays)] = True
    truth, known = with_holidays(holidays, 79, table)
    assert rmse(known, truth) < 4.0
    _, unknown = with_holidays(holidays, 79, np.zeros(0, np.bool_))
    assert rmse(unknown[24:48], truth[24:48]) > 30.0
    np.testing.assert_array_equal(with_holidays(holidays, 79, table, 1_871)[1], known)
    ordinary = np.zeros(30_000, np.bool_)
    np.testing.assert_array_equal(with_holidays(holidays, 79, ordinary)[1], unknown)


def test_levels_of_weekdays_that_wander_are_as_good_as_the_week_before() -> None:
    """What the memory of the week lags behind: there the week before is the forecast to beat."""
    rng = np.random.default_rng(1)
    course, weeks = rng.normal(0.0, 10.0, WEEK), []
    for _ in range(40):
        course = course + np.repeat(rng.normal(0.0, 8.0, 7), 24)
        weeks.append(course + rng.normal(0.0, 0.5, WEEK))
    x = np.concatenate(weeks)
    origins = np.arange(20 * WEEK - 1, len(x) - WEEK, 29)
    truth = np.stack([x[at + 1 : at + 1 + WEEK] for at in origins])
    naive = rmse(np.stack([x[at + 1 - WEEK : at + 1] for at in origins]), truth)
    asked = dict.fromkeys(origins.tolist(), WEEK)

    def error(fallback: bool) -> float:
        made = feed(
            x, asked, seconds=hours(len(x)), interval=HOUR,
            options=ForecastOptions(fallback=fallback),
        )  # fmt: skip
        return rmse(made.median.reshape(-1, WEEK), truth)

    found, alone = error(True), error(False)
    assert found < 0.99 * naive and found < 0.995 * alone


def test_quarters_of_an_hour() -> None:
    n = 96 * 7 * 8 - 96 * 2
    seconds = MIDNIGHT + 900.0 * np.arange(n + 7 * 96)
    truth = office(seconds)
    x = truth + np.random.default_rng(3).normal(0.0, 2.0, len(truth))
    made = feed(x[:n], {n - 1: 7 * 96}, seconds=seconds[:n], interval=HOUR / 4)
    assert (made.period[0], made.longer[0]) == (96.0, 672.0)
    assert rmse(made.median, truth[n:]) < 4.0


def test_a_second_cycle_is_found_without_a_calendar() -> None:
    n = 24 * 7 * 20
    truth = np.concatenate([office(hours(n + WEEK))])
    x = truth + np.random.default_rng(4).normal(0.0, 2.0, len(truth))
    made = feed(x[:n], {n - 1: WEEK})
    if made.period[0] == 24.0:
        assert made.longer[0] == 168.0
    assert rmse(made.median, truth[n:]) < 12.0


def test_a_long_gap_keeps_the_weekday() -> None:
    """Whole periods of a gap of 100 days are left out; the weekday is the clock's."""
    n, gap = 24 * 7 * 12, 24 * 100
    seconds = hours(n + gap + WEEK + 24)
    truth = office(seconds)
    x = truth + np.random.default_rng(5).normal(0.0, 2.0, len(truth))
    kept = np.r_[0:n, n + gap : n + gap + 24]
    made = feed(x[kept], {len(kept) - 1: WEEK}, seconds=seconds[kept], interval=HOUR)
    assert rmse(made.median, truth[n + gap + 24 :]) < 8.0


def test_nothing_is_lost_where_no_week_is() -> None:
    n = 24 * 7 * 16
    rng = np.random.default_rng(6)
    shape = 10.0 * np.sin(2 * np.pi * np.arange(n) / 24.0)
    level = np.cumsum(rng.normal(0.0, 0.3, n))
    x = shape + level + rng.normal(0.0, 1.0, n)
    asked = dict.fromkeys(range(n // 2, n - 96, 17), 96)
    errors = []
    for longer in (True, False):
        made = feed(
            x, asked, seconds=hours(n), interval=HOUR, options=ForecastOptions(longer=longer)
        )
        ahead = np.array([x[at + 1 : at + 97] for at in asked])
        errors.append(rmse(made.median.reshape(ahead.shape), ahead))
    assert errors[0] < 1.03 * errors[1]


@pytest.mark.parametrize("change", ["2025-03-30T01:00:00Z", "2025-10-26T01:00:00Z"])
def test_the_phase_of_every_step_is_its_own_local_time(change: str) -> None:
    """Vienna's clocks are changed within the forecast: office hours begin at 8 by the clock."""
    zone = LocalTime("Europe/Vienna")
    origin = parse_timestamp(change) - 15 * HOUR
    n = 24 * 7 * 10
    times: Int64 = origin + HOUR * np.arange(1 - n, 97, dtype=np.int64)
    truth = office(zone.seconds(times))
    x = truth + np.random.default_rng(7).normal(0.0, 1.0, len(truth))
    wanted = np.zeros(n, np.int64)
    wanted[-1] = 96
    arguments = (
        np.zeros(n, np.int64), x[:n], zone.seconds(times[:n]), np.full(n, float(HOUR)), times[:n],
        wanted,
    )  # fmt: skip
    forecaster = MultiStepForecaster(WEIGHTS, LEVELS)
    made = forecaster.run(fresh(1), *arguments, zone.seconds)
    assert rmse(made.median, truth[n:]) < 3.0
    blind = forecaster.run(fresh(1), *arguments)
    assert rmse(blind.median, truth[n:]) > 10.0


@pytest.mark.parametrize("change", ["2025-03-30T01:00:00Z", "2025-10-26T01:00:00Z"])
def test_the_engine_tells_its_forecasts_the_time_zone(change: str) -> None:
    from tests.engine.streams import Stream, engine, run

    zone = ZoneInfo("Europe/Vienna")
    origin = parse_timestamp(change) - 15 * HOUR
    n = 24 * 7 * 8
    times: Int64 = origin + HOUR * np.arange(1 - n, 73, dtype=np.int64)
    truth = office(LocalTime(zone.key).seconds(times))
    x = truth + np.random.default_rng(8).normal(0.0, 1.0, len(truth))
    stream = Stream(["a"] * n, times[:n], x[:n], np.zeros(n, np.int32), np.arange(n))
    config = {"steps": 72, "every": n}
    made: list[Forecast] = run(
        engine(forecast=config, settings={"timezone": zone.key}), stream, []
    ).forecasts
    (forecast,) = made
    assert forecast.periods == [24.0, 168.0]
    assert rmse(np.array(forecast.median), truth[n:]) < 6.0


def test_any_cutting_gives_the_same_bits_with_a_week() -> None:
    n = 24 * 7 * 6
    seconds = hours(n)
    x = office(seconds) + np.random.default_rng(9).normal(0.0, 3.0, n)
    x[100:130] = np.nan
    asked = dict.fromkeys(range(300, n, 61), 40)
    whole = feed(x, asked, seconds=seconds, interval=HOUR)
    arrays, medians = fresh(1), []
    for first in range(0, n, 97):
        part = slice(first, first + 97)
        steps = {at - first: count for at, count in asked.items() if first <= at < first + 97}
        made = feed(x[part], steps, arrays=arrays, seconds=seconds[part], interval=HOUR)
        medians.append(made.median)
    np.testing.assert_array_equal(np.concatenate(medians), whole.median)


def test_the_state_stays_small() -> None:
    assert sum(spec.nbytes for spec in state_layout().values()) <= 32 * 1024


@pytest.mark.parametrize(("interval", "period", "n"), [(1, 300, 6_000), (10, 282, 20_000)])
def test_a_short_cycle_of_fast_data_is_used_though_a_day_is_known(
    interval: int, period: int, n: int
) -> None:
    """300 s divide the day, 47 minutes do not; the cells of a day are too long for both."""
    t = np.arange(n + period)
    truth = 10.0 * np.sin(2 * np.pi * t / period) + 4.0 * (t % period < period // 5)
    x = truth + np.random.default_rng(10).normal(size=len(t))
    seconds = MIDNIGHT + float(interval) * t
    made = feed(x[:n], {n - 1: period}, seconds=seconds[:n], interval=interval * 1e9)
    assert abs(made.period[0] - period) <= 0.02 * period
    assert rmse(made.median, truth[n:]) < 1.5
