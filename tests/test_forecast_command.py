"""`titans-stream forecast`: the engine's own forecasts, from the end or as the service would."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from titans_stream import cli
from titans_stream.durations import SECOND
from titans_stream.engine.build import EngineSetup, build_engine
from titans_stream.files import csv_file
from titans_stream.forecasting.settings import ForecastConfig
from titans_stream.lifecycle.artifacts import base_model
from titans_stream.records import Float64, Forecast, Int64, Readings
from titans_stream.times import format_timestamp, format_timestamps, parse_timestamp

BEGIN = parse_timestamp("2026-03-01T00:00:00Z")
HOUR = 3600 * SECOND
LEVELS = ("0.025", "0.1", "0.9", "0.975")


def cycles(rows: int, columns: int, seed: int = 0) -> Float64:
    """[rows, columns] noisy days of 24 readings."""
    rng = np.random.default_rng(seed)
    t = np.arange(rows)[:, None]
    values: Float64 = np.sin(2 * np.pi * (t + 5 * np.arange(columns)) / 24)
    return values + 0.1 * rng.standard_normal((rows, columns))


def write(path: Path, header: list[str], rows: list[list[object]]) -> Path:
    lines = [",".join(map(str, row)) for row in [header, *rows]]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def timed(path: Path, values: Float64) -> Path:
    """Hourly rows with the columns at, a, b, ..."""
    times = format_timestamps(BEGIN + HOUR * np.arange(len(values)))
    rows: list[list[object]] = [
        [time, *("" if v != v else v for v in row)]
        for time, row in zip(times, values.tolist(), strict=True)
    ]
    return write(path, ["at", *"abcdefgh"[: values.shape[1]]], rows)


def run_forecast(path: Path, *arguments: str, code: int = 0) -> list[dict[str, str]]:
    out = path.with_suffix(".forecasts")
    assert cli.main(["forecast", str(path), "--out", str(out), "--quiet", *arguments]) == code
    with out.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def through_engine(
    series: list[str], times: Int64, values: Float64, config: ForecastConfig, calendar: bool = True
) -> list[Forecast]:
    """The forecasts of an engine that is fed directly and at once."""
    engine = build_engine(base_model(), EngineSetup(calendar=calendar, forecast=config))
    n = len(values)
    return engine.process(
        Readings(series, times, values, np.zeros(n, np.int32), np.arange(n))
    ).forecasts


def assert_same(rows: list[dict[str, str]], expected: list[Forecast]) -> None:
    """Every number of the file is the engine's to the last bit."""
    read = iter(rows)
    for forecast in expected:
        assert list(forecast.quantiles) == list(LEVELS)
        for i, time in enumerate(forecast.timestamps):
            row = next(read)
            assert list(row.values())[:4] == [
                forecast.series_id,
                forecast.origin,
                time,
                str(i + 1),
            ]
            assert float(row["median"]) == forecast.median[i]
            for level, quantile in forecast.quantiles.items():
                assert float(row[f"q{level}"]) == quantile[i]
    assert list(read) == []


def test_from_the_last_row_the_forecasts_are_the_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_file.CsvFile.chunks, "__defaults__", (210,))
    values = cycles(400, 2)
    values[390:, 1] = np.nan
    path = timed(tmp_path / "d.csv", values)
    rows = run_forecast(path, "--timestamp", "at", "--horizon", "36")
    assert tuple(rows[0]) == (
        "series_id", "origin", "timestamp", "step", "median", *(f"q{level}" for level in LEVELS),
    )  # fmt: skip
    times = BEGIN + HOUR * np.arange(400)
    expected = []
    for column, last in (("b", 390), ("a", 400)):
        config = ForecastConfig(steps=36, every=last)
        at = "ab".index(column)
        expected += through_engine([column] * last, times[:last], values[:last, at].copy(), config)
    assert [one.origin for one in expected] == ["2026-03-17T05:00:00Z", "2026-03-17T15:00:00Z"]
    assert_same(rows, expected)


def test_every_n_readings_the_forecasts_are_those_of_the_service(tmp_path: Path) -> None:
    values = cycles(300, 2)
    path = timed(tmp_path / "d.csv", values)
    rows = run_forecast(path, "--timestamp", "at", "--horizon", "1d", "--every", "90")
    times = np.repeat(BEGIN + HOUR * np.arange(300), 2)
    expected = through_engine(
        ["a", "b"] * 300, times, values.ravel(), ForecastConfig(horizon="1d", every=90)
    )
    assert [len(one.median) for one in expected] == [24] * 6
    assert_same(rows, expected)


def test_forecasts_continue_the_cycle(tmp_path: Path) -> None:
    values = cycles(24 * 40, 1)
    path = timed(tmp_path / "d.csv", values)
    rows = run_forecast(path, "--timestamp", "at", "--horizon", "2d")
    ahead = np.sin(2 * np.pi * np.arange(48) / 24)
    median = np.array([float(row["median"]) for row in rows])
    assert np.abs(median - ahead).mean() < 0.12
    low, high = (np.array([float(row[name]) for row in rows]) for name in ("q0.025", "q0.975"))
    assert ((low < median) & (median < high)).all()
    assert (high - low).mean() < 1.2, "narrower than the cycle is high"


def test_without_times_origin_and_timestamp_are_numbers_of_readings(tmp_path: Path) -> None:
    values = cycles(200, 1)
    path = write(tmp_path / "d.csv", ["v"], values.tolist())
    rows = run_forecast(path, "--horizon", "3")
    assert [[row[c] for c in ("origin", "timestamp", "step")] for row in rows] == [
        ["200", "201", "1"],
        ["200", "202", "2"],
        ["200", "203", "3"],
    ]
    times = np.arange(200) * 300 * SECOND
    (expected,) = through_engine(
        ["v"] * 200, times, values[:, 0], ForecastConfig(steps=3, every=200), calendar=False
    )
    assert [float(row["median"]) for row in rows] == expected.median


def test_long_files_own_quantiles_and_a_series_that_is_too_young(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = cycles(120, 1)[:, 0]
    rows: list[list[object]] = []
    for i, v in enumerate(values.tolist()):
        rows.append(["old", format_timestamp(BEGIN + i * HOUR), v])
        if i >= 90:
            rows.append(["young", format_timestamp(BEGIN + i * HOUR), v])
    path = write(tmp_path / "d.csv", ["id", "ts", "v"], rows)
    arguments = ["--series", "id", "--timestamp", "ts", "--horizon", "2"]
    found = run_forecast(path, *arguments, "--quantiles", "0.75,0.25")
    assert list(found[0])[5:] == ["q0.25", "q0.75"]
    assert [row["series_id"] for row in found] == ["old", "old"]
    out = tmp_path / "out.csv"
    assert cli.main(["forecast", str(path), "--out", str(out), *arguments]) == 0
    err = capsys.readouterr().err.splitlines()
    assert err[0].startswith("1 forecasts of 1 series, ")
    assert err[1] == "without a forecast, fewer than 50 values: young"


def test_rows_that_are_not_in_order_of_time(tmp_path: Path) -> None:
    """The last reading is the latest; the others come late, as they would in the service."""
    values = cycles(200, 1)[:, 0]
    times = BEGIN + HOUR * np.arange(200)
    order = [*range(198), 199, 198]
    rows: list[list[object]] = [[format_timestamp(int(times[i])), values[i]] for i in order]
    path = write(tmp_path / "d.csv", ["at", "v"], rows)
    found = run_forecast(path, "--timestamp", "at", "--horizon", "1")
    assert [row["origin"] for row in found] == [format_timestamp(int(times[199]))]


def long_file(path: Path, times: dict[str, list[int]]) -> Path:
    """Series with a daily cycle at hours of their own, rows in order of time."""
    cells = [(hour, name) for name, hours in times.items() for hour in hours]
    rows: list[list[object]] = [
        [name, format_timestamp(BEGIN + hour * HOUR), np.sin(hour / 4)]
        for hour, name in sorted(cells)
    ]
    return write(path, ["id", "at", "v"], rows)


def test_a_series_that_ended_long_before_the_others_is_forecast(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = list(range(90 * 24, 90 * 24 + 400))
    times = {"retired": list(range(400)), "x": late, "y": late}
    path, out = long_file(tmp_path / "d.csv", times), tmp_path / "o.csv"
    arguments = ["--series", "id", "--timestamp", "at", "--horizon", "3", "--out", str(out)]
    assert cli.main(["forecast", str(path), *arguments]) == 0
    err = capsys.readouterr().err
    assert err.startswith("3 forecasts of 3 series, ")
    assert err.count("\n") == 1
    alone = long_file(tmp_path / "alone.csv", {"retired": times["retired"]})
    with out.open(encoding="utf-8", newline="") as file:
        found = [row for row in csv.DictReader(file) if row["series_id"] == "retired"]
    assert found == run_forecast(alone, *arguments[:6])
    assert len(found) == 3


def test_why_a_series_has_no_forecast(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    times = {
        "good": list(range(100)),
        "short": list(range(49)),
        "returned": [*range(400), *range(400 + 31 * 24, 420 + 31 * 24)],
    }
    path, out = long_file(tmp_path / "d.csv", times), tmp_path / "o.csv"
    command = ["forecast", str(path), "--series", "id", "--timestamp", "at", "--horizon", "3"]
    assert cli.main([*command, "--out", str(out)]) == 0
    assert capsys.readouterr().err.splitlines()[1:] == [
        "without a forecast, fewer than 50 values: short",
        "without a forecast, fewer than 50 values since a pause of more than 30d: returned",
    ]


def test_an_infinite_value_at_the_end_is_a_missing_one(tmp_path: Path) -> None:
    values = cycles(100, 1)
    values[99] = np.inf
    rows = run_forecast(timed(tmp_path / "d.csv", values), "--timestamp", "at", "--horizon", "1")
    assert [row["origin"] for row in rows] == [format_timestamp(BEGIN + 98 * HOUR)]


def test_many_dropped_rows_are_the_last_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[list[object]] = [
        [name, format_timestamp(BEGIN + i * HOUR), i % 7] for i in range(60) for name in "aaa"
    ]
    path = write(tmp_path / "d.csv", ["id", "at", "v"], rows)
    for every in ([], ["--every", "20"]):
        run_forecast(path, "--timestamp", "at", "--value", "v", "--horizon", "1", *every, code=2)
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("warning: 120 of 180 readings were dropped: their series had the")


@pytest.mark.parametrize(
    ("option", "target", "what"),
    [
        ("--out", "d.csv", "d.csv, which is read"),
        ("--plot", "link.csv", "d.csv, which is read"),
        ("--plot", "f.csv", "what --out writes"),
    ],
)
def test_no_file_is_written_over(
    option: str,
    target: str,
    what: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = timed(Path("d.csv"), cycles(60, 1)).read_bytes()
    Path("link.csv").symlink_to("d.csv")
    command = ["forecast", "d.csv", "--horizon", "1", "--timestamp", "at", "--out", "f.csv"]
    assert cli.main([*command, option, target]) == 2
    assert capsys.readouterr().err == (
        f"titans-stream forecast: {option} {target}: would overwrite {what}\n"
    )
    assert Path("d.csv").read_bytes() == before
    assert not Path("f.csv").exists()


def test_plot_and_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = timed(tmp_path / "d.csv", cycles(200, 2))
    picture = tmp_path / "p.png"
    arguments = ["forecast", str(path), "--timestamp", "at", "--horizon", "24", "--quiet"]
    assert cli.main([*arguments, "--out", "-", "--every", "30", "--plot", str(picture)]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 2 * 6 * 24, "after readings 50, 80, ..., 200"
    assert picture.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--horizon", "1d"], "--horizon 1d: a file without times needs a number of readings"),
        (["--horizon", "0"], "--horizon 0: Input should be greater than or equal to 1"),
        (["--horizon", "-3"], "--horizon -3: a file without times needs a number of readings"),
        (["--horizon", "soon", "--timestamp", "at"], "--horizon soon: a duration such as 500ms"),
        (["--horizon", "6000"], "--horizon 6000: with 4 quantiles at most 5,000 readings"),
        (["--horizon", "4", "--every", "0"], "--every 0: Input should be greater than"),
        (["--horizon", "4", "--quantiles", "0.5"], "--quantiles 0.5: 0.5 is the median"),
        (["--horizon", "4", "--quantiles", "2"], "--quantiles 2: 2 is not between 0 and 1"),
        (["--horizon", "4", "--quantiles", "x"], "--quantiles x: numbers such as 0.1,0.9"),
        (["--horizon", "4", "--value", "c"], "d.csv: there is no column 'c'"),
        (["--horizon", "4", "--plot", "no/p.png"], "--plot no/p.png: there is no folder no"),
        (["--horizon", "4", "--model", "none"], "model 'none': no such folder"),
        (["--horizon", "4"], "d.csv: no series has the 50 values that a forecast needs"),
    ],
)
def test_errors_are_one_line_and_leave_no_file(
    arguments: list[str],
    line: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    timed(tmp_path / "d.csv", cycles(49, 1))
    assert cli.main(["forecast", "d.csv", "--out", "f.csv", "--quiet", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"titans-stream forecast: {line}")
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["d.csv"]


def test_business_days_step_over_the_weekend(tmp_path: Path) -> None:
    days = [day for day in range(120) if day % 7 < 5]  # 2 March 2026 is a Monday
    begin = BEGIN + 24 * HOUR
    rows: list[list[object]] = [
        [format_timestamp(begin + day * 24 * HOUR)[:10], np.sin(day)] for day in days
    ]
    path = write(tmp_path / "d.csv", ["at", "v"], rows)
    found = run_forecast(path, "--timestamp", "at", "--horizon", "4")
    assert [row["origin"][:10] for row in found] == ["2026-06-29"] * 4, "a Monday"
    assert [row["timestamp"] for row in found] == [
        f"2026-{day}T00:00:00Z" for day in ("06-30", "07-01", "07-02", "07-03")
    ]
    week = run_forecast(path, "--timestamp", "at", "--horizon", "1w")
    assert [row["timestamp"][5:10] for row in week] == ["06-30", "07-01", "07-02", "07-03", "07-06"]
    every = run_forecast(path, "--timestamp", "at", "--horizon", "1", "--every", "5")
    assert {(row["origin"][:10], row["timestamp"][:10]) for row in every} >= {
        ("2026-05-08", "2026-05-11"),
        ("2026-06-26", "2026-06-29"),
    }


def test_months_step_to_the_first(tmp_path: Path) -> None:
    """A month is no silence, though some are longer than `expire_after`."""
    rows: list[list[object]] = [
        [f"{1999 + i // 12}-{i % 12 + 1:02d}-01", 100 + i % 12] for i in range(320)
    ]
    path = write(tmp_path / "d.csv", ["month", "v"], rows)
    out = tmp_path / "o.csv"
    code = cli.main(["forecast", str(path), "--timestamp", "month", "--horizon", "12", "--out",
                     str(out)])  # fmt: skip
    assert code == 0
    with out.open(encoding="utf-8", newline="") as file:
        found = [row["timestamp"] for row in csv.DictReader(file)]
    months = [(2025, 9 + i) if i < 4 else (2026, i - 3) for i in range(12)]
    assert found == [f"{year}-{month:02d}-01T00:00:00Z" for year, month in months]


@pytest.mark.parametrize("options", [[], ["--every", "50"]])
def test_a_file_that_is_newest_first_gives_the_same_forecasts(
    options: list[str], tmp_path: Path
) -> None:
    path = timed(tmp_path / "d.csv", cycles(200, 2))
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    backwards = tmp_path / "b.csv"
    backwards.write_text("\n".join([header, *rows[::-1]]) + "\n", encoding="utf-8")
    arguments = ["--timestamp", "at", "--horizon", "3", *options]
    found, expected = run_forecast(backwards, *arguments), run_forecast(path, *arguments)
    key = ("series_id", "origin", "step")
    assert sorted(found, key=lambda row: [row[name] for name in key]) == sorted(
        expected, key=lambda row: [row[name] for name in key]
    )
    assert len(found) == 6 * (4 if options else 1)


def test_a_backtest_compares_with_naive_forecasts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = cycles(24 * 7 * 6, 2)
    path = timed(tmp_path / "a.csv", values)
    run_forecast(path, "--timestamp", "at", "--horizon", "24", "--backtest")
    lines = [line for line in capsys.readouterr().err.splitlines() if "backtest" in line]
    assert "last value" in lines[0]
    assert "week before" in lines[0]
    error = {
        part.rsplit(" ", 1)[0]: float(part.rsplit(" ", 1)[1])
        for part in lines[0].split("mean absolute error: ")[1].split(", ")
    }
    assert error["forecast"] < error["day before"] < error["last value"]
    begin = int(0.9 * (len(values) - 1))
    origins = [at for at in range(49, len(values) - 1, 24) if at >= begin]
    day = [
        np.abs(values[at + 1 : at + 25] - values[at - 23 : at + 1][: len(values) - at - 1]).mean()
        for at in origins
    ]
    assert error["day before"] == pytest.approx(np.mean(day), rel=0.2)
    assert float(lines[1].split(": ")[2].split(" ")[0]) < 1.0
