"""Backtests, comparisons, gates; and the commands against a real MLflow server."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from titans_stream.cli import main
from titans_stream.config import load_settings
from titans_stream.engine.clock import LocalTime
from titans_stream.engine.model import Model, make_model, untrained_weights
from titans_stream.lifecycle.artifacts import base_model
from titans_stream.lifecycle.backtest import Backtest, Episode, backtest
from titans_stream.lifecycle.comparison import compare
from titans_stream.lifecycle.data import csv_series
from titans_stream.lifecycle.loading import load_model
from titans_stream.lifecycle.mlflow_library import MlflowClient
from titans_stream.lifecycle.promotion import (
    Decision,
    Gate,
    PromotionPolicy,
    champion_of,
    judge,
    promote,
)
from titans_stream.lifecycle.recording import RunRecorder
from titans_stream.lifecycle.registry import Source, register
from titans_stream.lifecycle.series import Series
from titans_stream.lifecycle.tracking import connect
from titans_stream.recipe_settings import CsvData
from titans_stream.records import Int64, ModelRef

REPO = Path(__file__).resolve().parents[2]


def made(count: int, loss: float, alerts: float = 1.0, series: int = 4) -> Backtest:
    rng = np.random.default_rng(1)
    noise = 0.01 * rng.normal(size=count)
    return Backtest(
        [f"s{i % series}" for i in range(count)],
        loss + noise,
        np.full(count, 0.8),
        np.full(count, 0.95),
        np.full(count, alerts),
        np.full(count, 0.9),
        np.full(count, 250.0),
    )


def test_a_clear_difference_and_an_unclear_one() -> None:
    worse = compare(made(40, 0.30), made(40, 0.35))
    [loss] = [one for one in worse.differences if one.measure == "quantile_loss"]
    assert loss.delta == pytest.approx(0.05)
    assert loss.low == pytest.approx(0.05)
    assert loss.verdict == "B is worse"
    rng = np.random.default_rng(5)
    a = made(40, 0.3)
    noise = 0.02 * rng.normal(size=40)
    unclear = compare(a, replace(a, loss=a.loss + noise - noise.mean() + 0.001))
    [loss] = [one for one in unclear.differences if one.measure == "quantile_loss"]
    assert loss.low < 0 < loss.high
    assert loss.verdict == "no clear difference"
    assert compare(a, a).differences[0].verdict == "the same"
    assert compare(made(40, 0.3, series=20), made(40, 0.3, series=20)).drawn == "series"
    with pytest.raises(ValueError, match="not measured on the same series"):
        compare(a, made(41, 0.3))


def test_the_interval_is_that_of_the_mean() -> None:
    """Of independent blocks the bootstrap's interval is the mean and 1.96 standard errors."""
    rng = np.random.default_rng(2)
    a = made(400, 0.3)
    change = 0.1 * rng.normal(size=400)
    [loss, *_] = compare(a, replace(a, loss=a.loss + change)).differences
    error = change.std(ddof=1) / 20
    assert loss.low == pytest.approx(change.mean() - 1.96 * error, abs=0.15 * error)
    assert loss.high == pytest.approx(change.mean() + 1.96 * error, abs=0.15 * error)


def test_the_numbers_of_a_comparison_are_json_where_some_were_not_measured() -> None:
    one = made(4, 0.3)
    short = replace(one, long=np.full(4, np.nan))
    told = json.dumps(compare(short, short).to_json(), allow_nan=False)
    measure = json.loads(told)["measures"]["long_mae_ratio"]
    assert measure["a"] is None and measure["interval"] == [None, None]


def test_alerts_are_told_apart_by_series_and_time() -> None:
    first = Episode("a", 100, 200, "warning", "")
    late, other = replace(first, onset=300, end=400), replace(first, series="b")
    overlapping = replace(first, onset=190, end=250)
    found = compare(
        replace(made(8, 0.3), episodes=[first, late]),
        replace(made(8, 0.3), episodes=[overlapping, other]),
    )
    assert found.both == (overlapping,)
    assert found.only_a == (late,)
    assert found.only_b == (other,)


def test_gates_hold_or_not() -> None:
    policy = PromotionPolicy()
    better, worse = made(40, 0.30), made(40, 0.31)
    assert all(v.passed for v in judge(policy, compare(worse, better)))
    [failed] = [v for v in judge(policy, compare(better, worse)) if not v.passed]
    assert failed.text.startswith("quantile_loss 0.31")
    assert all(v.passed for v in judge(policy, compare(better, better)))
    noisy = judge(policy, compare(better, made(40, 0.30, alerts=2.0)))
    assert [v.text.split()[0] for v in noisy if not v.passed] == ["alerts_per_1000"]


def test_a_missing_metric_never_passes() -> None:
    nothing = replace(made(40, 0.3), loss=np.full(40, np.nan))
    for a, b in ((made(40, 0.3), nothing), (nothing, made(40, 0.3)), (nothing, nothing)):
        failed = [v.text for v in judge(PromotionPolicy(), compare(a, b)) if not v.passed]
        assert len(failed) == 1
        assert "quantile_loss: not measured" in failed[0]


def test_a_first_model_has_to_beat_the_base_model_and_repeating_the_last_value() -> None:
    policy, base = PromotionPolicy(), made(40, 0.3)
    same = judge(policy, compare(base, base), first=True)
    assert [v.passed for v in same][:-1] == [True] * (len(same) - 1)
    assert not same[-1].passed
    assert all(v.passed for v in judge(policy, compare(base, made(40, 0.29)), first=True))
    naive = replace(made(40, 0.29), error=np.full(40, 1.01))
    failed = [v.text for v in judge(policy, compare(base, naive), first=True) if not v.passed]
    assert failed == ["mae_ratio 1.01, at most 1.0"]


def test_a_forecaster_that_loses_to_the_last_value_over_many_steps_is_refused() -> None:
    champion, challenger = made(40, 0.3), made(40, 0.29)
    for long, told in ((1.01, "long_mae_ratio 1.01, at most 1.0"),
                       (np.nan, "long_mae_ratio: not measured")):  # fmt: skip
        loses = replace(challenger, long=np.full(40, long))
        for first in (False, True):
            verdicts = judge(PromotionPolicy(), compare(champion, loses), first=first)
            assert [v.text for v in verdicts if not v.passed] == [told]
    assert all(v.passed for v in judge(PromotionPolicy(), compare(champion, challenger)))


def test_the_policy_of_the_repository_is_the_built_in_one() -> None:
    assert load_settings(PromotionPolicy, REPO / "mlflow" / "promotion.yaml") == PromotionPolicy()
    for wrong in ({"metric": "loss", "at_most": 1}, {"metric": "coverage"},
                  {"metric": "coverage", "not_worse_than_champion_by": 0}):  # fmt: skip
        with pytest.raises(ValueError, match=r"metric|bound|at_least"):
            Gate.model_validate(wrong)


def rows(path: Path) -> Path:
    rng = np.random.default_rng(0)
    lines = ["time,level,flow"]
    level = np.cumsum(0.2 * rng.normal(size=2000)) + 5 * np.sin(np.arange(2000) / 23)
    flow = 30 + 4 * np.sin(np.arange(2000) / 46) + rng.normal(size=2000)
    for i in range(2000):
        lines.append(f"2026-05-{1 + i // 288:02d} {i // 12 % 24:02d}:{5 * (i % 12):02d},"
                     f"{level[i]:.4f},{flow[i]:.4f}")  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_backtest_measures_what_the_engine_says(tmp_path: Path) -> None:
    config = CsvData(files=(str(rows(tmp_path / "rows.csv")),), timestamp="time")
    series = list(csv_series(config))
    assert [one.name for one in series] == ["rows.csv/level", "rows.csv/flow"]
    found = backtest(base_model(), series).measures()
    assert 0.93 < found["coverage"] < 0.99
    assert 0.5 < found["mae_ratio"] < 1.0
    assert 0.2 < found["long_mae_ratio"] < 0.8
    assert found == backtest(base_model(), series).measures()
    walk = np.cumsum(np.random.default_rng(1).normal(size=2000))
    times = np.arange(2000) * 300 * 10**9
    still = Series("w", "csv", walk, times, np.zeros((2000, 10)), LocalTime("UTC").seconds(times))
    measured = backtest(base_model(), [still]).measures()
    assert measured["mae_ratio"] == pytest.approx(1.0, abs=0.05), "nothing beats the last value"


@pytest.mark.parametrize(("share", "ratio"), [(0.0, 1.0), (0.5, 0.5), (1.0, 0.0)])
def test_many_steps_are_measured_against_the_last_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, ratio: float
) -> None:
    """A forecast that goes `share` of the way from the last value to what comes."""

    def told(
        one: Series, weights: object, origins: Int64, steps: int, options: object = None
    ) -> tuple[None, SimpleNamespace]:
        last = one.value[origins, None]
        ahead = one.value[origins[:, None] + np.arange(1, steps + 1)]
        return None, SimpleNamespace(median=last + share * (ahead - last))

    monkeypatch.setattr("titans_stream.lifecycle.accuracy.run_forecaster", told)
    config = CsvData(files=(str(rows(tmp_path / "rows.csv")),), timestamp="time")
    series = list(csv_series(config))
    found = backtest(base_model(), series)
    assert found.measures()["long_mae_ratio"] == pytest.approx(ratio, abs=0.1)
    known = np.isfinite(found.long)
    assert known.tolist() == 2 * (4 * [False] + 4 * [True]), "the first half is learned from"
    still = replace(series[0], value=np.full(2000, 7.0))
    assert np.isnan(backtest(base_model(), [still]).measures()["long_mae_ratio"])
    short = Series("short", "csv", *(part[:190] for part in (
        series[0].value, series[0].timestamp, series[0].calendar, series[0].seconds)))  # fmt: skip
    assert np.isnan(backtest(base_model(), [short]).measures()["long_mae_ratio"])


def put(uri: str, name: str, model: Model) -> str:
    server = connect(uri)
    recorder = RunRecorder(server, "promotion", name, {})
    logged = recorder.begin_model(name, "forecaster")
    recorder.model(logged, model, {}, 0)
    return register(server, name, Source(logged.location, recorder.run_id, logged.model_id)).version


def test_from_challenger_to_champion_and_back(
    mlflow_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    monkeypatch.chdir(tmp_path)
    data = ["--data", str(rows(tmp_path / "rows.csv")), "--timestamp", "time"]
    base = base_model()
    poor_weights = {**base.weights, "forecast.key_bias": base.weights["forecast.key_bias"] + 3.0,
                    "forecast.gate_bias": np.array([2.0, 2.0, 2.0])}  # fmt: skip
    poor = make_model(ModelRef("poor", "0"), poor_weights, {})
    client = MlflowClient(mlflow_server, mlflow_server)

    assert put(mlflow_server, "pumps", poor) == "1"
    with pytest.raises(ValueError, match="no such alias; there are: challenger"):
        load_model("models:/pumps@champion")
    assert main(["models", "promote", "pumps", "1", *data]) == 1
    shown = capsys.readouterr().out
    assert "refused: there is no champion" in shown
    assert "FAILED  quantile_loss" in shown
    assert client.get_model_version("pumps", "1").tags["promotion.decision"] == "refused"
    assert main(["models", "promote", "pumps", "1", *data, "--force", " "]) == 2
    assert main(["models", "promote", "pumps", "1", *data, "--force", "a trial"]) == 0
    tags = client.get_model_version("pumps", "1").tags
    assert tags["promotion.decision"] == "forced"
    assert tags["promotion.forced"] == "a trial"
    assert load_model("models:/pumps@champion").ref.version == "1"

    assert put(mlflow_server, "pumps", base) == "2"
    capsys.readouterr()
    assert main(["models", "compare", "models:/pumps@champion", "models:/pumps/2", *data,
                 "--json", "out.json"]) == 0  # fmt: skip
    assert "B is better" in capsys.readouterr().out
    numbers = json.loads((tmp_path / "out.json").read_text())["measures"]["quantile_loss"]
    assert numbers["delta"] == numbers["b"] - numbers["a"] < 0
    assert numbers["interval"][1] < 0
    assert main(["models", "promote", "pumps", "2", *data]) == 0
    found = client.get_model_version("pumps", "2")
    assert found.tags["promotion.decision"] == "promoted"
    assert found.tags["promotion.champion_before"] == "1"
    assert "2 series, 4,000 readings" in found.tags["promotion.data"]
    measured = client.get_logged_model(found.source.removeprefix("models:/")).metrics
    assert "backtest_quantile_loss" in {metric.key for metric in measured}
    assert main(["models", "promote", "pumps", "2", *data]) == 0
    assert "champion already" in capsys.readouterr().out

    assert put(mlflow_server, "pumps", poor) == "3"
    assert main(["models", "promote", "pumps", "3", *data]) == 1
    assert load_model("models:/pumps@champion").ref.version == "2"

    # a refusal says nothing of the way back, nor does a run that was deleted keep one from it
    refused = Decision("pumps", "2", "7", False, None, [])
    promote(connect(mlflow_server), refused, None, "other data")
    tags = client.get_model_version("pumps", "2").tags
    assert tags["promotion.decision"] == "refused"
    assert tags["promotion.champion_before"] == "1"
    assert tags["promotion.held_against"] == "7"

    assert main(["models", "rollback", "pumps", "--reason", "too quiet"]) == 0
    assert load_model("models:/pumps@champion").ref.version == "1"
    assert client.get_model_version("pumps", "2").tags["promotion.rolled_back_because"] == (
        "too quiet"
    )
    assert main(["models", "rollback", "pumps"]) == 2
    capsys.readouterr()
    assert main(["models", "list"]) == 0
    listed = capsys.readouterr().out
    assert "champion" in listed
    assert "(refused)" in listed
    assert main(["models", "show", "models:/pumps@champion"]) == 0
    assert "promotion.forced = a trial" in capsys.readouterr().out


def test_a_version_whose_run_was_deleted_can_be_promoted(
    mlflow_server: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = connect(mlflow_server)
    version = put(mlflow_server, "kept", base_model())
    server.client.delete_run(server.client.get_model_version("kept", version).run_id)
    same = compare(made(4, 0.3), made(4, 0.3))
    promote(server, Decision("kept", version, None, True, None, []), same, "data")
    assert champion_of(server, "kept") == version
    assert "measures of the backtest are not kept" in caplog.text


def test_what_cannot_be_compared_is_said_in_a_line(
    mlflow_server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    plain = make_model(ModelRef("plain", "0"), untrained_weights(1), {})
    put(mlflow_server, "plain", plain)
    assert main(["models", "promote", "nothing", "1"]) == 2
    assert "models:/nothing: there is no such model" in capsys.readouterr().err
    assert main(["models", "promote", "plain", "7"]) == 2
    assert "no such version; there are: 1" in capsys.readouterr().err
    assert main(["models", "promote", "plain", "1"]) == 2
    assert "names no recipe: --data FILE.csv is needed" in capsys.readouterr().err
