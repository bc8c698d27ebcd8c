"""The detector batched over series in torch: the reference, and the path of other devices.

A round holds at most one reading per series, so that every row is touched once; `rounds` cuts a
batch into rounds. State arrays are tensors [rows, ...]; a round gathers its rows, computes, and
scatters them back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from titans_stream.detection import layout as L
from titans_stream.detection.calibrate import calibrate
from titans_stream.detection.heads import dense_heads, sparse_heads
from titans_stream.detection.normalize import normalize
from titans_stream.records import Float64, Int64


def rounds(rows: Int64) -> Iterator[Int64]:
    """Positions of the readings of each round: the first of every series, the second, ..."""
    order = np.argsort(rows, kind="stable")
    sorted_rows = rows[order]
    starts = np.flatnonzero(np.r_[True, sorted_rows[1:] != sorted_rows[:-1]])
    lengths = np.diff(np.r_[starts, len(rows)])
    rank = np.arange(len(rows)) - np.repeat(starts, lengths)
    for k in range(int(lengths.max(initial=0))):
        yield np.sort(order[rank == k])


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
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """One reading of each of B series: S [B], channel scores [B, 9] and the next state.

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
            core, state["blocks"], torch.cat([dense, sparse], dim=1)
        )
        return (
            statistic,
            channels,
            {"core": core, "history": history, "memory": memory, "cells": cells, "blocks": blocks},
        )

    def run(
        self, arrays: Mapping[str, Tensor], rows: Int64, values: Float64, calendar: Float64
    ) -> tuple[Float64, Float64]:
        """S [N] and the channels' scores [N, 9]; the rows of `arrays` are updated in place."""
        statistic = np.empty(len(rows))
        channels = np.empty((len(rows), L.CHANNELS))
        names = list(L.state_layout())
        for take in rounds(rows):
            index = torch.as_tensor(rows[take], device=self._device)
            state = {name: arrays[name].index_select(0, index) for name in names}
            s, c, state = self.step(
                state,
                torch.as_tensor(values[take], device=self._device),
                torch.as_tensor(calendar[take], device=self._device),
            )
            for name in names:
                arrays[name].index_copy_(0, index, state[name])
            statistic[take] = s.cpu().numpy()
            channels[take] = c.cpu().numpy()
        return statistic, channels
