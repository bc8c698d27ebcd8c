"""How good forecasts are, against repeating the last value: of one step the absolute error and the
coverage of the band, of many steps the squared error.

T is the number of readings of a series.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from titans_stream.durations import DAY
from titans_stream.forecasting.multi import forecaster as multi_step
from titans_stream.forecasting.one_step.forecaster import OneStepForecaster
from titans_stream.forecasting.one_step.layout import state_layout
from titans_stream.lifecycle.head_fitting import regular_values, run_forecaster
from titans_stream.lifecycle.series import Series
from titans_stream.records import Float64, Int64

STEPS = 96
"""Readings ahead."""
EVERY = 25
"""Readings between two forecasts; it shares no factor with 24."""
MEASURED_SHARE = 0.2
"""The last part of each series, on which forecasts are measured; as `data.validation_share`."""
SEASONS = {"day before": DAY, "week before": 7 * DAY}
"""What seasonal naive forecasts repeat, in nanoseconds."""
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


@dataclass(frozen=True, slots=True)
class ManySteps:
    """Forecasts of `STEPS` steps from O origins of one series, and what came."""

    origins: Int64
    """[O] their places among the readings."""
    true: Float64
    """[O, STEPS]; NaN where no reading came."""
    median: Float64
    """[O, STEPS]"""
    repeated: Float64
    """[O, 1] the last value."""
    before: dict[str, Float64]
    """[O, STEPS] the same time of the last day or week that the origin knows whole, by name, where
    the series is long enough; NaN where no reading came."""


def many_steps(
    series: Series,
    weights: Mapping[str, Float64],
    measured_share: float = MEASURED_SHARE,
    options: multi_step.ForecastOptions | None = None,
) -> ManySteps | None:
    """Forecasts from every 25th reading of the last part of a series; None where it is too short.

    The forecaster begins with an empty memory and reads the whole series.
    """
    value, count = series.value, len(series.value)
    regular, place = regular_values(series)
    origins = np.arange(round(count * (1.0 - measured_share)), count, EVERY)
    origins = origins[place[origins] + STEPS < len(regular)]
    if not len(origins):
        return None
    _, made = run_forecaster(series, weights, origins, STEPS, options)
    ahead = np.arange(1, STEPS + 1)
    true = regular[place[origins, None] + ahead]
    before = {}
    for name, length in SEASONS.items():
        season = round(length / series.interval) if 0.0 < series.interval <= length else 0
        if season and place[origins[0]] + 1 >= season:
            back = season * -(-ahead // season)
            before[name] = regular[place[origins, None] + ahead - back]
    return ManySteps(origins, true, made.median.reshape(true.shape), value[origins, None], before)


def head_error(
    series: Series,
    weights: Mapping[str, Float64],
    options: multi_step.ForecastOptions | None = None,
) -> float:
    """Mean squared error over that of repeating the last value, in the last part of a series.

    NaN for a series that is too short or at rest.
    """
    found = many_steps(series, weights, options=options)
    if found is None:
        return np.nan
    known = np.isfinite(found.true)
    repeated = np.square(found.true - found.repeated)[known].mean()
    if not repeated > LEAST_CHANGE:
        return np.nan
    return float(np.square(found.true - found.median)[known].mean() / repeated)


def naive_ratio(series: Series, weights: Mapping[str, Float64]) -> float:
    """Mean absolute error of many steps over that of the best naive forecast, in the last part.

    Naive are the last value, and the same time of the day and of the week before. Counted are the
    steps for which all of them are known. NaN for a series that is too short or at rest.
    """
    found = many_steps(series, weights)
    if found is None:
        return np.nan
    naive = [np.broadcast_to(found.repeated, found.true.shape), *found.before.values()]
    known = np.isfinite(found.true) & np.isfinite(naive).all(axis=0)
    if not known.any():
        return np.nan
    best = min(np.abs(found.true - one)[known].mean() for one in naive)
    if not np.square(best) > LEAST_CHANGE:
        return np.nan
    return float(np.abs(found.true - found.median)[known].mean() / best)


def mean_head_error(
    series: Sequence[Series],
    weights: Mapping[str, Float64],
    options: multi_step.ForecastOptions | None = None,
) -> float:
    """Mean of `head_error` over the series that it can be told of; NaN where there are none."""
    errors = np.array([head_error(one, weights, options) for one in series])
    return float(np.nanmean(errors)) if np.isfinite(errors).any() else np.nan
