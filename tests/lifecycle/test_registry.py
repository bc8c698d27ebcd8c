"""Training, registering and loading against a real MLflow server with a database."""

from __future__ import annotations

import json
import pickle
import time
from pathlib import Path

import numpy as np
import pytest

from tests.lifecycle.conftest import free_port, quick_recipe
from titans_stream.engine.model import Model, make_model, untrained_weights
from titans_stream.lifecycle.artifacts import CARD_FILE, WEIGHTS_FILE, read_model, write_model
from titans_stream.lifecycle.fetching import fetch
from titans_stream.lifecycle.loading import load_model
from titans_stream.lifecycle.mlflow_library import MlflowClient, artifacts
from titans_stream.lifecycle.recording import RunRecorder
from titans_stream.lifecycle.registry import Source, register
from titans_stream.lifecycle.runs import TrainingReport, run_training
from titans_stream.lifecycle.tracking import TrackingServer, connect
from titans_stream.records import ModelRef

FIGURES = ("forecast", "surprise", "calibration")


@pytest.fixture(scope="module")
def client(mlflow_server: str) -> MlflowClient:
    return MlflowClient(mlflow_server, mlflow_server)


@pytest.fixture(scope="module")
def report(mlflow_server: str) -> TrainingReport:
    recipe = quick_recipe(tracking={"tracking_uri": mlflow_server, "tags": {"team": "hydraulics"}})
    return run_training(recipe, "oil-pressure")


def registered_folder(server: TrackingServer, name: str, folder: Path) -> str:
    """Registers whatever lies in a folder; returns the version."""
    recorder = RunRecorder(server, "titans-stream", name, {})
    server.client.log_artifacts(recorder.run_id, str(folder), "model")
    source = Source(f"{recorder.artifact_uri}/model", recorder.run_id)
    return register(server, name, source).version


def a_model(seed: int) -> Model:
    return make_model(ModelRef("forecaster", "0"), untrained_weights(seed), {"seed": seed})


def test_a_run_records_everything(
    report: TrainingReport, client: MlflowClient, mlflow_server: str, tmp_path: Path
) -> None:
    run = client.get_run(report.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "quick"
    assert client.get_experiment(run.info.experiment_id).name == report.experiment
    assert run.data.tags["team"] == "hydraulics"
    assert run.data.params["training.learning_rate"] == "0.05"
    assert run.data.params["data.synthetic.series"] == "26"
    history = client.get_metric_history(report.run_id, "validation_loss")
    assert [metric.step for metric in history] == [1, 2, 3]
    assert min(metric.value for metric in history) == report.metrics["validation_loss"]
    assert {"training_loss", "validation_coverage", "held_out_mae_ratio"} <= set(run.data.metrics)
    assert {entry.path for entry in client.list_artifacts(report.run_id)} == {
        "environment.json", "families.json", "figures", "recipe.yaml", "training.png",
    }  # fmt: skip
    folder = artifacts.download_artifacts(
        run_id=report.run_id, tracking_uri=mlflow_server, dst_path=str(tmp_path)
    )
    pictures = [Path("training.png"), *(Path("figures") / f"{n}.png" for n in FIGURES)]
    for name in pictures:
        assert (Path(folder) / name).read_bytes().startswith(b"\x89PNG"), name
    fetch(report.model_uri, tmp_path, mlflow_server)
    card = read_model(tmp_path).card
    assert card["data"]["fingerprint"] == run.data.params["data.fingerprint"]
    assert card["recipe"]["training"]["epochs"] == 3
    assert set(card["environment"]) >= {"python", "torch", "numpy", "mlflow", "titans-stream"}
    assert card["created"].endswith("Z")
    assert mlflow_server not in json.dumps(card)


def test_the_first_version_is_challenger_and_serves_once_it_is_champion(
    report: TrainingReport, mlflow_server: str
) -> None:
    assert report.registered is not None
    assert report.registered.aliases == ("challenger",)
    assert report.registered.uri == "models:/oil-pressure/1"
    by_alias = load_model("models:/oil-pressure@challenger", mlflow_server)
    by_number = load_model("models:/oil-pressure/1", mlflow_server)
    assert by_alias.ref == by_number.ref == ModelRef("oil-pressure", "1")
    assert by_alias.card["metrics"]["validation_loss"] == report.metrics["validation_loss"]
    for name, weight in by_alias.weights.items():
        np.testing.assert_array_equal(by_number.weights[name], weight)
    start = untrained_weights(1)["forecast.key_weight"]
    assert np.abs(by_alias.weights["forecast.key_weight"] - start).max() > 1e-3


def test_a_second_version_is_challenger_only(mlflow_server: str, tmp_path: Path) -> None:
    server = connect(mlflow_server)
    for seed in (1, 2):
        write_model(tmp_path / str(seed), a_model(seed))
        registered_folder(server, "two-versions", tmp_path / str(seed))
    server.client.set_registered_model_alias("two-versions", "champion", "1")
    champion = load_model("models:/two-versions@champion", mlflow_server)
    challenger = load_model("models:/two-versions@challenger", mlflow_server)
    assert (champion.ref.version, champion.card["seed"]) == ("1", 1)
    assert (challenger.ref.version, challenger.card["seed"]) == ("2", 2)
    server.client.set_registered_model_alias("two-versions", "champion", "2")
    assert load_model("models:/two-versions@champion", mlflow_server).card["seed"] == 2


def test_the_environment_names_the_server(
    report: TrainingReport, mlflow_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    assert load_model("models:/oil-pressure@challenger").ref.version == "1"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models:/nothing@champion", "models:/nothing: there is no such model in MLflow at http"),
        (
            "models:/oil-pressure@staging",
            "models:/oil-pressure@staging: no such alias; there are: challenger",
        ),
        ("models:/oil-pressure/9", "models:/oil-pressure/9: no such version; there are: 1"),
        ("models:/oil:pressure/1", "there is no such model"),
    ],
)
def test_what_is_not_there(
    report: TrainingReport, mlflow_server: str, uri: str, message: str
) -> None:
    with pytest.raises(ValueError) as raised:
        load_model(uri, mlflow_server)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_damaged_artefact_is_refused(mlflow_server: str, tmp_path: Path) -> None:
    write_model(tmp_path, a_model(3))
    data = bytearray((tmp_path / WEIGHTS_FILE).read_bytes())
    data[-100] ^= 0xFF
    (tmp_path / WEIGHTS_FILE).write_bytes(bytes(data))
    registered_folder(connect(mlflow_server), "damaged", tmp_path)
    with pytest.raises(ValueError, match=r"models:/damaged/1: .*model\.safetensors: damaged"):
        load_model("models:/damaged/1", mlflow_server)


def test_a_foreign_or_oversized_artefact_is_refused(mlflow_server: str, tmp_path: Path) -> None:
    server = connect(mlflow_server)
    (tmp_path / "weights.bin").write_bytes(b"x")
    registered_folder(server, "foreign", tmp_path)
    with pytest.raises(ValueError, match=r"no model\.safetensors there"):
        load_model("models:/foreign/1", mlflow_server)
    write_model(tmp_path, a_model(3))
    (tmp_path / CARD_FILE).write_bytes(b" " * (2**20 + 1))
    registered_folder(server, "foreign", tmp_path)
    with pytest.raises(ValueError, match=r"model\.json: larger than 1,048,576 bytes"):
        load_model("models:/foreign/2", mlflow_server)


class Payload:
    """Unpickling it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.mkdir, (str(self.mark),)


def test_nothing_in_an_artefact_is_executed(mlflow_server: str, tmp_path: Path) -> None:
    mark, folder = tmp_path / "executed", tmp_path / "model"
    server = connect(mlflow_server)
    write_model(folder, a_model(4))
    payload = pickle.dumps(Payload(mark))
    (folder / "code").mkdir()
    (folder / "code" / "evil_loader.py").write_text(
        f"import os\nos.mkdir({str(mark)!r})\ndef _load_pyfunc(path): pass\n"
    )
    (folder / "MLmodel").write_text(
        "flavors:\n  python_function:\n    loader_module: evil_loader\n    code: code\n"
        "    python_model: python_model.pkl\n"
    )
    (folder / "python_model.pkl").write_bytes(payload)
    registered_folder(server, "malicious", folder)
    assert load_model("models:/malicious/1", mlflow_server).card["seed"] == 4

    (folder / WEIGHTS_FILE).write_bytes(payload)
    registered_folder(server, "malicious", folder)
    with pytest.raises(ValueError, match="damaged"):
        load_model("models:/malicious/2", mlflow_server)

    (folder / CARD_FILE).write_bytes(payload)
    registered_folder(server, "malicious", folder)
    with pytest.raises(ValueError, match="not JSON"):
        load_model("models:/malicious/3", mlflow_server)
    assert not mark.exists()
    pickle.loads(payload)
    assert mark.exists(), "the payload would have been noticed"


def test_a_failed_training_is_marked(mlflow_server: str, client: MlflowClient) -> None:
    recipe = quick_recipe(name="stops")

    def stop(epoch: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(recipe, tracking_uri=mlflow_server, on_progress=stop)
    experiment = client.get_experiment_by_name("titans-stream")
    runs = client.search_runs([experiment.experiment_id], "attributes.run_name = 'stops'")
    assert [run.info.status for run in runs] == ["KILLED"]


def test_no_server_is_one_line_soon_and_before_training() -> None:
    uri = f"http://user:secret@127.0.0.1:{free_port()}"
    begin = time.monotonic()
    for action in (
        lambda: load_model("models:/oil-pressure@champion", uri),
        lambda: run_training(quick_recipe(), "oil-pressure", uri),
    ):
        with pytest.raises(ConnectionError, match="no MLflow server answers") as raised:
            action()
        assert "connection refused" in str(raised.value)
        assert "secret" not in str(raised.value)
        assert "\n" not in str(raised.value)
    assert time.monotonic() - begin < 20.0


def test_a_missing_database_is_not_made_by_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"there is no MLflow database mlflow\.db"):
        load_model("models:/oil-pressure@champion")
    assert list(tmp_path.iterdir()) == []


def test_settings_of_a_database_are_no_part_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "m.db").touch()
    uri = f"sqlite:///{tmp_path}/m.db?timeout=30"
    assert connect(uri, must_exist=True).uri == uri


def test_without_a_server_a_database_file_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    report = run_training(quick_recipe(register="local"))
    assert report.tracking_uri == "sqlite:///mlflow.db"
    assert (tmp_path / "mlflow.db").is_file()
    loaded = load_model("models:/local@challenger")
    assert loaded.ref == ModelRef("local", "1")
    assert loaded.card["metrics"]["validation_loss"] == report.metrics["validation_loss"]


def test_a_bad_name_is_refused_before_training(mlflow_server: str) -> None:
    with pytest.raises(ValueError, match="register: 'a/b' is no name for a model"):
        run_training(quick_recipe(), "a/b", mlflow_server)
