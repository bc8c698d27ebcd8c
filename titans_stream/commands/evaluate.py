"""Measure detector and forecaster on data sets that you have: tables, numbers, pictures.

nab          the Numenta Anomaly Benchmark; --root is a checkout of it
telemetry    folders of CSV files with a label column, one set per folder
calibration  how many false alarms come for a given budget; generated series without anomalies,
             and those under --root
pairs        how often a second event soon after a first one is found; generated series
forecasting  errors and intervals of forecasts; ETTh1, ETTh2 and exchange_rate under --root, or
             the numeric columns of any CSV file (--data)

Detectors: titans-stream; its ablations memory-off (no memories), running-mean (and no
histogram), dense and sparse (one kind of memory alone); the baselines that the tables list.

With --track, --tracking-uri or MLFLOW_TRACKING_URI the run is recorded in MLflow.
docs/evaluation.md says what is measured and how.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from titans_stream.commands import evaluate_forecasting
from titans_stream.commands.csv_arguments import add_allow_dropped
from titans_stream.commands.outputs import account_for_files, note, refuse_place
from titans_stream.evaluation import OURS

if TYPE_CHECKING:
    from titans_stream.commands.evaluate_account import Accounted
    from titans_stream.commands.evaluate_outcome import EvaluationProgress, Outcome
    from titans_stream.evaluation.chosen import Chosen

BUDGETS = (0.1, 0.03, 0.01)
"""False episodes per 100 readings at which the detector's own alerts are counted."""
CALIBRATION_BUDGETS = (*BUDGETS, 0.003)
PROFILES = ("all", "standard", "reward_low_fp", "reward_low_fn")
SERIES = {"calibration": 64, "pairs": 400}
"""Generated series by default: of each family, and pairs in all."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "benchmark", choices=["nab", "telemetry", "calibration", "pairs", "forecasting"]
    )
    parser.add_argument(
        "--root", metavar="DIR", type=Path, help="folder of the data set, or the one it is in"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all numbers there")
    parser.add_argument(
        "--detector", metavar="NAME", default=OURS, help=f"default {OURS}; see above"
    )
    parser.add_argument("--model", metavar="URI", default="base", help="the model in use")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        dest="changes",
        action="append",
        default=[],
        help="change a setting: alerts.min_duration=3, engine.gap_factor=4, of forecasting "
        "forecast.fallback=false; may be repeated",
    )
    parser.add_argument(
        "--starts", metavar="K", type=int, default=1, help="mean over K start-shifted runs"
    )
    parser.add_argument("--profile", choices=PROFILES, default="all", help="profile of NAB")
    parser.add_argument("--files", action="store_true", help="a table with one row per file, too")
    parser.add_argument(
        "--peers", metavar="DIR", type=Path,
        help="scores computed elsewhere (trcf_SET.npz); default: a folder `peers` in or beside "
        "--root",
    )  # fmt: skip
    parser.add_argument(
        "--series", metavar="N", type=int,
        help=f"generated series: of each family (calibration, {SERIES['calibration']}), pairs in "
        f"all (pairs, {SERIES['pairs']})",
    )  # fmt: skip
    parser.add_argument("--plots", metavar="DIR", type=Path, help="draw pictures there")
    evaluate_forecasting.arguments(parser)
    parser.add_argument("--track", action="store_true", help="record the run in MLflow")
    parser.add_argument(
        "--tracking-uri", metavar="URI", help="MLflow server, or sqlite:///FILE; implies --track"
    )
    add_allow_dropped(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print the tables, write and record what is asked for."""
    _check(args)
    refuse_place("--json", args.json)
    from titans_stream.commands.evaluate_outcome import EvaluationProgress, is_wanted, recorded

    evaluation = {
        "nab": _nab,
        "telemetry": _telemetry,
        "calibration": _calibration,
        "pairs": _pairs,
        "forecasting": evaluate_forecasting.run,
    }[args.benchmark]

    def evaluate() -> Outcome:
        unit = "origins" if args.benchmark == "forecasting" else "readings"
        with EvaluationProgress(unit) as progress:
            return evaluation(args, progress)

    with ExitStack() as stack:
        if is_wanted(args.track, args.tracking_uri):
            if args.plots is None:
                args.plots = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            outcome, place = recorded(_settings(args), args.tracking_uri, evaluate)
            sys.stdout.write(f"{outcome.tables}\n\nrecorded: {place}\n")
        else:
            outcome = evaluate()
            sys.stdout.write(outcome.tables + "\n")
    if args.json is not None:
        args.json.write_text(json.dumps(outcome.numbers, indent=1) + "\n", encoding="utf-8")
    return _account(outcome, args.allow_dropped)


def _account(outcome: Outcome, allowed: bool) -> int:
    """Say what became of the values; the exit code."""
    from titans_stream.commands.evaluate_account import REMEDY, summary

    if not outcome.accounts:
        return 0
    note(summary(outcome.accounts))
    return account_for_files(outcome.accounts, allowed, REMEDY)


def _check(args: argparse.Namespace) -> None:
    if args.root is None and args.benchmark in ("nab", "telemetry"):
        raise ValueError(f"--root: the folder of {args.benchmark} is needed")
    if args.benchmark == "forecasting":
        evaluate_forecasting.check(args)
    if args.starts < 1:
        raise ValueError("--starts: at least 1 is needed")
    if args.series is not None and args.series < 1:
        raise ValueError("--series: at least 1 is needed")
    own = args.benchmark != "forecasting"  # which looks in more than one folder
    if own and args.root is not None and (args.root / args.benchmark).is_dir():
        args.root = args.root / args.benchmark


def _settings(args: argparse.Namespace) -> dict[str, object]:
    """What distinguishes this run from another one."""
    found = {"benchmark": args.benchmark, "detector": args.detector, "model": args.model}
    if args.benchmark == "forecasting":
        found |= evaluate_forecasting.settings(args)
    else:
        found["starts"] = args.starts
    return found | dict(change.split("=", 1) for change in args.changes if "=" in change)


def _chosen(
    args: argparse.Namespace, budgets: tuple[float, ...], progress: EvaluationProgress
) -> Chosen:
    """The detector in question. ValueError for an unknown detector, model or setting."""
    from titans_stream.evaluation.chosen import Chosen
    from titans_stream.evaluation.ours import OurDetector
    from titans_stream.evaluation.overrides import apply_overrides
    from titans_stream.lifecycle.loading import load_model

    try:
        alerts, engine = apply_overrides(args.changes)
    except ValueError as error:
        raise ValueError(f"--set: {error}") from error
    ours = OurDetector(load_model(args.model), budgets, alerts, engine)
    peers = args.peers if args.peers is not None else _beside(args.root)
    return Chosen.of(args.detector, ours, peers, progress)


def _accounted(chosen: Chosen) -> Accounted:
    from titans_stream.commands.evaluate_account import Accounted

    return Accounted(chosen.detector)


def _beside(root: Path | None) -> Path | None:
    """The folder `peers` in `root` or beside it."""
    if root is None:
        return None
    places = (root / "peers", root.resolve().parent / "peers")
    return next((place for place in places if place.is_dir()), None)


def _nab(args: argparse.Namespace, progress: EvaluationProgress) -> Outcome:
    from titans_stream.commands.evaluate_outcome import Outcome
    from titans_stream.evaluation.nab_report import run_nab
    from titans_stream.evaluation.plots import plot_nab

    chosen = _chosen(args, BUDGETS, progress)
    detector = _accounted(chosen)
    report = run_nab(detector, args.root, chosen.name, args.starts, chosen.baselines)
    profile = None if args.profile == "all" else args.profile
    tables = [report.table(profile), report.category_table(profile or PROFILES[1])]
    if args.files:
        tables.append(report.file_table(profile or PROFILES[1]))
    plots = [] if args.plots is None else plot_nab(report, args.plots)
    return Outcome(report.to_json(), "\n\n".join(tables), tuple(plots), detector.accounts)


def _telemetry(args: argparse.Namespace, progress: EvaluationProgress) -> Outcome:
    from titans_stream.commands.evaluate_outcome import Outcome
    from titans_stream.evaluation.plots import plot_telemetry
    from titans_stream.evaluation.telemetry_report import run_telemetry

    chosen = _chosen(args, BUDGETS, progress)
    detector = _accounted(chosen)
    detectors = {chosen.name: detector}
    report = run_telemetry(detectors, args.root, args.starts, chosen.baselines)
    tables = [report.table()]
    if args.files:
        tables += [report.series_table(name, chosen.name) for name in report.sets]
    plots = [] if args.plots is None else plot_telemetry(report, chosen.name, args.plots)
    return Outcome(report.to_json(), "\n\n".join(tables), tuple(plots), detector.accounts)


def _calibration(args: argparse.Namespace, progress: EvaluationProgress) -> Outcome:
    from titans_stream.commands.evaluate_outcome import Outcome
    from titans_stream.evaluation.calibration import run_calibration
    from titans_stream.evaluation.normal import (
        load_normal_sets,
        made_assets,
        made_sets,
        young_series,
    )
    from titans_stream.evaluation.plots import plot_calibration

    chosen = _chosen(args, CALIBRATION_BUDGETS, progress)
    series = args.series or SERIES["calibration"]
    sets = made_sets(series=series)
    sets["assets"] = made_assets(max(series // 2, 1), 20_000)
    if args.root is not None:
        sets |= load_normal_sets(args.root)
    detector = _accounted(chosen)
    young = young_series(32 * series) + made_assets(8 * series, 1_000, seed=4)
    report = run_calibration(detector, sets, young, chosen.name)
    plots = []
    if args.plots is not None:
        plots.append(plot_calibration(report, args.plots / "calibration.png"))
    return Outcome(report.to_json(), report.table(), tuple(plots), detector.accounts)


def _pairs(args: argparse.Namespace, progress: EvaluationProgress) -> Outcome:
    from titans_stream.commands.evaluate_outcome import Outcome
    from titans_stream.evaluation.pairs import make_pairs, pair_table, run_pairs
    from titans_stream.evaluation.tables import dump

    chosen = _chosen(args, BUDGETS, progress)
    found = run_pairs(chosen.detector, make_pairs(args.series or SERIES["pairs"]))
    return Outcome(dump(found), pair_table(found))
