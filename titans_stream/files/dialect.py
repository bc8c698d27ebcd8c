"""What somebody says about a file of readings, where it cannot be seen in the file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a file is read. None: found out from the file.

    `header` False: the first line holds data. `comment`: lines that begin so are left out.
    `decimal`: `.` or `,`. `na`: further texts that say that a value is missing, upper or lower
    case alike; `missing_values`: numbers that say so. `time_format`: one of `s`, `ms`, `us`, `ns`
    (since 1970), `days` (a spreadsheet's), or a format of Python's `strptime`. `encoding`: a name
    that Python knows.
    """

    delimiter: str | None = None
    header: bool | None = None
    comment: str | None = None
    decimal: str | None = None
    na: tuple[str, ...] = ()
    missing_values: tuple[float, ...] = ()
    time_format: str | None = None
    encoding: str | None = None
