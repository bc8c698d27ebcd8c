"""From projections to what a serving step reads, compiled by numba: q, k, v and the gates.

Letters as in `kernels_cpu.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from titans_stream.jit import ASSOCIATIVE, njit
from titans_stream.records import Float32, Int64
from titans_stream.titans.vectors import LANES, load, multiply, sigmoid, store


class Gating(NamedTuple):
    """How gates are made of logits, as in `MemoryConfig`."""

    theta_max: float
    alpha_floor: float
    theta_floor: float
    forgetting: bool


class Served(NamedTuple):
    """What n rows read, T tokens each: q, k, v [n, P, T, d] and the gates."""

    q: Float32
    k: Float32
    v: Float32
    gates: Float32
    """(1 - alpha, eta, theta) [n, P, T, 3]."""


@njit(nogil=True, error_model="numpy", fastmath=ASSOCIATIVE)
def prepare_tokens(
    projected: Float32,
    logits: Float32,
    taps: Float32,
    tail: Float32,
    rows: Int64,
    gating: Gating,
    out: Served,
) -> None:
    """What a memory makes of projections: convolution, SiLU, unit keys and queries, gates.

    projected [n, T, 3 D], logits [n, T, 3 P], taps [K, 3 D] (K = 0: no convolution), tail
    [N, K - 1, 3 D] (rows are updated in place); `out` is written.
    """
    q, k, v, gates = out
    theta_max, alpha_floor, theta_floor, forgetting = gating
    heads, count, width = q.shape[1], q.shape[2], q.shape[3]
    channels, past = projected.shape[2], tail.shape[1]
    keep_scale = np.float32(1 / (1 - alpha_floor))
    theta_scale, floor = np.float32(theta_max / (1 - theta_floor)), np.float32(theta_floor)
    history = np.empty((past + count, channels), np.float32)
    mixed, switch = (
        np.zeros(_padded(channels), np.float32),
        np.zeros(_padded(3 * heads), np.float32),
    )
    for i in range(rows.shape[0]):
        row = rows[i]
        history[:past] = tail[row]
        history[past:] = projected[i]
        tail[row] = history[count:]
        for t in range(count):
            if taps.shape[0]:
                mixed[:channels] = np.float32(0)
                for j in range(taps.shape[0]):
                    for c in range(channels):
                        mixed[c] += taps[j, c] * history[t + j, c]
            else:
                mixed[:channels] = projected[i, t]
            for c in range(0, channels, LANES):
                before = load(mixed, c)
                store(mixed, c, multiply(before, sigmoid(before)))
            for head in range(heads):
                first = head * width
                _unit(mixed[first : first + width], q[i, head, t])
                first += heads * width
                _unit(mixed[first : first + width], k[i, head, t])
                first += heads * width
                v[i, head, t] = mixed[first : first + width]
            switch[: 3 * heads] = logits[i, t]
            switch[:heads] *= np.float32(-1)
            for c in range(0, 3 * heads, LANES):
                store(switch, c, sigmoid(load(switch, c)))
            for head in range(heads):
                kept = min(keep_scale * switch[head], np.float32(1))
                opened = max(switch[2 * heads + head] - floor, np.float32(0))
                gates[i, head, t, 0] = kept if forgetting else np.float32(1)
                gates[i, head, t, 1] = switch[heads + head]
                gates[i, head, t, 2] = theta_scale * opened


@njit(nogil=True)
def _padded(count: int) -> int:
    """The next multiple of a vector's length."""
    return (count + LANES - 1) // LANES * LANES


@njit(nogil=True, error_model="numpy", fastmath=ASSOCIATIVE)
def _unit(x: Float32, out: Float32) -> None:
    """`x` L2-normalised, as `NeuralMemory` does it."""
    total_square = np.float32(1e-6)
    for i in range(x.shape[0]):
        total_square += x[i] * x[i]
    scale = np.float32(1) / np.float32(np.sqrt(total_square))
    for i in range(x.shape[0]):
        out[i] = x[i] * scale
