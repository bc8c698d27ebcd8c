"""The readings of a file that a command works on, and what is said of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from titans_stream.commands.connector_rows import ConnectorRows, FileColumns
from titans_stream.commands.csv_arguments import dialect, with_missing
from titans_stream.commands.outputs import Account, note
from titans_stream.files.column_choice import CsvColumns, choose_columns, likely_time
from titans_stream.files.csv_file import CsvFile
from titans_stream.files.csv_readings import CsvReadings, ReadingsOfCsv
from titans_stream.files.order import InOrderOfTime
from titans_stream.files.remarks import (
    about_columns,
    about_order,
    about_rows,
    about_sentinels,
    several_series,
)
from titans_stream.stream.settings import InputConfig
from titans_stream.times import load_zone

_ORDER = "sort the file by time, or set engine.max_out_of_orderness in the connector"


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file's readings, which can be read several times; `timed` where it has times.

    `remedy` is what helps where many of them are dropped; None: nothing special. `count` is how
    many readings there are, None where the file was not read for its order.
    """

    file: CsvFile
    readings: Iterable[CsvReadings]
    timed: bool
    remedy: str | None = None
    said: list[str] = field(default_factory=list)
    count: int | None = None

    def remarks(self, account: Account) -> list[str]:
        """What a person should know of how the file was read, after it was.

        Where many readings were dropped, `account.end` tells the remedy.
        """
        remedy = [] if self.remedy is None or account.many_dropped else [self.remedy]
        return [*self.said, *remedy, *about_rows(self.file)]


def file_source(args: argparse.Namespace, untimed: str, group: str | None = None) -> FileSource:
    """The file of `args.data`, in order of time; all of it is of one `group` if that is named.

    `untimed` says what becomes of rows without times. What is said of columns is noted at once
    unless `args.quiet`. ValueError names what is wrong with the file.
    """
    zone = load_zone(args.timezone or "UTC")
    file = CsvFile(args.data, dialect(args))
    columns = choose_columns(file, args.timestamp, args.value, args.series)
    guess = likely_time(file, columns)
    if guess is not None and not args.quiet:
        note(f"note: {untimed}; use their times with --timestamp {guess}")
    used = about_columns(file, _beside(columns, guess), columns.values)
    used += about_sentinels(file, columns, "--missing-values={}")
    of_all = None if group is None else lambda series: group
    readings = ReadingsOfCsv(file, columns, zone, of_all)
    if columns.timestamp is None:
        return FileSource(file, readings, False, said=used)
    ordered = InOrderOfTime(lambda: readings)
    said = [*used, *about_order(file, ordered.order)]
    remedy = several_series(file, columns, ordered.order)
    return FileSource(file, ordered, True, remedy, said, ordered.order.readings)


def connector_source(
    args: argparse.Namespace, config: InputConfig, group: str | None
) -> FileSource:
    """The file as a connector's worker would read it: in its own order unless newest first."""
    file = CsvFile(args.data, with_missing(dialect(args), config.missing_values))
    if group is not None:
        config = config.model_copy(update={"group": None})
    rows = ConnectorRows(file, config, FileColumns.of(args))
    said = [*rows.remarks, *about_columns(file, rows.left_out, file.header)]
    said += about_sentinels(file, rows.columns, "input.missing_values: [{}]")
    if not rows.timed:
        return FileSource(file, _Again(rows, group), False, said=said)
    ordered = InOrderOfTime(lambda: rows.readings(group), only_newest_first=True)
    if ordered.sorted:
        said += about_order(file, ordered.order)
    remedy = _ORDER if ordered.order.earlier and not ordered.sorted else None
    return FileSource(file, ordered, True, remedy, said, ordered.order.readings)


@dataclass(frozen=True, slots=True)
class _Again:
    """A connector's readings, read anew by each iteration."""

    rows: ConnectorRows
    group: str | None

    def __iter__(self) -> Iterator[CsvReadings]:
        return self.rows.readings(self.group)


def _beside(columns: CsvColumns, guess: str | None) -> list[tuple[str, str]]:
    """Columns left out but for those that the note on times names already."""
    named = () if guess is None else guess.split(",")
    return [(name, reason) for name, reason in columns.left_out if name not in named]
