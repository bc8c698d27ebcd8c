"""How good forecasts of many steps are: squared error against repeating the last value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from titans_stream.forecasting.multi import forecaster as multi_step
from titans_stream.lifecycle.data import Series
from titans_stream.lifecycle.head_fitting import regular_values
from titans_stream.records import Float64

STEPS = 96
"""Readings ahead."""
EVERY = 25
"""Readings between two forecasts; it shares no factor with 24."""
MEASURED_SHARE = 0.2
"""The last part of each series, on which forecasts are measured; as `data.validation_share`."""
LEAST_CHANGE = 1e-12
"""Mean square below which a series is at rest and says nothing."""


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
    steps = np.zeros(count, np.int64)
    steps[origins] = STEPS
    arrays = {
        name: np.zeros((1, *spec.shape), spec.dtype)
        for name, spec in multi_step.state_layout().items()
    }
    made = multi_step.MultiStepForecaster(weights, (0.5,), options=options).run(
        arrays, np.zeros(count, np.int64), value, series.seconds,
        np.full(count, series.interval), series.timestamp, steps,
    )  # fmt: skip
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


def head_error_by_family(
    series: Sequence[Series], weights: Mapping[str, Float64]
) -> dict[str, float]:
    """`mean_head_error` of the series of each family."""
    names = sorted({one.family for one in series})
    return {n: mean_head_error([one for one in series if one.family == n], weights) for n in names}
