"""Publish a CSV file to a connector's input topic, in the shape that the connector reads.

The connector says which fields a message has. A field comes from the column of the same name;
what is left of the series id comes from --set FIELD=TEXT or from the name of the series, which is
the value column's, or stands in the column --series. A column of several that hold numbers is a
series each; with --value only those named.
"""

from __future__ import annotations

import argparse
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from titans_stream.commands.csv_arguments import add_csv_arguments, delimiter
from titans_stream.commands.outputs import Dropped, note

if TYPE_CHECKING:
    from titans_stream.config import Connector
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
    from titans_stream.config import load_connector
    from titans_stream.files.csv_file import CsvFile

    connector = load_connector(args.connector)
    file = CsvFile(args.data, delimiter(args.delimiter))
    rows = iter(ConnectorRows(file, connector.input, FileColumns.of(args)))
    first = list(islice(rows, _CHECKED))
    _check(first, connector.input)

    from titans_stream.stream.kafka.client import KafkaClients
    from titans_stream.stream.publisher import Pace, publish

    dropped = Dropped()
    published = publish(
        KafkaClients(connector.kafka, patience=PATIENCE),
        connector.input,
        _counted(chain(first, rows), connector, dropped),
        Pace(args.rate, args.speedup),
    )
    note(
        f"{published.readings:,} readings in {published.messages:,} messages to topic "
        f"{connector.input.topic}, {published.seconds:.1f} s"
    )
    dropped.warn("come out of order, and a worker drops them")
    return 0


@dataclass(slots=True)
class _Clock:
    """Event time of one series as the engine's order keeps it; times in nanoseconds.

    Readings wait until the series has been seen `bound` later. `last` is that of the last one
    taken, `late` that of the last late one, the `run`-th in an order of their own.
    """

    bound: int
    shared: bool
    """Several values may have one time; the same value again is a duplicate."""
    newest: int | None = None
    waiting: list[tuple[int, Any]] = field(default_factory=list)
    last: int | None = None
    had: list[Any] = field(default_factory=list)
    """Values of the time `last`."""
    late: int = 0
    run: int = 0

    def take(self, time: int, value: Any, dropped: Dropped) -> None:
        """Take a reading; those that are dropped now are counted."""
        if self.newest is not None and time <= self.newest - self.bound:
            self._judge(time, value, dropped)
            return
        same = [other for at, other in self.waiting if at == time]
        if same and (not self.shared or value in same):
            dropped.duplicate += 1
            return
        at = bisect_right(self.waiting, time, key=itemgetter(0))
        self.waiting.insert(at, (time, value))
        self.newest = time if self.newest is None else max(self.newest, time)
        released = bisect_right(self.waiting, self.newest - self.bound, key=itemgetter(0))
        for each in self.waiting[:released]:
            self._judge(*each, dropped)
        del self.waiting[:released]

    def _judge(self, time: int, value: Any, dropped: Dropped) -> None:
        from titans_stream.engine.order import CLOCK_STEP

        if time == self.last:
            again = not self.shared or value in self.had
            dropped.duplicate += again
            self.had += [] if again else [value]
            return
        if self.last is not None and time < self.last:
            self.run = self.run + 1 if self.run == 0 or time > self.late else 1
            self.late = time
            if self.run < CLOCK_STEP:
                dropped.late += 1
                return
        self.last, self.run, self.had = time, 0, [value]


def _counted(rows: Iterable[Row], connector: Connector, dropped: Dropped) -> Iterator[Row]:
    """Hand rows on; what a worker of the connector will drop is counted when they go out."""
    from titans_stream.commands.connector_rows import SeriesNames
    from titans_stream.stream.codec.fields import UnusableError

    names = SeriesNames(connector.input)
    clocks: dict[str, _Clock] = {}
    for row in rows:
        fields = tuple(row.fields.items())
        for value_name in row.values:
            dropped.readings += 1
            try:
                series, _ = names.of(fields, value_name)
            except UnusableError:
                continue  # the worker says so in a dead letter
            if series not in clocks:
                engine = connector.engine
                shared = engine.duplicates in ("keep-order", "spread")
                clocks[series] = _Clock(engine.max_out_of_orderness, shared)
            clocks[series].take(row.timestamp, row.fields.get(value_name, fields), dropped)
        yield row


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
