"""Which columns of a file are times, values and names of series, and why the others are none."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from titans_stream.files.csv_file import CsvFile
from titans_stream.files.numbers import is_missing, is_number
from titans_stream.files.times_of_cells import is_calendar_time
from titans_stream.printable import shown

TIME_NAMES = ("timestamp", "time", "datetime", "date", "ts")
_TIME_WORDS = frozenset({
    *TIME_NAMES, "unixtime", "unix", "epoch", "zeit", "datum", "zeitstempel", "uhrzeit", "utc",
    "day", "month", "year", "when", "at",
})  # fmt: skip
_NUMBERINGS = frozenset({
    "id", "index", "idx", "no", "no.", "nr", "nr.", "row", "record", "rn", "seq", "#", "lfd. nr.",
})  # fmt: skip
_CALENDAR_PARTS = (
    (("year", "yyyy", "jahr"), 1800, 2199), (("month", "mm", "monat"), 1, 12),
    (("day", "dd", "tag"), 1, 31), (("hour", "hh", "stunde"), 0, 24), (("minute", "min"), 0, 59),
    (("second", "ss", "sec"), 0, 60),
)  # fmt: skip
"""Names of columns that hold the parts of a date each, and what numbers these are."""
_LEAST_PARTS = 3
_INFLUX_NUMBERING = ("result", "table")
_SAMPLE = 1_000
_LEAST_TIMES = 3
"""Columns that are called like times from which a table lies on its side."""
_CLOCK = re.compile(r"\d{1,2}[:.]\d{2}([:.]\d{2}([.,]\d+)?)?( ?[AaPp][Mm])?", re.ASCII)
_EPOCHS = tuple((946_684_800 * scale, 4_102_444_800 * scale) for scale in (1, 10**3, 10**6, 10**9))
"""The years 2000 to 2099 in seconds, milliseconds, microseconds and nanoseconds since 1970."""


@dataclass(frozen=True, slots=True)
class CsvColumns:
    """The columns in use. `series` names the column of series ids of a file in long format.

    Without it each value column is a series of its own name. With several value columns a long
    format's ids are `id/column`. `timestamp` None: the file has no times; `date,time`: in two
    columns. `left_out` has the columns that nobody named and that hold no values, with the reason.
    """

    timestamp: str | None
    values: tuple[str, ...]
    series: str | None
    left_out: tuple[tuple[str, str], ...] = ()


def choose_columns(
    file: CsvFile, timestamp: str | None, values: Sequence[str], series: str | None
) -> CsvColumns:
    """Check the named columns; no values named: all numeric columns that are nothing else.

    ValueError for a column that is not there or named twice, and where no column is numeric.
    """
    if timestamp is not None:
        timestamp = file.time_column(timestamp)
    if series is not None:
        series = file.column(series)
    taken = [*time_parts(file, timestamp), *([] if series is None else [series])]
    chosen = [file.column(name) for name in values]
    for name in (*taken, *chosen):
        if (*taken, *chosen).count(name) > 1:
            raise ValueError(f"{file.path.name}: column {name!r} is used twice")
    if chosen:
        return CsvColumns(timestamp, tuple(chosen), series)
    found, left_out = value_columns(file, taken)
    return CsvColumns(timestamp, tuple(found), series, tuple(left_out.items()))


def time_parts(file: CsvFile, timestamp: str | None) -> list[str]:
    """The columns that a column of times is made of."""
    if timestamp is None:
        return []
    return [timestamp] if timestamp in file.header else timestamp.split(",")


def value_columns(file: CsvFile, taken: Collection[str]) -> tuple[list[str], dict[str, str]]:
    """The columns that hold values, and why each other one, but for those `taken`, does not.

    ValueError where there is none; it tells what the columns hold.
    """
    numeric = file.numeric_columns()
    times = [name for name in file.header if is_calendar_time(name)]
    if len(times) >= _LEAST_TIMES:
        raise ValueError(
            f"{file.path.name}: the header holds times ({told_names(times)}): the table has a "
            "column for each time, and a row for each is needed; transpose it first"
        )
    parts = calendar_parts(file)
    found, left_out = [], {}
    for name in file.header:
        if name in taken:
            continue
        reason = _reason(file, name, numeric)
        if reason is None and name in parts:
            reason = f"it is part of the dates that --timestamp {','.join(parts)} would use"
        if reason is None:
            found.append(name)
        else:
            left_out[name] = reason
    if not found:
        hint = "; --na takes a text as missing" if "is not a number" in told(left_out) else ""
        raise ValueError(
            f"{file.path.name}: no column holds numbers; name one with --value"
            + (f" ({told(left_out)}){hint}" if left_out else "")
        )
    return found, left_out


def told(left_out: dict[str, str], most: int = 12) -> str:
    """Columns with the reason of each, for a person."""
    lines = [f"{shown(name)}: {reason}" for name, reason in list(left_out.items())[:most]]
    more = len(left_out) - len(lines)
    return "; ".join(lines) + (f"; and {more} more" if more else "")


def told_names(names: Sequence[str], most: int = 2) -> str:
    """The first names, for a person."""
    return ", ".join(map(shown, names[:most])) + ", ..." * (len(names) > most)


def _reason(file: CsvFile, name: str, numeric: Sequence[str]) -> str | None:
    """Why a column holds no values; None: it does."""
    if name not in file.named:
        return "it has no name"
    if file.annotated and name in _INFLUX_NUMBERING:
        return "InfluxDB's numbering"
    cells = file.first.columns[name]
    at = next((i for i, c in enumerate(cells) if not file.cells.numbers.is_missing(c.strip())), -1)
    if at < 0:
        return "it is empty"
    if name not in numeric:
        return f'"{shown(cells[at].strip(), 30)}" in row {at + 1} is not a number'
    if name.strip().lower() in _NUMBERINGS and _numbers_rows(cells):
        return f"it numbers the rows; --value {shown(name)} takes it all the same"
    if _is_time_of_numbers(name, cells, name == file.header[0]):
        return f"it looks like times, which --timestamp {shown(name)} would use"
    return None


def likely_time(file: CsvFile, columns: CsvColumns) -> str | None:
    """What to name with `--timestamp` where nothing was; None: nothing looks like times."""
    if columns.timestamp is not None:
        return None
    parts = calendar_parts(file)
    if parts and not {*parts} & {*columns.values, columns.series}:
        return ",".join(parts)
    free = [name for name in file.header if name not in (*columns.values, columns.series)]
    kinds = {name: _kind_of_time(name, file) for name in free}
    for kind in ("whole", "date"):
        named = sorted((n for n in free if kinds[n] == kind), key=lambda n: not _is_time_name(n))
        clock = next((name for name in free if kinds[name] == "clock"), None)
        if named:
            return f"{named[0]},{clock}" if kind == "date" and clock is not None else named[0]
    return next((name for name in file.header if name.lower() in TIME_NAMES), None)


def calendar_parts(file: CsvFile) -> list[str]:
    """The columns that hold year, month, day, ... of the rows' times, in this order; or none."""
    lower = {name.strip().lower(): name for name in file.header}
    parts: list[str] = []
    for names, low, high in _CALENDAR_PARTS:
        one = next((lower[name] for name in names if name in lower), None)
        if one is None or not all(
            _is_between(c, low, high) for c in file.first.texts(one)[:_SAMPLE]
        ):
            break
        parts.append(one)
    return parts if len(parts) >= _LEAST_PARTS else []


def _is_between(cell: str, low: int, high: int) -> bool:
    return cell.isdecimal() and cell.isascii() and low <= int(cell) <= high


def _numbers_rows(cells: Sequence[str]) -> bool:
    """Whether whole numbers go up by one from row to row."""
    sample = [cell.strip() for cell in cells[:_SAMPLE]]
    if len(sample) < 2 or not all(cell.isdecimal() and cell.isascii() for cell in sample):
        return False
    numbers = [int(cell) for cell in sample]
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _kind_of_time(name: str, file: CsvFile) -> str | None:
    """`whole`: date and time of day; `date`, `clock`: one of them; None: no times."""
    cells = _sample(file.first.columns[name])
    if not cells:
        return None
    if all(map(is_calendar_time, cells)):
        return "whole" if any(":" in cell or " " in cell for cell in cells) else "date"
    if all(_CLOCK.fullmatch(cell) for cell in cells) and any(c.count(":") for c in cells):
        return "clock"
    if all(_CLOCK.fullmatch(cell) for cell in cells) and all(c.count(".") == 2 for c in cells):
        return "clock"
    return "whole" if _is_time_of_numbers(name, cells, name == file.header[0]) else None


def _is_time_of_numbers(name: str, cells: Sequence[str], is_first: bool) -> bool:
    """Whether a column of numbers holds times: by its name and by what the numbers are."""
    sample = _sample(cells)
    if not sample or not all(map(is_number, sample)):
        return False
    numbers = [float(cell) for cell in sample]
    plausible = any(low <= min(numbers) <= max(numbers) <= high for low, high in _EPOCHS)
    rising = numbers == sorted(numbers) or numbers == sorted(numbers, reverse=True)
    if name.strip().lower() in TIME_NAMES:
        return rising
    if _is_time_name(name):
        return rising and (plausible or _are_dates(sample))
    return is_first and plausible and rising and len(set(numbers)) > 1


def _are_dates(cells: Sequence[str]) -> bool:
    """Whether whole numbers are years, YYYYMM, YYYYMMDD and so on."""
    lengths = {len(cell) for cell in cells}
    return (
        lengths <= {4, 6, 8, 12, 14}
        and len(lengths) == 1
        and all(cell.isdecimal() and 1900 <= int(cell[:4]) <= 2199 for cell in cells)
    )


def _is_time_name(name: str) -> bool:
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    return not _TIME_WORDS.isdisjoint(words)


def _sample(cells: Sequence[str]) -> list[str]:
    return [text for cell in cells[:_SAMPLE] if not is_missing(text := cell.strip())]
