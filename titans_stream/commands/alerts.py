"""Read a connector's alerts: a line each, or the messages as JSON.

Without --follow the command ends when all alerts that are there have been shown.
"""

from __future__ import annotations

import argparse
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
        "--since",
        metavar="WHEN",
        default="earliest",
        help="earliest, latest (from now on), or a time such as 2026-03-01T12:00:00Z: alerts "
        "about readings from then on; default earliest",
    )


def run(args: argparse.Namespace) -> int:
    """Print alerts."""
    from titans_stream.config import load_connector

    connector = load_connector(args.connector)
    wanted = _filter(args.since)

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
    with terminated_by_signal():
        try:
            _print(found, wanted, args.json)
        except KeyboardInterrupt:
            if not args.follow:
                raise
    return 0


def _filter(since: str) -> Callable[[Alert], bool]:
    from titans_stream.times import parse_timestamp

    if since in ("earliest", "latest"):
        return lambda alert: True
    try:
        begin = parse_timestamp(since)
    except ValueError as error:
        raise ValueError(f"--since: earliest, latest or a time is needed, not {since!r}") from error
    return lambda alert: parse_timestamp(alert.timestamp) >= begin


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
