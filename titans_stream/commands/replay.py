"""Publish a CSV file to a connector's input topic, in the shape that the connector reads.

The connector says which fields a message has. A field comes from the column of the same name;
what is left of the series id comes from --set FIELD=TEXT or from the name of the series, which is
the value column's, or stands in the column --series. A column of several that hold numbers is a
series each; with --value only those named.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from titans_stream.commands.csv_arguments import add_csv_arguments, delimiter

if TYPE_CHECKING:
    from titans_stream.stream.publisher import Row
    from titans_stream.stream.settings import InputConfig

_CHECKED = 1_000
"""Messages that are decoded before anything is sent."""
PATIENCE = 10.0
"""Seconds to wait for a broker that does not answer."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("data", metavar="DATA.csv", type=Path, help="a CSV file with a header")
    parser.add_argument("connector", metavar="CONNECTOR.yaml", type=Path)
    add_csv_arguments(parser)
    parser.add_argument(
        "--set",
        metavar="FIELD=TEXT",
        type=_constant,
        action="append",
        default=[],
        help="a field of the series id that is the same in every message; repeat for several",
    )
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--rate", metavar="N", type=_positive, help="messages per second")
    pace.add_argument(
        "--speedup",
        metavar="X",
        type=_positive,
        help="X times as fast as the times in the file; default: as fast as Kafka takes it",
    )


def _constant(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals or not value:
        raise argparse.ArgumentTypeError(f"FIELD=TEXT is needed, not {text!r}")
    return name, value


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"a number above 0 is needed, not {text!r}")
    return number


def run(args: argparse.Namespace) -> int:
    """Publish the file."""
    from itertools import chain, islice

    from titans_stream.commands.replay_rows import ReplayColumns, ReplayRows
    from titans_stream.config import load_connector
    from titans_stream.files.csv_file import CsvFile

    connector = load_connector(args.connector)
    file = CsvFile(args.data, delimiter(args.delimiter))
    columns = ReplayColumns(args.timestamp, tuple(args.value), args.series, dict(args.set))
    rows = iter(ReplayRows(file, connector.input, columns, args.timezone))
    first = list(islice(rows, _CHECKED))
    _check(first, connector.input)

    from titans_stream.stream.kafka.client import KafkaClients
    from titans_stream.stream.publisher import Pace, publish

    published = publish(
        KafkaClients(connector.kafka, patience=PATIENCE),
        connector.input,
        chain(first, rows),
        Pace(args.rate, args.speedup),
    )
    sys.stderr.write(
        f"{published.readings:,} readings in {published.messages:,} messages to topic "
        f"{connector.input.topic}, {published.seconds:.1f} s\n"
    )
    return 0


def _check(rows: list[Row], config: InputConfig) -> None:
    """See that the connector can use the messages. ValueError says why it cannot."""
    from titans_stream.stream.codec.choice import codec_for
    from titans_stream.stream.messages import RawMessage
    from titans_stream.stream.publisher import MessageBuilder

    builder = MessageBuilder(config)
    messages = []
    for i, row in enumerate(rows):
        key, value = builder.build(row)
        messages.append(RawMessage(config.topic, 0, i, row.timestamp // 1_000_000, key, value))
    dead = codec_for(config).decode(messages).dead
    if dead:
        raise ValueError(
            f"message {dead[0].offset + 1} would be refused by the connector: {dead[0].reason}: "
            f"{dead[0].detail}"
        )
