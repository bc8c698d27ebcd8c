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
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from titans_stream.config import Recipe
from titans_stream.engine.model import Model, make_model, untrained_weights
from titans_stream.records import ModelRef

START_TIMEOUT_S = 180.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class MlflowServer:
    """A server on loopback that can be stopped; its artefacts are proxied.

    `database` is SQLite's in the folder where none is named; `more` are settings of the server.
    """

    folder: Path
    database: str = ""
    more: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        database = self.database or f"sqlite:///{self.folder}/mlflow.db"
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1",
            "--port", str(self.port), "--backend-store-uri", database,
            "--artifacts-destination", f"{self.folder}/artifacts", "--workers", "1",
        ]  # fmt: skip
        environment = {
            **os.environ,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # four processes that nobody uses
            **self.more,
        }
        environment.pop("MLFLOW_TRACKING_URI", None)
        log = self.folder / "server.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        _wait_until_it_answers(self.process, self.port, log)

    def stop(self) -> None:
        """Kill it, as a crash would; its database stays."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=60)
            self.process = None


@contextmanager
def serving(folder: Path, database: str = "", **more: str) -> Iterator[MlflowServer]:
    """A server that runs meanwhile."""
    server = MlflowServer(folder, database, more)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with a SQLite database."""
    with serving(tmp_path_factory.mktemp("mlflow")) as server:
        yield server.uri


def _wait_until_it_answers(server: subprocess.Popen[bytes], port: int, log: os.PathLike) -> None:
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
