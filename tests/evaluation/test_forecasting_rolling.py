"""Forecasts from one origin after another, and what the command takes for them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.forecast_sets import HOUR, write_series
from titans_stream.cli import main
from titans_stream.evaluation.forecasting_contest import (
    FORECAST_LEVELS,
    Calendar,
    ContestScore,
    ContestSeries,
    ContestSet,
    load_contest_csv,
    run_contest,
)
from titans_stream.evaluation.forecasting_rolling import (
    Origins,
    rolling_table,
    run_rolling,
    summary_of,
)
from titans_stream.evaluation.tables import Table
from titans_stream.forecasting.multi.forecaster import plain_weights
from titans_stream.special_days import CalendarConfig
from titans_stream.times import load_zone

pytestmark = pytest.mark.timeout(1_200)
MONDAY = 1_672_617_600 * 10**9
"""2023-01-02 00:00 UTC."""
ROLLING = ["evaluate", "forecasting", "--protocol", "rolling"]


def office(weeks: int, noise: float = 1.0) -> ContestSeries:
    t = np.arange(24 * 7 * weeks)
    work = (t // 24 % 7 < 5) & (t % 24 >= 8) & (t % 24 < 18)
    values = 20.0 + 60.0 * work + noise * np.random.default_rng(0).normal(size=len(t))
    return ContestSeries(values, MONDAY + HOUR * t, "office")


@pytest.mark.parametrize(
    ("origins", "first", "last", "count"),
    [
        (Origins(), 900, 976, 77),
        (Origins(every=48), 900, 948, 2),
        (Origins(last=336), 664, 976, 313),
        (Origins(every=5, first=504), 504, 974, 95),
    ],
)
def test_origins_lie_where_they_are_asked_for(
    origins: Origins, first: int, last: int, count: int
) -> None:
    found = origins.of(1_000, 24)
    assert (found[0], found[-1], len(found)) == (first, last, count)


def test_errors_are_those_of_the_rows_and_the_week_is_known() -> None:
    series = office(8)
    one = ContestSet("a", [series], 24, (24, 48))
    found = run_rolling(one, plain_weights(), Origins(every=7, last=336))
    for horizon in one.horizons:
        row, values = found[horizon]["office"], series.values
        at = np.arange(len(values) - 336, len(values) - 48 + 1, 7)
        rows = at[:, None] + np.arange(horizon)
        assert row["origins"] == len(at)
        assert row["week"] == pytest.approx(np.abs(values[rows - 168] - values[rows]).mean())
        before = at[:, None] - 24 + np.arange(horizon) % 24
        assert row["day"] == pytest.approx(np.abs(values[before] - values[rows]).mean())
        assert row["last"] == pytest.approx(np.abs(values[at - 1][:, None] - values[rows]).mean())
        assert row["ratio"] == pytest.approx(row["mae"] / row["week"])
        assert row["mae"] < row["week"] < row["day"]
        assert 70.0 < row["coverage_80"] <= row["coverage_95"] <= 100.0
    assert "office" in rolling_table({"a": found})


def test_only_series_with_enough_origins_are_counted_as_worse() -> None:
    def row(origins: int, ratio: float) -> dict[str, float | int]:
        return {"origins": origins, "ratio": ratio, "coverage_80": 80.0, "coverage_95": 90.0}

    found = summary_of(Table({"a": row(50, 1.2), "b": row(49, 2.0), "c": row(80, float("nan"))}))
    assert (found["worse"], found["counted"], found["series"]) == (1, 2, 3)
    assert found["worst_ratio"] == found["mean_ratio"] == 1.2
    assert summary_of(Table({"b": row(49, 2.0)}))["worse"] == 1


def test_coverage_counts_the_values_inside() -> None:
    score = ContestScore()
    quantiles = np.repeat(np.arange(float(len(FORECAST_LEVELS)))[:, None], 4, axis=1)
    score.add(np.array([0.5, 5.0, np.nan, 20.0]), quantiles, 1.0)
    found = score.numbers()
    assert found["coverage_80"] == pytest.approx(100 / 3)
    assert found["coverage_95"] == pytest.approx(200 / 3)


def test_holidays_are_forecast_as_sundays() -> None:
    """Australia Day, Thursday 26 January: nobody works, as a week before nobody knew."""
    series = office(9, noise=0.5)
    holiday = np.datetime64("2023-01-26T00", "ns").astype(np.int64)
    series.values[(series.times >= holiday) & (series.times < holiday + 24 * HOUR)] = 20.0
    first = int((holiday - MONDAY) // HOUR)
    one = ContestSet("a", [series], 24, (24,))
    errors = [
        run_rolling(one, plain_weights(), Origins(every=10_000, first=first), calendar)[24][
            "office"
        ]["mae"]
        for calendar in (Calendar(), Calendar("UTC", CalendarConfig(country="AU").table()))
    ]
    assert errors[1] < 0.5 * errors[0]


def test_the_clocks_of_a_zone_are_followed() -> None:
    """People in Vienna rise an hour earlier by UTC from 26 March 2023 on."""
    times = MONDAY + HOUR * np.arange(24 * 7 * 14)
    change = np.datetime64("2023-03-26T01", "ns").astype(np.int64)
    local = times // HOUR + 1 + (times >= change)
    values = 20.0 + 60.0 * ((local % 24 >= 8) & (local % 24 < 18))
    values = values + 0.5 * np.random.default_rng(1).normal(size=len(values))
    first = int((change - MONDAY) // HOUR) + 4
    one = ContestSet("a", [ContestSeries(values, times, "a")], 24, (48,))
    errors = [
        run_rolling(one, plain_weights(), Origins(every=10_000, first=first), Calendar(zone))
        for zone in ("UTC", "Europe/Vienna")
    ]
    assert errors[1][48]["a"]["mae"] < 0.5 * errors[0][48]["a"]["mae"]
    scored = [
        run_contest(one, plain_weights(), calendar=Calendar(zone))[48]["titans-stream"]["mase"]
        for zone in ("UTC", "Europe/Vienna")
    ]
    assert scored[0] != scored[1]


def test_the_command_writes_table_and_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write_series(tmp_path / "load.csv", office(6), "office"), tmp_path / "out.json"
    arguments = ["--data", str(path), "--horizons", "24", "--last", "0.2", "--every", "9"]
    more = ["--timezone", "Europe/Vienna", "--holidays", "AT", "--json", str(out)]
    assert main([*ROLLING, *arguments, *more]) == 0
    assert "of the best naive forecast" in capsys.readouterr().out
    found = json.loads(out.read_text())["load"]["24"]
    assert found["all"]["series"] == 1
    assert found["series"]["office"]["mae"] < found["series"]["office"]["day"]
    hidden = [*ROLLING, *arguments, "--no-times", "--json", str(out)]
    assert main(hidden) == 0
    assert json.loads(out.read_text())["load"]["24"]["series"] != found["series"]


def test_times_without_offset_are_those_of_the_zone(tmp_path: Path) -> None:
    path = write_series(tmp_path / "load.csv", office(3), "office", offset="")
    there = load_contest_csv(path, (24,), zone=load_zone("Europe/Vienna"))
    here = load_contest_csv(path, (24,))
    assert (here.series[0].times - there.series[0].times == HOUR).all()
    assert there.series[0].name == "office"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--protocol", "rolling", "--every", "0"], "--every: at least 1"),
        (["--protocol", "rolling", "--last", "-1"], "--last: a share"),
        (["--protocol", "rolling", "--first", "9", "--last", "2"], "no --last beside it"),
        (["--every", "2"], "--every: it goes with --protocol rolling"),
        (["--timezone", "UTC"], "--timezone: it goes with"),
        (["--no-times"], "--no-times: it goes with"),
        (["--protocol", "rolling", "--timezone", "Europe/Wien"], "--timezone: no such time zone"),
        (["--protocol", "rolling", "--holidays", "XX"], "--holidays: "),
        (["--protocol", "rolling", "--holidays", "AU-XYZ"], "--holidays: "),
    ],
)
def test_what_does_not_go_together_is_named(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_series(tmp_path / "load.csv", office(2), "office")
    assert main(["evaluate", "forecasting", "--data", str(path), *arguments]) == 2
    assert said in capsys.readouterr().err
