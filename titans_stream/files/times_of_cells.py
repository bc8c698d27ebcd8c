"""Times as people write them: which notation a column has, and how it is read.

A column's notation is chosen from its first cells, for all of them; a cell that does not fit it is
an error. Nothing is guessed where day and month could be exchanged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

from titans_stream.durations import DAY
from titans_stream.files.numbers import is_number
from titans_stream.stream.codec.timestamps import UNIT_NANOSECONDS, TimestampReader
from titans_stream.times import format_timestamp

ReadTime = Callable[[str], int]
"""Nanoseconds of a stripped cell; ValueError where it is no time."""
ReadValue = Callable[[object], int]
"""Nanoseconds of a number or text."""
SPREADSHEET_DAYS = "days"
EXPECTED = "is not a time such as 2026-03-01T12:00:00Z or seconds since 1970"
_SAMPLE = 20_000
_FIRST_MONTH = 31 * DAY
_SPREADSHEET = (15_000.0, 80_000.0)
"""Spreadsheet days of 1941 to 2119; as seconds they would all be the first day of 1970."""
_SPREADSHEET_EPOCH = 25_569
_MOST_DAYS = 1e6
"""Far beyond what times can be; what is larger, infinity for one, is none."""
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_CLOCK = (
    r"(?:[T ,]+(?P<hour>\d{1,2})[:.](?P<minute>\d{2})(?:[:.](?P<second>\d{2})"
    r"(?:[.,](?P<fraction>\d+))?)?(?: ?(?P<half>[AaPp])\.?[Mm]\.?)?"
    r" ?(?P<offset>Z|UTC|GMT|[+-]\d{2}:?\d{2})?)?"
)
_FIRST, _SECOND = r"(?P<first>\d{1,2})", r"(?P<second_>\d{1,2})"
_DATES = {
    "dots": rf"{_FIRST}\.{_SECOND}\.(?P<year>\d{{4}})",
    "slashes": rf"{_FIRST}(?P<sign>[/-]){_SECOND}(?P=sign)(?P<year>\d{{4}})",
    "year": rf"(?P<year>\d{{4}})(?P<sign>[/.-]){_FIRST}(?P=sign){_SECOND}\.?",
    "name": r"(?P<first>\d{1,2})\.?[ -](?P<name>[A-Za-z]{3,9})\.?[ -](?P<year>\d{4}|\d{2})",
}
_NOTATIONS = {name: re.compile(pattern + _CLOCK, re.ASCII) for name, pattern in _DATES.items()}
_CUTS = {
    4: ("years", (4,)),
    6: ("YYYYMM", (4, 6)),
    8: ("YYYYMMDD", (4, 6, 8)),
    12: ("YYYYMMDDhhmm", (4, 6, 8, 10, 12)),
    14: ("YYYYMMDDhhmmss", (4, 6, 8, 10, 12, 14)),
}
"""Dates of digits alone by their length: what they are called, where the parts end."""


_SURE_FORMATS = (
    "%Y%m%dT%H%M%S%z", "%Y%m%dT%H%M%S", "%Y%m%dT%H%M%z", "%Y%m%dT%H%M", "%Y%m%d %H:%M:%S",
    "%Y%m%d %H:%M", "%Y%m%d %H%M%S", "%Y%m%d %H%M", "%Y-%m-%d %H:%M:%S:%f", "%G-W%V-%u",
    "%b %d, %Y %H:%M:%S", "%b %d, %Y %H:%M", "%b %d, %Y %I:%M:%S %p", "%b %d, %Y %I:%M %p",
    "%b %d, %Y", "%B %d, %Y %H:%M:%S", "%B %d, %Y %H:%M", "%B %d, %Y",
    "%a, %d %b %Y %H:%M:%S %z", "%a, %d %b %Y %H:%M:%S GMT", "%a %b %d %H:%M:%S UTC %Y",
    "%Y %m %d", "%Y %m %d %H", "%Y %m %d %H %M", "%Y %m %d %H %M %S",
)  # fmt: skip
"""Further notations in which nothing can be exchanged."""
_LIKELY_FORMATS = tuple(
    f"{date}{time}"
    for date in ("%d.%m.%y", "%m/%d/%y", "%d/%m/%y", "%d-%m-%y", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y")
    for time in (" %H:%M:%S", " %H:%M", " %I:%M:%S %p", " %I:%M %p", " %H:%M:%S.%f", "T%H:%M", "")
)
"""Those in which something can be, to be proposed."""
_COMMA_NUMBER = re.compile(r"\d+(,\d+)?", re.ASCII)
_BETWEEN = " - "
"""Stands between the begin and the end of an interval."""
_END_OF_DAY = re.compile(r"(\d{4}-\d{2}-\d{2})[T ]24:00(:00(?:\.0+)?)?(.*)", re.ASCII)

_YEARS = (1800, 2199)
_SURE_DIGITS = 8
"""Digits from which a number that begins with such a year is a date: counted from 1970 it would be
a time before the year 2000."""


@dataclass(frozen=True, slots=True)
class Notation:
    """How a column's times are written. `said`: what a person should know of it, or None."""

    read: ReadTime
    said: str | None = None


def notation(cells: Sequence[str], time_format: str | None, zone: tzinfo) -> Notation:
    """The notation of a column whose first cells these are; times without offset are in `zone`.

    ValueError, to be put after the column's name, where it cannot be known.
    """
    standard = _with_end_of_day(TimestampReader("auto", zone))

    def rfc3339(cell: str) -> int:
        if cell[-4:] in (" UTC", " GMT"):
            cell = cell[:-4] + "Z"
        return standard(_number_or_text(cell))

    if time_format is not None:
        return Notation(_formatted(time_format, standard))
    sample = [cell for cell in dict.fromkeys(cell.strip() for cell in cells[:_SAMPLE]) if cell]
    if sample and all(cell.count(_BETWEEN) == 1 for cell in sample):
        begins = notation([cell.split(_BETWEEN)[0] for cell in sample], None, zone).read
        return Notation(lambda cell: begins(cell.split(_BETWEEN)[0]), "holds intervals; a reading "
                        "has the time of their begin")  # fmt: skip
    if not sample or any(cell[4:5] == "-" and "T" in cell for cell in sample[:1]):
        return Notation(rfc3339)
    if all(map(is_number, sample)):
        return _of_numbers(sample, standard) or Notation(rfc3339)
    if all(map(_COMMA_NUMBER.fullmatch, sample)):
        points = notation([cell.replace(",", ".") for cell in sample], None, zone)
        return Notation(lambda cell: points.read(cell.replace(",", ".")), points.said)
    for name, pattern in _NOTATIONS.items():
        matches = [pattern.fullmatch(cell) for cell in sample]
        if all(matches):
            if name == "year" and all(map(_is_read(rfc3339), sample)):
                return Notation(rfc3339)
            order = _order([match for match in matches if match]) if name == "slashes" else "dm"
            return Notation(_calendar(name, order, standard))
    for time_format in () if _is_read(rfc3339)(sample[0]) else _SURE_FORMATS:
        if all(map(_is_read(_formatted(time_format, standard)), sample)):
            return Notation(_formatted(time_format, standard), f"is read as {time_format}")
    return Notation(rfc3339)


def likely_formats(cells: Sequence[str]) -> list[str]:
    """The formats, two at most, in which all cells could be read."""
    sample = [cell for cell in dict.fromkeys(cell.strip() for cell in cells[:_SAMPLE]) if cell]
    standard = TimestampReader("auto")
    reads = {one: _is_read(_formatted(one, standard)) for one in _LIKELY_FORMATS}
    return [one for one, is_read in reads.items() if sample and all(map(is_read, sample))][:2]


def _with_end_of_day(standard: TimestampReader) -> Callable[[object], int]:
    """Reads the end of a day, 24:00, as the midnight that it is."""

    def read(value: object) -> int:
        match = _END_OF_DAY.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            return standard(value)
        try:
            next_day = date.fromisoformat(match[1]) + timedelta(days=1)
        except OverflowError:
            raise ValueError("a time after the year 9999") from None
        return standard(f"{next_day}T00:00{match[2] or ':00'}{match[3]}")

    return read


def _calendar(name: str, order: str, standard: ReadValue) -> ReadTime:
    pattern = _NOTATIONS[name]
    return lambda cell: standard(_rewritten(pattern, cell, name, order))


def _is_read(read: ReadTime) -> Callable[[str], bool]:
    def is_read(cell: str) -> bool:
        try:
            read(cell)
        except ValueError:
            return False
        return True

    return is_read


def _number_or_text(cell: str) -> object:
    """A number where the cell is one, so that a unit applies; else its text."""
    if cell[4:5] == "-" and cell[:4].isdecimal():
        return cell
    if cell.isdecimal() and cell.isascii():
        return int(cell)
    return float(cell) if is_number(cell) else cell


def _formatted(time_format: str, standard: ReadValue) -> ReadTime:
    """A reader by the user's word. ValueError where that is no format."""
    if time_format in UNIT_NANOSECONDS:
        unit: TimestampReader = TimestampReader(time_format)  # type: ignore[arg-type]
        return lambda cell: unit(_number_or_text(cell))
    if time_format == SPREADSHEET_DAYS:
        return lambda cell: _of_days(cell, standard)
    if "%" not in time_format:
        raise ValueError(
            f"--time-format {time_format}: s, ms, us, ns, {SPREADSHEET_DAYS}, or a format such as "
            "%d.%m.%Y %H:%M is needed"
        )
    return lambda cell: standard(datetime.strptime(cell, time_format).isoformat())


def _of_numbers(sample: Sequence[str], standard: ReadValue) -> Notation | None:
    """Numbers that are dates, or days of a spreadsheet; None: they are counted from 1970."""
    lengths = {len(cell) for cell in sample}
    cut = _CUTS.get(next(iter(lengths))) if len(lengths) == 1 else None
    if cut is not None and all(cell.isdecimal() for cell in sample):
        called, ends = cut
        read = _digits(ends, standard)
        sure = len(sample[0]) >= _SURE_DIGITS or all(map(_is_read(read), sample))
        if sure and all(_YEARS[0] <= int(cell[:4]) <= _YEARS[1] for cell in sample):
            return Notation(read, f"is read as {called}")
    numbers = [float(cell) for cell in sample]
    if _SPREADSHEET[0] <= min(numbers) and max(numbers) <= _SPREADSHEET[1]:
        return Notation(lambda cell: _of_days(cell, standard), "is read as a spreadsheet's days")
    if all(abs(standard(number)) < _FIRST_MONTH for number in numbers):
        raise ValueError(
            "counted from 1970, its times would all be in January 1970; --time-format says what "
            "the numbers are (s, ms, us, ns: take them as they are), or leave out --timestamp"
        )
    return None


def _digits(ends: Sequence[int], standard: ReadValue) -> ReadTime:
    def read(cell: str) -> int:
        if len(cell) != ends[-1] or not cell.isdecimal():
            raise ValueError
        parts = [cell[a:b] for a, b in zip((0, *ends), ends, strict=False)]
        parts += ["01"] * (3 - len(parts))
        text = "-".join(parts[:3])
        return standard(text if len(parts) == 3 else text + "T" + ":".join(parts[3:]))

    return read


def _of_days(cell: str, standard: ReadValue) -> int:
    """Days since 1899-12-30, local time, to the millisecond: that is what their digits hold."""
    if not is_number(cell) or abs(float(cell)) > _MOST_DAYS:
        raise ValueError
    milliseconds = round((float(cell) - _SPREADSHEET_EPOCH) * 86_400_000)
    return standard(format_timestamp(milliseconds * 1_000_000)[:-1])


def _order(matches: Sequence[re.Match[str]]) -> str:
    """`dm`: day first, `md`: month first. ValueError where the cells do not tell."""
    day_first = any(int(match["first"]) > 12 for match in matches)
    month_first = any(int(match["second_"]) > 12 for match in matches)
    if day_first != month_first:
        return "dm" if day_first else "md"
    cell = matches[0][0]
    raise ValueError(
        f'"{cell}": is the day first, or the month? --time-format tells, such as '
        f"%d{matches[0]['sign']}%m{matches[0]['sign']}%Y"
        f"{' %H:%M:%S' if matches[0]['hour'] else ''}"
    )


def _rewritten(pattern: re.Pattern[str], cell: str, name: str, order: str) -> str:
    """A cell as RFC 3339 text. ValueError where it does not fit the notation."""
    match = pattern.fullmatch(cell)
    if match is None:
        raise ValueError
    groups = match.groupdict()
    year = groups["year"] if len(groups["year"]) == 4 else "20" + groups["year"]
    first, second = groups["first"], groups.get("second_") or ""
    if name == "name":
        short = groups["name"][:3].lower()
        if short not in _MONTHS:
            raise ValueError
        day, month = first, str(_MONTHS.index(short) + 1)
    elif name == "year":
        month, day = first, second
    else:
        day, month = (first, second) if order == "dm" else (second, first)
    text = f"{year}-{month:0>2}-{day:0>2}"
    if groups["hour"] is None:
        return text
    hour = int(groups["hour"])
    if groups["half"] is not None:
        if not 1 <= hour <= 12:
            raise ValueError
        hour = hour % 12 + (12 if groups["half"] in "pP" else 0)
    offset = groups["offset"] or ""
    return (
        f"{text}T{hour:02d}:{groups['minute']}:{groups['second'] or '00'}"
        f".{groups['fraction'] or '0'}{'Z' if offset in ('UTC', 'GMT') else offset}"
    )


def is_calendar_time(cell: str) -> bool:
    """Whether a cell is a date, with or without a time of day, in any notation."""
    if any(pattern.fullmatch(cell) for pattern in _NOTATIONS.values()):
        return True
    return "-" in cell[4:5] and _is_read(TimestampReader("rfc3339"))(cell)
