"""One token of a MAL block for one series, compiled by numba; the reference: `titans.variants.MAL`.

The memory is a matrix (L_M = 1, one head, C = 1, with momentum and forgetting); its output passes
sliding-window attention. State is float32 and of constant size; sums are float64.

Letters: D width, N persistent tokens, K taps of the convolution, W window.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from titans_stream.jit import ASSOCIATIVE, njit, scratch
from titans_stream.records import Float32, Float64

WIDTH = 8
"""D"""
TAPS = 4
WINDOW = 8
PERSISTENT = 4
ATTENTION_HEADS = 2
THETA_MAX = 0.5
CLIP = 8.0
EPSILON = 1e-6
TINY = 1e-30
"""Weights below this are flushed to zero: denormal arithmetic is some twenty times slower."""


class BlockWeights(NamedTuple):
    """Slow weights of the block, float64; matrices [outputs, inputs]."""

    norm: Float64
    """[D]"""
    qkv: Float64
    """[3 D, D]"""
    gates: Float64
    """[3, D + 1]: forgetting, momentum and step; the last column is the bias."""
    filter: Float64
    """[3 D, K]"""
    out_norm: Float64
    out_gate: Float64
    out_project: Float64
    attention_norm: Float64
    attention_qkv: Float64
    attended_norm: Float64
    attended_gate: Float64
    attended_project: Float64
    prefix_keys: Float64
    """[N, D]"""
    prefix_values: Float64
    turns: Float64
    """[W, 2, D / heads / 2]: cosine and sine of the rotation by 0 .. W - 1 tokens."""


class BlockState(NamedTuple):
    """One series' state."""

    memory: Float32
    """[2, D, D]: M and the past surprise S."""
    tail: Float32
    """[K - 1, 3 D]: the last projections, oldest first."""
    window: Float32
    """[2, W - 1, D]: keys and values of the last tokens; token i lies at i modulo W - 1."""


def turns() -> Float64:
    """The rotations of `titans.attention.rotate`, for keys of age 0 .. W - 1."""
    half = WIDTH // ATTENTION_HEADS // 2
    angle = np.arange(WINDOW)[:, None] * 10_000.0 ** -(np.arange(half) / half)
    return np.stack((np.cos(angle), np.sin(angle)), 1)


_normed, _branch, _after = (scratch(WIDTH) for _ in range(3))
_opened, _opening, _error = (scratch(WIDTH) for _ in range(3))
_projected, _mixed = scratch(3 * WIDTH), scratch(3 * WIDTH)
_gate = scratch(3)
_score = scratch(PERSISTENT + WINDOW)
_query = scratch(WIDTH // ATTENTION_HEADS)


@njit()
def advance(w: BlockWeights, state: BlockState, count: int, x: Float64, y: Float64) -> None:
    """Read and learn token number `count` (from 0), x [D] -> y [D]; the state changes in place."""
    normed, branch, projected = _normed(), _branch(), _projected()
    remember(w, state, x, y)
    normalise(y, w.attention_norm, normed)
    _attend(w, state, count, normed, projected, branch)
    after = _after()
    _gated(branch, normed, w.attended_norm, w.attended_gate, w.attended_project, after)
    for i in range(WIDTH):
        y[i] += after[i]


@njit(inner=True)
def remember(w: BlockWeights, state: BlockState, x: Float64, y: Float64) -> None:
    """The first half of the block, x + output(M(norm(x))): x [D] -> y [D]."""
    normed, branch, projected = _normed(), _branch(), _projected()
    normalise(x, w.norm, normed)
    _memory(w, state, normed, projected, branch)
    _gated(branch, normed, w.out_norm, w.out_gate, w.out_project, y)
    for i in range(WIDTH):
        y[i] += x[i]


@njit()
def prefix_of(w: BlockWeights, persistent: Float64, state: BlockState) -> tuple[Float64, Float64]:
    """Keys and values [N, D] of the persistent tokens [N, D], which `state` learns first."""
    keys, values = np.empty(persistent.shape), np.empty(persistent.shape)
    y, normed, projected = np.empty(WIDTH), np.empty(WIDTH), np.empty(3 * WIDTH)
    for n in range(persistent.shape[0]):
        remember(w, state, persistent[n], y)
        normalise(y, w.attention_norm, normed)
        _product(w.attention_qkv, normed, projected)
        _keep(keys[n], values[n], projected)
    return keys, values


@njit(inner=True)
def _memory(w: BlockWeights, state: BlockState, x: Float64, projected: Float64, y: Float64) -> None:
    """The neural memory: learn x, then read it (eq. 10, 13 and 15)."""
    _product(w.qkv, x, projected)
    tail = state.tail
    mixed = _mixed()
    for i in range(3 * WIDTH):
        total = w.filter[i, TAPS - 1] * projected[i]
        for j in range(TAPS - 1):
            total += w.filter[i, j] * tail[j, i]
        mixed[i] = _silu(total)
    for j in range(TAPS - 2):
        for i in range(3 * WIDTH):
            tail[j, i] = tail[j + 1, i]
    for i in range(3 * WIDTH):
        tail[TAPS - 2, i] = projected[i]
    q, k, v = mixed[:WIDTH], mixed[WIDTH : 2 * WIDTH], mixed[2 * WIDTH :]
    _unit(q)
    squared_key = _unit(k)
    gate = _gate()
    for g in range(3):
        gate[g] = w.gates[g, WIDTH]
        for i in range(WIDTH):
            gate[g] += w.gates[g, i] * x[i]
    keep, eta, theta = _sigmoid(-gate[0]), _sigmoid(gate[1]), THETA_MAX * _sigmoid(gate[2])
    M, S = state.memory[0], state.memory[1]
    error = _error()
    squared = 0.0
    for o in range(WIDTH):
        total = -v[o]
        for i in range(WIDTH):
            total += M[o, i] * k[i]
        error[o] = 2.0 * total
        squared += error[o] * error[o]
    squared *= squared_key
    step = theta * (CLIP / math.sqrt(squared) if squared > CLIP * CLIP else 1.0)
    for o in range(WIDTH):
        write = step * error[o]
        total = 0.0
        for i in range(WIDTH):
            s = eta * S[o, i] - write * k[i]
            m = keep * M[o, i] + s
            S[o, i] = s if abs(s) > TINY else 0.0
            M[o, i] = m if abs(m) > TINY else 0.0
            total += m * q[i]
        y[o] = total


@njit(inner=True)
def _attend(
    w: BlockWeights, state: BlockState, count: int, x: Float64, projected: Float64, y: Float64
) -> None:
    """Attention to the persistent tokens, the W - 1 last tokens and this one."""
    _product(w.attention_qkv, x, projected)
    width = WIDTH // ATTENTION_HEADS
    half = width // 2
    past = min(count, WINDOW - 1)
    keys, values = state.window[0], state.window[1]
    now = count % (WINDOW - 1)
    score, q = _score(), _query()
    for head in range(ATTENTION_HEADS):
        first = head * width
        for i in range(width):
            q[i] = projected[first + i] * width**-0.5
        for n in range(PERSISTENT):
            score[n] = 0.0
            for i in range(width):
                score[n] += q[i] * w.prefix_keys[n, first + i]
        for age in range(past + 1):
            turn = w.turns[age]
            total = 0.0
            for i in range(half):
                if age == 0:
                    a = projected[WIDTH + first + i]
                    b = projected[WIDTH + first + half + i]
                else:
                    place = (count - age) % (WINDOW - 1)
                    a, b = keys[place, first + i], keys[place, first + half + i]
                total += (q[i] * turn[0, i] - q[half + i] * turn[1, i]) * a
                total += (q[half + i] * turn[0, i] + q[i] * turn[1, i]) * b
            score[PERSISTENT + age] = total
        count_seen = PERSISTENT + past + 1
        top = score[0]
        for n in range(1, count_seen):
            top = max(top, score[n])
        mass = 0.0
        for n in range(count_seen):
            score[n] = math.exp(score[n] - top)
            mass += score[n]
        for i in range(width):
            total = score[PERSISTENT] * projected[2 * WIDTH + first + i]
            for n in range(PERSISTENT):
                total += score[n] * w.prefix_values[n, first + i]
            for age in range(1, past + 1):
                place = (count - age) % (WINDOW - 1)
                total += score[PERSISTENT + age] * values[place, first + i]
            y[first + i] = total / mass
    _keep(keys[now], values[now], projected)


@njit(inner=True)
def _keep(key: np.ndarray, value: np.ndarray, projected: Float64) -> None:
    for i in range(WIDTH):
        key[i] = projected[WIDTH + i]
        value[i] = projected[2 * WIDTH + i]


@njit(inline="always")
def _silu(z: float) -> float:
    return z * _sigmoid(z)


@njit(inline="always")
def _sigmoid(z: float) -> float:
    if z >= 0.0:
        return 1.0 / (1.0 + math.exp(-z))
    e = math.exp(z)
    return e / (1.0 + e)


@njit(inner=True, fastmath=ASSOCIATIVE)
def _product(matrix: Float64, x: Float64, out: Float64) -> None:
    for o in range(matrix.shape[0]):
        total = 0.0
        for i in range(x.shape[0]):
            total += matrix[o, i] * x[i]
        out[o] = total


@njit(inner=True)
def normalise(x: Float64, weight: Float64, out: Float64) -> None:
    """RMSNorm."""
    total = 0.0
    for i in range(x.shape[0]):
        total += x[i] * x[i]
    scale = 1.0 / math.sqrt(total / x.shape[0] + EPSILON)
    for i in range(x.shape[0]):
        out[i] = x[i] * scale * weight[i]


@njit(inner=True)
def _unit(x: Float64) -> float:
    """L2-normalise in place; returns the squared length afterwards."""
    total = 0.0
    for i in range(x.shape[0]):
        total += x[i] * x[i]
    scale = 1.0 / math.sqrt(total + EPSILON)
    for i in range(x.shape[0]):
        x[i] *= scale
    return total * scale * scale


@njit(inner=True)
def _gated(
    branch: Float64, x: Float64, norm: Float64, gate: Float64, project: Float64, out: Float64
) -> None:
    """W_O (norm(branch) * SiLU(W_G x)) (section 4.4)."""
    o, opening = _opened(), _opening()
    normalise(branch, norm, o)
    _product(gate, x, opening)
    for i in range(WIDTH):
        o[i] *= _silu(opening[i])
    _product(project, o, out)
