"""What becomes of a run and its model where something goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.lifecycle.conftest import quick_recipe
from titans_stream.lifecycle import runs
from titans_stream.lifecycle.artifacts import base_model
from titans_stream.lifecycle.checkpoint import Checkpoint
from titans_stream.lifecycle.data import load_data
from titans_stream.lifecycle.listing import list_models
from titans_stream.lifecycle.recording import RunRecorder
from titans_stream.lifecycle.tracking import TrackingServer


class Client:
    """Takes whatever it is told, and keeps how the run ended."""

    def __init__(self) -> None:
        self.ended = ""

    def set_terminated(self, run_id: str, status: str) -> None:
        self.ended = status

    def create_run(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(info=SimpleNamespace(run_id="r", artifact_uri="mlflow-artifacts:/r"))

    def create_logged_model(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(model_id="m-1", artifact_location="mlflow-artifacts:/m-1")

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(lifecycle_stage="active", experiment_id="1")

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError, "FAILED"), (RuntimeError, "FAILED"), (MemoryError, "FAILED"),
        (KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED"),
    ],
)  # fmt: skip
def test_only_what_was_interrupted_is_killed(error: type[BaseException], status: str) -> None:
    client = Client()
    recorder = RunRecorder(TrackingServer("http://h", client), "e", "n", {})
    with pytest.raises(error), recorder:
        raise error
    assert client.ended == status


def test_a_registry_that_fails_at_the_end_costs_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = quick_recipe()
    kept = Checkpoint(tmp_path / "c.pt")
    kept.save({"passes": [1]})
    data = load_data(recipe.data, recipe.seed)
    made = runs._Made(base_model(), {}, "epoch 1 of 1", 1)
    answers = [True, False]

    def register(*_: Any) -> None:
        if answers.pop():
            raise ConnectionError("no MLflow server answers")

    monkeypatch.setattr(runs, "_prepared", lambda *_: (data, kept))
    monkeypatch.setattr(runs, "connect", lambda _: TrackingServer("http://h", Client()))
    monkeypatch.setattr(runs, "_forecaster_run", lambda _: made)
    monkeypatch.setattr(runs._Session, "picture", lambda *_: {})
    monkeypatch.setattr(RunRecorder, "model", lambda *_: None)
    monkeypatch.setattr(runs, "register", register)
    answers.reverse()
    with pytest.raises(ConnectionError):
        runs.run_training(recipe, "pumps")
    assert kept.path.exists()
    runs.run_training(recipe, "pumps")
    assert not kept.path.exists()


def test_every_model_is_listed_however_many_there_are() -> None:
    class Page(list[Any]):
        token: str | None = None

    class Registry:
        def search_registered_models(self, page_token: str | None = None) -> Page:
            first = int(page_token or 0)
            page = Page(SimpleNamespace(name=f"m{i}", aliases={}) for i in range(first, first + 2))
            page.token = str(first + 2) if first < 4 else None
            return page

        def search_model_versions(self, _: str, page_token: str | None = None) -> Page:
            first = int(page_token or 1)
            page = Page([SimpleNamespace(version=str(first), tags={}, creation_timestamp=0)])
            page.token = str(first + 1) if first < 3 else None
            return page

    lines = list(list_models(TrackingServer("http://h", Registry())))
    assert [line for line in lines if not line.startswith(" ")] == [f"m{i}" for i in range(6)]
    assert [line.split()[0] for line in lines[1:4]] == ["3", "2", "1"]
