"""Run the embedded development broker: Kafka's protocol in one process, on this machine only.

For development, never for data that matters: one node, no replication, no security. Topics that
clients ask for are made with one partition; --topic makes them with more.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from titans_stream.commands.outputs import say


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--port", type=port_number, default=9092, help="default 9092; 0: a free one"
    )
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    parser.add_argument(
        "--topic",
        metavar="NAME:PARTITIONS",
        type=_topic,
        action="append",
        default=[],
        help="a topic to make at the start; repeat for several",
    )
    parser.add_argument(
        "--connector",
        metavar="CONNECTOR.yaml",
        type=Path,
        action="append",
        default=[],
        help="make the topics of a connector, each with one partition; repeat for several",
    )


def port_number(text: str) -> int:
    """The port that an argument names."""
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"a port is needed, not {text!r}")
    return int(text)


def _topic(text: str) -> tuple[str, int]:
    name, _, partitions = text.partition(":")
    if not name or not (partitions or "1").isdecimal() or int(partitions or "1") < 1:
        raise argparse.ArgumentTypeError(f"NAME or NAME:PARTITIONS is needed, not {text!r}")
    return name, int(partitions or "1")


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    from titans_stream.commands.signals import terminated_by_signal
    from titans_stream.devbroker.broker import DevBroker

    logging.getLogger("titans_stream.devbroker.broker").setLevel(logging.ERROR)  # said below
    topics = {**_topics_of(args.connector), **dict(args.topic)}
    broker = DevBroker(args.host, args.port, topics=topics)
    with terminated_by_signal():
        try:
            broker.run_forever(
                lambda: say(
                    f"development only: bootstrap_servers {broker.bootstrap} (Ctrl-C ends it)"
                )
            )
        except OSError as error:
            raise ValueError(f"--port {args.port}: {error.strerror or error}") from error
    return 0


def _topics_of(connectors: list[Path]) -> dict[str, int]:
    from titans_stream.config import load_connector

    topics: dict[str, int] = {}
    for path in connectors:
        connector = load_connector(path)
        names = (*connector.input.subscription.names, *connector.output.topics.values())
        topics |= dict.fromkeys(names, 1)
    return topics
