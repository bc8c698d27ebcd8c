"""`evaluate forecasting`: ours is the service's forecaster; files, tables, errors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.forecast_sets import one_block, waves, write_csv
from titans_stream import cli
from titans_stream.detection.rules import AlertConfig
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.settings import EngineConfig
from titans_stream.evaluation.forecasting_data import (
    ForecastSet,
    load_wide_csv,
)
from titans_stream.evaluation.forecasting_ours import OurForecaster, ablations
from titans_stream.evaluation.overrides import options_of
from titans_stream.forecasting.settings import ForecastConfig
from titans_stream.lifecycle.artifacts import base_model
from titans_stream.records import Float64, Readings


def through_engine(data: ForecastSet, first: int, end: int, steps: int) -> tuple[Float64, Float64]:
    """Median [D, H] and quantiles [L, D, H] of the service after rows [first, end)."""
    assert data.timestamp is not None
    config = ForecastConfig(steps=steps, every=end - first)
    model = base_model()
    settings = EngineConfig(device="cpu", expected_interval="1h")
    engine = StreamEngine(settings, AlertConfig(), model, forecast=config)
    n = (end - first) * data.series
    made = engine.process(
        Readings(
            list(data.columns) * (end - first),
            np.repeat(data.timestamp[first:end], data.series),
            data.values[first:end].reshape(-1).copy(),
            np.zeros(n, np.int32),
            np.arange(n),
        )
    ).forecasts
    assert [one.series_id for one in made] == list(data.columns)
    quantiles = np.array([list(one.quantiles.values()) for one in made])
    return np.array([one.median for one in made]), np.swapaxes(quantiles, 0, 1)


def z_scored(data: ForecastSet, values: Float64) -> Float64:
    scored: Float64 = (values - data.mean[:, None]) / data.scale[:, None]
    return scored


def test_ours_are_the_forecasts_of_the_service() -> None:
    data = waves()
    data.values[500:503, 1] = np.nan
    weights = base_model().weights
    blocks = list(OurForecaster(weights).blocks(data, np.array([300, 640, 701]), 48))
    assert [block.first.tolist() for block in blocks] == [[300, 640, 701]]
    (block,) = blocks
    assert block.quantiles is not None
    for i, origin in enumerate(block.first.tolist()):
        median, quantiles = through_engine(data, 0, origin, 48)
        np.testing.assert_allclose(block.median[i], z_scored(data, median), atol=1e-12)
        np.testing.assert_allclose(block.quantiles[:, i], z_scored(data, quantiles), atol=1e-12)
    fresh = next(OurForecaster(weights, lookback=96).blocks(data, np.array([640, 701]), 48))
    for i, origin in enumerate(fresh.first.tolist()):
        median, _ = through_engine(data, origin - 96, origin, 48)
        np.testing.assert_allclose(fresh.median[i], z_scored(data, median), atol=1e-12)
    assert np.abs(fresh.median - block.median[1:]).max() > 1e-3, "the carried memory tells"


def test_ours_know_nothing_of_the_future_and_of_other_origins() -> None:
    data = waves()
    changed = replace(data, values=data.values.copy())
    changed.values[700:] += 100.0
    for lookback in (None, 96):
        model = OurForecaster(base_model().weights, lookback=lookback)
        (many,) = model.blocks(data, np.arange(600, 701, 10), 24)
        (one,) = model.blocks(changed, np.array([700]), 24)
        np.testing.assert_array_equal(many.median[-1], one.median[0])


def test_ablations_change_the_forecasts() -> None:
    data = waves()
    weights = base_model().weights
    whole = one_block(OurForecaster(weights), data, 700, 48)
    found = ablations(data, weights)
    assert {"no memory", "no per-series learning", "period told: 24", "without timestamps"} <= set(
        found
    )
    off = found["no memory"].of(weights)
    assert np.abs(one_block(off, data, 700, 48) - whole).max() > 1e-3
    bare = replace(data, timestamp=None, season=0)
    assert not {"period told: 24", "without timestamps"} & set(ablations(bare, weights))


def test_options_by_name() -> None:
    assert options_of(["forecast.fallback=false", "forecast.period=96"]) == replace(
        options_of([]), fallback=False, period=96
    )
    for change, line in {
        "alerts.x=1": "'alerts.x=1' is not like forecast.fallback=false",
        "forecast.x=1": "forecast.x=1: unknown; forecast has memory, ",
        "forecast.memory=1": "forecast.memory=1: true or false is needed",
        "forecast.period=true": "forecast.period=true: a number of readings",
        "forecast.memory=[": "'forecast.memory=[': the value is no YAML",
    }.items():
        with pytest.raises(ValueError, match=line.replace("[", r"\[").replace(".", r"\.")):
            options_of([change])


def test_a_csv_file_is_a_set(tmp_path: Path) -> None:
    data = waves()
    path = write_csv(tmp_path / "plant.csv", data)
    read = load_wide_csv(path, (0.5, 0.25, 0.25))
    assert (read.name, read.columns, read.season) == ("plant", ("s0", "s1"), 24)
    assert (read.train_end, read.test_start) == (450, 675)
    np.testing.assert_array_equal(read.values, data.values)
    assert read.timestamp is not None and data.timestamp is not None
    np.testing.assert_array_equal(read.timestamp, data.timestamp)


def evaluate(out: Path, *arguments: str) -> dict[str, Any]:
    assert cli.main(["evaluate", "forecasting", *arguments, "--json", str(out)]) == 0
    numbers: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return numbers


def test_the_command_prints_tables_and_writes_numbers_and_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_csv(tmp_path / "plant.csv", waves())
    out = tmp_path / "numbers.json"
    arguments = ["--data", str(path), "--horizons", "48,24"]
    numbers = evaluate(out, *arguments, "--plots", str(tmp_path / "plots"), "--ablations")["plant"]
    assert set(numbers["horizons"]) == {"24", "48"}
    assert numbers["mse"] == pytest.approx(
        np.mean([numbers["horizons"][h]["mse"] for h in ("24", "48")]), rel=1e-4
    )
    assert set(numbers["coverage_80"]) == set(numbers["coverage_95"]) == {"1", "6", "24"}
    assert numbers["rows"]["titans-stream, streaming"]["mse"] == numbers["mse"]
    assert numbers["mse"] < numbers["rows"]["repeat last"]["mse"]
    assert numbers["ablations"]["no memory"]["mse"] != numbers["mse"]
    assert numbers["published"] == {}
    shown = capsys.readouterr().out
    assert "plant: errors on 157 origins x 2 series" in shown
    assert "plant: ablations of titans-stream, streaming" in shown
    assert "Simba" not in shown
    pictures = {path.name: path.read_bytes()[:4] for path in (tmp_path / "plots").iterdir()}
    assert pictures == dict.fromkeys(
        ["forecast_plant.png", "errors_plant.png", "coverage.png"], b"\x89PNG"
    )
    alone = evaluate(out, *arguments, "--only-ours", "--set", "forecast.memory=false")["plant"]
    assert list(alone["rows"]) == ["titans-stream, streaming"]
    assert alone["mse"] == numbers["ablations"]["no memory"]["mse"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "--root or --data: one of them is needed"),
        (["--root", "nosuch"], "root: nosuch is no folder"),
        (["--root", "."], "root: neither ETTh1, ETTh2, ETTm1, ETTm2 nor exchange_rate under ."),
        (["--data", "nosuch.csv"], "data: nosuch.csv is no file"),
        (["--data", "plant.csv", "--horizons", "x"], "--horizons: whole numbers such as 96,192"),
        (["--data", "plant.csv", "--split", "1"], "split: three shares are needed"),
        (["--data", "plant.csv", "--split", ".5,.5,.5"], "split: the shares add up to 1.5"),
        (["--data", "plant.csv", "--split", "a,b"], "--split: shares such as 0.7,0.1,0.2"),
        (
            ["--data", "plant.csv", "--horizons", "181"],
            "horizons: the test part of plant has 180 rows, too few for 181 steps",
        ),
        (["--data", "plant.csv", "--set", "forecast.x=1"], "--set: forecast.x=1: unknown"),
        (["--root", ".", "--detector", "dense"], "--detector: forecasts come from"),
    ],
)
def test_errors_of_one_line(
    arguments: list[str],
    line: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "plant.csv", waves())
    assert cli.main(["evaluate", "forecasting", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"titans-stream evaluate: {line}")
    assert err.count("\n") == 1
