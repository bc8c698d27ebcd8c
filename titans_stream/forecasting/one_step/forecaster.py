"""The one-step forecaster over the state of many series."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from titans_stream.forecasting.one_step import kernels
from titans_stream.forecasting.one_step.layout import state_layout, weight_shapes
from titans_stream.records import Float64, Int64

_NAMES = tuple(state_layout())


class OneStepForecaster:
    """Forecasts each reading from the past with the slow weights `forecast.*` of a model."""

    def __init__(self, weights: Mapping[str, Float64]) -> None:
        self.weights = kernels.Weights(
            *(np.ascontiguousarray(weights[name], np.float64) for name in weight_shapes())
        )

    def run(
        self, arrays: Mapping[str, Any], slots: Int64, values: Float64, calendar: Float64
    ) -> Float64:
        """Expected, lower and upper of N readings, [N, 3], NaN without history; then learn.

        `arrays` are those of `layout.state_layout`; slots [N] names each reading's slot in them.
        """
        out: Float64 = np.empty((len(slots), 3))
        states = kernels.State(*(arrays[name] for name in _NAMES))
        kernels.run(slots, values, calendar, states, self.weights, out)
        return out
