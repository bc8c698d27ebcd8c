"""The rules of GIFT-Eval: windows, scores, and the sets they are used on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.forecast_sets import HOUR, waves, write_csv, write_series
from titans_stream.cli import main
from titans_stream.evaluation.forecasting_contest import (
    FORECAST_LEVELS,
    ContestScore,
    ContestSeries,
    ContestSet,
    contest_table,
    load_contest_csv,
    load_contest_sets,
    run_contest,
)
from titans_stream.evaluation.forecasting_data import resplit
from titans_stream.evaluation.forecasting_scores import make_task
from titans_stream.forecasting.multi.forecaster import plain_weights

pytestmark = pytest.mark.timeout(1_200)


def hours(n: int, seed: int = 0) -> ContestSeries:
    t = np.arange(n)
    noise = np.random.default_rng(seed).normal(size=n)
    values = 50.0 + 10.0 * np.sin(2 * np.pi * t / 24) - 20.0 * (t // 24 % 7 >= 5) + noise
    return ContestSeries(values, HOUR * t)


@pytest.mark.parametrize(
    ("rows", "horizon", "windows"),
    [(17_420, 48, 20), (17_420, 480, 4), (17_420, 720, 3), (300, 48, 1)],
)
def test_windows_are_those_of_the_rules(rows: int, horizon: int, windows: int) -> None:
    one = ContestSet("a", [ContestSeries(np.zeros(rows), np.arange(rows))], 24, (horizon,))
    assert one.windows_of(horizon) == windows


def test_scores_are_their_formulas() -> None:
    score = ContestScore()
    truth = np.array([2.0, np.nan, 4.0])
    quantiles = np.broadcast_to(np.array([1.0, 9.0, 5.0]), (len(FORECAST_LEVELS), 3))
    score.add(truth, quantiles, 0.5)
    found = score.numbers()
    assert found["mase"] == 2.0
    # errors 1 and -1: 2 (q + 1 - q) over the levels, by 6 in all
    assert found["wql"] == pytest.approx(2.0 / 6.0)


def test_naive_forecasts_repeat_day_and_week_and_ours_knows_both() -> None:
    series = [hours(24 * 7 * 9, seed) for seed in range(3)]
    found = run_contest(ContestSet("a", series, 24, (48,)), plain_weights())[48]
    expected = []
    for one in series:
        n = len(one.values)
        for origin in range(n - 48 * 4, n, 48):
            before, truth = one.values[:origin], one.values[origin : origin + 48]
            scale = np.abs(before[24:] - before[:-24]).mean()
            expected.append(np.abs(truth - before[-168:-120]).mean() / scale)
    week = found["seasonal naive (week)"]
    assert week["windows"] == len(expected) == 12
    assert week["mase"] == pytest.approx(np.mean(expected))
    assert found["titans-stream"]["mase"] < week["mase"] < found["seasonal naive (day)"]["mase"]


def test_files_are_found_and_others_figures_stand_beside(tmp_path: Path) -> None:
    (tmp_path / "ett").mkdir()
    lines = [f"2026-01-{1 + i // 24:02d} {i % 24:02d}:00:00,{i % 24}" for i in range(24 * 30)]
    (tmp_path / "ett" / "ETTh1.csv").write_text("date,a\n" + "\n".join(lines) + "\n")
    train = hours(700).values
    np.savez(tmp_path / "m4_hourly_half.npz", H1_train=train[:652], H1_test=train[652:])
    sets = load_contest_sets(tmp_path, (48,))
    assert sets["M4 hourly"].windows_of(48) == 1
    assert len(sets["M4 hourly"].series[0].values) == 700
    assert len(sets["ETTh1"].series[0].values) == 720
    score = ContestScore()
    score.add(np.ones(2), np.ones((len(FORECAST_LEVELS), 2)), 1.0)
    table = contest_table({"M4 hourly": {48: {"titans-stream": score.numbers()}}})
    assert "TiRex (published)" in table
    with pytest.raises(ValueError, match="neither"):
        load_contest_sets(tmp_path / "ett" / "none", (48,))


def test_a_file_without_times_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n" + "\n".join(str(i % 24) for i in range(500)) + "\n")
    with pytest.raises(ValueError, match="times"):
        load_contest_csv(tmp_path / "a.csv", (48,))


def test_the_command_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_series(tmp_path / "load.csv", hours(24 * 7 * 6), "load")
    arguments = ["evaluate", "forecasting", "--protocol", "gift-eval", "--horizons", "48"]
    assert main([*arguments, "--data", str(tmp_path / "load.csv")]) == 0
    printed = capsys.readouterr().out
    assert "seasonal naive (week)" in printed
    assert "titans-stream" in printed


def test_most_of_a_set_is_judged_by_the_rules_of_online_forecasts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """5 % of 400 rows validate from row 80 on; windows of 2 steps begin in all rows from 100 on."""
    write_csv(tmp_path / "waves.csv", waves(400))
    arguments = ["evaluate", "forecasting", "--protocol", "onlinetsf", "--only-ours"]
    assert main([*arguments, "--data", str(tmp_path / "waves.csv"), "--horizons", "2"]) == 0
    assert "299" in capsys.readouterr().out
    online = resplit(waves(400), (0.2, 0.05, 0.75))
    assert (online.train_end, online.test_start) == (80, 100)
    assert len(make_task(online, [2]).origins) == 299


def long_file(folder: Path, lengths: dict[str, int]) -> Path:
    """Series one row of each after the other, newest row first."""
    rows = []
    for name, n in lengths.items():
        times = np.datetime64("2026-01-01T00", "h") + np.arange(n)
        rows += [f"{name},{time}:00,{i % 24}" for i, time in enumerate(times)]
    path = folder / "long.csv"
    path.write_text("site,timestamp,load\n" + "\n".join(reversed(rows)) + "\n")
    return path


def test_rows_of_a_long_file_are_told_apart_and_sorted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = long_file(tmp_path, {"a": 24 * 9, "b": 24 * 8, "c": 50})
    one = load_contest_csv(path, (24,), "site")
    assert (one.season, [len(series.values) for series in one.series]) == (24, [216, 192])
    for series in one.series:
        assert (np.diff(series.times) == HOUR).all()
        np.testing.assert_array_equal(series.values, np.arange(len(series.values)) % 24)
    assert "too short, left out: 'c'" in caplog.text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("a,2026-01-01T05:00,5", "a,2026-01-01T04:00,5"), "comes twice in 'a'"),
        (("timestamp", "when_it_was"), "no column of times"),
        (("site", "place"), "site"),
    ],
)
def test_what_is_wrong_with_a_long_file_is_named(
    tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    path = long_file(tmp_path, {"a": 24 * 9})
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(ValueError, match=said):
        load_contest_csv(path, (24,), "site")


def test_a_long_file_goes_with_the_rules_of_gift_eval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = long_file(tmp_path, {"a": 24 * 9})
    assert main(["evaluate", "forecasting", "--data", str(path), "--by", "site"]) == 2
    assert "--by: it goes with --data and --protocol" in capsys.readouterr().err
