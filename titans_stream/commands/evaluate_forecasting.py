"""`titans-stream evaluate forecasting`: arguments, what is checked of them, and the runs."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from titans_stream.evaluation import OURS

if TYPE_CHECKING:
    from titans_stream.commands.evaluate_outcome import EvaluationProgress, Outcome
    from titans_stream.evaluation.forecasting_contest import Calendar, ContestSet
    from titans_stream.evaluation.forecasting_data import ForecastSet
    from titans_stream.forecasting.multi.forecaster import ForecastOptions

CONTEST, ONLINE, ROLLING = "gift-eval", "onlinetsf", "rolling"
HORIZONS = {
    "windows": "96,192,336,720", CONTEST: "48,480,720", ONLINE: "24,48,96", ROLLING: "24,48",
}  # fmt: skip
SPLITS = {ONLINE: "0.2,0.05,0.75"}
SPLIT = "0.7,0.1,0.2"
LAST = 0.1
MISSING = (
    "AutoETS and MSTL are left out: statsforecast is not installed "
    "(pip install 'titans-stream[evaluation]')"
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that only forecasts have."""
    group = parser.add_argument_group("forecasting")
    group.add_argument(
        "--data", metavar="FILE.csv", type=Path, help="a set of your own: each numeric column"
    )
    group.add_argument(
        "--by", metavar="COL",
        help="of a long --data, by the rules gift-eval and rolling: the column that names each "
        "row's series",
    )  # fmt: skip
    group.add_argument(
        "--split", metavar="A,B,C",
        help="shares of --data to train, validate and test on; default 0.7,0.1,0.2, by onlinetsf's "
        "rules .2,.05,.75",
    )  # fmt: skip
    group.add_argument(
        "--horizons", metavar="N,N,...",
        help="steps ahead; default 96,192,336,720, by gift-eval's rules 48,480,720, by "
        "onlinetsf's 24,48,96, by rolling ones 24,48",
    )  # fmt: skip
    group.add_argument(
        "--protocol", choices=tuple(HORIZONS), default="windows",
        help="windows: every window of the test part, z-scored; gift-eval: MASE and weighted "
        "quantile loss of the last windows of ETTh1, ETTh2, M4 hourly or --data; onlinetsf: as "
        "windows, but 20:5:75 of ETTh1, ETTh2 or --data are for training, validation and test, and "
        "all is learned from targets that have come; rolling: absolute error of each series of the "
        "same sets from one origin after another, against repeating day, week and last value",
    )  # fmt: skip
    group.add_argument(
        "--every", metavar="N", type=int, help="rolling: one origin in N rows; default 1"
    )
    group.add_argument(
        "--last", metavar="X", type=float,
        help="rolling: the share of each series in which forecasts lie, from 1 on a number of "
        "rows; default .1",
    )  # fmt: skip
    group.add_argument(
        "--first", metavar="N", type=int,
        help="rolling: rows of each series before the first forecast, in place of --last",
    )  # fmt: skip
    group.add_argument(
        "--timezone", metavar="ZONE",
        help="gift-eval, rolling: whose days and weeks the forecaster knows, and of times of "
        "--data without offset; default UTC",
    )  # fmt: skip
    group.add_argument(
        "--holidays", metavar="COUNTRY[-PART]",
        help="gift-eval, rolling: holidays that the forecaster knows, such as AT or AU-VIC",
    )  # fmt: skip
    group.add_argument(
        "--no-times", action="store_true",
        help="gift-eval, rolling: hide the times from the forecaster",
    )  # fmt: skip
    group.add_argument(
        "--only-ours", action="store_true", help="leave out everything to compare with"
    )
    group.add_argument(
        "--ablations", action="store_true", help="run ours with each of its parts switched off, too"
    )


def check(args: argparse.Namespace) -> None:
    """Fill in what depends on the protocol. ValueError names what does not go together."""
    contest, rolling = args.protocol in (CONTEST, ROLLING), args.protocol == ROLLING
    if (args.root is None) == (args.data is None):
        raise ValueError("--root or --data: one of them is needed")
    if args.detector != OURS:
        raise ValueError("--detector: forecasts come from the forecaster; see --ablations")
    if args.by is not None and (args.data is None or not contest):
        raise ValueError(
            "--by: it goes with --data and --protocol gift-eval or with --protocol rolling"
        )
    for name in ("timezone", "holidays"):
        if getattr(args, name) is not None and not contest:
            raise ValueError(f"--{name}: it goes with --protocol gift-eval or rolling")
    if args.no_times and not contest:
        raise ValueError("--no-times: it goes with --protocol gift-eval or rolling")
    for name in ("every", "last", "first"):
        if getattr(args, name) is not None and not rolling:
            raise ValueError(f"--{name}: it goes with --protocol rolling")
    if args.every is not None and args.every < 1:
        raise ValueError("--every: at least 1 is needed")
    if args.last is not None and not args.last > 0.0:
        raise ValueError("--last: a share such as .1 or a number of rows is needed")
    if args.first is not None and (args.first < 1 or args.last is not None):
        raise ValueError("--first: at least 1 is needed, and no --last beside it")
    if args.horizons is None:
        args.horizons = HORIZONS[args.protocol]
    horizons_of(args.horizons)
    args.split = args.split or SPLITS.get(args.protocol, SPLIT)


def settings(args: argparse.Namespace) -> dict[str, object]:
    """What distinguishes this run from another one."""
    found = {name: getattr(args, name) for name in ("horizons", "ablations", "protocol")}
    if args.data is not None:
        found |= {"data": args.data.name, "split": args.split}
    names = ("by", "every", "last", "first", "timezone", "holidays")
    found |= {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return found | ({"times": False} if args.no_times else {})


def run(args: argparse.Namespace, progress: EvaluationProgress) -> Outcome:
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
    if args.protocol in (CONTEST, ROLLING):
        return _contest(args, options, progress)
    comparison = Comparison(
        load_model(args.model).weights,
        horizons_of(args.horizons),
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
    """By the rules of GIFT-Eval, or from one origin after another. ValueError names what cannot be
    used."""
    from titans_stream.commands.evaluate_outcome import Outcome
    from titans_stream.evaluation.forecasting_contest import contest_table, run_contest
    from titans_stream.evaluation.forecasting_rolling import (
        Origins,
        rolling_numbers,
        rolling_table,
        run_rolling,
    )
    from titans_stream.evaluation.tables import dump
    from titans_stream.lifecycle.loading import load_model

    calendar = _calendar(args)
    weights = load_model(args.model).weights
    sets = _contest_sets(args)
    if args.protocol == CONTEST:
        found = {
            name: run_contest(one, weights, options, progress, calendar)
            for name, one in sets.items()
        }
        return Outcome(dump(found), contest_table(found))
    origins = Origins(args.every or 1, LAST if args.last is None else args.last, args.first)
    rolled = {
        name: run_rolling(one, weights, origins, calendar, options, progress)
        for name, one in sets.items()
    }
    return Outcome(dump(rolling_numbers(rolled)), rolling_table(rolled))


def _calendar(args: argparse.Namespace) -> Calendar:
    """ValueError for an unknown zone or country."""
    from pydantic import ValidationError

    from titans_stream.evaluation.forecasting_contest import Calendar
    from titans_stream.special_days import NO_SPECIAL_DAYS, CalendarConfig
    from titans_stream.times import load_zone

    zone = args.timezone or "UTC"
    try:
        load_zone(zone)
    except ValueError as error:
        raise ValueError(f"--timezone: {error}") from None
    days = NO_SPECIAL_DAYS
    if args.holidays is not None:
        country, _, part = args.holidays.partition("-")
        try:
            days = CalendarConfig(country=country, subdivision=part or None).table()
        except ValidationError as error:
            raise ValueError(f"--holidays: {error.errors()[0]['msg']}") from None
    return Calendar(zone, days, not args.no_times)


def _contest_sets(args: argparse.Namespace) -> dict[str, ContestSet]:
    from titans_stream.evaluation.forecasting_contest import load_contest_csv, load_contest_sets
    from titans_stream.times import load_zone

    horizons = horizons_of(args.horizons)
    if args.data is None:
        sets = load_contest_sets(args.root, horizons)
        if args.protocol == ROLLING:
            return {name: replace(one, horizons=horizons) for name, one in sets.items()}
        return sets
    one = load_contest_csv(args.data, horizons, args.by, load_zone(args.timezone or "UTC"))
    return {one.name: one}


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


def horizons_of(text: str) -> tuple[int, ...]:
    """Increasing whole numbers from 1 on."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and part.isascii() and int(part) > 0 for part in parts):
        raise ValueError(f"--horizons: whole numbers such as 96,192 are needed, not {text!r}")
    return tuple(sorted({int(part) for part in parts}))
