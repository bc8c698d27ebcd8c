"""Train a model's slow weights from a recipe and record the run in MLflow.

The run goes to --tracking-uri, else the recipe's, else MLFLOW_TRACKING_URI, else mlflow.db in the
working directory. With --register the model becomes a new version that connectors can name.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from titans_stream.lifecycle.runs import Progress, TrainingReport


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("recipe", metavar="RECIPE.yaml", type=Path)
    parser.add_argument("--register", metavar="NAME", help="registered model that gets the version")
    parser.add_argument("--tracking-uri", metavar="URI", help="MLflow server, or sqlite:///FILE")


def run(args: argparse.Namespace) -> int:
    """Train."""
    from titans_stream.config import load_recipe

    recipe = load_recipe(args.recipe)

    from titans_stream.lifecycle.runs import run_training

    report = run_training(recipe, args.register, args.tracking_uri, _print_progress)
    _print_report(report)
    return 0


def _print_progress(progress: Progress) -> None:
    _line(progress.summary)


def _print_report(report: TrainingReport) -> None:
    _line(f"run {report.run_id} of experiment {report.experiment} at {report.tracking_uri}")
    _line(f"chosen: {report.chosen}, in {report.seconds:.1f} s; the model: {report.model_uri}")
    if report.registered is not None:
        aliases = "".join(f", alias {alias}" for alias in report.registered.aliases)
        _line(f"registered: {report.registered.uri}{aliases}")


def _line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
