"""Serve a connector's alerts, series, scores and what-if to assistants: the Model Context Protocol.

It speaks on standard input and output, as clients of the protocol start it, and changes nothing.
The same functions are behind the API of `titans-stream ui`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from titans_stream.commands.ui import add_reach, build_service


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("connector", metavar="CONNECTOR.yaml", type=Path)
    add_reach(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until the client closes standard input."""
    from titans_stream.config import load_connector

    connector = load_connector(args.connector)
    try:
        from titans_stream.web.tools import build_tools
    except ModuleNotFoundError as error:
        raise ValueError(f"pip install 'titans-stream[mcp]' (there is no {error.name})") from error

    from titans_stream.commands.ui import PATIENCE
    from titans_stream.stream.kafka.client import KafkaClients

    service = build_service(args, connector)
    build_tools(service, KafkaClients(connector.kafka, patience=PATIENCE)).run("stdio")
    return 0
