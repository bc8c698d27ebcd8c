"""Forecasts from one origin after another, in the values' own units, against naive ones.

Each series is read once, as the service reads it. From every N-th of its last readings the steps
ahead are forecast; mean absolute errors stand beside those of repeating the last day, the last
week and the last value, and the interval's coverage beside them. The best naive forecast of a
series is one choice for all its origins, made with hindsight.

H is the number of steps ahead, N of origins, L of quantile levels, T of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from titans_stream.evaluation.forecasting_contest import (
    UTC_DAYS,
    Calendar,
    ContestSeries,
    ContestSet,
    Progress,
    carried,
    filled,
)
from titans_stream.evaluation.forecasting_metrics import INTERVALS, LEVELS
from titans_stream.evaluation.tables import Table, text_table
from titans_stream.forecasting.multi.forecaster import ForecastOptions, MultiStepForecaster
from titans_stream.records import Float64, Int64

LEAST_ORIGINS = 50
"""Origins that a series needs to be counted among those that do worse than a naive forecast."""
WORSE = 1.08
"""Of the best naive forecast's error."""
MOST_ROWS = 12
"""Series that a table shows; of more, those that do worst."""


@dataclass(frozen=True, slots=True)
class Origins:
    """Which rows of a series of T rows are forecast from."""

    every: int = 1
    """One in so many."""
    last: float = 0.1
    """Share of the rows, or from 1 on a number of them, in which forecasts lie."""
    first: int | None = None
    """Rows that come before the first forecast, in place of `last`."""

    def of(self, count: int, horizon: int) -> Int64:
        """[N] the first rows of the forecasts of `horizon` steps."""
        if self.first is not None:
            begin = self.first
        else:
            begin = int(count * (1.0 - self.last)) if self.last < 1.0 else count - int(self.last)
        return np.arange(max(begin, 1), count - horizon + 1, self.every, dtype=np.int64)


def run_rolling(
    one: ContestSet,
    weights: Mapping[str, Float64],
    origins: Origins,
    calendar: Calendar = UTC_DAYS,
    options: ForecastOptions | None = None,
    progress: Progress = lambda *_: None,
) -> dict[int, Table]:
    """Horizon -> series -> numbers. ValueError where no series has room for a forecast."""
    forecaster = MultiStepForecaster(
        weights, LEVELS, options=options, special_days=calendar.special_days
    )
    longest = max(one.horizons)
    found = {horizon: Table() for horizon in one.horizons}
    for done, (name, series) in enumerate(_named(one)):
        progress(one.name, done, len(one.series))
        at = origins.of(len(series.values), longest)
        if len(at) == 0:
            continue
        made = carried(forecaster, series, at, longest, calendar)
        median = made.median.reshape(len(at), longest)
        quantiles = made.quantiles.reshape(len(LEVELS), len(at), longest)
        truth = series.values[at[:, None] + np.arange(longest)]
        naive = _naive(filled(series.values), at, longest, one.season)
        for horizon, rows in found.items():
            part = np.s_[..., :horizon]
            if np.isfinite(truth[part]).any():
                forecasts = {"mae": median[part], **{k: v[part] for k, v in naive.items()}}
                rows[name] = _numbers(truth[part], forecasts, quantiles[part])
    progress(one.name, len(one.series), len(one.series))
    if not any(found.values()):
        raise ValueError(f"{one.name}: no series has rows for a forecast of {longest} steps")
    return found


def _named(one: ContestSet) -> Iterator[tuple[str, ContestSeries]]:
    for number, series in enumerate(one.series):
        yield series.name or f"{number + 1}", series


def _naive(values: Float64, at: Int64, steps: int, season: int) -> dict[str, Float64]:
    """[N, H] the values a day and a week before, and the last one; NaN where there are none."""
    ahead = np.arange(steps)
    found = {}
    for name, length in (("day", season), ("week", 7 * season), ("last", 1)):
        rows = at[:, None] - length + ahead % length
        found[name] = np.where(rows >= 0, values[np.maximum(rows, 0)], np.nan)
    return found


def _numbers(
    truth: Float64, forecasts: Mapping[str, Float64], quantiles: Float64
) -> dict[str, float | int]:
    """Mean absolute errors, the ratio to the best naive one, and coverage in percent."""
    known = np.isfinite(truth)
    row: dict[str, float | int] = {"origins": int(known.any(axis=1).sum())}
    for name, forecast in forecasts.items():
        errors = np.abs(forecast - truth)[known]
        row[name] = float(np.mean(errors)) if np.isfinite(errors).all() else float("nan")
    best = np.nanmin([row[name] for name in ("day", "week", "last")])
    row["ratio"] = float(row["mae"] / best) if best > 0.0 else float("nan")
    for nominal, (low, high) in INTERVALS.items():
        inside = (truth >= quantiles[low]) & (truth <= quantiles[high])
        row[f"coverage_{nominal}"] = 100.0 * float(np.mean(inside[known]))
    return row


def summary_of(rows: Table) -> dict[str, float | int]:
    """Ratios to the best naive forecast, and mean coverage, of the series with at least
    `LEAST_ORIGINS` origins; of all where none has as many.

    `worse` counts those that are off by more than `WORSE` times it. Series that a naive forecast
    gets right to the digit have no ratio.
    """
    enough = [row for row in rows.values() if row["origins"] >= LEAST_ORIGINS]
    counted = enough or list(rows.values())
    ratios = np.array([row["ratio"] for row in counted])
    known = ratios[np.isfinite(ratios)]
    none = float("nan")
    return {
        "series": len(rows),
        "mean_ratio": float(known.mean()) if len(known) else none,
        "median_ratio": float(np.median(known)) if len(known) else none,
        "worst_ratio": float(known.max()) if len(known) else none,
        "counted": len(counted),
        "worse": int((known > WORSE).sum()),
        **{
            f"coverage_{level}": float(np.mean([row[f"coverage_{level}"] for row in counted]))
            for level in INTERVALS
        },
    }


def rolling_numbers(found: Mapping[str, Mapping[int, Table]]) -> dict[str, Any]:
    """Set -> horizon -> `series`, their rows by name, and `all`, the summary."""
    return {
        name: {
            horizon: {"all": summary_of(table), "series": table}
            for horizon, table in horizons.items()
        }
        for name, horizons in found.items()
    }


def rolling_table(found: Mapping[str, Mapping[int, Table]]) -> str:
    """The errors of each series, of many the worst ones, and a line for all of a set."""
    rows: list[list[str | float]] = []
    lines = []
    for name, horizons in found.items():
        for horizon, table in horizons.items():
            worst = sorted(table.items(), key=lambda item: -np.nan_to_num(item[1]["ratio"]))
            shown = list(table.items()) if len(table) <= MOST_ROWS else worst[:MOST_ROWS]
            for series, row in shown:
                rows.append(
                    [
                        name, f"{horizon}", series, f"{row['origins']}",
                        *(f"{row[key]:.4g}" for key in ("mae", "day", "week", "last")),
                        f"{row['ratio']:.3f}",
                        *(f"{row[f'coverage_{level}']:.1f}" for level in INTERVALS),
                    ]
                )  # fmt: skip
            whole = summary_of(table)
            lines.append(
                f"{name}, {horizon} steps, {whole['counted']} of {whole['series']} series: error "
                f"over that of the best naive forecast, mean {whole['mean_ratio']:.3f}, median "
                f"{whole['median_ratio']:.3f}, worst {whole['worst_ratio']:.3f}; more than "
                f"{WORSE} times it: {whole['worse']}; coverage {whole['coverage_80']:.1f} and "
                f"{whole['coverage_95']:.1f} %"
            )
    head = [
        "set", "steps", "series", "origins", "MAE", "day", "week", "last", "ratio", "80 %", "95 %",
    ]  # fmt: skip
    title = "Mean absolute error, that of repeating day, week and last value, coverage"
    return "\n".join([text_table(title, head, rows), "", *lines])
