"""What a person should know of how a file was read, as lines."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from titans_stream.files.column_choice import CsvColumns, time_parts, told
from titans_stream.files.csv_file import CsvFile
from titans_stream.files.order import OrderOfTimes
from titans_stream.printable import shown
from titans_stream.records import Float64
from titans_stream.stream.codec.values import suspicious_value

log = logging.getLogger(__name__)

_MOST_WORDS = 5
_LEAST_ROWS = 3
"""Rows of each series that a column must tell apart before it is proposed."""
_REPEATED = 1.5
"""Readings per time from which a file may hold several series."""


def about_columns(
    file: CsvFile, left_out: Iterable[tuple[str, str]], used: Sequence[str]
) -> list[str]:
    """Columns that are not taken, and how numbers in the columns `used` are read."""
    lines = []
    reasons = dict(left_out)
    if reasons:
        lines.append(f"left out: {told(reasons)}")
    decimals = file.cells.numbers.decimals
    commas = [name for name in used if decimals.get(name) == ","]
    points = [name for name in used if decimals.get(name) == "."]
    if commas:
        lines.append(f"the comma is the decimal sign of {_listed(commas)} (--decimal tells)")
    numbers = file.cells.numbers
    truths = [name for name in used if name in numbers.truths]
    if truths:
        lines.append(f"true and false are taken as 1 and 0 in {_listed(truths)}")
    lines += [
        f'the unit "{shown(numbers.units[name].strip())}" is cut off in {shown(name)}'
        for name in used
        if name in numbers.units
    ]
    if points:
        lines.append(f"commas separate thousands in {_listed(points)} (--decimal tells)")
    return lines


def about_sentinels(file: CsvFile, columns: CsvColumns, setting: str) -> list[str]:
    """Values that may stand for missing ones, with the `setting` that would say so.

    Only the first rows are looked at. Call it before the file is read, which counts anew.
    """
    first = file.first
    found: dict[float, list[str]] = {}
    for column in columns.values:
        values = first.known_numbers(column)
        for name, part in _parts(values, column, columns.series and first.texts(columns.series)):
            value = suspicious_value(part)
            if value is not None:
                found.setdefault(value, []).append(name)
    return [
        f"{value:g} lies far outside the rest and recurs in {_listed(names, 3)}: if it stands for "
        f"a missing value, say {setting.format(f'{value:g}')}"
        for value, names in found.items()
    ]


def _parts(
    values: Float64, column: str, ids: Sequence[str] | None
) -> Iterator[tuple[str, Float64]]:
    """The values of each series of a column, with the name of column or series."""
    if not ids:
        yield column, values
        return
    names = sorted(set(ids))
    places = {name: place for place, name in enumerate(names)}
    of = np.fromiter(map(places.__getitem__, ids), np.int64, len(ids))
    order = np.argsort(of, kind="stable")
    ends = np.cumsum(np.bincount(of))
    yield from zip(names, np.split(values[order], ends[:-1]), strict=True)


def about_rows(file: CsvFile) -> list[str]:
    """What was taken as missing or left out, and how times were read; after the file was read."""
    lines = []
    numbers = file.cells.numbers
    by_column: dict[str, Counter[str]] = {}
    for (column, text), count in numbers.words.items():
        by_column.setdefault(column, Counter())[text] += count
    for column, texts in by_column.items():
        said = ", ".join(f'{n:,} "{shown(text)}"' for text, n in texts.most_common(_MOST_WORDS))
        more = f" and {len(texts) - _MOST_WORDS} other texts" if len(texts) > _MOST_WORDS else ""
        lines.append(f"taken as missing in {shown(column)}: {said}{more}")
    for (column, number), count in numbers.sentinels.items():
        lines.append(f"taken as missing in {shown(column)}: {count:,} times {number:g}")
    for column, notation in file.cells.times.items():
        if notation.said is not None:
            lines.append(f"column {shown(column)} {notation.said}")
    if file.titles:
        lines.append(f"{file.titles:,} lines above the header were left out")
    if file.units:
        said = "; ".join(_listed([cell for cell in row if cell.strip()], 3) for row in file.units)
        lines.append(
            f"{len(file.units)} rows below the header were left out: they hold no data ({said})"
        )
    if file.comments:
        lines.append(f"{file.comments:,} lines were left out as comments")
    if file.empty_rows:
        lines.append(f"{file.empty_rows:,} rows at the end were left out: they are empty")
    return lines


def log_remarks(file: CsvFile, left_out: Iterable[tuple[str, str]] = ()) -> None:
    """Log what `about_columns` and `about_rows` say, where nobody prints it."""
    for line in [*about_columns(file, left_out, file.header), *about_rows(file)]:
        log.warning("%s: %s", file.path.name, line)


def about_order(file: CsvFile, order: OrderOfTimes) -> list[str]:
    """Whether the readings were sorted, and whether their times are what they were."""
    lines = []
    if order.newest_first:
        lines.append("the newest readings stand first; they are taken in order of time")
    elif order.earlier:
        lines.append(
            f"{order.earlier:,} readings are earlier than the one before them (the first in row "
            f"{order.first_earlier}); they are taken in order of time"
        )
    rounded = sorted(file.cells.rounded)
    if rounded:
        lines.append(
            f"times of column {shown(rounded[0])} were rounded by a spreadsheet "
            f'("{file.first.texts(rounded[0])[0]}"); export them with all digits'
        )
    return lines


def several_series(file: CsvFile, columns: CsvColumns, order: OrderOfTimes) -> str | None:
    """The remedy where a file without `--series` seems to hold the readings of several; or None.

    Only its first rows are looked at.
    """
    if columns.series is not None or columns.timestamp is None or not (order.same or order.earlier):
        return None
    times = file.first.texts(columns.timestamp)
    count = Counter(times)
    if len(times) < _REPEATED * len(count):
        return None
    often = int(np.median(list(count.values())))
    for name in file.header:
        if name in time_parts(file, columns.timestamp):
            continue
        cells = file.first.texts(name)
        rows = Counter(cells)
        if len(rows) < 2 or min(rows.values()) < _LEAST_ROWS or len(rows) > len(count):
            continue
        if len(set(zip(times, cells, strict=True))) == len(times):
            listed = _listed(sorted(rows), 3)
            return (
                f"most times stand there {often} times, once for each {shown(name)} ({listed}): "
                f"--series {shown(name)} tells these series apart"
            )
    back = f"; times run backwards in row {order.first_earlier}" if order.earlier else ""
    return (
        f"most times stand there {often} times with other values{back}: if the file holds several "
        "series, --series COL tells them apart; if the times are coarse, finer ones are needed"
    )


def _listed(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(shown, names[:most])) + more
