"""`evaluate forecasting`: its own arguments, and the run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from titans_stream.commands.evaluate_progress import EvaluationProgress
    from titans_stream.commands.evaluate_tracking import Outcome
    from titans_stream.evaluation.forecasting_data import ForecastSet

MISSING = (
    "AutoETS and MSTL are left out: statsforecast is not installed "
    "(pip install 'titans-stream[evaluation]')"
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only `forecasting` takes."""
    group = parser.add_argument_group("forecasting")
    group.add_argument(
        "--data", metavar="FILE.csv", type=Path, help="a set of your own: each numeric column"
    )
    group.add_argument(
        "--split", metavar="A,B,C", default="0.7,0.1,0.2",
        help="shares of --data to train, validate and test on; default 0.7,0.1,0.2",
    )  # fmt: skip
    group.add_argument(
        "--horizons", metavar="N,N,...", default="96,192,336,720",
        help="steps ahead; default 96,192,336,720",
    )  # fmt: skip
    group.add_argument(
        "--only-ours", action="store_true", help="leave out everything to compare with"
    )
    group.add_argument(
        "--ablations", action="store_true", help="run ours with each of its parts switched off, too"
    )


def check(args: argparse.Namespace) -> None:
    """ValueError where the arguments do not fit together."""
    from titans_stream.commands.evaluate import OURS

    if (args.root is None) == (args.data is None):
        raise ValueError("--root or --data: one of them is needed")
    if args.detector != OURS:
        raise ValueError("--detector: forecasts come from the forecaster; see --ablations")
    _numbers(args.horizons, "--horizons")


def settings(args: argparse.Namespace) -> dict[str, object]:
    """What distinguishes this run from another one."""
    found = {"horizons": args.horizons, "ablations": args.ablations}
    if args.data is not None:
        found |= {"data": args.data.name, "split": args.split}
    return found


def evaluate(args: argparse.Namespace, progress: EvaluationProgress) -> Outcome:
    """Run all models on all sets. ValueError names what cannot be used."""
    from titans_stream.commands.evaluate_tracking import Outcome
    from titans_stream.evaluation.forecasting_ours import options_of
    from titans_stream.evaluation.forecasting_plots import plot_forecasting
    from titans_stream.evaluation.forecasting_report import Comparison, ForecastReport
    from titans_stream.evaluation.forecasting_statistical import available
    from titans_stream.lifecycle.loading import load_model

    try:
        options = options_of(args.changes)
    except ValueError as error:
        raise ValueError(f"--set: {error}") from error
    comparison = Comparison(
        load_model(args.model).weights,
        _numbers(args.horizons, "--horizons"),
        options,
        baselines=not args.only_ours,
        ablations=args.ablations,
    )
    sets = _sets(args)
    left_out = MISSING if comparison.baselines and not available() else ""
    found = {name: comparison.run(one, progress) for name, one in sets.items()}
    report = ForecastReport(found, left_out)
    plots = [] if args.plots is None else plot_forecasting(report, args.plots)
    return Outcome(report.to_json(), report.table(), tuple(plots))


def _sets(args: argparse.Namespace) -> dict[str, ForecastSet]:
    from titans_stream.evaluation.forecasting_data import load_forecast_sets, load_wide_csv

    if args.data is None:
        return load_forecast_sets(args.root)
    try:
        split = [float(share) for share in args.split.split(",")]
    except ValueError:
        raise ValueError(f"--split: shares such as 0.7,0.1,0.2, not {args.split!r}") from None
    one = load_wide_csv(args.data, split)
    return {one.name: one}


def _numbers(text: str, option: str) -> tuple[int, ...]:
    """Increasing whole numbers from 1 on."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and part.isascii() and int(part) > 0 for part in parts):
        raise ValueError(f"{option}: whole numbers such as 96,192 are needed, not {text!r}")
    return tuple(sorted({int(part) for part in parts}))
