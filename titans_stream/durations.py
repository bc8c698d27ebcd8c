"""Durations as people write them in YAML: `500ms`, `10s`, `5m`, `6h`, `7d`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer

MILLISECOND = 1_000_000
"""Nanoseconds in a millisecond."""
SECOND = 1_000_000_000
"""Nanoseconds in a second."""
DAY = 86_400 * SECOND
"""Nanoseconds in a day."""

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "ms": MILLISECOND,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3_600 * SECOND,
    "d": DAY,
    "w": 7 * DAY,
}
_PATTERN = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ns|us|ms|s|m|h|d|w)\s*$")


def parse_duration(value: object) -> int:
    """Nanoseconds of `value`: a string with a unit, or a number of seconds.

    ValueError for anything else, negative numbers included.
    """
    if isinstance(value, bool):
        raise ValueError("a duration such as 10s, 5m, 6h or 7d is needed, not a truth value")
    if isinstance(value, int | float):
        if not 0 <= value < 1e10:
            raise ValueError(f"a duration must be between 0 and 1e10 seconds, not {value}")
        return round(value * SECOND)
    if isinstance(value, str):
        match = _PATTERN.match(value)
        if match:
            nanoseconds = round(float(match[1]) * _UNITS[match[2]])
            if nanoseconds < 2**62:
                return nanoseconds
    raise ValueError(f"a duration such as 500ms, 10s, 5m, 6h or 7d is needed, not {value!r}")


def format_duration(nanoseconds: int) -> str:
    """The shortest exact spelling of a duration, e.g. `5m` for 300 s."""
    for unit in ("w", "d", "h", "m", "s", "ms", "us"):
        if nanoseconds and nanoseconds % _UNITS[unit] == 0:
            return f"{nanoseconds // _UNITS[unit]}{unit}"
    return f"{nanoseconds}ns"


def spoken(seconds: float, digits: int = 2) -> str:
    """A time span as people say it, with so many digits that count."""
    for unit, size in (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2.0 * size:
            number = seconds / size
            return f"{number:.{digits}g} {unit}" if number < 10**digits else f"{number:.0f} {unit}"
    return f"{seconds:.3g} s"


def parse_no_data_after(value: object) -> int:
    """Nanoseconds of silence that are told; -1 for `learned`, 0 for `never`."""
    if value in ("learned", -1):
        return -1
    return 0 if value == "never" else parse_duration(value)


Duration = Annotated[
    int,
    BeforeValidator(parse_duration, json_schema_input_type=str | float),
    PlainSerializer(format_duration, return_type=str),
    Field(description="a duration such as 10s, 5m, 6h, 7d, or seconds"),
]
"""A duration in nanoseconds inside, text or seconds outside."""

NoDataAfter = Annotated[
    int,
    BeforeValidator(parse_no_data_after, json_schema_input_type=str | float),
    PlainSerializer(
        lambda value: {-1: "learned", 0: "never"}.get(value) or format_duration(value),
        return_type=str,
    ),
    Field(
        description="alert when a series sends nothing for so long: a duration, learned: as its "
        "own pace says, or never"
    ),
]
"""Nanoseconds inside, -1 for `learned`, 0 for `never`."""
