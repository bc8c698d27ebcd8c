"""Forecasts by the rules of GIFT-Eval (arXiv 2410.10393): MASE and weighted quantile loss.

The last windows of each series are forecast, side by side and without overlap, each from all that
came before it. MASE divides the mean absolute error of a window's medians by the mean change over
a season before it; the weighted quantile loss is the mean over the levels .1 to .9 of twice the
summed pinball losses over the sum of the absolute values. The forecaster is that of the service:
carried along the stream, never fitted to the set.

H is the number of steps ahead, T of rows.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from pathlib import Path

import numpy as np
import numpy.typing as npt

from titans_stream.durations import DAY
from titans_stream.engine.clock import LocalTime
from titans_stream.evaluation import OURS
from titans_stream.evaluation.forecasting_data import load_wide_csv
from titans_stream.evaluation.forecasting_long import load_long_csv, shortened
from titans_stream.evaluation.tables import text_table
from titans_stream.forecasting.multi.forecaster import (
    ForecastOptions,
    Forecasts,
    MultiStepForecaster,
    state_layout,
)
from titans_stream.records import Float64, Int64
from titans_stream.special_days import NO_SPECIAL_DAYS

log = logging.getLogger(__name__)

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Of the weighted quantile loss."""
FORECAST_LEVELS = (0.025, *LEVELS, 0.975)
INTERVALS = {80: (1, -2), 95: (0, -1)}
"""Nominal coverage in percent -> the places of its ends in `FORECAST_LEVELS`."""
Progress = Callable[[str, int, int], None]
MOST_WINDOWS = 20
TEST_SHARE = 0.1
"""A set is judged on its last tenth, on at most `MOST_WINDOWS` windows."""
M4_HORIZON = 48
OTHERS = ("Chronos-2", "TiRex", "Toto 2.0 2.5B", "FlowState")
PUBLISHED: Mapping[tuple[str, int], tuple[float, ...]] = {
    ("M4 hourly", 48): (0.788, 0.722, 0.653, 0.731),
    ("ETTh1", 48): (0.787, 0.817, 0.851, 0.815),
    ("ETTh1", 480): (1.274, 1.235, 1.265, 1.224),
    ("ETTh1", 720): (1.380, 1.321, 1.352, 1.346),
    ("ETTh2", 48): (0.736, 0.723, 0.741, 0.721),
    ("ETTh2", 480): (1.090, 1.135, 1.043, 1.041),
    ("ETTh2", 720): (1.048, 1.184, 1.043, 1.097),
}
"""MASE of `OTHERS` as published by November 2026; M4 hourly there is all of its 414 series."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """What the forecaster knows of the days: by default UTC and no holidays."""

    zone: str = "UTC"
    special_days: npt.NDArray[np.bool_] = field(default_factory=lambda: NO_SPECIAL_DAYS)
    """[days from 1970 on] holidays and the like."""
    timed: bool = True
    """False: times are hidden from the forecaster."""


UTC_DAYS = Calendar()


@dataclass(frozen=True, slots=True)
class ContestSeries:
    """One series: values [T] and their times (UTC nanoseconds)."""

    values: Float64
    times: Int64
    name: str = ""


@dataclass(frozen=True, slots=True)
class ContestSet:
    """Series that are judged together; `season` is a day in readings, `week` seven of them."""

    name: str
    series: Sequence[ContestSeries]
    season: int
    horizons: tuple[int, ...]
    windows: int | None = None
    """Of each series; None: as many as the rules take."""

    def windows_of(self, horizon: int) -> int:
        """Windows of each series at a horizon."""
        if self.windows is not None:
            return self.windows
        shortest = min(len(one.values) for one in self.series)
        return max(1, min(MOST_WINDOWS, math.ceil(TEST_SHARE * shortest / horizon)))


@dataclass(slots=True)
class ContestScore:
    """Sums over windows; `mase` has one entry for each of them."""

    mase: list[float] = field(default_factory=list)
    loss: float = 0.0
    size: float = 0.0
    values: int = 0
    inside: dict[int, int] = field(default_factory=lambda: dict.fromkeys(INTERVALS, 0))
    """Values that lie in the interval of each nominal coverage."""

    def add(self, truth: Float64, quantiles: Float64, scale: float) -> None:
        """Take one window: truth [H], quantiles [len(FORECAST_LEVELS), H]."""
        known = np.isfinite(truth)
        self.values += int(known.sum())
        for level, (low, high) in INTERVALS.items():
            inside = (truth >= quantiles[low]) & (truth <= quantiles[high])
            self.inside[level] += int(inside.sum())
        errors = truth[known] - quantiles[1:-1, known]
        levels = np.array(LEVELS)[:, None]
        self.mase.append(float(np.abs(errors[LEVELS.index(0.5)]).mean() / scale))
        self.loss += float(2.0 * np.maximum(levels * errors, (levels - 1.0) * errors).sum())
        self.size += float(np.abs(truth[known]).sum())

    def numbers(self) -> dict[str, float]:
        """`mase`, `median_mase`, `wql`, `coverage_80`, `coverage_95` in percent and the number of
        windows."""
        return {
            "mase": float(np.mean(self.mase)),
            "median_mase": float(np.median(self.mase)),
            "wql": self.loss / len(LEVELS) / max(self.size, 1e-12),
            "windows": len(self.mase),
            **{
                f"coverage_{level}": 100.0 * count / self.values
                for level, count in self.inside.items()
            },
        }


def run_contest(
    one: ContestSet,
    weights: Mapping[str, Float64],
    options: ForecastOptions | None = None,
    progress: Progress = lambda *_: None,
    calendar: Calendar = UTC_DAYS,
) -> dict[int, dict[str, dict[str, float]]]:
    """Scores by horizon and model: `titans-stream`, `seasonal naive (day)` and `(week)`.

    `progress` is told what is run, and how many of how many series are done.
    """
    forecaster = MultiStepForecaster(
        weights, FORECAST_LEVELS, options=options, special_days=calendar.special_days
    )
    found = {}
    for horizon in one.horizons:
        scores: dict[str, ContestScore] = {}
        for done, series in enumerate(one.series):
            progress(f"{one.name}: {horizon} steps", done, len(one.series))
            for origin, quantiles in _forecasts(forecaster, one, series, horizon, calendar):
                before = series.values[:origin]
                truth = series.values[origin : origin + horizon]
                changes = np.abs(before[one.season :] - before[: -one.season])
                scale = float(np.nanmean(changes)) if np.isfinite(changes).any() else 0.0
                if scale <= 0.0 or not np.isfinite(truth).any():
                    continue
                scores.setdefault(OURS, ContestScore()).add(truth, quantiles, scale)
                for name, season in (("day", one.season), ("week", 7 * one.season)):
                    if origin >= season:
                        naive = np.tile(filled(before)[-season:], -(-horizon // season))[:horizon]
                        flat = np.broadcast_to(naive, (len(FORECAST_LEVELS), horizon))
                        key = f"seasonal naive ({name})"
                        scores.setdefault(key, ContestScore()).add(truth, flat, scale)
        progress(f"{one.name}: {horizon} steps", len(one.series), len(one.series))
        found[horizon] = {name: score.numbers() for name, score in scores.items()}
    return found


def filled(values: Float64) -> Float64:
    """Each missing value the last one before it."""
    known = np.where(np.isfinite(values), np.arange(len(values)), 0)
    return values[np.maximum.accumulate(known)]


def _forecasts(
    forecaster: MultiStepForecaster,
    one: ContestSet,
    series: ContestSeries,
    horizon: int,
    calendar: Calendar,
) -> Iterator[tuple[int, Float64]]:
    """Origin and quantiles [len(FORECAST_LEVELS), H] of each window."""
    n, windows = len(series.values), one.windows_of(horizon)
    origins = n - horizon * np.arange(windows, 0, -1)
    origins = origins[origins > 2 * one.season]
    if len(origins) == 0:
        return
    made = carried(forecaster, series, origins, horizon, calendar)
    for i, origin in enumerate(origins.tolist()):
        yield origin, made.quantiles[:, i * horizon : (i + 1) * horizon]


def carried(
    forecaster: MultiStepForecaster,
    series: ContestSeries,
    origins: Int64,
    horizon: int,
    calendar: Calendar,
) -> Forecasts:
    """The forecasts whose first rows are `origins` [N] by one state, carried along the series."""
    count = int(origins[-1])
    steps = np.zeros(count, np.int64)
    steps[origins - 1] = horizon
    times = series.times[:count]
    local = LocalTime(calendar.zone).seconds if calendar.timed else None
    pace = float(np.median(np.diff(series.times)))
    return forecaster.run(
        {name: spec.rows(1) for name, spec in state_layout().items()},
        np.zeros(count, np.int64), np.ascontiguousarray(series.values[:count]),
        np.full(count, np.nan) if local is None else local(times),
        np.full(count, pace), times, steps, local,
    )  # fmt: skip


def load_contest_sets(root: Path, horizons: tuple[int, ...]) -> dict[str, ContestSet]:
    """ETTh1 and ETTh2 (`ett/*.csv`, whole files) and M4 hourly (`m4_hourly*.npz`), as far as they
    are under `root` or its folder `forecasting`. ValueError where there is none.

    The arrays of the M4 file are named SERIES_train and SERIES_test; its readings have no times and
    are taken for hours.
    """
    found = {}
    for name in ("ETTh1", "ETTh2"):
        paths = (root / "ett" / f"{name}.csv", root / f"{name}.csv")
        path = next((path for path in paths if path.is_file()), None)
        if path is not None:
            found[name] = load_contest_csv(path, horizons)
    for folder in (root, root / "forecasting"):
        for path in sorted(folder.glob("m4_hourly*.npz")):
            found["M4 hourly"] = _load_m4(path)
    if not found:
        raise ValueError(f"root: neither ETTh1.csv, ETTh2.csv nor m4_hourly*.npz under {root}")
    return found


def load_contest_csv(
    path: Path, horizons: tuple[int, ...], by: str | None = None, zone: tzinfo = UTC
) -> ContestSet:
    """The numeric columns of a CSV file with times. ValueError says what is wrong with it.

    by: the column that names the series of each row of a long file; a series that is too short is
    left out, and the log says so. Times without offset are in `zone`.
    """
    if by is not None:
        return _load_long(path, horizons, by, zone)
    data = load_wide_csv(path, zone=zone)
    if data.timestamp is None or data.season < 2:
        raise ValueError(f"{path.name}: times with at least two readings a day are needed")
    if len(data) <= _least(data.season, horizons):
        raise ValueError(f"{path.name}: {len(data)} rows are too few for {max(horizons)} steps")
    columns = [
        ContestSeries(values, data.timestamp, name)
        for name, values in zip(data.columns, data.values.T, strict=True)
    ]
    return ContestSet(data.name, columns, data.season, horizons)


def _least(season: int, horizons: tuple[int, ...]) -> int:
    """Rows that a series needs to have more of."""
    return 3 * season + max(horizons)


def _load_long(path: Path, horizons: tuple[int, ...], by: str, zone: tzinfo) -> ContestSet:
    """Each numeric column of each series of a long file, as a series."""
    long = load_long_csv(path, by, zone)
    series, short = [], []
    for name, one in long.series.items():
        if len(one.times) > _least(long.season, horizons):
            names = [name] if one.values.shape[1] == 1 else long.labels(name)
            series += [
                ContestSeries(values, one.times, label)
                for label, values in zip(names, one.values.T, strict=True)
            ]
        else:
            short.append(name)
    if not series:
        raise ValueError(f"{path.name}: no series has enough rows for {max(horizons)} steps")
    if short:
        log.warning("%s: too short, left out: %s", path.name, shortened(short))
    return ContestSet(path.stem, series, long.season, horizons)


def _load_m4(path: Path) -> ContestSet:
    arrays = np.load(path)
    series = []
    for name in sorted(arrays):
        if name.endswith("_train"):
            test = arrays[name.removesuffix("_train") + "_test"]
            values = np.concatenate((arrays[name], test)).astype(np.float64)
            times = 14_000 * DAY + DAY // 24 * np.arange(len(values))
            series.append(ContestSeries(values, times, name.removesuffix("_train")))
    if not series:
        raise ValueError(f"{path.name}: no arrays named SERIES_train and SERIES_test")
    return ContestSet("M4 hourly", series, 24, (M4_HORIZON,), windows=1)


def contest_table(found: Mapping[str, Mapping[int, Mapping[str, Mapping[str, float]]]]) -> str:
    """Scores as a table; published figures have no weighted quantile loss here."""
    rows: list[list[str | float]] = []
    for name, horizons in found.items():
        for horizon, models in horizons.items():
            for model, score in models.items():
                rows.append(
                    [
                        name, f"{horizon}", model, f"{score['mase']:.3f}",
                        f"{score['median_mase']:.3f}", f"{score['wql']:.4f}",
                        f"{score['windows']:.0f}",
                        *(
                            f"{score[f'coverage_{level}']:.1f}" if model == OURS else ""
                            for level in INTERVALS
                        ),
                    ]
                )  # fmt: skip
            for model, mase in zip(OTHERS, PUBLISHED.get((name, horizon), ()), strict=False):
                rows.append([name, str(horizon), f"{model} (published)", f"{mase:.3f}", *[""] * 5])
    head = ["set", "steps", "model", "MASE", "median", "WQL", "windows", "80 %", "95 %"]
    return text_table("By the rules of GIFT-Eval", head, rows)
