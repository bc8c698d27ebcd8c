"""Tells a header from a first row of data."""

from __future__ import annotations

from collections.abc import Sequence

from titans_stream.files.numbers import is_missing, read_number
from titans_stream.files.times_of_cells import is_calendar_time
from titans_stream.printable import shown


def check_header(
    name: str, cells: Sequence[str], header: Sequence[str], first: Sequence[str] | None
) -> None:
    """See that the first line names columns; `first` is the row after it.

    None: somebody said so, or the file's format does. ValueError, naming the file `name`.
    """
    if cells and cells[0].lstrip().startswith(("{", "[{")):
        raise ValueError(
            f"{name}: this is JSON; CSV and Parquet are read, into which jq or pandas turn it"
        )
    if first is not None:
        if all(map(_is_number, cells)):
            raise ValueError(
                f"{name}: the first line must name the columns, but it holds numbers: --no-header "
                "where there are no names, --header where these are the names"
            )
        data = _data_cell(cells, first)
        if data is not None:
            raise ValueError(
                f'{name}: the first line holds data ("{shown(data)}"), no names: --no-header where '
                "there are no names, --header where these are the names"
            )
    twice = next((cell for cell in header if header.count(cell) > 1), None)
    if twice is not None:
        raise ValueError(f"{name}: the header names column {twice!r} twice")


def _data_cell(cells: Sequence[str], first: Sequence[str]) -> str | None:
    """A cell that shows that the first line is a row like the one after it; None: it is not.

    That takes a number with a fraction, or a time, where the next row has the same, and no text
    above a number or a time. Whole numbers alone may be the names of channels.
    """
    if len(cells) > len(first):
        return None
    kinds = [(kind_of(above), kind_of(below)) for above, below in zip(cells, first, strict=False)]
    if any(above != below and "" not in (above, below) for above, below in kinds):
        return None
    sure = (cell for cell, (kind, _) in zip(cells, kinds, strict=False) if kind in ("time", "part"))
    whole = [cell for cell, (kind, _) in zip(cells, kinds, strict=False) if kind == "number"]
    found = next(sure, None)
    if found is None and whole and not _counts(whole) and _only_numbers(kinds):
        return whole[0]
    return found


def _only_numbers(kinds: Sequence[tuple[str, str]]) -> bool:
    return all(above in ("number", "") for above, _ in kinds)


def _counts(cells: Sequence[str]) -> bool:
    """Whether cells are 0, 1, 2, ...: how tables without names are often written."""
    return list(cells) == [str(i) for i in range(len(cells))]


def kind_of(cell: str) -> str:
    """`text`, `time`, `number` (a whole one), `part` (one with a fraction); empty for none."""
    cell = cell.strip()
    if is_missing(cell):
        return ""
    if is_calendar_time(cell):
        return "time"
    if _is_number(cell):
        return "number" if cell.lstrip("+-").isdecimal() else "part"
    return "text"


def _is_number(cell: str) -> bool:
    return not is_missing(cell) and any(read_number(cell, sign) is not None for sign in ".,")
