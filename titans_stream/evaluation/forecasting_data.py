"""Data sets for forecasts: many series side by side, with the split they are judged on.

T is the number of rows, D of series, H of steps ahead, B of origins in a block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from titans_stream.durations import DAY
from titans_stream.evaluation.telemetry import TIMES, numeric_columns
from titans_stream.files.csv_file import CsvFile
from titans_stream.files.remarks import log_remarks
from titans_stream.records import Float64, Int64

HORIZONS = (96, 192, 336, 720)
"""The horizons of the published comparisons."""
SPLIT = (0.7, 0.1, 0.2)
"""Training, validation and test part of a set without a split of its own."""
ETT_ROWS = {"ETTh1": 1, "ETTh2": 1, "ETTm1": 4, "ETTm2": 4}
"""Rows an hour of the ETT sets, whose parts are 12, 4 and 4 months of 30 days."""
HOURLY = ("ETTh1", "ETTh2")
"""The sets of the papers on online forecasts."""
ETT_PARTS = (8_640, 2_880, 2_880)
EXCHANGE = "exchange_rate"
_EXCHANGE_FILES = ("exchange_rate.txt.gz", "exchange_rate.txt")
BLOCK_VALUES = 500_000
BLOCK_ORIGINS = 256
"""Most forecast values (medians alone) and origins that are held at a time."""


@dataclass(frozen=True)
class ForecastSet:
    """D series of T rows; errors are measured on values z-scored by the training part.

    `values` [T, D] are in units of their own, NaN where missing. `timestamp` [T] is int64
    nanoseconds, UTC, or None. Rows [0, train_end) train, [train_end, test_start) validate,
    [test_start, T) test. `season` is the period that seasonal naive repeats, 0 where the
    calendar gives none.
    """

    name: str
    columns: tuple[str, ...]
    values: Float64
    timestamp: Int64 | None
    train_end: int
    test_start: int
    season: int

    def __post_init__(self) -> None:
        if not 1 < self.train_end <= self.test_start < len(self.values):
            raise ValueError(f"{self.name}: {len(self)} rows are too few for the split")
        if self.timestamp is not None and (np.diff(self.timestamp) <= 0).any():
            raise ValueError(f"{self.name}: the times of its rows must increase")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def series(self) -> int:
        """D."""
        return len(self.columns)

    @cached_property
    def mean(self) -> Float64:
        """[D] of the training part."""
        mean: Float64 = np.nan_to_num(np.nanmean(self.values[: self.train_end], axis=0))
        return mean

    @cached_property
    def scale(self) -> Float64:
        """[D] standard deviation of the training part, 1 for a constant series."""
        scale = np.nan_to_num(np.nanstd(self.values[: self.train_end], axis=0))
        return np.where(scale > 0.0, scale, 1.0)

    @cached_property
    def scored(self) -> Float64:
        """[T, D] values, z-scored."""
        return (self.values - self.mean) / self.scale

    @cached_property
    def filled(self) -> Float64:
        """[T, D] z-scored values, each missing one the last before it (0 at the start)."""
        table = pd.DataFrame(self.scored).ffill().fillna(0.0)
        return np.ascontiguousarray(table.to_numpy(dtype=np.float64))

    def origins(self, first: int, end: int, horizon: int, every: int = 1) -> Int64:
        """First forecast rows of all windows of `horizon` steps inside [first, end)."""
        return np.arange(first, end - horizon + 1, every, dtype=np.int64)

    def truth(self, first: Int64, steps: int) -> Float64:
        """[B, D, H] z-scored values from the rows `first` [B] on, NaN beyond the part's end.

        An origin before the test part sees no value of it.
        """
        rows = first[:, None] + np.arange(steps)
        end = np.where(first < self.test_start, self.test_start, len(self))[:, None]
        found = self.scored[np.minimum(rows, len(self) - 1)]
        found[rows >= end] = np.nan
        return np.swapaxes(found, 1, 2)


def blocks_of(data: ForecastSet, origins: Int64, steps: int) -> Iterator[Int64]:
    """Origins in blocks, so that memory does not grow with their number."""
    size = max(1, min(BLOCK_ORIGINS, BLOCK_VALUES // (data.series * steps)))
    for first in range(0, len(origins), size):
        yield origins[first : first + size]


def load_forecast_sets(root: Path) -> dict[str, ForecastSet]:
    """ETTh1, ETTh2 (ETTm1, ETTm2) and exchange_rate, as far as they are under `root`.

    Looked for in `root` and its folder `ett`. ValueError where there is none.
    """
    if not root.is_dir():
        raise ValueError(f"root: {root} is no folder")
    found = {}
    for name in ETT_ROWS:
        path = _first(root / f"{name}.csv", root / "ett" / f"{name}.csv")
        if path is not None:
            found[name] = _load_ett(path, name)
    path = _first(*(root / name for name in _EXCHANGE_FILES))
    if path is not None:
        found[EXCHANGE] = _load_exchange(path)
    if not found:
        raise ValueError(f"root: neither {', '.join(ETT_ROWS)} nor {EXCHANGE} under {root}")
    return found


def _first(*paths: Path) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def _load_ett(path: Path, name: str) -> ForecastSet:
    time, *columns = CsvFile(path).header
    table = CsvFile(path).read()
    train, validation, test = (rows * ETT_ROWS[name] for rows in ETT_PARTS)
    rows = train + validation + test
    return ForecastSet(
        name=name,
        columns=tuple(columns),
        values=np.column_stack([table.numbers(column) for column in columns])[:rows],
        timestamp=table.times(time)[:rows],
        train_end=train,
        test_start=train + validation,
        season=24 * ETT_ROWS[name],
    )


def _load_exchange(path: Path) -> ForecastSet:
    """Daily rates of eight countries; the file has no header and no dates."""
    try:
        values = np.loadtxt(path, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path.name}: {error}") from error
    names = tuple(f"rate {i + 1}" for i in range(values.shape[1]))
    return ForecastSet(EXCHANGE, names, values, None, *_parts(len(values), SPLIT), season=0)


def load_wide_csv(path: Path, split: Sequence[float] = SPLIT, zone: tzinfo = UTC) -> ForecastSet:
    """Any CSV file whose numeric columns are series; a column of times is found by its name.

    Times without offset are in `zone`. ValueError names file and column, or says that the split
    is none.
    """
    if len(split) != 3 or min(split) < 0.0 or split[0] <= 0.0 or split[2] <= 0.0:
        raise ValueError("split: three shares are needed, such as 0.7,0.1,0.2")
    if abs(sum(split) - 1.0) > 1e-6:
        raise ValueError(f"split: the shares add up to {sum(split):g}, not to 1")
    if not path.is_file():
        raise ValueError(f"data: {path} is no file")
    file = CsvFile(path)
    table = file.read()
    time = next((name for name in file.header if name.lower() in TIMES), None)
    columns = numeric_columns(table, [name for name in file.named if name != time])
    if not columns:
        raise ValueError(f"{path.name}: no column holds numbers")
    kept = {*columns, time}
    log_remarks(file, [(n, "not all of it is numbers") for n in file.header if n not in kept])
    times = None if time is None else table.times(time, zone)
    return ForecastSet(
        name=path.stem,
        columns=tuple(columns),
        values=np.column_stack(list(columns.values())),
        timestamp=times,
        season=calendar_season(times),
        **dict(zip(("train_end", "test_start"), _parts(len(table), split), strict=True)),
    )


def resplit(data: ForecastSet, split: Sequence[float]) -> ForecastSet:
    """The same rows in other parts."""
    train_end, test_start = _parts(len(data), split)
    return replace(data, train_end=train_end, test_start=test_start)


def _parts(rows: int, split: Sequence[float]) -> tuple[int, int]:
    """Rows at which the training part ends and the test part starts."""
    return int(rows * split[0]), rows - int(rows * split[2])


def calendar_season(times: Int64 | None) -> int:
    """Readings in a day, in a week where a day has less than two; 0 without times."""
    if times is None or len(times) < 2:
        return 0
    interval = float(np.median(np.diff(times)))
    for length in (DAY, 7 * DAY):
        if length / interval >= 1.5:
            return round(length / interval)
    return 0
