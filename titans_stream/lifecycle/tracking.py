"""Experiment tracking: where runs are recorded, and recording one."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote

from sqlalchemy.exc import SQLAlchemyError

from titans_stream.engine.model import Model
from titans_stream.lifecycle.artifacts import write_model
from titans_stream.lifecycle.mlflow_library import Metric, MlflowClient, MlflowException, Param
from titans_stream.printable import redacted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEFAULT_TRACKING_URI = "sqlite:///mlflow.db"
MODEL_FOLDER = "model"
"""Where the model lies among a run's artefacts."""
_SQLITE = "sqlite:///"
_CREDENTIALS = re.compile(r"://(?!/)(\S*)@")


@dataclass(frozen=True, slots=True)
class TrackingServer:
    """A place that MLflow keeps runs and models in, and a client for it."""

    uri: str
    client: Any

    @property
    def shown(self) -> str:
        """The URI without user, password and query."""
        return _CREDENTIALS.sub("://", self.uri.partition("?")[0])

    def _told(self, error: Exception) -> str:
        """The first line of an error's text without what is secret in the URI."""
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return redacted(text.replace(self.uri, self.shown), self._secrets())

    def _secrets(self) -> dict[str, str]:
        found = _CREDENTIALS.search(self.uri)
        user_info = found[1] if found else ""
        query = self.uri.partition("?")[2]
        password = user_info.partition(":")[2]
        values = [each.partition("=")[2] for each in query.split("&")]
        known = [user_info, query, password, unquote(password), *values]
        return {value: "***" for value in known if len(value) > 3}

    @contextmanager
    def errors(self, doing: str) -> Iterator[None]:
        """Turn MLflow's errors to one line.

        ConnectionError where the server does not answer, ValueError for everything that it
        answers or that its address is wrong in.
        """
        try:
            yield
        except MlflowException as error:
            text = self._told(error)
            if "failed with exception" in text:
                raise ConnectionError(
                    f"{doing}: no MLflow server answers at {self.shown} ({_reason(text)})"
                ) from error
            raise ValueError(f"{doing}: MLflow at {self.shown}: {text}") from error
        except (OSError, SQLAlchemyError, ImportError) as error:
            text = self._told(error)
            raise ConnectionError(f"{doing}: MLflow at {self.shown}: {text}") from error


def tracking_uri(given: str | None = None) -> str:
    """`given`, else MLFLOW_TRACKING_URI, else a database file in the working directory."""
    return given or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_TRACKING_URI


def connect(given: str | None = None, *, must_exist: bool = False) -> TrackingServer:
    """The tracking server at `tracking_uri(given)`; that it answers is not checked here.

    With `must_exist`, a database file that is not there is a ValueError; without, it is made.
    """
    uri = tracking_uri(given)
    file = uri.removeprefix(_SQLITE)
    if must_exist and uri.startswith(_SQLITE) and not Path(file).exists():
        raise ValueError(
            f"there is no MLflow database {file}; set MLFLOW_TRACKING_URI to the server's address"
        )
    server = TrackingServer(uri, None)
    with server.errors("tracking"):
        return TrackingServer(uri, MlflowClient(tracking_uri=uri, registry_uri=uri))


class RunRecorder:
    """Writes one run: parameters first, metrics after each epoch, artefacts at the end.

    A context: at its end the run is marked as what became of it.
    """

    def __init__(
        self, server: TrackingServer, experiment: str, name: str, tags: Mapping[str, str]
    ) -> None:
        self._server = server
        with server.errors("tracking"):
            experiment_id = _experiment_id(server.client, experiment)
            run = server.client.create_run(experiment_id, tags=dict(tags), run_name=name)
        self.run_id: str = run.info.run_id
        self.artifact_uri: str = run.info.artifact_uri

    def parameters(self, parameters: Mapping[str, object]) -> None:
        """Log what the run was started with."""
        entries = [Param(name, str(value)) for name, value in parameters.items()]
        with self._server.errors("tracking"):
            self._server.client.log_batch(self.run_id, params=entries)

    def metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log numbers as of epoch `step`."""
        now = time.time_ns() // 1_000_000
        entries = [Metric(name, value, now, step) for name, value in metrics.items()]
        with self._server.errors("tracking"):
            self._server.client.log_batch(self.run_id, metrics=entries)

    def document(self, name: str, content: Mapping[str, object]) -> None:
        """Log data as an artefact, JSON or YAML by its name's ending."""
        with self._server.errors("tracking"):
            self._server.client.log_dict(self.run_id, dict(content), name)

    def figure(self, name: str, figure: Figure) -> None:
        """Log a picture as an artefact."""
        with self._server.errors("tracking"):
            self._server.client.log_figure(self.run_id, figure, name)

    def text(self, name: str, content: str) -> None:
        """Log text as an artefact."""
        with self._server.errors("tracking"):
            self._server.client.log_text(self.run_id, content, name)

    def file(self, path: Path, folder: str) -> None:
        """Log a file as an artefact in a folder."""
        with self._server.errors("tracking"):
            self._server.client.log_artifact(self.run_id, str(path), folder)

    def model(self, model: Model, folder: str = MODEL_FOLDER) -> str:
        """Log a model's two files; returns where they lie, the source of a version."""
        with tempfile.TemporaryDirectory() as written:
            write_model(Path(written), model)
            with self._server.errors("tracking"):
                self._server.client.log_artifacts(self.run_id, written, folder)
        return f"{self.artifact_uri}/{folder}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the run as FINISHED, FAILED or, where nothing foreseen went wrong, KILLED."""
        status = "FINISHED"
        if kind is not None:
            foreseen = issubclass(kind, ValueError | ArithmeticError | OSError)
            status = "FAILED" if foreseen else "KILLED"
        with self._server.errors("tracking"):
            self._server.client.set_terminated(self.run_id, status)


def _experiment_id(client: Any, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return str(client.create_experiment(name))
    if experiment.lifecycle_stage != "active":
        raise ValueError(f"tracking.experiment: {name!r} is deleted in MLflow; restore or rename")
    return str(experiment.experiment_id)


def _reason(text: str) -> str:
    for sign, reason in (
        ("NameResolution", "its name is not known"),
        ("Connection refused", "connection refused"),
        ("timed out", "timed out"),
        ("CERTIFICATE", "its certificate is not trusted"),
    ):
        if sign in text:
            return reason
    return "connection failed"
