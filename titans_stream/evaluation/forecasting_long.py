"""Long files: rows of many series one under another, told apart by a column.

T is the number of a series' rows, C of numeric columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from pathlib import Path

import numpy as np

from titans_stream.evaluation.forecasting_data import calendar_season
from titans_stream.evaluation.telemetry import TIMES, numeric_columns
from titans_stream.files.csv_file import CsvFile
from titans_stream.records import Float64, Int64

_NAMED = 5
"""Names in a message, at most."""


@dataclass(frozen=True, slots=True)
class LongSeries:
    """Values [T, C], NaN where missing, and their times [T], UTC nanoseconds, increasing."""

    values: Float64
    times: Int64


@dataclass(frozen=True, slots=True)
class LongFile:
    """Series by name; `season` is a day in readings, of all of them."""

    series: Mapping[str, LongSeries]
    season: int
    columns: tuple[str, ...]
    """[C]"""

    def labels(self, name: str) -> list[str]:
        """[C] a name for each column of a series."""
        return [f"{name} {column}" for column in self.columns]


def load_long_csv(path: Path, by: str, zone: tzinfo = UTC) -> LongFile:
    """The series of a long file, whose names are in column `by`; rows in any order.

    The column of times is found by its name (without offset they are in `zone`), all numeric ones
    are values. ValueError says what is
    wrong: no times, no numbers, a time that comes twice, series of different intervals.
    """
    if not path.is_file():
        raise ValueError(f"data: {path} is no file")
    file = CsvFile(path)
    named, table = file.column(by), file.read()
    time = next((name for name in file.header if name.lower() in TIMES), None)
    if time is None:
        raise ValueError(f"{path.name}: no column of times ({', '.join(sorted(TIMES))})")
    columns = numeric_columns(table, [name for name in file.named if name not in (time, named)])
    if not columns:
        raise ValueError(f"{path.name}: no column holds numbers")
    names, place = np.unique(np.array(table.texts(named)), return_inverse=True)
    times, values = table.times(time, zone), np.column_stack(list(columns.values()))
    found, seasons = {}, {}
    for k, name in enumerate(names.tolist()):
        rows = np.flatnonzero(place == k)
        rows = rows[np.argsort(times[rows], kind="stable")]
        twice = np.flatnonzero(np.diff(times[rows]) == 0)
        if len(twice):
            raise table.error(time, int(rows[twice[0] + 1]), f"comes twice in {name!r}")
        found[name] = LongSeries(np.ascontiguousarray(values[rows]), times[rows])
        seasons[name] = calendar_season(times[rows])
    lengths = sorted({season for season in seasons.values() if season > 0})
    if not lengths or lengths[0] < 2:
        raise ValueError(f"{path.name}: times with at least two readings a day are needed")
    if len(lengths) > 1:
        one, other = (next(n for n, s in seasons.items() if s == x) for x in lengths[:2])
        raise ValueError(
            f"{path.name}: {one!r} has {lengths[0]} readings a day, {other!r} has {lengths[1]}; "
            "series that are judged together need the same interval"
        )
    return LongFile(found, lengths[0], tuple(columns))


def shortened(names: Sequence[str]) -> str:
    """Names for a message, not too many of them."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(repr, names[:_NAMED])) + more
