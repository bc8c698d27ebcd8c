"""Publish a CSV file to a connector's input topic, in the shape that the connector reads.

The connector says which fields a message has. A field comes from the column of the same name;
what is left of the series id comes from --set FIELD=TEXT or from the name of the series, which is
the value column's, or stands in the column --series. A column of several that hold numbers is a
series each; with --value only those named.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from titans_stream.commands.csv_arguments import add_csv_arguments, dialect, with_missing
from titans_stream.commands.outputs import Account, note

if TYPE_CHECKING:
    from titans_stream.config import Connector
    from titans_stream.records import Int8
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
    add_constants(parser)
    parser.add_argument(
        "--sort", action="store_true", help="publish in order of time, not as the rows stand"
    )
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--rate", metavar="N", type=_positive, help="messages per second")
    pace.add_argument(
        "--speedup",
        metavar="X",
        type=_positive,
        help="X times as fast as the times in the file; default: as fast as Kafka takes it",
    )


def add_constants(parser: argparse.ArgumentParser) -> None:
    """Add `--set`, for fields that a file lacks."""
    parser.add_argument(
        "--set",
        metavar="FIELD=TEXT",
        type=_constant,
        action="append",
        default=[],
        help="a field of the series id that is the same in every message; repeat for several",
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

    from titans_stream.commands.connector_rows import ConnectorRows, FileColumns
    from titans_stream.commands.progress import told
    from titans_stream.config import load_connector
    from titans_stream.files.csv_file import CsvFile
    from titans_stream.files.remarks import about_columns, about_rows

    connector = load_connector(args.connector)
    file = CsvFile(args.data, with_missing(dialect(args), connector.input.missing_values))
    source = ConnectorRows(file, connector.input, FileColumns.of(args))
    rows = _in_order(source) if args.sort else iter(source)
    first = list(islice(rows, _CHECKED))
    _check(first, connector.input)

    from titans_stream.stream.kafka.client import KafkaClients
    from titans_stream.stream.publisher import Pace, publish

    account = Account()
    published = publish(
        KafkaClients(connector.kafka, patience=PATIENCE),
        connector.input,
        told(_counted(chain(first, rows), connector, account), "rows", lambda row: 1),
        Pace(args.rate, args.speedup),
    )
    note(
        f"{published.readings:,} readings in {published.messages:,} messages to topic "
        f"{connector.input.topic}, {published.seconds:.1f} s"
    )
    columns = about_columns(file, source.left_out, file.header)
    for line in [*source.remarks, *columns, *about_rows(file)]:
        note(f"note: {line}")
    return account.end(
        args.allow_dropped,
        "come out of order, and a worker drops them",
        "is each series told apart? --sort publishes them in order of time, and a worker waits for "
        "order with engine.max_out_of_orderness",
    )


def _in_order(rows: Iterable[Row]) -> Iterator[Row]:
    """By time; those of one time as they stand, from the end in a file that is newest first."""
    found = list(rows)
    if found and found[0].timestamp > found[-1].timestamp:
        found.reverse()
    return iter(sorted(found, key=lambda row: row.timestamp))


def _counted(rows: Iterable[Row], connector: Connector, account: Account) -> Iterator[Row]:
    """Hand rows on; what a worker of the connector will drop is counted when they go out."""
    import numpy as np

    from titans_stream.commands.connector_rows import SeriesNames
    from titans_stream.engine.order_check import OrderCheck
    from titans_stream.records import Status
    from titans_stream.stream.codec.fields import UnusableError

    names = SeriesNames(connector.input)
    order = OrderCheck(connector.engine)

    def count(status: Int8) -> None:
        account.duplicate += int((status == Status.DUPLICATE).sum())
        account.late += int((status == Status.LATE).sum())

    for row in rows:
        fields = tuple(row.fields.items())
        for value_name, value in row.values.items():
            account.readings += 1
            try:
                series, _ = names.of(fields, value_name)
            except UnusableError:
                continue  # the worker says so in a dead letter
            count(order.take(series, row.timestamp, np.nan if value is None else value))
        yield row
    count(order.flush())


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
