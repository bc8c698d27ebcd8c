"""Train a model's slow weights from a recipe and record the run in MLflow.

The run goes to --tracking-uri, else the recipe's, else MLFLOW_TRACKING_URI, else mlflow.db in the
working directory. With --register the model becomes a new version that connectors can name.

Several processes, started by `torchrun --nproc-per-node N --no-python titans-stream train ...`,
share the gradient descent: each takes training.batch series of every batch.

Interrupted with Ctrl-C or by the machine, the same command goes on after the last epoch.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from titans_stream.commands.csv_arguments import add_allow_dropped
from titans_stream.commands.outputs import account_for_files, note, say

if TYPE_CHECKING:
    from titans_stream.lifecycle.runs import Progress, TrainingReport


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("recipe", metavar="RECIPE.yaml", type=Path)
    parser.add_argument("--register", metavar="NAME", help="registered model that gets the version")
    parser.add_argument(
        "--connector", metavar="CONNECTOR.yaml", help="learn from the history of its topics, too"
    )
    parser.add_argument("--since", metavar="DURATION", help="of that history, such as 30d")
    parser.add_argument("--tracking-uri", metavar="URI", help="MLflow server, or sqlite:///FILE")
    add_allow_dropped(parser)


def run(args: argparse.Namespace) -> int:
    """Train."""
    from titans_stream.config import load_recipe

    recipe = load_recipe(args.recipe)
    if args.connector is not None or args.since is not None:
        from titans_stream.lifecycle.topic_data import with_history

        recipe = with_history(recipe, args.connector, args.since)

    from titans_stream.lifecycle.processes import together
    from titans_stream.lifecycle.runs import follow_training, run_training

    clock = _Clock(recipe.training.epochs)
    with together() as processes:
        if not processes.leads:
            follow_training(recipe, processes)
            return 0
        report = run_training(
            recipe,
            args.register,
            args.tracking_uri,
            lambda progress: say(progress.summary + clock.left(progress)),
            processes,
        )
    print_report(report)
    for account in report.accounts:
        note(f"data {account}")
    return account_for_files(
        report.accounts,
        args.allow_dropped,
        "was not learned from; see data.csv in the recipe (series, length)",
    )


class _Clock:
    """Tells how long the epochs that are left will take, at most."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._begun = time.monotonic()
        self._first: int | None = None

    def left(self, progress: Progress) -> str:
        """A few words after an epoch's line."""
        number = progress.number
        if self._first is None or number <= self._first or number > self._epochs:
            self._first, self._begun = number, time.monotonic()
            return ""
        each = (time.monotonic() - self._begun) / (number - self._first)
        seconds = round(each * (self._epochs - number))
        return f"  at most {seconds // 60}:{seconds % 60:02d} left" if seconds else ""


def print_report(report: TrainingReport) -> None:
    """Say what a training run made."""
    say(f"run {report.run_id} of experiment {report.experiment} at {report.tracking_uri}")
    say(f"chosen: {report.chosen}, in {report.seconds:.1f} s; the model: {report.model_uri}")
    if report.naive_ratio is not None:
        say(
            f"your data, 96 steps ahead: error {report.naive_ratio:.3f} of that of the best of the "
            "last value, the day and the week before"
        )
    if report.registered is not None:
        aliases = "".join(f", alias {alias}" for alias in report.registered.aliases)
        say(f"registered: {report.registered.uri}{aliases}")
