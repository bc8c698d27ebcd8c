"""Reads CSV text in chunks of columns and names the row where something is wrong.

Rows are counted from 1, the first one after the header; blank lines are left out of the count.
"""

from __future__ import annotations

import csv
import difflib
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np

from titans_stream.records import Float64, Int64
from titans_stream.stream.codec.timestamps import TimestampReader

DELIMITERS = (",", ";", "\t")
CHUNK_CELLS = 250_000
"""Cells read at a time, whatever the number of columns."""
_SNIFFED_ROWS = 20
_MISSING = frozenset({"", "nan", "-nan", "na", "n/a", "null", "none"})


@dataclass(frozen=True, slots=True)
class CsvChunk:
    """R rows as text; `first_row` is the number of the first one."""

    file: str
    first_row: int
    columns: dict[str, list[str]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def numbers(self, column: str) -> Float64:
        """[R] values of a column, NaN where a cell is empty or says so.

        ValueError names the row of the first cell that is not a number.
        """
        found = _floats(self.columns[column])
        if found is None:
            found = [self._number(column, i) for i in range(len(self))]
        return np.array(found, dtype=np.float64)

    def known_numbers(self, column: str) -> Float64:
        """[R] values of a column, NaN where a cell is not a number."""
        cells = self.columns[column]
        found = _floats(cells) or [float(cell) if is_number(cell) else math.nan for cell in cells]
        return np.array(found, dtype=np.float64)

    def _number(self, column: str, i: int) -> float:
        cell = self.columns[column][i].strip()
        if is_missing(cell):
            return math.nan
        if not is_number(cell):
            raise self.error(column, i, "is not a number")
        return float(cell)

    def times(self, column: str, read: Callable[[object], int] | None = None) -> Int64:
        """[R] nanoseconds of a column; `read` None: times without offset are in UTC.

        ValueError names the row of the first cell that is no time.
        """
        read = read or TimestampReader()
        out = np.empty(len(self), dtype=np.int64)
        for i, cell in enumerate(self.columns[column]):
            try:
                out[i] = read(_time_cell(cell.strip()))
            except ValueError:
                raise self.error(
                    column, i, "is not a time such as 2026-03-01T12:00:00Z or seconds since 1970"
                ) from None
        return out

    def error(self, column: str, i: int, what: str) -> ValueError:
        """An error about the cell in place `i` of this chunk."""
        cell = self.columns[column][i]
        shown = cell if len(cell) <= 40 else cell[:37] + "..."
        return ValueError(
            f'{self.file}: row {self.first_row + i}, column {column}: "{shown}" {what}'
        )


def _floats(cells: list[str]) -> list[float] | None:
    """All cells, if each is a number that Python reads; faster than a look at each."""
    if "_" in "".join(cells):  # float() would take 1_000
        return None
    try:
        return list(map(float, cells))
    except ValueError:
        return None


def is_missing(cell: str) -> bool:
    """Whether a cell says that there is no value."""
    return cell.lower() in _MISSING


def is_number(cell: str) -> bool:
    """Whether a cell holds a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell and not is_missing(cell.strip())


def _time_cell(cell: str) -> object:
    """A number where the cell is one, so that the reader's unit applies; else its text."""
    if cell[4:5] == "-" and cell[:4].isdecimal():
        return cell
    if cell.isdecimal() and cell.isascii():
        return int(cell)
    return float(cell) if is_number(cell) else cell


class CsvFile:
    """A CSV file with a header. `delimiter` None: the one of DELIMITERS that fits.

    A column without a name, such as an index, is called `column N` in `header`, is not in `named`
    and never taken by itself.
    ValueError, naming the file, where it cannot be read, is empty, or its header is none.
    """

    def __init__(self, path: Path, delimiter: str | None = None) -> None:
        self.path = path
        self._name = path.name
        self.delimiter = delimiter or _sniff(self._lines(), self._name)
        rows = self._rows()
        header = next(rows, None)
        first = next(rows, None)
        if header is None:
            raise ValueError(f"{self._name}: the file is empty")
        names = [name.strip() for name in header]
        self.named = [name for name in names if name]
        self.header = [name or f"column {i + 1}" for i, name in enumerate(names)]
        _check_header(self._name, self.header)
        if first is None:
            raise ValueError(f"{self._name}: there are no rows after the header")

    def column(self, name: str) -> str:
        """`name` if there is such a column, else ValueError with the one that may be meant."""
        if name in self.header:
            return name
        close = difflib.get_close_matches(name, self.header, n=1, cutoff=0.6)
        meant = f"did you mean {close[0]!r}?" if close else f"there are: {_names(self.header)}"
        raise ValueError(f"{self._name}: there is no column {name!r}; {meant}")

    def numeric_columns(self) -> list[str]:
        """The columns whose first cell that is not empty holds a number.

        Only the first chunk is looked at. A cell of text further down is an error of the file.
        """
        chunk = next(self.chunks())
        return [name for name in self.named if _starts_with_number(chunk.columns[name])]

    def read(self) -> CsvChunk:
        """All rows at once."""
        return next(self.chunks(sys.maxsize))

    def chunks(self, cells: int = CHUNK_CELLS) -> Iterator[CsvChunk]:
        """All rows, at most `cells` cells at a time, but one row at least."""
        rows = max(1, cells // len(self.header))
        source = islice(self._rows(), 1, None)
        first_row = 1
        while block := list(islice(source, rows)):
            yield CsvChunk(self._name, first_row, self._columns(block, first_row))
            first_row += len(block)

    def _columns(self, block: list[list[str]], first_row: int) -> dict[str, list[str]]:
        width = len(self.header)
        if any(len(row) != width for row in block):
            block = [self._fitted(row, first_row + i) for i, row in enumerate(block)]
        return dict(zip(self.header, map(list, zip(*block, strict=True)), strict=True))

    def _fitted(self, row: list[str], number: int) -> list[str]:
        width = len(self.header)
        if len(row) < width or any(cell.strip() for cell in row[width:]):
            raise ValueError(
                f"{self._name}: row {number} has {len(row)} fields, the header has {width}"
            )
        return row[:width]

    def _rows(self) -> Iterator[list[str]]:
        """Header and rows; blank lines count only where a line is a single cell."""
        reader = csv.reader(self._lines(), delimiter=self.delimiter)
        single = False
        number = 0
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise ValueError(f"{self._name}: line {reader.line_num}: {error}") from error
            if not row and not single:
                continue
            number += 1
            single = single or (number == 1 and len(row) == 1)
            yield row or [""]

    def _lines(self) -> Iterator[str]:
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                yield from file
        except UnicodeDecodeError as error:
            raise ValueError(f"{self._name}: not text in UTF-8: {error.reason}") from None
        except OSError as error:
            raise ValueError(f"{self.path}: cannot be read: {error.strerror or error}") from None


def _starts_with_number(cells: Iterable[str]) -> bool:
    first = next((cell for cell in cells if not is_missing(cell.strip())), "")
    return is_number(first)


def _sniff(lines: Iterator[str], name: str) -> str:
    """The delimiter that splits the first rows into most fields, as many in each."""
    first = next(lines, "")
    sample = list(chain([first], islice(lines, _SNIFFED_ROWS)))
    return max(DELIMITERS, key=lambda delimiter: _fit(sample, delimiter, name))


def _fit(sample: Sequence[str], delimiter: str, name: str) -> tuple[bool, int]:
    try:
        widths = [len(row) for row in csv.reader(sample, delimiter=delimiter) if row]
    except csv.Error as error:
        raise ValueError(f"{name}: {error}") from error
    header = widths[0] if widths else 0
    return header > 1 and all(width >= header for width in widths), header


def _check_header(name: str, header: list[str]) -> None:
    if all(is_number(cell) for cell in header):
        raise ValueError(f"{name}: the first line must name the columns, but it holds numbers")
    twice = next((cell for cell in header if header.count(cell) > 1), None)
    if twice is not None:
        raise ValueError(f"{name}: the header names column {twice!r} twice")


def _names(names: Sequence[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
