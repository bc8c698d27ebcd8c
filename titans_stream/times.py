"""Points in time: RFC 3339 text outside, int64 nanoseconds since the epoch (UTC) inside."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Annotated
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from titans_stream.durations import SECOND

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MIN_TIMESTAMP = -(2**63) + 1
"""The earliest time that int64 nanoseconds hold, in September 1677."""
MAX_TIMESTAMP = 2**63 - 1
"""The latest time that int64 nanoseconds hold, in April 2262."""

_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[Tt ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?"
    r" ?(Z|z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?(?: [A-Z]{3,4})?)?)?"
)


class TimeRangeError(ValueError):
    """A time that int64 nanoseconds do not hold."""


def load_zone(name: str) -> tzinfo:
    """The zone of an IANA name. ValueError where there is none."""
    if name in {"UTC", "Z", "Etc/UTC"}:
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(f"no such time zone: {name!r} (an IANA name is needed)") from error


def parse_timestamp(text: str, zone: tzinfo = UTC) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time.

    Also taken: a space for the T, a date alone (its midnight), no seconds, UTC or GMT for the Z, an
    offset without colon or with a zone's name after it, and no offset at all, which is then read in
    `zone` (the first of two equal local times). Digits beyond the nanosecond are cut. ValueError
    for anything else, TimeRangeError for times that int64 nanoseconds do not hold.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("not an RFC 3339 time such as 2026-03-01T12:00:00Z")
    seconds = int(match[6] or 0)
    leap = seconds == 60
    local = datetime(
        int(match[1]),
        int(match[2]),
        int(match[3]),
        int(match[4] or 0),
        int(match[5] or 0),
        59 if leap else seconds,
        tzinfo=UTC,
    )
    whole = _epoch_seconds(local) + leap - _offset_seconds(match[8], local, zone)
    fraction = int((match[7] or "0").ljust(9, "0")[:9])
    nanoseconds = whole * SECOND + fraction
    if not MIN_TIMESTAMP <= nanoseconds <= MAX_TIMESTAMP:
        raise TimeRangeError("a time between 1678 and 2262 is needed")
    return nanoseconds


def _epoch_seconds(time: datetime) -> int:
    since = time - EPOCH
    return since.days * 86_400 + since.seconds


def _offset_seconds(suffix: str | None, local: datetime, zone: tzinfo) -> int:
    if suffix in ("Z", "z", "UTC", "GMT"):
        return 0
    if suffix is not None:
        digits = suffix[1:].partition(" ")[0].replace(":", "").ljust(4, "0")
        hours, minutes = int(digits[:2]), int(digits[2:])
        if hours > 23 or minutes > 59:
            raise ValueError("offset must be in range -23:59 to +23:59")
        return (-1 if suffix[0] == "-" else 1) * (hours * 3600 + minutes * 60)
    return zone_seconds(local.replace(tzinfo=None), zone)


def zone_seconds(local: datetime, zone: tzinfo) -> int:
    """Seconds that a naive local time is ahead of UTC in a zone."""
    if zone is UTC:
        return 0
    return round((zone.utcoffset(local) or timedelta()).total_seconds())


def format_timestamp(nanoseconds: int) -> str:
    """RFC 3339, UTC, with as many digits of a second's fraction as it needs.

    `2026-03-01T12:00:00Z`, `2026-03-01T12:00:00.25Z`.
    """
    seconds, fraction = divmod(int(nanoseconds), SECOND)
    return _with_fraction((EPOCH + timedelta(seconds=seconds)).isoformat()[:19], fraction)


def format_timestamps(nanoseconds: npt.NDArray[np.int64]) -> list[str]:
    """`format_timestamp` of many times at once."""
    seconds, fractions = np.divmod(nanoseconds, SECOND)
    texts = np.datetime_as_string(seconds.astype("datetime64[s]")).tolist()
    return list(map(_with_fraction, texts, fractions.tolist()))


def _with_fraction(text: str, nanoseconds: int) -> str:
    if nanoseconds:
        text += "." + f"{nanoseconds:09d}".rstrip("0")
    return text + "Z"


def _time_input(value: object) -> object:
    if isinstance(value, str):
        return parse_timestamp(value)
    if isinstance(value, datetime | date):
        return parse_timestamp(value.isoformat())
    raise ValueError(f"a date or an RFC 3339 time is needed, not {value!r}")


def _zone_name(value: str) -> str:
    load_zone(value)
    return value


Timestamp = Annotated[
    int,
    BeforeValidator(_time_input, json_schema_input_type=str),
    PlainSerializer(format_timestamp, return_type=str),
    Field(description="a date or an RFC 3339 time"),
]
"""A point in time: nanoseconds since the epoch inside, RFC 3339 outside."""

ZoneName = Annotated[str, AfterValidator(_zone_name)]
"""An IANA time zone name that this machine knows."""


def parse_clock_reset(value: object) -> int:
    """Readings after which a clock is taken to be set back, of `after N`; 0 for `never`."""
    if value == "never" or (type(value) is int and value == 0):
        return 0
    text = f"after {value}" if type(value) is int else str(value)
    match = re.fullmatch(r"after (\d{1,6})", text.strip())
    if match is None or int(match[1]) < 2:
        raise ValueError(f"never, or after N readings (2 at least) is needed, not {value!r}")
    return int(match[1])


ClockReset = Annotated[
    int,
    BeforeValidator(parse_clock_reset, json_schema_input_type=str),
    PlainSerializer(lambda count: f"after {count}" if count else "never", return_type=str),
    Field(
        default=0,
        description="what becomes of readings older than their series' last one: never: they are "
        "late however many; after N: so many in a row, each newer than the one before, mean that "
        "the clock was set back, and are followed",
    ),
]
"""A number of readings inside, `never` or `after N` outside."""
