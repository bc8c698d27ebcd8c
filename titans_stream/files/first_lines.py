"""What stands before the rows of a table: titles above its header, units below it, and the sign
between its columns."""

from __future__ import annotations

import csv
from collections.abc import Sequence

from titans_stream.files.header import kind_of
from titans_stream.files.numbers import is_missing

DELIMITERS = (";", ",", "\t", "|")
SNIFFED_ROWS = 20
SNIFFED_LINES = 60
_MOST_UNITS = 3
"""Rows of units and the like that a table may have below its header."""


def sniff(sample: Sequence[str], delimiters: Sequence[str], name: str) -> tuple[str, int]:
    """The delimiter, and how many of the first lines are titles above the header.

    The delimiter is the one that splits the first rows into most fields, as many in each; a
    semicolon before a comma: that one may be a decimal sign. ValueError for a line that is no CSV.
    """
    fits = {one: _fit(sample[: 1 + SNIFFED_ROWS], one, name) for one in delimiters}
    best = max(delimiters, key=lambda one: fits[one])
    if fits[best][0]:
        widths = [len(_cells(sample[0], best)), _filled(sample[0], best)]
        if widths[0] < 3 or widths[1] > 1:
            return best, 0
    found = {one: _titles(sample, one) for one in delimiters}
    with_titles = max(delimiters, key=lambda one: found[one][0])
    width, titles = found[with_titles]
    return (with_titles, titles) if width else (best, 0)


def _fit(sample: Sequence[str], delimiter: str, name: str) -> tuple[bool, int]:
    try:
        reader = csv.reader(sample, delimiter=delimiter, skipinitialspace=delimiter == " ")
        widths = [len(row) for row in reader if row]
    except csv.Error as error:
        raise ValueError(f"{name}: {error}") from error
    header = widths[0] if widths else 0
    return header > 1 and all(width >= header for width in widths), header


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def _filled(line: str, delimiter: str) -> int:
    return sum(bool(cell.strip()) for cell in _cells(line, delimiter))


def _titles(sample: Sequence[str], delimiter: str) -> tuple[int, int]:
    """(columns, lines before them) of a table whose header is not the first line; or (0, 0).

    The header is the first line of names that all rows after it fit, and the lines before it do
    not, or have a single cell filled.
    """
    rows = [_cells(line, delimiter) for line in sample]
    for first in range(1, len(rows) - 1):
        width = len(rows[first])
        after = [len(row) for row in rows[first + 1 :] if row]
        filled = [cell for cell in rows[first] if cell.strip()]
        if width < 2 or not after or min(after) < width or len(filled) < 2:
            continue
        if any(kind_of(cell) not in ("text", "") for cell in filled):
            return 0, 0
        before = [row for row in rows[:first] if row]
        if all(len(row) != width or sum(map(bool, row)) <= 1 for row in before):
            return width, first
    return 0, 0


def unit_rows(rows: Sequence[Sequence[str]]) -> int:
    """How many of the first rows below a header hold units or descriptions, no data.

    Such a row has neither a number nor a time, and below each of its texts there are some.
    """
    kinds = [[kind_of(cell) for cell in row] for row in rows]
    count = next((i for i, row in enumerate(kinds) if not {*row} <= {"text", ""}), 0)
    if not 0 < count <= _MOST_UNITS or any(len(row) != len(rows[count]) for row in rows[:count]):
        return 0
    named = {i for row in rows[:count] for i, cell in enumerate(row) if _is_text(cell)}
    data = [row for row in kinds[count:] if len(row) == len(rows[count])]
    found = {i for row in data for i, kind in enumerate(row) if kind not in ("text", "")}
    return count if named <= found else 0


def _is_text(cell: str) -> bool:
    return not is_missing(cell.strip()) and cell.strip() not in ("-", "--")
