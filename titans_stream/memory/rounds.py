"""Batches as rounds of at most one row each, and state as tensors that share memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from titans_stream.records import Float64, Int64

Step = Callable[[dict[str, Tensor], Tensor, Tensor], tuple[tuple[Tensor, ...], dict[str, Tensor]]]
"""State rows [B, ...], values [B] and calendar [B, 10] -> outputs and the next state."""


def rounds(rows: Int64) -> Iterator[Int64]:
    """Positions of the readings of each round: the first of every row, the second, ..."""
    order = np.argsort(rows, kind="stable")
    sorted_rows = rows[order]
    starts = np.flatnonzero(np.r_[True, sorted_rows[1:] != sorted_rows[:-1]])
    lengths = np.diff(np.r_[starts, len(rows)])
    rank = np.arange(len(rows)) - np.repeat(starts, lengths)
    for k in range(int(lengths.max(initial=0))):
        yield np.sort(order[rank == k])


def run_rounds(
    step: Step,
    arrays: Mapping[str, Any],
    names: Sequence[str],
    rows: Int64,
    values: Float64,
    calendar: Float64,
    outputs: Sequence[Float64],
    device: torch.device,
) -> None:
    """Take N readings in order; `outputs` [N, ...] and the rows of `arrays` are written in place.

    arrays [rows, ...] are tensors on `device`, or numpy arrays for the CPU.
    """
    tensors = {
        name: arrays[name] if isinstance(arrays[name], Tensor) else torch.from_numpy(arrays[name])
        for name in names
    }
    with torch.no_grad():
        for take in rounds(rows):
            index = torch.as_tensor(rows[take], device=device)
            out, state = step(
                {name: tensor.index_select(0, index) for name, tensor in tensors.items()},
                torch.as_tensor(values[take], device=device),
                torch.as_tensor(calendar[take], device=device),
            )
            for name, tensor in tensors.items():
                tensor.index_copy_(0, index, state[name])
            for target, computed in zip(outputs, out, strict=True):
                target[take] = computed.cpu().numpy()
