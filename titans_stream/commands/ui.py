"""Serve a page and an API about a connector: alerts, series, forecasts, health.

A process of its own beside the worker: it reads the output topics and, where it may, the state
folder. Only this machine can reach it, unless --host says otherwise; then a token is needed, or a
reverse proxy that says who asks. docs/page.md tells more.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from titans_stream.commands.broker import port_number
from titans_stream.commands.outputs import say
from titans_stream.commands.page_beside import NEEDED, PORT

if TYPE_CHECKING:
    from titans_stream.config import Connector
    from titans_stream.engine.model import Model
    from titans_stream.web.security import Access
    from titans_stream.web.service import Service

TOKEN_VARIABLE = "TITANS_UI_TOKEN"  # noqa: S105 - the name of a variable
PATIENCE = 10.0
"""Seconds after which a broker that does not answer is named; it is asked again."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("connector", metavar="CONNECTOR.yaml", type=Path)
    parser.add_argument("--host", default="127.0.0.1", help="address; default: this machine only")
    parser.add_argument(
        "--port", type=port_number, default=PORT, help=f"default {PORT}; 0: a free one"
    )
    parser.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        default=[],
        help="a name by which this server is reached, as behind a proxy; repeat for several",
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        type=Path,
        help=f"a file with the token that users need; default ${TOKEN_VARIABLE}, else none",
    )
    parser.add_argument(
        "--user-header",
        metavar="NAME",
        help="header in which a reverse proxy tells the user, such as X-Forwarded-User",
    )
    parser.add_argument(
        "--proxy",
        metavar="ADDRESS",
        action="append",
        default=[],
        help="address of that proxy; default: this machine; repeat for several",
    )
    add_reach(parser)


def add_reach(parser: argparse.ArgumentParser) -> None:
    """Add how far back is read and how much is kept."""
    parser.add_argument(
        "--since", metavar="SPAN", default="1d", help="history of scores that is read; default 1d"
    )
    parser.add_argument(
        "--alerts-since", metavar="SPAN", default="30d", help="and of alerts; default 30d"
    )
    parser.add_argument(
        "--keep", metavar="N", type=_count, default=4_096, help="readings of a series; default 4096"
    )
    parser.add_argument(
        "--keep-all",
        metavar="N",
        type=_count,
        default=8_000_000,
        help="readings of all series, 64 bytes each; default 8000000",
    )


def _count(text: str) -> int:
    if not text.isdecimal() or not 32 <= int(text) <= 10**9:
        raise argparse.ArgumentTypeError(f"a number from 32 on is needed, not {text!r}")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    from titans_stream.commands.signals import terminated_by_signal
    from titans_stream.config import load_connector

    connector = load_connector(args.connector)
    try:
        from titans_stream.web.server import serve
    except ModuleNotFoundError as error:
        raise ValueError(f"{NEEDED} (there is no {error.name})") from error

    access = _access(args)
    service = build_service(args, connector)

    def ready(address: str) -> None:
        say(f"{connector.name}: {address} (Ctrl-C ends it)")
        if connector.output.scores is None:
            say("note: output.scores is not set: the page shows alerts, but no values and bands")

    with terminated_by_signal():
        try:
            serve(service, access, args.port, ready)
        except KeyboardInterrupt:
            return 0
    return 0


def build_service(args: argparse.Namespace, connector: Connector) -> Service:
    """The service that the arguments and the connector describe."""
    import threading

    from titans_stream.durations import parse_duration
    from titans_stream.engine.build import compile_kernels
    from titans_stream.lifecycle.loading import load_model
    from titans_stream.stream.kafka.client import KafkaClients
    from titans_stream.web.control import KafkaControl
    from titans_stream.web.reader import Reach
    from titans_stream.web.service import Options, Service
    from titans_stream.web.store import Limits

    spans = {}
    for option in ("since", "alerts_since"):
        try:
            spans[option] = parse_duration(getattr(args, option))
        except ValueError as error:
            raise ValueError(f"--{option.replace('_', '-')}: {error}") from error
    if args.keep > args.keep_all:
        raise ValueError("--keep: more than --keep-all")

    def load() -> Model:
        model = load_model(connector.model)
        compile_kernels(model, "cpu", connector.input.group is not None)
        return model

    stopping = threading.Event()
    clients = KafkaClients(connector.kafka, patience=PATIENCE, stop=stopping)
    control = None if connector.control is None else KafkaControl(clients, connector.control)
    return Service(
        connector,
        clients,
        load,
        Options(
            Limits(readings=args.keep_all, readings_of_series=args.keep),
            Reach(spans["alerts_since"], spans["since"]),
        ),
        control=control,
        stopping=stopping,
    )


def _token(path: Path) -> str:
    """The token in a file. ValueError where there is none: without one the page would be open."""
    try:
        token = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"--token-file {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"--token-file {path}: not text in UTF-8") from error
    if not token:
        raise ValueError(f"--token-file {path}: it holds no token")
    return token


def _access(args: argparse.Namespace) -> Access:
    from dataclasses import replace

    from titans_stream.web.security import Access

    token = os.environ.get(TOKEN_VARIABLE)
    if args.token_file is not None:
        token = _token(args.token_file)
    if args.proxy and args.user_header is None:
        raise ValueError("--proxy: needs --user-header")
    access = Access(
        args.host,
        tuple(name.lower() for name in args.allow_host),
        token or None,
        args.user_header,
    )
    return replace(access, proxies=tuple(args.proxy)) if args.proxy else access
