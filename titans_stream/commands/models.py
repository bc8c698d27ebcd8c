"""List, compare, promote and roll back registered models.

  list                    every registered model with its versions and aliases
  show MODEL              one version: where it comes from, its metrics, what was decided of it
  compare A B             backtest both on the same series with the service's engine
  promote NAME VERSION    make a version champion if it passes the gates of the policy
  rollback NAME           make the champion's predecessor champion again

MODEL, A and B are `base`, a folder, models:/NAME@ALIAS or models:/NAME/VERSION. A backtest runs on
the validation part of the data that B was trained with, or on --data FILE.csv. The policy is
--policy, else mlflow/promotion.yaml of the working directory, else the same gates built in.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from titans_stream.commands.outputs import refuse_place, say

if TYPE_CHECKING:
    from titans_stream.engine.model import Model
    from titans_stream.lifecycle.comparison import Comparison
    from titans_stream.lifecycle.promotion import PromotionPolicy
    from titans_stream.lifecycle.series import Series

POLICY = Path("mlflow/promotion.yaml")
REFUSED = 1
"""Exit code where a gate does not hold."""
_SHOWN_ALERTS = 20


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="every registered model")
    show = actions.add_parser("show", help="one version")
    show.add_argument("model", metavar="MODEL")
    compare = actions.add_parser("compare", help="backtest two models on the same series")
    compare.add_argument("a", metavar="A")
    compare.add_argument("b", metavar="B")
    compare.add_argument("--json", metavar="FILE", type=Path, help="write all numbers here, too")
    promote = actions.add_parser("promote", help="make a version champion")
    promote.add_argument("name", metavar="NAME")
    promote.add_argument("number", metavar="VERSION")
    promote.add_argument("--policy", metavar="YAML", type=Path, help="the gates")
    promote.add_argument(
        "--force", metavar="REASON", help="promote whatever the gates say; the reason is recorded"
    )
    for each in (compare, promote):
        each.add_argument("--data", metavar="FILE.csv", action="append", default=[])
        each.add_argument("--timestamp", metavar="COL")
        each.add_argument("--value", metavar="COL", action="append", default=[])
        each.add_argument("--series", metavar="COL")
        each.add_argument("--timezone", metavar="ZONE", default="UTC")
    rollback = actions.add_parser("rollback", help="go back to the champion before")
    rollback.add_argument("name", metavar="NAME")
    rollback.add_argument("--reason", default="", help="is recorded")
    for each in actions.choices.values():
        each.add_argument("--tracking-uri", metavar="URI", help="MLflow server, or sqlite:///FILE")


def run(args: argparse.Namespace) -> int:
    """Do one of the actions."""
    actions = {
        "list": _list, "show": _show, "compare": _compare, "promote": _promote,
        "rollback": _rollback,
    }  # fmt: skip
    return actions[args.action](args)


def _list(args: argparse.Namespace) -> int:
    from titans_stream.lifecycle.listing import list_models
    from titans_stream.lifecycle.tracking import connect

    for line in list_models(connect(args.tracking_uri, must_exist=True)):
        say(line)
    return 0


def _show(args: argparse.Namespace) -> int:
    from titans_stream.lifecycle.listing import describe_model

    for line in describe_model(args.model, args.tracking_uri):
        say(line)
    return 0


def _compare(args: argparse.Namespace) -> int:
    from titans_stream.lifecycle.comparison import table
    from titans_stream.lifecycle.consideration import compared, named
    from titans_stream.lifecycle.loading import load_model

    refuse_place("--json", args.json)
    a, b = (load_model(uri, args.tracking_uri) for uri in (args.a, args.b))
    series, told = _series(args, b)
    comparison = compared(a, b, _shown(series))
    say(f"on {told}")
    for line in table(comparison, {"a": named(a), "b": named(b)}):
        say(line)
    _print_alerts(comparison)
    if args.json is not None:
        args.json.write_text(json.dumps(comparison.to_json(), indent=2) + "\n", encoding="utf-8")
    return 0


def _promote(args: argparse.Namespace) -> int:
    from titans_stream.lifecycle.comparison import table
    from titans_stream.lifecycle.consideration import consider, decide, named
    from titans_stream.lifecycle.loading import load_model
    from titans_stream.lifecycle.promotion import champion_of
    from titans_stream.lifecycle.tracking import connect

    if args.force is not None and not args.force.strip():
        raise ValueError("--force: say why; the reason is recorded")
    policy = _policy(args.policy)
    server = connect(args.tracking_uri, must_exist=True)
    before = champion_of(server, args.name)
    challenger = load_model(f"models:/{args.name}/{args.number}", args.tracking_uri)
    if before == challenger.ref.version:
        say(f"models:/{args.name}/{before} is champion already")
        return 0
    series, told = _series(args, challenger)
    say(f"on {told}")
    found = consider(server, challenger, policy, _shown(series), told, args.force)
    for line in table(found.comparison, {"a": named(found.champion), "b": named(found.challenger)}):
        say(line)
    for verdict in found.decision.verdicts:
        say(f"{'ok    ' if verdict.passed else 'FAILED'}  {verdict.text}")
    decide(server, found)
    forced = found.decision.forced
    if found.decision.promoted or forced is not None:
        how = "" if forced is None else f", forced: {forced}"
        say(f"models:/{args.name}/{challenger.ref.version} is champion now{how}")
        return 0
    say("refused: the champion stays" if before else "refused: there is no champion")
    return REFUSED


def _rollback(args: argparse.Namespace) -> int:
    from titans_stream.lifecycle.promotion import rollback
    from titans_stream.lifecycle.tracking import connect

    left, taken = rollback(connect(args.tracking_uri, must_exist=True), args.name, args.reason)
    say(f"models:/{args.name}/{taken} is champion again, {left} was")
    return 0


def _policy(path: Path | None) -> PromotionPolicy:
    from titans_stream.config import load_settings
    from titans_stream.lifecycle.promotion import PromotionPolicy

    if path is None and not POLICY.is_file():
        return PromotionPolicy()
    return load_settings(PromotionPolicy, path or POLICY)


def _series(args: argparse.Namespace, model: Model) -> tuple[list[Series], str]:
    """What is backtested on, and its description."""
    from titans_stream.lifecycle.consideration import described, own_series
    from titans_stream.lifecycle.data import csv_series
    from titans_stream.recipe_settings import CsvData

    if not args.data:
        series, source = own_series(model)
        return series, described(series, source)
    files = CsvData(
        files=tuple(args.data),
        timestamp=args.timestamp,
        values=tuple(args.value),
        series=args.series,
        timezone=args.timezone,
    )
    series = list(csv_series(files))
    return series, described(series, ", ".join(args.data))


def _shown(series: list[Series]) -> Iterable[Series]:
    """Series, of which a terminal is told how far a backtest is."""
    from titans_stream.commands.progress import told

    readings = sum(len(one.value) for one in series)
    return told(series, "readings", lambda one: len(one.value), total=readings)


def _print_alerts(comparison: Comparison) -> None:
    from titans_stream.times import format_timestamp

    say(
        f"alerts: {len(comparison.both):,} by both, {len(comparison.only_a):,} by A alone, "
        f"{len(comparison.only_b):,} by B alone"
    )
    for name, episodes in (("A", comparison.only_a), ("B", comparison.only_b)):
        for one in episodes[:_SHOWN_ALERTS]:
            when = format_timestamp(one.onset)
            say(f"  {name} alone  {when}  {one.severity:8s}  {one.series}: {one.explanation}")
        if len(episodes) > _SHOWN_ALERTS:
            say(f"  {name} alone: and {len(episodes) - _SHOWN_ALERTS:,} more")
