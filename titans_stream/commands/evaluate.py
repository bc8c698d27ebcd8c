"""Measure the detector on labelled data sets that you have: a table, and numbers as JSON.

nab          the Numenta Anomaly Benchmark; --root is a checkout of it
telemetry    folders of CSV files with a label column, one set per folder
calibration  how many false alarms there are for a given budget; series without anomalies under
             --root, or generated ones

docs/evaluation.md says what is measured and how.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from titans_stream.evaluation.protocol import Detector

OURS = "titans-stream"
BUDGETS = (1.0, 0.1, 0.01)
"""False episodes per 100 readings at which the detector's own alerts are counted."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("benchmark", choices=["nab", "telemetry", "calibration"])
    parser.add_argument(
        "--root", metavar="DIR", type=Path, help="folder of the data set, or the one it is in"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all numbers there")
    parser.add_argument(
        "--detector",
        metavar="NAME",
        default=OURS,
        help=f"{OURS}, or one of the baselines that the tables list",
    )
    parser.add_argument("--model", metavar="URI", default="base", help="the model in use")
    parser.add_argument(
        "--starts", metavar="K", type=int, default=1, help="mean over K start-shifted runs"
    )
    parser.add_argument("--plots", metavar="DIR", type=Path, help="draw figures there")


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write what is asked for."""
    if args.root is None and args.benchmark != "calibration":
        raise ValueError(f"--root: the folder of {args.benchmark} is needed")
    if args.starts < 1:
        raise ValueError("--starts: at least 1 is needed")
    if args.root is not None and (args.root / args.benchmark).is_dir():
        args.root = args.root / args.benchmark
    numbers = {"nab": _nab, "telemetry": _telemetry, "calibration": _calibration}[args.benchmark](
        args
    )
    if args.json is not None:
        args.json.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    return 0


def _nab(args: argparse.Namespace) -> dict[str, object]:
    from titans_stream.evaluation.nab_report import run_nab
    from titans_stream.evaluation.plots import plot_nab

    report = run_nab(_detector(args), args.root, args.detector, args.starts)
    _print(report.table(), report.category_table())
    if args.plots is not None:
        plot_nab(report, args.plots)
    return report.to_json()


def _telemetry(args: argparse.Namespace) -> dict[str, object]:
    from titans_stream.evaluation.baselines import default_baselines
    from titans_stream.evaluation.telemetry_report import run_telemetry

    baselines: Callable[[str], dict[str, Detector]] | None = None
    if args.detector == OURS:
        baselines = lambda data_set: default_baselines(None, data_set)  # noqa: E731
    detectors = {args.detector: _detector(args)}
    report = run_telemetry(detectors, args.root, args.starts, baselines)
    _print(report.table())
    return report.to_json()


def _calibration(args: argparse.Namespace) -> dict[str, object]:
    from titans_stream.evaluation.calibration import run_calibration
    from titans_stream.evaluation.normal import load_normal_sets, made_sets
    from titans_stream.evaluation.plots import plot_calibration

    sets = made_sets() if args.root is None else load_normal_sets(args.root)
    report = run_calibration(_detector(args), sets, name=args.detector)
    _print(report.table())
    if args.plots is not None:
        args.plots.mkdir(parents=True, exist_ok=True)
        plot_calibration(report, args.plots / "calibration.png")
    return report.to_json()


def _detector(args: argparse.Namespace) -> Detector:
    from titans_stream.evaluation.baselines import default_baselines
    from titans_stream.evaluation.ours import OurDetector
    from titans_stream.lifecycle.loading import load_model

    if args.detector == OURS:
        return OurDetector(load_model(args.model), BUDGETS)
    known: dict[str, Any] = default_baselines()
    if args.detector not in known:
        raise ValueError(f"--detector: {args.detector!r} is none of {', '.join((OURS, *known))}")
    found: Detector = known[args.detector]
    return found


def _print(*tables: str) -> None:
    sys.stdout.write("\n\n".join(tables) + "\n")
