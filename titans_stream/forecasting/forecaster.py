"""The one-step forecaster over rows of state: numba on CPU, torch on other devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from titans_stream.forecasting import kernels_cpu
from titans_stream.forecasting import layout as L
from titans_stream.records import Float64, Int64


class OneStepForecaster:
    """Forecasts each reading from the past with the slow weights `forecast.*` of a model."""

    def __init__(self, weights: Mapping[str, Float64], device: torch.device) -> None:
        self._weights = [np.ascontiguousarray(weights[name]) for name in L.weight_shapes()]

    def run(
        self, arrays: Mapping[str, Any], rows: Int64, values: Float64, calendar: Float64
    ) -> Float64:
        """Expected, lower and upper of N readings, [N, 3], NaN without history; then learn."""
        out = np.empty((len(rows), 3))
        kernels_cpu.run(
            rows,
            values,
            calendar,
            *(arrays[name] for name in L.state_layout()),
            *self._weights,
            out,
        )
        return out
