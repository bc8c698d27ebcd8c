"""Records a training run in MLflow: parameters, datasets, metrics, figures and the model.

The model is a *logged model* of MLflow 3. It is made when the run begins, so that the metrics of
every epoch are linked to it, and is READY once its files are there, FAILED where the run fails.
"""

from __future__ import annotations

import getpass
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from titans_stream.engine.model import Model
from titans_stream.lifecycle.datasets import DatasetRecord
from titans_stream.lifecycle.logged_model import logged_name, write_logged_model
from titans_stream.lifecycle.mlflow_library import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelOutput,
    Metric,
    Param,
    SystemMetricsMonitor,
)
from titans_stream.lifecycle.tracking import TrackingServer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTE = "mlflow.note.content"
"""The tag that MLflow shows as a description, Markdown."""
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Has MLflow's pages show what belongs to training."""
_SYSTEM_METRICS = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
_SAMPLING_SECONDS = 5.0
_LONGEST_PARAMETER = 6_000


class LoggedModel:
    """A model in the making; see `RunRecorder.begin_model`."""

    def __init__(self, model_id: str, location: str) -> None:
        self.model_id = model_id
        self.location = location
        """Where its files lie: the source of a registered version."""
        self.ready = False


class RunRecorder:
    """Writes one run: parameters and data first, metrics after each epoch, the model at the end.

    A context: at its end the run, and a model that was begun, are marked as what became of them.
    System metrics (CPU, memory, network, GPU) are recorded meanwhile, unless the environment has
    MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=false.
    """

    def __init__(
        self, server: TrackingServer, experiment: str, name: str, tags: Mapping[str, str]
    ) -> None:
        self._server = server
        self._models: list[LoggedModel] = []
        self._monitor: Any = None
        self._outputs = 0
        with server.errors("tracking"):
            self._experiment_id = _experiment_id(server.client, experiment)
            run = server.client.create_run(
                self._experiment_id, tags={**_origin(), **tags}, run_name=name
            )
        self.run_id: str = run.info.run_id
        self.artifact_uri: str = run.info.artifact_uri

    def parameters(self, parameters: Mapping[str, object]) -> None:
        """Log what the run was started with."""
        entries = [Param(name, _cut(value)) for name, value in parameters.items()]
        with self._server.errors("tracking"):
            self._server.client.log_batch(self.run_id, params=entries)

    def describe(self, text: str) -> None:
        """Give the run a description, Markdown."""
        self.tags({NOTE: text})

    def tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        with self._server.errors("tracking"):
            for name, value in tags.items():
                self._server.client.set_tag(self.run_id, name, value)

    def datasets(self, records: Sequence[DatasetRecord]) -> None:
        """Log what the run learns from and is measured on."""
        inputs = [
            DatasetInput(
                Dataset(r.name, r.digest, r.source_type, r.source, r.schema, r.profile),
                [InputTag("mlflow.data.context", r.context)],
            )
            for r in records
        ]
        with self._server.errors("tracking"):
            self._server.client.log_inputs(self.run_id, datasets=inputs)

    def metrics(
        self,
        metrics: Mapping[str, float],
        step: int,
        model: LoggedModel | None = None,
        dataset: DatasetRecord | None = None,
    ) -> None:
        """Log numbers as of epoch `step`, linked to a model and to what they were measured on."""
        now = time.time_ns() // 1_000_000
        of_data = (None, None) if dataset is None else (dataset.name, dataset.digest)
        of_model = None if model is None else model.model_id
        entries = [
            Metric(name, value, now, step, of_model, *of_data, self.run_id)
            for name, value in metrics.items()
        ]
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

    def begin_model(
        self, name: str, kind: str, parameters: Mapping[str, object] | None = None
    ) -> LoggedModel:
        """Make a logged model that metrics can be linked to; its files come with `model`."""
        with self._server.errors("tracking"):
            made = self._server.client.create_logged_model(
                self._experiment_id,
                logged_name(name),
                self.run_id,
                params={n: _cut(v) for n, v in (parameters or {}).items()},
                model_type=kind,
            )
        model = LoggedModel(made.model_id, str(made.artifact_location).rstrip("/"))
        self._models.append(model)
        return model

    def model(self, logged: LoggedModel, model: Model, tags: Mapping[str, str], step: int) -> None:
        """Log a model's files and mark it as ready; `step` is the epoch that its weights are of."""
        client = self._server.client
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "model"
            write_logged_model(folder, model, logged.model_id, self.run_id)
            with self._server.errors("tracking"):
                client.log_model_artifacts(logged.model_id, str(folder))
                client.set_logged_model_tags(logged.model_id, dict(tags))
                client.finalize_logged_model(logged.model_id, "READY")
                client.log_outputs(self.run_id, [LoggedModelOutput(logged.model_id, step)])
        logged.ready = True

    def __enter__(self) -> Self:
        """Begin to record system metrics."""
        if os.environ.get(_SYSTEM_METRICS, "true").lower() != "false":
            self._monitor = SystemMetricsMonitor(
                self.run_id, _SAMPLING_SECONDS, tracking_uri=self._server.uri
            )
            self._monitor.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the run as FINISHED, FAILED or, where it was interrupted, KILLED."""
        if self._monitor is not None:
            self._monitor.finish()
        status = "FINISHED"
        if kind is not None:
            status = "FAILED" if issubclass(kind, Exception) else "KILLED"
        with self._server.errors("tracking"):
            for model in self._models:
                if not model.ready:
                    self._server.client.finalize_logged_model(model.model_id, "FAILED")
            self._server.client.set_terminated(self.run_id, status)


def _cut(value: object) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST_PARAMETER else text[: _LONGEST_PARAMETER - 3] + "..."


def _origin() -> dict[str, str]:
    """Who started the run, and with what, as MLflow's own tags."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = "unknown"
    return {
        "mlflow.user": user,
        "mlflow.source.name": "titans-stream train",
        "mlflow.source.type": "LOCAL",
    }


def _experiment_id(client: Any, name: str) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return str(client.create_experiment(name, tags=_EXPERIMENT_TAGS))
    if experiment.lifecycle_stage != "active":
        raise ValueError(f"tracking.experiment: {name!r} is deleted in MLflow; restore or rename")
    return str(experiment.experiment_id)
