"""How good forecasts are, against repeating the last value: of one step the absolute error and the
coverage of the band, of many steps the squared error.

T is the number of readings of a series.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from titans_stream.forecasting.multi import forecaster as multi_step
from titans_stream.forecasting.one_step.forecaster import OneStepForecaster
from titans_stream.forecasting.one_step.layout import state_layout
from titans_stream.lifecycle.head_fitting import regular_values, run_forecaster
from titans_stream.lifecycle.series import Series
from titans_stream.records import Float64

STEPS = 96
"""Readings ahead."""
EVERY = 25
"""Readings between two forecasts; it shares no factor with 24."""
MEASURED_SHARE = 0.2
"""The last part of each series, on which forecasts are measured; as `data.validation_share`."""
LEAST_CHANGE = 1e-12
"""Mean square below which a series is at rest and says nothing."""


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Accuracy:
    """One-step forecasts of some series, from the first one that has a band on."""

    mae_ratio: float
    """Mean absolute error over that of repeating the last value, mean over the series."""
    coverage: float
    """Share of the readings inside the 95 % band, mean over the series."""


def forecast(series: Series, weights: Mapping[str, Float64]) -> Float64:
    """[T, 3] expected, lower and upper of every reading, by the kernel that serves."""
    state = {name: spec.rows(1) for name, spec in state_layout().items()}
    slots = np.zeros(len(series.value), np.int64)
    return OneStepForecaster(weights).run(state, slots, series.value, series.calendar)


def accuracy(series: Sequence[Series], weights: Mapping[str, Float64]) -> Accuracy:
    """Error and coverage of the forecasts of `series`. Series that never change are left out."""
    ratios, coverages = [], []
    for one in series:
        out = forecast(one, weights)[1:]
        value, change = one.value[1:], np.abs(np.diff(one.value))
        given = np.isfinite(out[:, 0])
        if not change[given].any():
            continue
        ratios.append(np.abs(value - out[:, 0])[given].mean() / change[given].mean())
        coverages.append(((value >= out[:, 1]) & (value <= out[:, 2]))[given].mean())
    if not ratios:
        return Accuracy(1.0, 1.0)
    return Accuracy(float(np.mean(ratios)), float(np.mean(coverages)))


def by_family(series: Sequence[Series], measure: Callable[[Sequence[Series]], T]) -> dict[str, T]:
    """`measure` of the series of each family."""
    names = sorted({one.family for one in series})
    return {name: measure([one for one in series if one.family == name]) for name in names}


def head_error(
    series: Series,
    weights: Mapping[str, Float64],
    options: multi_step.ForecastOptions | None = None,
) -> float:
    """Mean squared error over that of repeating the last value, in the last part of a series.

    NaN for a series that is too short or at rest.
    """
    value, count = series.value, len(series.value)
    regular, place = regular_values(series)
    origins = np.arange(round(count * (1.0 - MEASURED_SHARE)), count, EVERY)
    origins = origins[place[origins] + STEPS < len(regular)]
    if not len(origins):
        return np.nan
    _, made = run_forecaster(series, weights, origins, STEPS, options)
    true = regular[place[origins, None] + np.arange(1, STEPS + 1)]
    known = np.isfinite(true)
    repeated = np.square(true - value[origins, None])[known].mean()
    if not repeated > LEAST_CHANGE:
        return np.nan
    return float(np.square(true - made.median.reshape(true.shape))[known].mean() / repeated)


def mean_head_error(
    series: Sequence[Series],
    weights: Mapping[str, Float64],
    options: multi_step.ForecastOptions | None = None,
) -> float:
    """Mean of `head_error` over the series that it can be told of; 1 where there are none."""
    errors = np.array([head_error(one, weights, options) for one in series])
    return float(np.nanmean(errors)) if np.isfinite(errors).any() else 1.0
