"""Serving: many rows of a state table read and learn a few tokens each, in place, no autograd.

One function, three backends with the same outcome to 1e-5: plain torch in blocks of rows, which
fits every configuration and is the reference; a numba kernel on CPU and a Triton kernel on CUDA
for L_M = 2, C = 1 with momentum in float32 (on CPU d a multiple of 4 and H of 16).

Letters: N rows of the table, n of them served, T tokens each, D width, P heads, d head width, H
hidden width, O and I a layer's output and input width.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from titans_stream.titans import chunk as closed_form
from titans_stream.titans import kernels_cpu, tokens_cpu
from titans_stream.titans.chunk import Layers, Rule
from titans_stream.titans.config import MemoryConfig
from titans_stream.titans.memory import NeuralMemory, finite
from titans_stream.titans.recurrence import MemoryState, Surprise, Tokens, recur
from titans_stream.titans.vectors import LANES

try:
    from titans_stream.titans import kernels_cuda
except ModuleNotFoundError:  # CPU builds of torch come without Triton
    kernels_cuda = None  # type: ignore[assignment]

Backend = Literal["auto", "torch", "numba", "triton"]

_BLOCKS = {"torch": 256, "numba": 1024}  # rows at a time: what they need stays in the cache


def serving_state(state: MemoryState, backend: Backend = "auto") -> MemoryState:
    """A copy of `state` in the backend's layout: values and shapes as before.

    For the kernels, what one memory of depth 2 with momentum holds lies together in one block
    [4, d, H]: W_1 transposed, W_2, and their momenta likewise. All inner loops then run along H,
    and no two of the four matrices compete for the same places of the cache. Plain torch, which
    takes a layer of many rows at a time, is faster with every layer in a table of its own.
    """
    state = state.detach()
    if len(state.weights) != 2 or not state.momentum or backend == "torch":
        return state.map(lambda t: t.clone(memory_format=torch.contiguous_format))
    rest = replace(state, weights=(), momentum=()).clone()
    parts = (*_by_hidden(state.weights), *_by_hidden(state.momentum))
    w1, w2, s1, s2 = torch.stack(parts, 2).unbind(2)
    return replace(rest, weights=(w1.mT, w2), momentum=(s1.mT, s2))


@torch.no_grad()
def serve(
    memory: NeuralMemory, x: Tensor, state: MemoryState, rows: Tensor, backend: Backend = "auto"
) -> tuple[Tensor, Surprise]:
    """Let the rows `rows` (int64 [n], distinct) of `state` read and learn x [n, T, D].

    Returns y [n, T, D] and the surprise [n, T]; `state` is changed in place. The outcome is that
    of `memory(x, state.gather(rows))`. ValueError for a backend that does not fit.
    """
    chosen = _backend(memory, state, backend)
    if not len(rows):
        none = x.new_zeros(x.shape[:2], dtype=memory.dtype)
        return x, Surprise(none, none, none)
    if chosen == "numba" and bool((rows.diff() < 0).any()):  # in the order of the table: faster
        rows, order = rows.sort()
        y, surprise = serve(memory, x[order], state, rows, backend)
        back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
        return y[back], Surprise(*(part[back] for part in surprise))
    x, counts = finite(x)
    size = _BLOCKS.get(chosen, max(1, len(rows)))
    advance = {"torch": _torch_block, "numba": _numba_block, "triton": _triton_block}[chosen]
    results = [
        advance(memory, part, state, here)
        for *part, here in zip(
            torch.split(x, size), torch.split(counts, size), torch.split(rows, size), strict=True
        )
    ]
    y, momentary, loss, past = (torch.cat(column) for column in zip(*results, strict=True))
    surprise = Surprise(momentary * counts, loss * counts, past)
    return y.transpose(1, 2).flatten(2).to(x.dtype), surprise


def _backend(memory: NeuralMemory, state: MemoryState, asked: Backend) -> str:
    device = state.weights[0].device.type
    native = {"cpu": "numba", "cuda": "torch" if kernels_cuda is None else "triton"}
    chosen = native.get(device, "torch") if asked == "auto" else asked
    problem = _misfit(memory, state, chosen)
    if asked == "auto":
        return "torch" if problem else chosen
    if asked != "torch" and problem:
        raise ValueError(f"backend: {asked} needs {problem}")
    if asked == "triton" and kernels_cuda is None:
        raise ValueError("backend: triton is not installed")
    return asked


def _misfit(memory: NeuralMemory, state: MemoryState, kernel: str) -> str | None:
    """What the kernel lacks, if anything."""
    config = memory.config
    if config.depth != 2 or config.chunk != 1 or not config.momentum:
        return "a memory of depth 2 with chunk 1 and momentum"
    if config.huber is not None:
        return "squared errors"
    hidden, width = config.layer_shapes[0]
    if kernel == "numba" and (width % kernels_cpu.TOGETHER or hidden % LANES):
        return f"multiples of {kernels_cpu.TOGETHER} as head width and of {LANES} as hidden width"
    tensors = (*state.weights, *state.momentum, state.tail)
    if memory.dtype != torch.float32 or any(t.dtype != torch.float32 for t in tensors):
        return "a memory and a state in float32"
    return None if _is_kernel_table(state) else "a state made by serving_state"


def _numba_block(
    memory: NeuralMemory, given: list[Tensor], state: MemoryState, rows: Tensor
) -> tuple[Tensor, ...]:
    """y and the surprise's parts by the CPU kernels."""
    x, counts = given
    config, n, count = memory.config, *x.shape[:2]
    shape = (n, config.heads, count, config.head_width)
    q, k, v, y = np.empty((4, *shape), np.float32)
    gates, found = np.empty((2, *shape[:3], 3), np.float32)
    tokens = tokens_cpu.Served(q, k, v, gates)
    taps = memory.filter.mT.float().contiguous() if memory.filter is not None else x.new_empty(0, 0)
    tokens_cpu.prepare_tokens(
        memory.qkv(x).float().numpy(),
        memory.gates(x).float().numpy(),
        taps.numpy(),
        state.tail.numpy(),
        rows.numpy(),
        tokens_cpu.Gating(
            config.theta_max, config.alpha_floor, config.theta_floor, config.forgetting
        ),
        tokens,
    )
    closed = ~counts.numpy()
    if closed.any():
        gates.transpose(0, 2, 1, 3)[closed] = (1.0, 0.0, 0.0)
    out = kernels_cpu.Found(y, found)
    kernels_cpu.serve_steps(kernel_table(state).numpy(), rows.numpy(), tokens, _rule(config), out)
    return torch.from_numpy(y), *_surprise(torch.from_numpy(found))


def _triton_block(
    memory: NeuralMemory, given: list[Tensor], state: MemoryState, rows: Tensor
) -> tuple[Tensor, ...]:
    """y and the surprise's parts by the CUDA kernel, or by Triton's interpreter."""
    config, tokens = memory.config, _tokens(memory, given, state, rows)
    gates = _opened(tokens.gates)
    served = (*(t.contiguous() for t in tokens[:3]), gates)
    out = torch.empty_like(served[0]), torch.empty_like(gates)
    kernels_cuda.serve_steps(kernel_table(state), rows, served, _rule(config), out)
    return out[0], *_surprise(out[1])


def _rule(config: MemoryConfig) -> kernels_cpu.Rule:
    return kernels_cpu.Rule(float("inf") if config.clip is None else config.clip, config.residual)


def _torch_block(
    memory: NeuralMemory, given: list[Tensor], state: MemoryState, rows: Tensor
) -> tuple[Tensor, ...]:
    """y and the surprise's parts in plain torch, on a copy of the rows."""
    tokens = _tokens(memory, given, state, rows)
    part = state.gather(rows).to(dtype=memory.dtype)
    if memory.config.chunk == 1:
        y, *seen = _exact(memory.config, part, tokens)
        state.scatter_(rows, replace(part, tail=state.tail.index_select(0, rows)))
        return y, *seen
    y, after, surprise = recur(memory.config, part, tokens, surprise=True)
    state.scatter_(rows, replace(after, tail=state.tail.index_select(0, rows)))
    return y, *(surprise or ())


def _tokens(memory: NeuralMemory, given: list[Tensor], state: MemoryState, rows: Tensor) -> Tokens:
    """q, k, v and gates of x; the rows' tails are updated."""
    x, counts = given
    projected, tail = memory.qkv(x).to(memory.dtype), state.tail.index_select(0, rows)
    tokens, tail = memory.tokens(x.to(memory.dtype), projected, tail.to(memory.dtype), counts)
    state.tail.index_copy_(0, rows, tail.to(state.tail.dtype))
    return tokens


def _opened(gates: Tensor) -> Tensor:
    """(1 - alpha, eta, theta) [..., 3]; (1, 0, 0) for tokens that do not count."""
    log_keep, log_eta, theta, counts = gates.unbind(-1)
    return torch.stack([(log_keep * counts).exp(), log_eta.exp() * counts, theta * counts], -1)


def _by_hidden(layers: Layers) -> tuple[Tensor, Tensor]:
    """The two layers' matrices as [N, P, d, H]."""
    return layers[0].mT, layers[1]


def _is_kernel_table(state: MemoryState) -> bool:
    """Whether the state's matrices lie as `serving_state` puts them."""
    parts = (*_by_hidden(state.weights), *_by_hidden(state.momentum))
    heads, width, hidden = parts[0].shape[1:]
    size, start = width * hidden, parts[0].data_ptr()
    strides = (4 * heads * size, 4 * size, hidden, 1)
    return all(
        part.stride() == strides and part.data_ptr() == start + i * size * part.element_size()
        for i, part in enumerate(parts)
    )


def kernel_table(state: MemoryState) -> Tensor:
    """Weights and momentum [N, P, 4, d, H] in the state's memory."""
    first = state.weights[0].mT
    rows, heads, width, hidden = first.shape
    size = width * hidden
    strides = (4 * heads * size, 4 * size, size, hidden, 1)
    return first.as_strided((rows, heads, 4, width, hidden), strides)


def _surprise(found: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    squared, loss, past = found.sum(1).unbind(-1)
    return squared.sqrt(), loss, past.sqrt()


def _exact(config: MemoryConfig, state: MemoryState, tokens: Tokens) -> tuple[Tensor, ...]:
    """y and the surprise's parts for C = 1: eq. 10 and 13 in place, several times as fast as
    the general recurrence."""
    grid = tokens.q.shape[:2]
    q, k, v, gates = (t.flatten(0, 1) for t in tokens)
    keep, eta, theta = _opened(gates).unbind(-1)
    rule = Rule.of(config)
    M, S = ([t.flatten(0, 1) for t in layers] for layers in (state.weights, state.momentum))
    ys, seen = [], []
    for t in range(q.shape[1]):
        now = slice(t, t + 1)
        weights = tuple(w.mT for w in M)
        found, off = closed_form.surprise_gradients(weights, k[:, now], v[:, now], rule)
        squared = found.squared_norm()
        step = closed_form.bounded_steps(rule, theta[:, now], found, squared)
        past = torch.zeros_like(squared)
        for layer, (h, g) in enumerate(zip(*found, strict=True)):
            write, column = (step.unsqueeze(-1) * g).mT, keep[:, now, None]
            if S:
                S[layer].mul_(eta[:, now, None]).addcmul_(write, h)
                torch.addcmul(S[layer], M[layer], column, out=M[layer])
                past += torch.linalg.vector_norm(S[layer], dim=(-2, -1)).square().unsqueeze(-1)
            else:
                M[layer].mul_(column).addcmul_(write, h)
                past += write.square().sum((-2, -1)).unsqueeze(-1) * h.square().sum(-1)
        ys.append(closed_form.retrieve(tuple(M), q[:, now], config.residual))
        seen.append((squared, rule.loss(off), past))
    squared, loss, past = (
        torch.cat(column, 1).view(*grid, -1).sum(1) for column in zip(*seen, strict=True)
    )
    return torch.cat(ys, 1).view(*grid, *q.shape[1:]), squared.sqrt(), loss, past.sqrt()
