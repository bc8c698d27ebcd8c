"""Reads the time of a reading: text or a number of a given unit, to nanoseconds.

Text is parsed in two halves, day and time of day, each of them cached: a stream has few days,
and a day has few seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, timedelta, tzinfo

from titans_stream.durations import MILLISECOND, SECOND
from titans_stream.stream.codec.fields import Reason, UnusableError
from titans_stream.stream.settings import TimeUnit
from titans_stream.times import EPOCH, MAX_TIMESTAMP, MIN_TIMESTAMP, parse_timestamp

UNIT_NANOSECONDS = {"s": SECOND, "ms": MILLISECOND, "us": 1_000, "ns": 1}
_AUTO_LIMITS = ((10**11, SECOND), (10**14, MILLISECOND), (10**17, 1_000), (2**63, 1))
"""With unit `auto`, a number below the limit has this many nanoseconds: below 1e11 seconds
(until the year 5138), from there on milliseconds, from 1e14 microseconds, from 1e17
nanoseconds (each from March 1973 on)."""
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
    """Turns a decoded JSON value into nanoseconds since the epoch, UTC.

    `unit` is the unit of numbers; `zone` that of text without offset. Calling it raises
    ValueError for text that is no time; UnusableError, which is one too, for what is neither text
    nor a fitting number.
    """

    def __init__(self, unit: TimeUnit = "auto", zone: tzinfo = UTC) -> None:
        self._unit = unit
        self._zone = zone
        self._days = _Parsed(parse_timestamp)
        self._clock = _Parsed(lambda text: parse_timestamp("1970-01-01" + text + "Z"))
        self._offsets = _Parsed(lambda text: -parse_timestamp("1970-01-01T00:00:00" + text))

    def __call__(self, value: object) -> int:
        """Nanoseconds of `value`."""
        if type(value) is str:
            return self._text(value)
        if type(value) is int or type(value) is float:
            return self._number(value)
        raise UnusableError(Reason.WRONG_TYPE, "a time as text or a number is needed")

    def _text(self, text: str) -> int:
        if self._unit not in ("auto", "rfc3339"):
            raise UnusableError(
                Reason.WRONG_TYPE, f"a number ({self._unit}) is needed, not a string"
            )
        if len(text) < 19 or text[16] != ":":
            return parse_timestamp(text, self._zone)
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
        offset = self._zone.utcoffset(_LOCAL_EPOCH + timedelta(seconds=local // SECOND))
        return local - round((offset or timedelta()).total_seconds()) * SECOND

    def _number(self, value: float) -> int:
        if self._unit == "rfc3339":
            raise UnusableError(Reason.WRONG_TYPE, "an RFC 3339 string is needed, not a number")
        if value != value:
            raise UnusableError(Reason.INVALID_TIMESTAMP, "a time is needed, not NaN")
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
