"""Show the topics of a connector, or create those that are missing.

A line a topic: its setting, partitions, how long messages are kept, and what may be amiss. With
--create, what is missing is made with the partitions and the retention that are shown; topics that
exist are never changed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from titans_stream.commands.outputs import note, say

if TYPE_CHECKING:
    from collections.abc import Mapping

PATIENCE = 10.0
"""Seconds to wait for a broker that does not answer."""
_HEADER = (
    f"{'setting':20s}  {'topic':30s}  {'partitions':>10s}  {'kept':>6s}  {'cleanup':14s}  state"
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("connector", metavar="CONNECTOR.yaml", type=Path)
    parser.add_argument("--create", action="store_true", help="make the topics that are missing")
    parser.add_argument(
        "--partitions",
        metavar="N",
        type=_count,
        default=6,
        help="of an input topic that is made: the most workers that can share it; default 6",
    )


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"a number from 1 to 10000 is needed, not {text!r}")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Show, and create; ValueError where topics are missing and are not made."""
    from titans_stream.config import load_connector

    connector = load_connector(args.connector)

    from titans_stream.stream.kafka.client import KafkaClients
    from titans_stream.stream.topic_plan import all_topics, plan_topics, remarks

    clients = KafkaClients(connector.kafka, patience=PATIENCE)
    of = (connector.input, connector.output, connector.control)
    found = clients.topics(all_topics(*of).values())
    plans = plan_topics(*of, found, args.partitions)
    settings = clients.topic_settings(name for name, info in found.items() if info is not None)
    say(_HEADER)
    missing = []
    for plan in plans:
        info = found[plan.name]
        if info is not None:
            row = _row(plan.setting, plan.name, len(info.partitions), settings[plan.name])
            said = list(
                remarks(
                    plan,
                    info,
                    settings[plan.name],
                    connector.input.warm_up,
                    connector.notify.history,
                )
            )
            say(f"{row}  there{': ' if said else ''}{'; '.join(said)}")
            continue
        row = _row(plan.setting, plan.name, plan.partitions, plan.settings)
        if args.create:
            clients.create_topic(plan.name, plan.partitions, plan.settings)
        else:
            missing.append(plan.name)
        say(f"{row}  {'made' if args.create else 'missing'}")
    if connector.input.topic_pattern is not None:
        note(
            f"topics like {connector.input.topic_pattern} are read; whoever writes them makes them"
        )
    if missing:
        raise ValueError(f"missing: {', '.join(missing)}; --create makes them as shown")
    return 0


def _row(setting: str, name: str, partitions: int, settings: Mapping[str, str]) -> str:
    policy = settings.get("cleanup.policy", "?")
    kept = "ever" if policy == "compact" else _kept(settings.get("retention.ms", ""))
    return f"{setting:20s}  {name:30s}  {partitions:>10,}  {kept:>6s}  {policy:14s}"


def _kept(milliseconds: str) -> str:
    from titans_stream.durations import MILLISECOND, format_duration

    if milliseconds == "-1":
        return "ever"
    return format_duration(int(milliseconds) * MILLISECOND) if milliseconds.isdecimal() else "?"
