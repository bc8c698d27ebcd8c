"""Train a model's slow weights from a recipe and record the run in MLflow.

The run goes to --tracking-uri, else the recipe's, else MLFLOW_TRACKING_URI, else mlflow.db in the
working directory. With --register the model becomes a new version that connectors can name.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from titans_stream.commands.csv_arguments import add_allow_dropped
from titans_stream.commands.outputs import account_for_files, note, say

if TYPE_CHECKING:
    from titans_stream.lifecycle.runs import TrainingReport


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("recipe", metavar="RECIPE.yaml", type=Path)
    parser.add_argument("--register", metavar="NAME", help="registered model that gets the version")
    parser.add_argument("--tracking-uri", metavar="URI", help="MLflow server, or sqlite:///FILE")
    add_allow_dropped(parser)


def run(args: argparse.Namespace) -> int:
    """Train."""
    from titans_stream.config import load_recipe

    recipe = load_recipe(args.recipe)

    from titans_stream.lifecycle.runs import run_training

    report = run_training(
        recipe, args.register, args.tracking_uri, lambda progress: say(progress.summary)
    )
    _print_report(report)
    for account in report.accounts:
        note(f"data {account}")
    return account_for_files(
        report.accounts,
        args.allow_dropped,
        "was not learned from; see data.csv in the recipe (series, length)",
    )


def _print_report(report: TrainingReport) -> None:
    say(f"run {report.run_id} of experiment {report.experiment} at {report.tracking_uri}")
    say(f"chosen: {report.chosen}, in {report.seconds:.1f} s; the model: {report.model_uri}")
    if report.registered is not None:
        aliases = "".join(f", alias {alias}" for alias in report.registered.aliases)
        say(f"registered: {report.registered.uri}{aliases}")
