"""A training run in MLflow 3's own terms, and its model as a pyfunc for others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.lifecycle.conftest import quick_recipe
from titans_stream.engine.build import EngineSetup, build_engine
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.settings import EngineConfig
from titans_stream.lifecycle.artifacts import CARD_FILE, WEIGHTS_FILE, base_model
from titans_stream.lifecycle.loading import load_model
from titans_stream.lifecycle.mlflow_library import MlflowClient
from titans_stream.lifecycle.pyfunc import PyfuncModel
from titans_stream.lifecycle.runs import TrainingReport, run_training
from titans_stream.records import Readings, Scores

MODEL = "bearing.temperature"


@pytest.fixture(scope="module")
def client(mlflow_server: str) -> MlflowClient:
    return MlflowClient(mlflow_server, mlflow_server)


@pytest.fixture(scope="module")
def report(mlflow_server: str) -> TrainingReport:
    recipe = quick_recipe(
        name="bearing.temperature",
        tracking={"tracking_uri": mlflow_server, "tags": {"plant": "north"}},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.5")
        return run_training(recipe, MODEL)


def test_the_model_is_a_logged_model_with_what_belongs_to_it(
    report: TrainingReport, client: MlflowClient
) -> None:
    logged = client.get_logged_model(report.model_id)
    assert logged.name == "bearing_temperature"
    assert logged.status == "READY"
    assert logged.model_type == "forecaster"
    assert logged.source_run_id == report.run_id
    assert logged.params["training.learning_rate"] == "0.05"
    assert logged.tags["plant"] == "north"
    linked = {(m.key, m.dataset_name) for m in logged.metrics}
    assert ("validation_loss", "bearing.temperature-validation") in linked
    assert ("held_out_mae_ratio", "bearing.temperature-testing") in linked
    assert ("training_loss", "bearing.temperature-training") in linked
    assert ("engine_band_coverage", "bearing.temperature-validation") in linked
    run = client.get_run(report.run_id)
    assert [one.model_id for one in run.outputs.model_outputs] == [report.model_id]
    [files] = [{entry.path for entry in client.list_logged_model_artifacts(report.model_id)}]
    assert {CARD_FILE, WEIGHTS_FILE, "MLmodel", "input_example.json"} <= files
    found = client.search_logged_models([logged.experiment_id], "name = 'bearing_temperature'")
    assert [one.model_id for one in found] == [report.model_id]


def test_the_data_are_datasets_of_the_run(report: TrainingReport, client: MlflowClient) -> None:
    inputs = client.get_run(report.run_id).inputs.dataset_inputs
    by_context = {one.tags[0].value: one.dataset for one in inputs}
    assert set(by_context) == {"training", "validation", "testing"}
    training = by_context["training"]
    assert training.name == "bearing.temperature-training"
    assert len(training.digest) == 32
    assert training.digest != by_context["validation"].digest
    profile = json.loads(training.profile)
    assert profile["num_series"] == 13
    assert 13 * 180 < profile["num_rows"] <= 13 * 192, "all but missing readings"
    columns = [c["name"] for c in json.loads(training.schema)["mlflow_colspec"]]
    assert columns == ["series_id", "timestamp", "value"]
    assert json.loads(training.source)["tags"]["seed"] == "1"


def test_run_and_version_say_what_they_are(report: TrainingReport, client: MlflowClient) -> None:
    run = client.get_run(report.run_id)
    assert "Training of a **forecaster**" in run.data.tags["mlflow.note.content"]
    assert run.data.tags["mlflow.source.name"] == "titans-stream train"
    assert any(name.startswith("system/") for name in run.data.metrics)
    version = client.get_model_version(MODEL, "1")
    assert "- validation_loss: " in version.description
    assert version.tags["recipe"] == "bearing.temperature"
    assert version.source == f"models:/{report.model_id}"
    assert version.run_id == report.run_id
    linked = client.get_logged_model(report.model_id).tags["mlflow.modelVersions"]
    assert {"name": MODEL, "version": 1} in json.loads(linked)


def a_history(count: int = 240) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    times = pd.date_range("2026-03-01", periods=count, freq="10min")
    values = 50 + np.sin(np.arange(count) / 9) + 0.1 * rng.normal(size=count)
    values[200] = 80.0
    rows = pd.DataFrame({"series_id": "a", "timestamp": times, "value": values})
    other = rows.assign(series_id="b", value=-rows["value"])
    return pd.concat([rows, other]).sort_values("timestamp", kind="stable", ignore_index=True)


def scored(engine: StreamEngine, rows: pd.DataFrame) -> Scores:
    """What an engine itself makes of a history."""
    return engine.process(
        Readings(
            rows["series_id"].tolist(),
            rows["timestamp"].dt.as_unit("ns").astype("int64").to_numpy(),
            rows["value"].to_numpy(),
            np.zeros(len(rows), np.int32),
            np.arange(len(rows)),
        )
    ).scores


def test_others_predict_with_mlflow_alone(
    report: TrainingReport, mlflow_server: str, tmp_path: Path
) -> None:
    rows = a_history()
    rows.to_csv(tmp_path / "rows.csv", index=False)
    split = json.loads(rows.to_json(orient="split", date_format="iso"))
    (tmp_path / "rows.json").write_text(json.dumps({"dataframe_split": split}))
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": mlflow_server,
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    answers = []
    for uri, name, kind in (
        (f"models:/{MODEL}@challenger", "rows.csv", "csv"),
        (f"models:/{report.model_id}", "rows.json", "json"),
    ):
        done = subprocess.run(
            [
                sys.executable, "-m", "mlflow", "models", "predict", "--model-uri", uri,
                "--env-manager", "local", "--content-type", kind,
                "--input-path", str(tmp_path / name), "--output-path", str(tmp_path / "out.json"),
            ],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        answers.append(pd.DataFrame(json.loads((tmp_path / "out.json").read_text())["predictions"]))
    engine = build_engine(load_model(f"models:/{MODEL}/1", mlflow_server), EngineSetup())
    scores = scored(engine, rows)
    for answer in answers:
        assert answer["series_id"].tolist() == rows["series_id"].tolist()
        np.testing.assert_allclose(answer["score"].astype(float), scores.score, rtol=1e-9)
        np.testing.assert_allclose(answer["upper"].astype(float), scores.upper, rtol=1e-9)
        assert answer["status"].tolist()[-1] == "scored"
        assert answer["value"][400] == 80.0 > answer["upper"][400]


def test_pandas_in_pandas_out(report: TrainingReport, mlflow_server: str) -> None:
    import mlflow.pyfunc

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(mlflow_server)
    try:
        model = mlflow.pyfunc.load_model(f"models:/{report.model_id}")
    finally:
        mlflow.set_tracking_uri(before)
    rows = a_history()
    plain = model.predict(rows)
    assert list(plain.columns)[:3] == ["series_id", "timestamp", "value"]
    assert plain["timestamp"].tolist() == rows["timestamp"].tolist()
    only = model.predict(rows[rows["series_id"] == "a"].drop(columns="series_id"))
    np.testing.assert_array_equal(only["score"], plain["score"][plain["series_id"] == "a"])
    vienna = model.predict(rows, params={"timezone": "Europe/Vienna"})
    assert not np.array_equal(vienna["surprise"], plain["surprise"], equal_nan=True)
    longer = a_history(1_500)
    strict, generous = (
        model.predict(longer, params={"false_alarms_per_day": budget})["alert"].sum()
        for budget in (0.01, 50.0)
    )
    assert generous > strict
    example = model.predict(model.input_example)
    assert len(example) == 12
    with pytest.raises(Exception, match="value"):
        model.predict(rows.drop(columns="value"))


def test_an_engine_of_another_zone_gives_what_the_parameter_gives() -> None:
    from titans_stream.lifecycle.artifacts import base_model
    from titans_stream.lifecycle.pyfunc import PyfuncModel

    rows = a_history()
    answer = PyfuncModel(base_model()).predict(rows, {"timezone": "Europe/Vienna"})
    engine = build_engine(base_model(), EngineSetup(EngineConfig(timezone="Europe/Vienna")))
    scores = scored(engine, rows)
    np.testing.assert_array_equal(answer["score"], scores.score)


def test_a_history_without_times_or_with_wrong_ones_is_refused() -> None:
    from titans_stream.lifecycle.artifacts import base_model
    from titans_stream.lifecycle.pyfunc import PyfuncModel

    model, rows = PyfuncModel(base_model()), a_history()
    with pytest.raises(ValueError, match="column 'timestamp' is missing"):
        model.predict(rows.drop(columns="timestamp"))
    holed = rows.assign(timestamp=rows["timestamp"].where(rows.index != 3))
    with pytest.raises(ValueError, match="datetimes or texts"):
        model.predict(rows.assign(timestamp=rows["timestamp"].astype("int64")))
    with pytest.raises(ValueError, match="timestamp: row 3 has none"):
        model.predict(holed)


def test_times_of_iso_8601_may_differ_in_form() -> None:
    texts = [
        "2026-03-01",
        "2026-03-01 00:05",
        "2026-03-01T00:10:00.5Z",
        "2026-03-01T01:15:00+01:00",
    ]
    model = PyfuncModel(base_model())
    found = model.predict(pd.DataFrame({"timestamp": texts, "value": [1.0, 2.0, 3.0, 4.0]}))
    seconds = (found["timestamp"] - pd.Timestamp("2026-03-01")).dt.total_seconds()
    assert seconds.tolist() == [0.0, 300.0, 600.5, 900.0]
    other = pd.DataFrame({"timestamp": ["Mar 1, 2026 12:00", "Mar 1, 2026 12:05"], "value": [1, 2]})
    assert str(model.predict(other)["timestamp"][1]) == "2026-03-01 12:05:00"
