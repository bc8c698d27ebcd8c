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

from titans_stream.commands.csv_arguments import add_allow_dropped
from titans_stream.commands.outputs import account_for_files, note
from titans_stream.evaluation import OURS

if TYPE_CHECKING:
    from titans_stream.commands.evaluate_account import Accounted
    from titans_stream.commands.evaluate_outcome import EvaluationProgress, Outcome
    from titans_stream.evaluation.chosen import Chosen
    from titans_stream.evaluation.forecasting_data import ForecastSet
    from titans_stream.forecasting.multi.forecaster import ForecastOptions

BUDGETS = (0.1, 0.03, 0.01)
"""False episodes per 100 readings at which the detector's own alerts are counted."""
CALIBRATION_BUDGETS = (*BUDGETS, 0.003)
PROFILES = ("all", "standard", "reward_low_fp", "reward_low_fn")
SERIES = {"calibration": 64, "pairs": 400}
"""Generated series by default: of each family, and pairs in all."""
HORIZONS = {"windows": "96,192,336,720", "gift-eval": "48,480,720", "onlinetsf": "24,48,96"}
ONLINE = "onlinetsf"
SPLITS = {"windows": "0.7,0.1,0.2", "gift-eval": "0.7,0.1,0.2", ONLINE: "0.2,0.05,0.75"}
MISSING = (
    "AutoETS and MSTL are left out: statsforecast is not installed "
    "(pip install 'titans-stream[evaluation]')"
)


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
    group = parser.add_argument_group("forecasting")
    group.add_argument(
        "--data", metavar="FILE.csv", type=Path, help="a set of your own: each numeric column"
    )
    group.add_argument(
        "--by", metavar="COL",
        help="of a long --data, by gift-eval's rules: the column that names each row's series",
    )  # fmt: skip
    group.add_argument(
        "--split", metavar="A,B,C",
        help="shares of --data to train, validate and test on; default 0.7,0.1,0.2, by onlinetsf's "
        "rules .2,.05,.75",
    )  # fmt: skip
    group.add_argument(
        "--horizons", metavar="N,N,...",
        help="steps ahead; default 96,192,336,720, by gift-eval's rules 48,480,720, by "
        "onlinetsf's 24,48,96",
    )  # fmt: skip
    group.add_argument(
        "--protocol", choices=tuple(HORIZONS), default="windows",
        help="windows: every window of the test part, z-scored; gift-eval: MASE and weighted "
        "quantile loss of the last windows of ETTh1, ETTh2, M4 hourly or --data; onlinetsf: as "
        "windows, but 20:5:75 of ETTh1, ETTh2 or --data are for training, validation and test, and "
        "all is learned from targets that have come",
    )  # fmt: skip
    group.add_argument(
        "--only-ours", action="store_true", help="leave out everything to compare with"
    )
    group.add_argument(
        "--ablations", action="store_true", help="run ours with each of its parts switched off, too"
    )
    parser.add_argument("--track", action="store_true", help="record the run in MLflow")
    parser.add_argument(
        "--tracking-uri", metavar="URI", help="MLflow server, or sqlite:///FILE; implies --track"
    )
    add_allow_dropped(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, print the tables, write and record what is asked for."""
    _check(args)
    from titans_stream.commands.evaluate_outcome import EvaluationProgress, is_wanted, recorded

    evaluation = {
        "nab": _nab,
        "telemetry": _telemetry,
        "calibration": _calibration,
        "pairs": _pairs,
        "forecasting": _forecasting,
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
        if (args.root is None) == (args.data is None):
            raise ValueError("--root or --data: one of them is needed")
        if args.detector != OURS:
            raise ValueError("--detector: forecasts come from the forecaster; see --ablations")
        if args.by is not None and (args.data is None or args.protocol != "gift-eval"):
            raise ValueError("--by: it goes with --data and --protocol gift-eval")
        if args.horizons is None:
            args.horizons = HORIZONS[args.protocol]
        _horizons(args.horizons)
        args.split = args.split or SPLITS[args.protocol]
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
        found |= {"horizons": args.horizons, "ablations": args.ablations}
        found["protocol"] = args.protocol
        if args.data is not None:
            found |= {"data": args.data.name, "split": args.split}
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


def _forecasting(args: argparse.Namespace, progress: EvaluationProgress) -> Outcome:
    """Run all models on all sets. ValueError names what cannot be used."""
    from titans_stream.commands.evaluate_account import account_of_set
    from titans_stream.commands.evaluate_outcome import Outcome
    from titans_stream.evaluation.forecasting_plots import plot_forecasting
    from titans_stream.evaluation.forecasting_report import Comparison, ForecastReport
    from titans_stream.evaluation.forecasting_statistical import available
    from titans_stream.evaluation.overrides import options_of
    from titans_stream.lifecycle.loading import load_model

    try:
        options = options_of(args.changes)
    except ValueError as error:
        raise ValueError(f"--set: {error}") from error
    if args.protocol == "gift-eval":
        return _contest(args, options, progress)
    comparison = Comparison(
        load_model(args.model).weights,
        _horizons(args.horizons),
        options,
        baselines=not args.only_ours,
        ablations=args.ablations,
    )
    sets = _sets(args)
    left_out = MISSING if comparison.baselines and not available() else ""
    found = {name: comparison.run(one, progress) for name, one in sets.items()}
    report = ForecastReport(found, left_out)
    plots = [] if args.plots is None else plot_forecasting(report, args.plots)
    accounts = [account_of_set(one) for one in sets.values()]
    return Outcome(report.to_json(), report.table(), tuple(plots), accounts)


def _contest(
    args: argparse.Namespace, options: ForecastOptions, progress: EvaluationProgress
) -> Outcome:
    """By the rules of GIFT-Eval. ValueError names what cannot be used."""
    from titans_stream.commands.evaluate_outcome import Outcome
    from titans_stream.evaluation.forecasting_contest import (
        contest_table,
        load_contest_csv,
        load_contest_sets,
        run_contest,
    )
    from titans_stream.evaluation.tables import dump
    from titans_stream.lifecycle.loading import load_model

    horizons = _horizons(args.horizons)
    weights = load_model(args.model).weights
    if args.data is not None:
        one = load_contest_csv(args.data, horizons, args.by)
        sets = {one.name: one}
    else:
        sets = load_contest_sets(args.root, horizons)
    found = {name: run_contest(one, weights, options, progress) for name, one in sets.items()}
    return Outcome(dump(found), contest_table(found))


def _sets(args: argparse.Namespace) -> dict[str, ForecastSet]:
    from titans_stream.evaluation.forecasting_data import (
        HOURLY,
        load_forecast_sets,
        load_wide_csv,
        resplit,
    )

    try:
        split = [float(share) for share in args.split.split(",")]
    except ValueError:
        raise ValueError(f"--split: shares such as 0.7,0.1,0.2, not {args.split!r}") from None
    if args.data is None:
        sets = load_forecast_sets(args.root)
        if args.protocol != ONLINE:
            return sets
        hourly = {name: resplit(one, split) for name, one in sets.items() if name in HOURLY}
        if not hourly:
            raise ValueError(f"root: neither of {', '.join(HOURLY)} under {args.root}")
        return hourly
    one = load_wide_csv(args.data, split)
    return {one.name: one}


def _horizons(text: str) -> tuple[int, ...]:
    """Increasing whole numbers from 1 on."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and part.isascii() and int(part) > 0 for part in parts):
        raise ValueError(f"--horizons: whole numbers such as 96,192 are needed, not {text!r}")
    return tuple(sorted({int(part) for part in parts}))
