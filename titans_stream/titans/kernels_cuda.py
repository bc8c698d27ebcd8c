"""The serving step of an MLP memory (L_M = 2, C = 1) as one Triton kernel.

One program serves one memory (row and head): it loads the state once, lets it read and learn T
tokens and stores it once. The rule, the arguments and the layout are those of `kernels_cpu.py`.
Under TRITON_INTERPRET=1 it runs on CPU tensors, which is how it is tested without a GPU.

Letters: N rows of the table, n of them served, T tokens each, P heads, d head width, H hidden
width; tiles are padded to powers of two.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from titans_stream.titans.kernels_cpu import Rule


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _serve(  # type: ignore[no-untyped-def]
    memories_pointer,
    rows_pointer,
    q_pointer,
    k_pointer,
    v_pointer,
    gates_pointer,
    y_pointer,
    surprise_pointer,
    clip,
    heads,
    tokens,
    WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
    RESIDUAL: tl.constexpr,
    TILE_D: tl.constexpr,
    TILE_H: tl.constexpr,
):
    served = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    row = tl.load(rows_pointer + served)
    d = tl.arange(0, TILE_D)
    j = tl.arange(0, TILE_H)
    real_d = d < WIDTH
    real = real_d[:, None] & (j < HIDDEN)[None, :]
    size = WIDTH * HIDDEN
    place = (row * heads + head) * 4 * size + d[:, None] * HIDDEN + j[None, :]
    place = memories_pointer + place
    w1 = tl.load(place, mask=real, other=0.0)
    w2 = tl.load(place + size, mask=real, other=0.0)
    s1 = tl.load(place + 2 * size, mask=real, other=0.0)
    s2 = tl.load(place + 3 * size, mask=real, other=0.0)
    first = (served * heads + head) * tokens
    for t in range(tokens):
        vector = (first + t) * WIDTH + d
        q = tl.load(q_pointer + vector, mask=real_d, other=0.0)
        k = tl.load(k_pointer + vector, mask=real_d, other=0.0)
        v = tl.load(v_pointer + vector, mask=real_d, other=0.0)
        scalar = (first + t) * 3
        keep = tl.load(gates_pointer + scalar)
        eta = tl.load(gates_pointer + scalar + 1)
        theta = tl.load(gates_pointer + scalar + 2)

        z = tl.sum(k[:, None] * w1, axis=0)
        gate = 1.0 / (1.0 + tl.exp(-z))
        h = z * gate
        error = tl.sum(w2 * h[None, :], axis=1) - v
        if RESIDUAL:
            error += k
        error = 2.0 * error
        back = tl.sum(error[:, None] * w2, axis=0) * gate * (1.0 + z * (1.0 - gate))
        squared_error = tl.sum(error * error, axis=0)
        squared = squared_error * tl.sum(h * h, axis=0)
        squared += tl.sum(back * back, axis=0) * tl.sum(k * k, axis=0)
        bounded = clip / tl.sqrt(tl.maximum(squared, 1e-30))
        step = -theta * tl.where(squared > clip * clip, bounded, 1.0)

        s1 = eta * s1 + (step * k)[:, None] * back[None, :]
        s2 = eta * s2 + (step * error)[:, None] * h[None, :]
        w1 = keep * w1 + s1
        w2 = keep * w2 + s2
        s1 = tl.where(tl.abs(s1) <= 1e-30, 0.0, s1)
        s2 = tl.where(tl.abs(s2) <= 1e-30, 0.0, s2)
        w1 = tl.where(tl.abs(w1) <= 1e-30, 0.0, w1)
        w2 = tl.where(tl.abs(w2) <= 1e-30, 0.0, w2)

        zq = tl.sum(q[:, None] * w1, axis=0)
        hq = zq / (1.0 + tl.exp(-zq))
        y = tl.sum(w2 * hq[None, :], axis=1)
        if RESIDUAL:
            y += q
        tl.store(y_pointer + vector, y, mask=real_d)
        tl.store(surprise_pointer + scalar, squared)
        tl.store(surprise_pointer + scalar + 1, 0.25 * squared_error)
        past = tl.sum(tl.sum(s1 * s1 + s2 * s2, axis=1), axis=0)
        tl.store(surprise_pointer + scalar + 2, past)
    tl.store(place, w1, mask=real)
    tl.store(place + size, w2, mask=real)
    tl.store(place + 2 * size, s1, mask=real)
    tl.store(place + 3 * size, s2, mask=real)


def serve_steps(memories: Tensor, rows: Tensor, tokens: Any, rule: Rule, out: Any) -> None:
    """`kernels_cpu.serve_steps` on tensors of one CUDA device, all contiguous float32."""
    _, heads, _, width, hidden = memories.shape
    tile_d, tile_h = triton.next_power_of_2(width), triton.next_power_of_2(hidden)
    _serve[(len(rows), heads)](
        memories,
        rows,
        *tokens,
        *out,
        min(rule.clip, torch.finfo(torch.float32).max ** 0.5),
        heads,
        tokens[1].shape[2],
        width,
        hidden,
        rule.residual,
        tile_d,
        tile_h,
        num_warps=4 if tile_d * tile_h <= 4096 else 8,
    )
