"""Read a connector's alerts: a line each, or the messages as JSON.

Without --follow the command ends when all alerts that are there have been shown. Options narrow
them down: all of them have to hold.
"""

from __future__ import annotations

import argparse
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from titans_stream.commands.outputs import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from titans_stream.records import Alert

PATIENCE = 10.0
"""Seconds to wait for a broker that does not answer."""
_HEADER = f"{'status':8s}  {'severity':8s}  {'onset':24s}  {'lasted':>8s}  series: what happened"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("connector", metavar="CONNECTOR.yaml", type=Path)
    parser.add_argument("--follow", action="store_true", help="wait for more until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="print the messages, one a line")
    parser.add_argument(
        "--episodes",
        action="store_true",
        help="a line an episode, as its last message has it, in order of onset",
    )
    parser.add_argument(
        "--since",
        metavar="WHEN",
        default="earliest",
        help="earliest, latest (from now on), a time such as 2026-03-01T12:00:00Z, or 2h for two "
        "hours ago: alerts about readings from then on; default earliest",
    )
    parser.add_argument("--until", metavar="WHEN", help="alerts about readings before this time")
    parser.add_argument("--series", metavar="GLOB", help="of these series, e.g. 'vienna/*'")
    parser.add_argument("--severity", choices=("warning", "critical"))
    parser.add_argument(
        "--status",
        choices=("opened", "updated", "resolved", "open"),
        help="messages of this kind; with --episodes, open: those that are not resolved yet",
    )


def run(args: argparse.Namespace) -> int:
    """Print alerts."""
    from titans_stream.config import load_connector

    connector = load_connector(args.connector)
    wanted = _filter(args)

    from titans_stream.commands.signals import terminated_by_signal
    from titans_stream.stream.alert_reader import read_alerts
    from titans_stream.stream.kafka.client import KafkaClients

    clients = KafkaClients(connector.kafka, patience=PATIENCE)
    found = read_alerts(
        clients,
        connector.output.alerts,
        from_beginning=args.since != "latest",
        follow=args.follow,
    )
    if args.episodes:
        found = iter(_episodes(found))
    with terminated_by_signal():
        try:
            _print(found, wanted, args.json)
        except KeyboardInterrupt:
            if not args.follow:
                raise
    return 0


def _filter(args: argparse.Namespace) -> Callable[[Alert], bool]:
    """Which alerts are shown."""
    import time

    from titans_stream.durations import parse_duration
    from titans_stream.times import parse_timestamp

    def time_of(option: str, text: str, more: str = "") -> int:
        for read in (parse_timestamp, lambda ago: time.time_ns() - parse_duration(ago)):
            try:
                return read(text)
            except ValueError:
                continue
        raise ValueError(
            f"--{option}: {more}a time or a duration such as 2h is needed, not {text!r}"
        )

    if args.episodes and args.follow:
        raise ValueError("--episodes: what will become of an episode is not known; leave --follow")
    if args.status == "open" and not args.episodes:
        raise ValueError("--status open: needs --episodes")
    begin = 0
    if args.since not in ("earliest", "latest"):
        begin = time_of("since", args.since, "earliest, latest, ")
    end = None if args.until is None else time_of("until", args.until)

    def wanted(alert: Alert) -> bool:
        if args.severity not in (None, alert.severity):
            return False
        if args.status == "open" and alert.status == "resolved":
            return False
        if args.status not in (None, "open", alert.status):
            return False
        if args.series is not None and not fnmatchcase(alert.series_id, args.series):
            return False
        if not begin and end is None:
            return True
        at = parse_timestamp(alert.timestamp)
        return at >= begin and (end is None or at < end)

    return wanted


def _episodes(alerts: Iterable[Alert]) -> list[Alert]:
    """The last message of each episode, in order of onset."""
    last = {alert.alert_id: alert for alert in alerts}
    return sorted(last.values(), key=lambda alert: (alert.onset, alert.series_id))


def _print(alerts: Iterable[Alert], wanted: Callable[[Alert], bool], as_json: bool) -> None:
    import orjson

    if not as_json:
        say(_HEADER)
    for alert in alerts:
        if wanted(alert):
            say(orjson.dumps(alert).decode() if as_json else _line(alert))


def _line(alert: Alert) -> str:
    lasted = "" if alert.status == "opened" else _seconds(alert.duration_s)
    return (
        f"{alert.status:8s}  {alert.severity:8s}  {alert.onset:24s}  {lasted:>8s}  "
        f"{alert.series_id}: {alert.explanation}"
    )


def _seconds(seconds: float) -> str:
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("m", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
