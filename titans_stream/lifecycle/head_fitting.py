"""Fits the shared weights of the multi-step forecaster, in closed form.

Ridge regression of the matured targets on the structured head's inputs, a row for each range of
steps. Every series counts alike, in units of its variance; the statistics come from the kernels
that serve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from titans_stream.forecasting.multi import forecaster as multi_step
from titans_stream.forecasting.multi import layout
from titans_stream.forecasting.multi.statistics import head_statistics
from titans_stream.lifecycle.series import Series
from titans_stream.records import Float64, Int64

ROW_RIDGE = 1e-3
"""Added to the diagonal of the normal equations, in units of its mean."""
LEAST_MASS = 100.0
"""Origins below which a series says nothing of a row."""
LONGEST_GAP = 10_000
"""Missing readings in a row, at most; of a longer gap so many are kept."""


@dataclass(frozen=True, slots=True)
class HeadFit:
    """Fitted weights and what they were fitted to."""

    weights: dict[str, Float64]
    """`forecast.head.*`"""
    series: int
    """Series in which a period was found."""
    row_series: tuple[int, ...]
    """Series that reach each row of the structured head."""


def fit_heads(series: Sequence[Series]) -> HeadFit:
    """Fit the weights `forecast.head.*` to whole series.

    What no series is long enough for keeps the plain weights of `multi_step.plain_weights`.
    """
    found = [(regular_values(one)[0], period_of(one)) for one in series]
    periodic = [(values, period) for values, period in found if period > 0.0]
    weights = {name: multi_step.plain_weights()[name] for name in layout.weight_shapes()}
    rows = _fit_rows(periodic, weights)
    return HeadFit(weights, len(periodic), rows)


def regular_values(series: Series) -> tuple[Float64, Int64]:
    """Values at every interval from the first reading to the last, NaN where none came, and the
    place of each reading among them."""
    count = len(series.value)
    if count < 2 or not series.interval > 0.0:
        return series.value, np.arange(count)
    steps = np.round(np.diff(series.timestamp) / series.interval).clip(1, LONGEST_GAP)
    place = np.concatenate(([0], np.cumsum(steps))).astype(np.int64)
    values = np.full(place[-1] + 1, np.nan)
    values[place] = series.value
    return values, place


def period_of(series: Series) -> float:
    """The period in readings that the forecaster has at the end of a series, 0: none."""
    arrays, _ = run_forecaster(series, multi_step.plain_weights(), np.zeros(0, np.int64), 0)
    return float(arrays["forecast_meta"]["period"][0])


def run_forecaster(
    series: Series,
    weights: Mapping[str, Float64],
    origins: Int64,
    steps: int,
    options: multi_step.ForecastOptions | None = None,
) -> tuple[dict[str, np.ndarray], multi_step.Forecasts]:
    """Read a series with the forecaster that serves: its state at the end, and medians of `steps`
    steps after each of the readings `origins`."""
    count = len(series.value)
    wanted = np.zeros(count, np.int64)
    wanted[origins] = steps
    arrays = {
        name: np.zeros((1, *spec.shape), spec.dtype)
        for name, spec in multi_step.state_layout().items()
    }
    made = multi_step.MultiStepForecaster(weights, (0.5,), options=options).run(
        arrays, np.zeros(count, np.int64), series.value, series.seconds,
        np.full(count, series.interval), series.timestamp, wanted,
    )  # fmt: skip
    return arrays, made


def _fit_rows(
    periodic: Sequence[tuple[Float64, float]], weights: dict[str, Float64]
) -> tuple[int, ...]:
    """The structured head's weights; a row that no series reaches has those of the nearest row
    that some series reach. Returns the number of series behind each row."""
    statistics = [head_statistics(values, period) for values, period in periodic]
    w, gram = weights["forecast.head.w"], weights["forecast.head.gram"]
    counts = []
    for r in range(layout.BANDS):
        used = [one for one in statistics if one.mass[r] >= LEAST_MASS]
        counts.append(len(used))
        if used:
            gram[r] = np.mean([one.xx[r] / one.mass[r] for one in used], 0)
            right = np.mean([one.xy[r] / one.mass[r] for one in used], 0)
            w[r] = _ridge(gram[r], right, ROW_RIDGE)
    reached = [r for r, count in enumerate(counts) if count]
    for r in range(layout.BANDS) if reached else ():
        nearest = min(reached, key=lambda s: abs(s - r))
        w[r], gram[r] = w[nearest], gram[nearest]
    return tuple(counts)


def _ridge(cross: Float64, right: Float64, strength: float) -> Float64:
    """(cross + strength mean(diag) I)^-1 right."""
    ridge = max(strength * np.trace(cross) / len(cross), 1e-12)
    solution: Float64 = np.linalg.solve(cross + ridge * np.eye(len(cross)), right)
    return solution
