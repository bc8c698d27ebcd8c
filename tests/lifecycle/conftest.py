"""A real MLflow server with a database, and a recipe that trains in a second."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from titans_stream.config import Recipe
from titans_stream.engine.model import Model, make_model, untrained_weights
from titans_stream.records import ModelRef

START_TIMEOUT_S = 180.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server on loopback; its database is SQLite, its artefacts are proxied."""
    folder = tmp_path_factory.mktemp("mlflow")
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--backend-store-uri", f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination", f"{folder}/artifacts", "--workers", "1",
    ]  # fmt: skip
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            wait_until_it_answers(server, port, folder / "server.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(server.pid, signal.SIGKILL)  # its database goes with the folder
            server.wait(timeout=20)


def wait_until_it_answers(server: subprocess.Popen[bytes], port: int, log: os.PathLike) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    with open(log) as lines:
        pytest.fail(f"the MLflow server did not start:\n{lines.read()[-2000:]}")


@pytest.fixture
def model() -> Model:
    card = {"metrics": {"validation_loss": 0.5}}
    return make_model(ModelRef("forecaster", "7"), untrained_weights(5), card)


def quick_recipe(**changes: object) -> Recipe:
    settings: dict[str, object] = {
        "name": "quick",
        "kind": "forecaster",
        "seed": 1,
        "data": {"synthetic": {"series": 26, "length": 192}, "validation_share": 0.5},
        "training": {"epochs": 3, "batch": 13, "unroll": 96, "learning_rate": 0.05, "heads": False},
    }
    return Recipe.model_validate({**settings, **changes})
