"""What an evaluation comes to: its progress, and its record in MLflow."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from titans_stream.files.account import FileAccount
from titans_stream.lifecycle.recording import RunRecorder
from titans_stream.lifecycle.tracking import connect

EXPERIMENT = "titans-stream-evaluation"
PER_FILE = frozenset({"files", "series", "published", "thresholds"})
"""Parts of the numbers that are artefacts only: they would be hundreds of metrics."""
BATCH = 500
"""Metrics in one request; MLflow takes 1000."""
_REFUSED = re.compile(r"[^\w\-. /]+")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an evaluation printed and counted; `plots` are files, `accounts` of each series."""

    numbers: Mapping[str, object]
    tables: str
    plots: tuple[Path, ...] = ()
    accounts: Sequence[FileAccount] = ()


def is_wanted(track: bool, uri: str | None) -> bool:
    """Whether to record: asked for, or a server is configured."""
    return track or uri is not None or bool(os.environ.get("MLFLOW_TRACKING_URI"))


def recorded(
    settings: Mapping[str, object], uri: str | None, evaluate: Callable[[], Outcome]
) -> tuple[Outcome, str]:
    """The outcome of `evaluate`, and where it is recorded, in words.

    The run begins before the evaluation, so that a server that does not answer costs no time.
    ConnectionError, ValueError: as `lifecycle.tracking` raises them.
    """
    server = connect(uri)
    tags = {"kind": "evaluation", "benchmark": str(settings["benchmark"])}
    name = f"{settings['benchmark']} {settings['detector']}"
    recorder = RunRecorder(server, EXPERIMENT, name, tags)
    with recorder:
        recorder.parameters(settings)
        outcome = evaluate()
        _record(recorder, outcome)
    return outcome, f"run {recorder.run_id} of {EXPERIMENT} at {server.shown}"


def _record(recorder: RunRecorder, outcome: Outcome) -> None:
    metrics = list(flatten(outcome.numbers))
    for first in range(0, len(metrics), BATCH):
        recorder.metrics(dict(metrics[first : first + BATCH]), 0)
    recorder.document("numbers.json", outcome.numbers)
    recorder.text("tables.txt", outcome.tables + "\n")
    for path in outcome.plots:
        recorder.file(path, "plots")


def flatten(numbers: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a report by path, `budgets/0.1/standard`, in names that MLflow takes."""
    for key, value in numbers.items():
        path = f"{prefix}{_REFUSED.sub('', key)}"
        if isinstance(value, Mapping):
            if key not in PER_FILE:
                yield from flatten(value, f"{path}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield path, float(value)


class EvaluationProgress:
    """One line per detector or forecaster; silent where standard error is no terminal."""

    def __init__(self, unit: str = "readings") -> None:
        self._shown: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        if sys.stderr.isatty():
            self._shown = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn(f"{{task.completed:,.0f}} / {{task.total:,.0f}} {unit}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )

    def __enter__(self) -> EvaluationProgress:
        if self._shown is not None:
            self._shown.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shown is not None:
            self._shown.stop()

    def __call__(self, name: str, done: int, total: int) -> None:
        """What is done of a detector's current set."""
        if self._shown is None:
            return
        if name not in self._tasks:
            self._tasks[name] = self._shown.add_task(name, total=total)
        self._shown.update(self._tasks[name], completed=done, total=total)
