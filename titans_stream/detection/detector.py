"""The detector over rows of state: numba on CPU, torch on other devices.

N readings, in order; the readings of one series are consecutive in time. State arrays are those
of `layout.state_layout()`, [rows, ...], updated in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from titans_stream.detection import batched
from titans_stream.detection import kernels as kernels_cpu
from titans_stream.detection import layout as L
from titans_stream.records import Float64, Int64


class Detector:
    """Scores readings with the slow weights `detect.*` of a model.

    `compiled` False takes the torch path on the CPU too; by default it is for other devices.
    """

    def __init__(
        self, weights: Mapping[str, Float64], device: torch.device, compiled: bool = True
    ) -> None:
        self._weights = {
            name: np.ascontiguousarray(weights[name], np.float64) for name in L.weight_shapes()
        }
        self._block_weights = kernels_cpu.block_weights()
        self._batched = None
        if device.type != "cpu" or not compiled:
            self._batched = batched.BatchedDetector(weights, device)

    def run(
        self, arrays: Mapping[str, Any], rows: Int64, values: Float64, calendar: Float64
    ) -> tuple[Float64, Float64]:
        """S [N] (NaN while warming up) and the channels' scores [N, 9]; then learn.

        rows [N] index the arrays; values [N] finite; calendar [N, 10].
        """
        if self._batched is not None:
            return self._batched.run(arrays, rows, values, calendar)
        statistic = np.empty(len(rows))
        weight = np.empty(len(rows))
        channels = np.empty((len(rows), L.CHANNELS))
        kernels_cpu.run(
            rows,
            values,
            calendar,
            arrays["core"],
            arrays["history"],
            arrays["memory"],
            arrays["cells"],
            arrays["blocks"],
            self._weights["detect.key_a_weight"],
            self._weights["detect.key_a_bias"],
            self._weights["detect.key_t_weight"],
            self._weights["detect.key_t_bias"],
            self._block_weights,
            statistic,
            weight,
            channels,
        )
        return statistic, channels
