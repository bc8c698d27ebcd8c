"""Reads the time of a reading: text or a number of a given unit, to nanoseconds.

`TimestampReader` reads one time after another, `column_reader` makes one for a column of a file.
Text is parsed in two halves, day and time of day, each of them cached: a stream has few days,
and a day has few seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta, tzinfo

import numpy as np

from titans_stream.durations import DAY, MILLISECOND, SECOND
from titans_stream.records import Int64
from titans_stream.stream.codec.fields import Reason, UnusableError
from titans_stream.stream.settings import TimeUnit
from titans_stream.times import (
    EPOCH,
    MAX_TIMESTAMP,
    MIN_TIMESTAMP,
    TimeRangeError,
    parse_timestamp,
    zone_seconds,
)

UNIT_NANOSECONDS = {"s": SECOND, "ms": MILLISECOND, "us": 1_000, "ns": 1}
_AUTO_LIMITS = ((10**11, SECOND), (10**14, MILLISECOND), (10**17, 1_000), (2**63, 1))
"""With unit `auto`, a number below the limit has this many nanoseconds: below 1e11 seconds
(until the year 5138), from there on milliseconds, from 1e14 microseconds, from 1e17
nanoseconds (each from March 1973 on)."""
CALENDAR_SINCE = parse_timestamp("1977-01-01")
"""Where no earlier time is taken, a number with the digits of a date can be nothing else."""
_CALENDAR = {4: "", 6: "-{}", 8: "-{}-{}", 12: "-{}-{}T{}:{}", 14: "-{}-{}T{}:{}:{}"}
"""By the number of digits: YYYY, YYYYMM, YYYYMMDD, YYYYMMDDhhmm, YYYYMMDDhhmmss."""
_CALENDAR_YEARS = (1800, 2199)
_UNMISTAKABLE = (8, 12, 14)
"""Digits of a date that are read as one with unit `auto`; as seconds or milliseconds they would be
of 1970, 1976 or the 27th century."""
SPREADSHEET_EPOCH = 25_569
"""Day 0 of spreadsheets is 1899-12-30; 1970 began on this one."""
_SPREADSHEET_DAYS = (20_000, 80_000)
"""1954 to 2119: numbers of a column that are taken for days of a spreadsheet."""
_IMPLAUSIBLE = 365 * 86_400
_LONGEST_NUMBER = 60
_NO_NUMBERS = ("rfc3339", "calendar", "days")
"""Units that numbers of a column are not simply scaled by."""
_MOST_CACHED = 100_000
_LONGEST_CACHED = 100
"""Characters; white space of any length stands for that of a format."""
_LOCAL_EPOCH = EPOCH.replace(tzinfo=None)
_OUT_OF_RANGE = "a time between 1678 and 2262 is needed"
_POWERS: tuple[int, ...] = tuple(10 ** (9 - digits) for digits in range(10))


class _Parsed(dict[str, int]):
    """Nanoseconds by text, parsed when first seen."""

    def __init__(self, parse: Callable[[str], int]) -> None:
        super().__init__()
        self._parse = parse

    def __missing__(self, text: str) -> int:
        value = self[text] = self._parse(text)
        return value


class TimestampReader:
    """Turns a decoded JSON value, or a cell of a file, into nanoseconds since the epoch, UTC.

    `unit` is the unit of numbers; `zone` that of text without offset. `time_format` is the format
    of text for strptime, instead of RFC 3339. `calendar`: with unit `auto`, digits of a date
    (YYYYMMDD, YYYYMMDDhhmm, YYYYMMDDhhmmss) are a date; so that no time is mistaken for one, use it
    where all times are later than CALENDAR_SINCE. `lenient`: numbers in text are numbers. Calling
    it raises ValueError for text that is no time; UnusableError, which is one too, for what is
    neither text nor a fitting number.
    """

    def __init__(
        self,
        unit: TimeUnit = "auto",
        zone: tzinfo = UTC,
        *,
        time_format: str | None = None,
        calendar: bool = False,
        lenient: bool = False,
    ) -> None:
        self._unit = unit
        self._zone = zone
        self._format = time_format
        self._calendar = calendar
        self._lenient = lenient or unit in ("calendar", "days")
        self._days = _Parsed(parse_timestamp)
        self._clock = _Parsed(lambda text: parse_timestamp("1970-01-01" + text + "Z"))
        self._offsets = _Parsed(lambda text: -parse_timestamp("1970-01-01T00:00:00" + text))
        self._formatted = _Parsed(self._by_format)

    def __call__(self, value: object) -> int:
        """Nanoseconds of `value`."""
        if type(value) is str:
            return self._text(value)
        if type(value) is int or type(value) is float:
            return self._number(value)
        raise UnusableError(Reason.WRONG_TYPE, "a time as text or a number is needed")

    def column(self, values: Sequence[object]) -> Int64:
        """Nanoseconds of several values, as the reader gives each; raises as it does."""
        numbers = self._numbers(values)
        if numbers is not None:
            return numbers
        return np.array([self(value) for value in values], np.int64)

    def _numbers(self, values: Sequence[object]) -> Int64 | None:
        """`column` of numbers of one type and scale; None where each has to be looked at."""
        kinds = set(map(type, values))
        if len(kinds) != 1 or self._format is not None or self._unit in _NO_NUMBERS:
            return None
        kind = kinds.pop()
        if kind is not int and kind is not float:
            return None
        low, high = min(values), max(values)  # type: ignore[type-var]
        if not -MAX_TIMESTAMP <= low <= high <= MAX_TIMESTAMP:  # type: ignore[operator]
            return None
        if low < 0 or self._scale(low) != self._scale(high):  # type: ignore[operator, arg-type]
            return None
        if self._calendar and (_digits(low) != _digits(high) or _digits(low) in _UNMISTAKABLE):  # type: ignore[arg-type]
            return None
        scale = self._scale(low)  # type: ignore[arg-type]
        if not high * scale <= MAX_TIMESTAMP:  # type: ignore[operator]
            return None
        if kind is int:
            whole: Int64 = np.array(values, np.int64) * scale
            return whole
        column = np.array(values, np.float64)
        if not np.isfinite(column).all():
            return None
        if scale == 1:
            return column.astype(np.int64)
        rounded: Int64 = np.rint(column * (scale // 1_000)).astype(np.int64) * 1_000
        return rounded

    def _text(self, text: str) -> int:
        if self._format is not None:
            return self._formatted[text] if len(text) <= _LONGEST_CACHED else self._by_format(text)
        if len(text) < 19 or text[16] != ":":
            number = None
            if self._lenient or (self._calendar and len(text) in _UNMISTAKABLE):
                number = number_in(text)
            if number is not None and (self._lenient or calendar_text(number) is not None):
                return self._number(number)
            self._check_text()
            return parse_timestamp(text, self._zone)
        self._check_text()
        tail = text[19:]
        if tail[-1:] == "Z":
            tail, offset = tail[:-1], 0
        elif tail[-6:-5] in ("+", "-"):
            tail, offset = tail[:-6], self._offsets[tail[-6:]]
        elif tail or self._zone is not UTC:
            return self._local(text, tail)
        else:
            offset = 0
        whole = self._days[text[:10]] + self._clock[text[10:19]] - offset
        if not tail:
            return whole
        digits = tail[1:]
        if tail[0] == "." and 0 < len(digits) < 10 and digits.isascii() and digits.isdigit():
            return whole + int(digits) * _POWERS[len(digits)]
        return parse_timestamp(text, self._zone)

    def _local(self, text: str, tail: str) -> int:
        if tail:
            return parse_timestamp(text, self._zone)
        local = self._days[text[:10]] + self._clock[text[10:19]]
        return self._to_utc(local)

    def _to_utc(self, local: int) -> int:
        time = _LOCAL_EPOCH + timedelta(seconds=local // SECOND)
        return local - zone_seconds(time, self._zone) * SECOND

    def _check_text(self) -> None:
        if self._unit not in ("auto", "rfc3339", "calendar", "days"):
            raise UnusableError(
                Reason.WRONG_TYPE, f"a number ({self._unit}) is needed, not a string"
            )

    def _by_format(self, text: str) -> int:
        assert self._format is not None
        if len(self._formatted) >= _MOST_CACHED:
            self._formatted.clear()
        leap = ":60" in text
        try:
            time = datetime.strptime(text.replace(":60", ":59") if leap else text, self._format)
        except ValueError:
            shown = text if len(text) <= 40 else text[:37] + "..."
            raise ValueError(f"{shown!r} is no time of the format {self._format!r}") from None
        since = time.replace(tzinfo=time.tzinfo or UTC) - EPOCH
        whole = (since.days * 86_400 + since.seconds + leap) * SECOND + since.microseconds * 1_000
        if not MIN_TIMESTAMP <= whole <= MAX_TIMESTAMP:
            raise TimeRangeError(_OUT_OF_RANGE)
        return whole if time.tzinfo is not None else self._to_utc(whole)

    def _number(self, value: float) -> int:
        if self._unit == "rfc3339":
            raise UnusableError(Reason.WRONG_TYPE, "an RFC 3339 string is needed, not a number")
        if self._format is not None:
            return self._formatted[str(value)]
        if value != value:
            raise UnusableError(Reason.INVALID_TIMESTAMP, "a time is needed, not NaN")
        if self._unit == "calendar" or (self._calendar and self._unit == "auto"):
            text = calendar_text(value)
            if text is not None and (self._unit == "calendar" or _digits(value) in _UNMISTAKABLE):
                return parse_timestamp(text, self._zone)
            if self._unit == "calendar":
                raise UnusableError(
                    Reason.INVALID_TIMESTAMP, "the digits of a date such as 20260301 are needed"
                )
        if self._unit == "days":
            days = value - SPREADSHEET_EPOCH
            if abs(days) > MAX_TIMESTAMP // DAY:
                raise UnusableError(Reason.TIMESTAMP_OUT_OF_RANGE, _OUT_OF_RANGE)
            # a day's fraction in 15 digits resolves some microseconds
            return self._to_utc(round(days * 86_400_000) * MILLISECOND)
        if abs(value) > MAX_TIMESTAMP:
            raise UnusableError(Reason.TIMESTAMP_OUT_OF_RANGE, _OUT_OF_RANGE)
        scale = self._scale(value)
        if type(value) is int:
            nanoseconds = value * scale
        elif scale == 1:
            nanoseconds = int(value)
        else:
            # a float of today's seconds resolves a quarter of a microsecond, so round to those
            nanoseconds = round(value * (scale // 1_000)) * 1_000
        if not MIN_TIMESTAMP <= nanoseconds <= MAX_TIMESTAMP:
            raise UnusableError(Reason.TIMESTAMP_OUT_OF_RANGE, _OUT_OF_RANGE)
        return nanoseconds

    def _scale(self, value: float) -> int:
        if self._unit != "auto":
            return UNIT_NANOSECONDS[self._unit]
        magnitude = abs(value)
        for limit, scale in _AUTO_LIMITS:
            if magnitude < limit:
                return scale
        return 1


def number_in(text: str) -> float | None:
    """The number that a text is, an int where it has digits alone; None where it is none."""
    text = text.strip()
    digits = text[1:] if text[:1] == "-" else text
    if not text.isascii() or "_" in text or len(text) > _LONGEST_NUMBER:
        return None
    if digits.isdigit():
        return int(text)
    try:
        return float(text)
    except ValueError:
        return None


def calendar_text(value: float) -> str | None:
    """The RFC 3339 text of a number with the digits of a date; None where it has not.

    4 digits are a year, 6 year and month, 8 a day, 12 and 14 a day and its time.
    """
    if not _CALENDAR_YEARS[0] <= value < 10**14 or value != int(value):
        return None
    digits = str(int(value))
    shape = _CALENDAR.get(len(digits))
    if shape is None or not _CALENDAR_YEARS[0] <= int(digits[:4]) <= _CALENDAR_YEARS[1]:
        return None
    pairs = [digits[i : i + 2] for i in range(4, len(digits), 2)]
    # a year or a month alone begins with its first day
    text = digits[:4] + shape.format(*pairs) + {4: "-01-01", 6: "-01"}.get(len(digits), "")
    try:
        parse_timestamp(text)
    except ValueError:
        return None
    return text


def _digits(value: float) -> int:
    return len(str(int(value)))


def column_reader(
    cells: Iterable[object], zone: tzinfo = UTC, time_format: str | None = None
) -> TimestampReader:
    """A reader for the times of a column; `cells` are all of them or enough to judge by.

    Where all of them are dates in digits (YYYY, YYYYMM, YYYYMMDD, YYYYMMDDhhmm, YYYYMMDDhhmmss) or
    days of a spreadsheet, they are read as such; other numbers are s, ms, us or ns since 1970 by
    their size. Numbers in text count as numbers. ValueError where all would be times of 1970.
    """
    if time_format is not None:
        return TimestampReader("auto", zone, time_format=time_format, lenient=True)
    return TimestampReader(column_unit(cells), zone, lenient=True)


def column_unit(cells: Iterable[object]) -> TimeUnit:
    """The unit of a column's numbers, as `column_reader` finds it."""
    numbers: list[float] = []
    for cell in cells:
        if isinstance(cell, str) and not cell.strip():
            continue
        number = number_in(cell) if isinstance(cell, str) else cell
        if type(number) is not int and type(number) is not float:
            return "auto"
        if number == number:
            numbers.append(number)
    if not numbers:
        return "auto"
    if len({_digits(each) for each in numbers}) == 1 and all(map(calendar_text, numbers)):
        return "calendar"
    low, high = min(numbers), max(numbers)
    if _SPREADSHEET_DAYS[0] <= low and high <= _SPREADSHEET_DAYS[1]:
        return "days"
    if max(-low, high) < _IMPLAUSIBLE:
        raise ValueError(
            f"the numbers from {low:.10g} to {high:.10g} would be seconds of the year 1970: give "
            "the format of these times, or read the file without them"
        )
    return "auto"
