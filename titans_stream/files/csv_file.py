"""Reads tables of text in chunks of columns and names the row where something is wrong.

CSV in whatever form it comes, packed or not, and Parquet. Rows are counted from 1, the first one
after the header; blank lines and those that are no rows (comments, units) do not count.
"""

from __future__ import annotations

import csv
import difflib
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from titans_stream.files.dialect import Dialect
from titans_stream.files.first_lines import (
    DELIMITERS,
    SNIFFED_LINES,
    SNIFFED_ROWS,
    sniff,
    unit_rows,
)
from titans_stream.files.header import check_header
from titans_stream.files.numbers import NumberReader
from titans_stream.files.parquet_rows import ParquetRows, is_parquet
from titans_stream.files.text_lines import TextLines
from titans_stream.files.times_of_cells import EXPECTED, Notation, likely_formats, notation
from titans_stream.printable import shown
from titans_stream.records import Float64, Int64

CHUNK_CELLS = 250_000
"""Cells read at a time, whatever the number of columns."""

_SPREADSHEET_NUMBER = re.compile(r"(\d)[.,]?(\d*)E\+?(\d+)", re.IGNORECASE | re.ASCII)


class Cells:
    """How the cells of one file are read: numbers, and times by column."""

    def __init__(self, dialect: Dialect, comma_separated: bool) -> None:
        self.numbers = NumberReader(dialect, comma_separated)
        self.times: dict[str, Notation] = {}
        self.rounded: set[str] = set()
        """Columns of times that a spreadsheet has rounded, such as 1.76723E+12."""
        self._time_format = dialect.time_format

    def time_of(self, column: str, cells: Sequence[str], zone: tzinfo) -> Notation:
        """The notation of a column's times, found when its first cells are seen."""
        if column not in self.times:
            self.times[column] = notation(cells, self._time_format, zone)
            if any(map(_is_rounded, cells[:SNIFFED_ROWS])):
                self.rounded.add(column)
        return self.times[column]


def _is_rounded(cell: str) -> bool:
    """Whether a number has fewer digits than its exponent asks for, such as 1.76723E+12."""
    match = _SPREADSHEET_NUMBER.fullmatch(cell)
    return match is not None and len(match[2]) < int(match[3])


@dataclass(frozen=True, slots=True)
class CsvChunk:
    """R rows as text; `first_row` is the number of the first one."""

    file: str
    first_row: int
    columns: dict[str, list[str]]
    cells: Cells

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def numbers(self, column: str) -> Float64:
        """[R] values of a column, NaN where a cell is empty or says so.

        ValueError names the row of the first cell that is not a number.
        """
        values, wrong = self.cells.numbers.read(column, self.columns[column], strict=True)
        if wrong is not None:
            raise self.error(
                column, wrong, "is not a number; --na takes such a text as a missing value"
            )
        return values

    def known_numbers(self, column: str) -> Float64:
        """[R] values of a column, NaN where a cell is not a number."""
        return self.cells.numbers.read(column, self.columns[column], strict=False)[0]

    def texts(self, column: str) -> list[str]:
        """[R] stripped cells; `a,b` for those of several columns, joined by a space."""
        if column in self.columns:
            return [cell.strip() for cell in self.columns[column]]
        parts = [self.columns[name] for name in column.split(",")]
        return [" ".join(map(str.strip, cells)).strip() for cells in zip(*parts, strict=True)]

    def times(self, column: str, zone: tzinfo = UTC) -> Int64:
        """[R] nanoseconds of a column, or of several (`date,time`).

        Times without offset are in `zone`. ValueError names the row of the first cell that is no
        time, or the column where its notation cannot be known.
        """
        cells = self.texts(column)
        try:
            read = self.cells.time_of(column, cells, zone).read
        except ValueError as error:
            if str(error).startswith("--"):
                raise
            raise ValueError(f"{self.file}: column {shown(column)}: {error}") from None
        out = np.empty(len(self), dtype=np.int64)
        for i, cell in enumerate(cells):
            try:
                out[i] = read(cell)
            except ValueError:
                likely = " or ".join(f'"{one}"' for one in likely_formats(cells))
                told = f"--time-format {likely or 'describes others'}"
                raise self.error(column, i, f"{EXPECTED}; {told}") from None
        return out

    def error(self, column: str, i: int, what: str) -> ValueError:
        """An error about the cell in place `i` of this chunk."""
        cell = self.columns[column][i] if column in self.columns else self.texts(column)[i]
        return ValueError(
            f'{self.file}: row {self.first_row + i}, column {shown(column)}: "{shown(cell)}" {what}'
        )


class CsvFile:
    """A table of text: CSV, packed by gzip or not, or Parquet.

    A column without a name, such as an index, is called `column N` in `header`, is not in `named`
    and never taken by itself; in a file without header all columns are called so.
    ValueError, naming the file, where it cannot be read, is empty, or its header is none.
    """

    def __init__(self, path: Path, dialect: Dialect | None = None) -> None:
        self.path = path
        self._name = path.name
        dialect = dialect or Dialect()
        self._dialect = dialect
        self._parquet = ParquetRows(path) if is_parquet(path) else None
        self._text = None if self._parquet is not None else TextLines(path, dialect)
        self.delimiter = self._delimiter()
        self._without_header = dialect.header is False and self._parquet is None
        self.empty_rows = 0
        """Rows at the end without a single cell that says anything; they are left out."""
        self.units: list[list[str]] = []
        """Rows below the header that hold units or the like; they are left out."""
        if not self._without_header and self._parquet is None:
            self.units = self._unit_rows()
        rows = self._rows()
        first = next(rows, None)
        second = first if self._without_header else next(rows, None)
        if first is None:
            raise ValueError(f"{self._name}: the file is empty")
        names = [] if self._without_header else [name.strip() for name in first]
        self.header = [
            name or f"column {i + 1}" for i, name in enumerate(names or [""] * len(first))
        ]
        self.named = list(self.header) if self._without_header else [n for n in names if n]
        if not self._without_header:
            checked = second if dialect.header is None and self._parquet is None else None
            check_header(self._name, names, self.header, checked)
        if second is None:
            raise ValueError(f"{self._name}: there are no rows after the header")
        self.cells = Cells(dialect, self.delimiter == ",")

    @property
    def annotated(self) -> bool:
        """Whether this is InfluxDB's annotated CSV."""
        return self._text is not None and self._text.annotated

    @property
    def titles(self) -> int:
        """Lines above the header, which are left out."""
        return 0 if self._text is None else self._text.titles

    @property
    def comments(self) -> int:
        """Lines that were left out as comments when the file was last read."""
        return 0 if self._text is None else self._text.comments

    def column(self, name: str) -> str:
        """`name` if there is such a column, else ValueError with the one that may be meant.

        In a file without header a number will do.
        """
        if name in self.header:
            return name
        if self._without_header and f"column {name}" in self.header:
            return f"column {name}"
        if len(self.header) == 1 and self._text is not None:
            raise ValueError(
                f"{self._name}: there is no column {name!r}; the only one is "
                f"{shown(self.header[0])!r}: if it holds several, --delimiter tells what separates "
                "them (--delimiter ' ': any number of blanks)"
            )
        close = difflib.get_close_matches(name, self.header, n=1, cutoff=0.6)
        meant = f"did you mean {close[0]!r}?" if close else f"there are: {_names(self.header)}"
        raise ValueError(f"{self._name}: there is no column {name!r}; {meant}")

    def time_column(self, name: str) -> str:
        """A column of times, or several as `date,time`. ValueError as `column`."""
        if name in self.header or "," not in name:
            return self.column(name)
        return ",".join(self.column(part.strip()) for part in name.split(","))

    @cached_property
    def first(self) -> CsvChunk:
        """The first rows."""
        return next(self.chunks())

    def numeric_columns(self) -> list[str]:
        """The columns whose first cell that is not missing holds a number.

        Only the first chunk is looked at. A cell of text further down is an error of the file.
        """
        columns, numbers = self.first.columns, self.cells.numbers
        return [name for name in self.named if numbers.starts_with_number(name, columns[name])]

    def read(self) -> CsvChunk:
        """All rows at once."""
        return next(self.chunks(sys.maxsize))

    def chunks(self, cells: int = CHUNK_CELLS) -> Iterator[CsvChunk]:
        """All rows, at most `cells` cells at a time, but one row at least."""
        self.cells.numbers.words.clear()
        self.cells.numbers.sentinels.clear()
        rows = max(1, cells // len(self.header))
        source = islice(self._rows(), 0 if self._without_header else 1, None)
        first_row = 1
        while block := list(islice(source, rows)):
            yield CsvChunk(self._name, first_row, self._columns(block, first_row), self.cells)
            first_row += len(block)

    def _columns(self, block: list[list[str]], first_row: int) -> dict[str, list[str]]:
        width = len(self.header)
        if any(len(row) != width for row in block):
            block = [self._fitted(row, first_row + i) for i, row in enumerate(block)]
        columns = dict(zip(self.header, map(list, zip(*block, strict=True)), strict=True))
        self.cells.numbers.learn(columns)
        return columns

    def _fitted(self, row: list[str], number: int) -> list[str]:
        width = len(self.header)
        if len(row) < width or any(cell.strip() for cell in row[width:]):
            comment = row[0].startswith("#") or self.header[0].startswith("#")
            raise ValueError(
                f"{self._name}: row {number} has {len(row)} fields, the header has {width}"
                + ("; --comment '#' leaves out the lines that begin so" if comment else "")
            )
        return row[:width]

    def _rows(self) -> Iterator[list[str]]:
        """Header and rows; those at the end of a table that are empty are held back."""
        self.empty_rows = 0
        empty: list[list[str]] = []
        header: list[str] | None = None
        units = len(self.units)
        for row in self._parquet or self._text_rows():
            if header is None:
                header = row
            elif units:
                units -= 1
                continue
            elif self.annotated and row == header:
                continue
            elif len(row) > 1 and not any(map(str.strip, row)):
                empty.append(row)
                continue
            if empty:
                yield from empty
                empty = []
            yield row
        self.empty_rows = len(empty)

    def _text_rows(self) -> Iterator[list[str]]:
        """Blank lines count only where a line is a single cell."""
        assert self._text is not None
        blanks = self.delimiter == " "
        reader = csv.reader(self._text, delimiter=self.delimiter, skipinitialspace=blanks)
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

    def _unit_rows(self) -> list[list[str]]:
        rows = list(islice(self._rows(), 1 + SNIFFED_ROWS))[1:]
        return rows[: unit_rows(rows)]

    def _delimiter(self) -> str:
        if self._text is None:
            return ","
        said = self._dialect.delimiter or self._text.separator
        sample = list(islice(self._text, SNIFFED_LINES))
        if said is not None and self._dialect.header is not None:
            return said
        delimiter, titles = sniff(sample, DELIMITERS if said is None else (said,), self._name)
        self._text.titles = titles if self._dialect.header is None else 0
        return delimiter


def _names(names: Sequence[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(shown, names[:most])) + more
