"""Runs of whole chunks on a CPU in float32, as one autograd function on top of numba kernels.

The same computation as `chunk_gradient.py`, chunk after chunk; that one takes every other device
and number format, and sizes that are no multiples of 16.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from titans_stream.titans.chunk import Layers
from titans_stream.titans.chunks_back_cpu import chunks_gradient
from titans_stream.titans.chunks_cpu import layout, read_and_fold_chunks
from titans_stream.titans.vectors import LANES


def fits(q: Tensor, widths: list[int], chunk: int) -> bool:
    """Whether the kernels can take memories of these widths of layers and this chunk length."""
    in_vectors = all(size % LANES == 0 for size in (*widths, chunk))
    return q.device.type == "cpu" and q.dtype == torch.float32 and in_vectors


def read_and_fold_run(
    stacks: Layers,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gates: Tensor,
    widths: list[int],
    clip: float | None,
    residual: bool,
) -> tuple[Tensor, Layers]:
    """y [N, T, D] of whole chunks and the stacks [N, J I, O] after them.

    q, k, v [N, T, D]; gates (1 - alpha, eta, theta) [N, chunks, C, 3], whose eta is not read
    where the stacks hold no momentum.
    """
    flat = torch.cat([stack.flatten(1) for stack in stacks], 1)
    momentum = stacks[0].shape[1] > widths[0]
    bound = float("inf") if clip is None else clip
    y, flat = _Run.apply(q, k, v, gates, flat, (widths, momentum, residual, bound))
    parts = flat.split([stack[0].numel() for stack in stacks], 1)
    return y, tuple(part.view_as(stack) for part, stack in zip(parts, stacks, strict=True))


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        gates: Tensor,
        stack: Tensor,
        settings: tuple[list[int], bool, bool, float],
    ) -> tuple[Tensor, Tensor]:
        widths, momentum, residual, clip = settings
        q, k, v, gates = (x.contiguous() for x in (q, k, v, gates))
        places, length = layout(widths, gates.shape[2], momentum)
        slots = gates.shape[1] + 1 if any(ctx.needs_input_grad) else 2
        tape, y = q.new_empty(len(q), slots, length), torch.empty_like(q)
        size = stack.shape[1]
        tape[:, 0, :size] = stack
        sizes = np.array(widths, np.int64)
        ctx.places = sizes, places
        tokens, (taped, out) = _arrays(q, k, v, gates), _arrays(tape, y)
        _in_threads(
            lambda rows: read_and_fold_chunks(
                tokens[0][rows],
                tokens[1][rows],
                tokens[2][rows],
                tokens[3][rows],
                sizes,
                places,
                taped[rows],
                momentum,
                residual,
                clip,
                out[rows],
            ),
            len(q),
        )
        ctx.settings = settings
        ctx.save_for_backward(gates, tape)
        return y, tape[:, -1, :size].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, dstack: Tensor) -> tuple[Tensor | None, ...]:
        gates, tape = ctx.saved_tensors
        sizes, places = ctx.places
        _, momentum, residual, clip = ctx.settings
        dy, dstack = dy.contiguous(), dstack.clone(memory_format=torch.contiguous_format)
        dq, dk, dv = (torch.empty_like(dy) for _ in range(3))
        dgates = torch.empty_like(gates)
        given, found = _arrays(dy, gates, tape), _arrays(dstack, dq, dk, dv, dgates)
        _in_threads(
            lambda rows: chunks_gradient(
                given[0][rows],
                given[1][rows],
                sizes,
                places,
                given[2][rows],
                momentum,
                residual,
                clip,
                found[0][rows],
                found[1][rows],
                found[2][rows],
                found[3][rows],
                found[4][rows],
            ),
            len(dy),
        )
        return dq, dk, dv, dgates, dstack, None


def _arrays(*tensors: Tensor) -> list[npt.NDArray[np.float32]]:
    """The tensors' memory; made here, as other threads would record gradients of slices."""
    return [tensor.detach().numpy() for tensor in tensors]


def _in_threads(run: Callable[[slice], None], rows: int) -> None:
    """`run` for all rows, shared out among as many threads as torch uses."""
    threads = min(torch.get_num_threads(), rows)
    if threads < 2:
        run(slice(0, rows))
        return
    ends = [rows * part // threads for part in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(run, map(slice, ends[:-1], ends[1:])):
            pass
