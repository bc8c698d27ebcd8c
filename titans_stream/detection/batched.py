"""The detector batched over series in torch: the reference, and the path of other devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from titans_stream.detection import layout as L
from titans_stream.detection.calibrate import calibrate
from titans_stream.detection.heads import dense_heads, sparse_heads
from titans_stream.detection.normalize import normalize
from titans_stream.memory.rounds import run_rounds
from titans_stream.records import Float64, Int64


class BatchedDetector:
    """Scores readings on one device with the slow weights `detect.*` of a model."""

    def __init__(self, weights: Mapping[str, Float64], device: torch.device) -> None:
        self._device = device
        self._weights = {
            name: torch.as_tensor(np.array(weights[name]), device=device)
            for name in L.weight_shapes()
        }

    def step(
        self, state: dict[str, Tensor], values: Tensor, calendar: Tensor
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """One reading of each of B series: (S [B], channel scores [B, 9]) and the next state.

        state [B, ...]; values [B] float64; calendar [B, 10] float64.
        """
        core = state["core"].clone()
        y = normalize(core, values)
        history = torch.cat([y[:, None], state["history"][:, :-1]], dim=1)
        dense, memory = dense_heads(
            core, state["history"], history, state["memory"], y, calendar, self._weights
        )
        sparse, cells = sparse_heads(core, history, state["cells"], y, calendar[:, L.TIME_FEATURES])
        statistic, channels, blocks = calibrate(
            core,
            state["blocks"],
            torch.cat([dense, sparse], dim=1),
            (calendar[:, :2] != 0.0).any(dim=1),
        )
        state = {
            "core": core,
            "history": history,
            "memory": memory,
            "cells": cells,
            "blocks": blocks,
        }
        return (statistic, channels), state

    def run(
        self, arrays: Mapping[str, Any], rows: Int64, values: Float64, calendar: Float64
    ) -> tuple[Float64, Float64]:
        """S [N] and the channels' scores [N, 9]; the rows of `arrays` are updated in place."""
        out = np.empty(len(rows)), np.empty((len(rows), L.CHANNELS))
        names = list(L.state_layout())
        run_rounds(self.step, arrays, names, rows, values, calendar, out, self._device)
        return out
