"""The one-step forecaster over rows of state: numba on CPU, torch on other devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from titans_stream.forecasting.one_step import kernels as kernels_cpu
from titans_stream.forecasting.one_step import layout as L
from titans_stream.forecasting.one_step.reference import forecast_step
from titans_stream.memory.rounds import run_rounds
from titans_stream.records import Float64, Int64


class OneStepForecaster:
    """Forecasts each reading from the past with the slow weights `forecast.*` of a model.

    `compiled` False takes the torch path on the CPU too; by default it is for other devices.
    """

    def __init__(
        self,
        weights: Mapping[str, Float64],
        device: torch.device = torch.device("cpu"),
        compiled: bool = True,
    ) -> None:
        self._device = device
        self._weights = {
            name: np.ascontiguousarray(weights[name], np.float64) for name in L.weight_shapes()
        }
        self._tensors: dict[str, Tensor] | None = None
        if device.type != "cpu" or not compiled:
            self._tensors = {
                name: torch.as_tensor(array.copy(), device=device)
                for name, array in self._weights.items()
            }

    def run(
        self, arrays: Mapping[str, Any], rows: Int64, values: Float64, calendar: Float64
    ) -> Float64:
        """Expected, lower and upper of N readings, [N, 3], NaN without history; then learn."""
        out: Float64 = np.empty((len(rows), 3))
        names = list(L.state_layout())
        if self._tensors is not None:
            run_rounds(self._step, arrays, names, rows, values, calendar, [out], self._device)
            return out
        kernels_cpu.run(
            rows,
            values,
            calendar,
            arrays["one_step"],
            arrays["one_step_memory"],
            arrays["one_step_errors"],
            self._weights["forecast.key_weight"],
            self._weights["forecast.key_bias"],
            self._weights["forecast.gate_weight"],
            self._weights["forecast.gate_bias"],
            out,
        )
        return out

    def _step(
        self, state: dict[str, Tensor], values: Tensor, calendar: Tensor
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        assert self._tensors is not None
        out, new = forecast_step(state, values, calendar, self._tensors)
        return (out,), new
