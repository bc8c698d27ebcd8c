"""How good one-step forecasts are: error against repeating the last value, coverage of the band.

T is the number of readings of a series.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from titans_stream.forecasting.one_step import kernels as kernels_cpu
from titans_stream.forecasting.one_step import layout as L
from titans_stream.lifecycle.data import Series
from titans_stream.records import Float64


@dataclass(frozen=True, slots=True)
class Accuracy:
    """One-step forecasts of some series, from the first one that has a band on."""

    mae_ratio: float
    """Mean absolute error over that of repeating the last value, mean over the series."""
    coverage: float
    """Share of the readings inside the 95 % band, mean over the series."""


def forecast(series: Series, weights: Mapping[str, Float64]) -> Float64:
    """[T, 3] expected, lower and upper of every reading, by the kernel that serves."""
    count = len(series.value)
    state = {name: np.zeros((1, *spec.shape)) for name, spec in L.state_layout().items()}
    out = np.empty((count, 3))
    kernels_cpu.run(
        np.zeros(count, dtype=np.int64),
        series.value,
        series.calendar,
        state["one_step"],
        state["one_step_memory"],
        state["one_step_errors"],
        weights["forecast.key_weight"],
        weights["forecast.key_bias"],
        weights["forecast.gate_weight"],
        weights["forecast.gate_bias"],
        out,
    )
    return out


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


def by_family(series: Sequence[Series], weights: Mapping[str, Float64]) -> dict[str, Accuracy]:
    """The accuracy on the series of each family."""
    names = sorted({one.family for one in series})
    return {n: accuracy([one for one in series if one.family == n], weights) for n in names}
