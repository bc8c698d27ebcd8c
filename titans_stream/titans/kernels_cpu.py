"""The serving step of an MLP memory (L_M = 2, C = 1) compiled by numba: one row, one token.

Surprise, momentum, forgetting and read-out in place, for the rows of an index list. The rule is
that of `rule.py`; the row loop computes every row by the same instructions whatever shares its
batch. Compiled once, then read from numba's cache.

While a memory is computed with, the next one is asked for: hardware alone looks too little ahead
over such short stretches. Functions that rely on rounding say `fastmath=False`, or they would
take over their caller's liberties.

Letters: N rows of the table, n of them served, T tokens each, P heads, d head width, H hidden
width. Both matrices are kept as [d, H], W_1 transposed and W_2 as it is, so that every inner loop
runs along H.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from titans_stream.jit import ASSOCIATIVE, njit
from titans_stream.records import Int64
from titans_stream.titans.vectors import (
    LANES,
    add,
    add_product,
    divide,
    fill,
    limit,
    load,
    multiply,
    power_of_two,
    prefetch,
    store,
    store_totals,
    subtract,
    total,
)

Float32 = npt.NDArray[np.float32]

TOGETHER = 4
"""Rows of a matrix that `_rows` takes at a time; d is a multiple of it, H one of LANES."""
_TINY = np.float32(2.0**-99)
"""Weights far below this become zero: denormal arithmetic is some twenty times slower."""


@njit(nogil=True, error_model="numpy", fastmath=ASSOCIATIVE)
def prepare_tokens(
    projected: Float32,
    logits: Float32,
    taps: Float32,
    tail: Float32,
    rows: Int64,
    theta_max: float,
    alpha_floor: float,
    theta_floor: float,
    forgetting: bool,
    q: Float32,
    k: Float32,
    v: Float32,
    gates: Float32,
) -> None:
    """What a memory makes of projections: convolution, SiLU, unit keys and queries, gates.

    projected [n, T, 3 D], logits [n, T, 3 P], taps [K, 3 D] (K = 0: no convolution), tail
    [N, K - 1, 3 D] (rows are updated in place); q, k, v [n, P, T, d] and gates (1 - alpha, eta,
    theta) [n, P, T, 3] are written.
    """
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
                store(mixed, c, multiply(before, _sigmoid(before)))
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
                store(switch, c, _sigmoid(load(switch, c)))
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


@njit(nogil=True, error_model="numpy")
def serve_steps(
    w1: Float32,
    w2: Float32,
    s1: Float32,
    s2: Float32,
    rows: Int64,
    q: Float32,
    k: Float32,
    v: Float32,
    gates: Float32,
    clip: float,
    residual: bool,
    y: Float32,
    surprise: Float32,
) -> None:
    """Let n rows read and learn T tokens each, in place.

    w1, w2, s1, s2 [N, P, d, H]; rows int64 [n], distinct; q, k, v and y (written) [n, P, T, d];
    gates (1 - alpha, eta, theta) [n, P, T, 3]; surprise (written: squared gradient norm, loss,
    squared momentum norm) [n, P, T, 3]. A `clip` of infinity clips nothing.
    """
    heads, count, width, hidden = w1.shape[1], k.shape[2], w1.shape[2], w1.shape[3]
    size, last = width * hidden, rows.shape[0] * heads - 1
    # Flat arrays and places in them: a view costs as much as half a pass over a matrix.
    flat_w1, flat_w2 = w1.reshape(-1), w2.reshape(-1)
    flat_s1, flat_s2 = s1.reshape(-1), s2.reshape(-1)
    flat_q, flat_k, flat_v, flat_y = q.reshape(-1), k.reshape(-1), v.reshape(-1), y.reshape(-1)
    flat_gates, flat_surprise = gates.reshape(-1), surprise.reshape(-1)
    scratch = np.empty(4 * hidden + width, np.float32)
    for memory in range(rows.shape[0] * heads):
        then = min(memory + 1, last)
        here = (rows[memory // heads] * heads + memory % heads) * size
        ahead = (rows[then // heads] * heads + then % heads) * size
        for t in range(count):
            _step(
                flat_w1,
                flat_w2,
                flat_s1,
                flat_s2,
                here,
                ahead if t == 0 else -1,
                memory * count + t,
                width,
                hidden,
                flat_q,
                flat_k,
                flat_v,
                flat_gates,
                np.float32(clip),
                residual,
                flat_y,
                flat_surprise,
                scratch,
            )


@njit(nogil=True, error_model="numpy", fastmath=False, forceinline=True)
def _step(
    w1: Float32,
    w2: Float32,
    s1: Float32,
    s2: Float32,
    here: int,
    ahead: int,
    token: int,
    width: int,
    hidden: int,
    q: Float32,
    k: Float32,
    v: Float32,
    gates: Float32,
    clip: np.float32,
    residual: bool,
    y: Float32,
    surprise: Float32,
    scratch: Float32,
) -> None:
    """Token number `token` for the memory at `here`; names as in `serve_steps`, all flat.

    The memory at `ahead` is the next one; -1: it is in the cache already.
    """
    keep, eta, theta = gates[3 * token], gates[3 * token + 1], gates[3 * token + 2]
    x, error = token * width, 4 * hidden
    z, h, back, zq = 0, hidden, 2 * hidden, 3 * hidden
    two, one = np.float32(2), fill(np.float32(1))
    _columns(w1, here, ahead, k, x, width, hidden, scratch, z)
    squares = fill(np.float32(0))
    for j in range(0, hidden, LANES):
        before = load(scratch, z + j)
        after = multiply(before, _sigmoid(before))
        squares = add_product(after, after, squares)
        store(scratch, h + j, after)
    squared_h = total(squares)

    _rows(w2, here, ahead, scratch, h, width, hidden, scratch, error)
    squared_error, squared_k = np.float32(0), np.float32(0)
    for i in range(width):
        g = two * (scratch[error + i] - v[x + i] + (k[x + i] if residual else np.float32(0)))
        scratch[error + i] = g
        squared_error += g * g
        squared_k += k[x + i] * k[x + i]
    _columns(w2, here, -1, scratch, error, width, hidden, scratch, back)
    squares = fill(np.float32(0))
    for j in range(0, hidden, LANES):
        before, through = load(scratch, z + j), load(scratch, back + j)
        gate = _sigmoid(before)
        slope = multiply(gate, add_product(before, subtract(one, gate), one))
        through = multiply(through, slope)
        squares = add_product(through, through, squares)
        store(scratch, back + j, through)
    squared = squared_error * squared_h + total(squares) * squared_k
    step = -theta
    if squared > clip * clip:
        step *= clip / np.float32(np.sqrt(squared))

    past = _learn(w1, s1, here, ahead, k, x, scratch, back, width, hidden, step, keep, eta)
    _columns(w1, here, -1, q, x, width, hidden, scratch, zq)
    for j in range(0, hidden, LANES):
        before = load(scratch, zq + j)
        store(scratch, zq + j, multiply(before, _sigmoid(before)))
    past += _learn(w2, s2, here, ahead, scratch, error, scratch, h, width, hidden, step, keep, eta)
    _rows(w2, here, -1, scratch, zq, width, hidden, y, x)
    if residual:
        for i in range(width):
            y[x + i] += q[x + i]
    surprise[3 * token] = squared
    surprise[3 * token + 1] = np.float32(0.25) * squared_error
    surprise[3 * token + 2] = past


@njit(nogil=True, error_model="numpy", fastmath=False, forceinline=True)
def _columns(
    table: Float32,
    here: int,
    ahead: int,
    x: Float32,
    at: int,
    width: int,
    hidden: int,
    out: Float32,
    to: int,
) -> None:
    """W' x: W [d, H] at `here` of the table, x [d] at `at`; written to `out` from `to` on."""
    blocks = hidden // (4 * LANES) * (4 * LANES)
    for j in range(0, blocks, 4 * LANES):
        a = b = c = d = fill(np.float32(0))
        for i in range(width):
            place, xi = i * hidden + j, fill(x[at + i])
            if ahead >= 0:
                for line in range(4):
                    prefetch(table, ahead + place + line * LANES)
            place += here
            a = add_product(xi, load(table, place), a)
            b = add_product(xi, load(table, place + LANES), b)
            c = add_product(xi, load(table, place + 2 * LANES), c)
            d = add_product(xi, load(table, place + 3 * LANES), d)
        store(out, to + j, a)
        store(out, to + j + LANES, b)
        store(out, to + j + 2 * LANES, c)
        store(out, to + j + 3 * LANES, d)
    for j in range(blocks, hidden, LANES):
        a = fill(np.float32(0))
        for i in range(width):
            if ahead >= 0:
                prefetch(table, ahead + i * hidden + j)
            a = add_product(fill(x[at + i]), load(table, here + i * hidden + j), a)
        store(out, to + j, a)


@njit(nogil=True, error_model="numpy", fastmath=False, forceinline=True)
def _rows(
    table: Float32,
    here: int,
    ahead: int,
    x: Float32,
    at: int,
    width: int,
    hidden: int,
    out: Float32,
    to: int,
) -> None:
    """W x: W [d, H] at `here` of the table, x [H] at `at`; written to `out` from `to` on."""
    for i in range(0, width, TOGETHER):
        a = b = c = d = fill(np.float32(0))
        for j in range(0, hidden, LANES):
            place, xj = i * hidden + j, load(x, at + j)
            if ahead >= 0:
                for line in range(TOGETHER):
                    prefetch(table, ahead + place + line * hidden)
            a = add_product(xj, load(table, here + place), a)
            b = add_product(xj, load(table, here + place + hidden), b)
            c = add_product(xj, load(table, here + place + 2 * hidden), c)
            d = add_product(xj, load(table, here + place + 3 * hidden), d)
        store_totals(out, to + i, a, b, c, d)


@njit(nogil=True, error_model="numpy", fastmath=False, forceinline=True)
def _learn(
    w: Float32,
    s: Float32,
    here: int,
    ahead: int,
    left: Float32,
    left_at: int,
    right: Float32,
    right_at: int,
    width: int,
    hidden: int,
    step: np.float32,
    keep: np.float32,
    eta: np.float32,
) -> np.float32:
    """Equations 10 and 13 for one layer, whose gradient is left right'; squared norm of S.

    left [d] and right [H] from their places on; W and S [d, H] at `here` of their tables. Adding
    and taking away `_TINY` rounds what is below it to multiples of a normal number.
    """
    kept, carried, tiny, off = fill(keep), fill(eta), fill(_TINY), fill(-_TINY)
    past = fill(np.float32(0))
    for i in range(width):
        factor = fill(step * left[left_at + i])
        for j in range(0, hidden, LANES):
            place = i * hidden + j
            if ahead >= 0:
                prefetch(s, ahead + place)
            place += here
            write = add_product(factor, load(right, right_at + j), tiny)
            lifted = add_product(carried, load(s, place), write)
            momentum = add(lifted, off)
            store(s, place, momentum)
            store(w, place, add(add_product(kept, load(w, place), lifted), off))
            past = add_product(momentum, momentum, past)
    squared_norm: np.float32 = total(past)
    return squared_norm


@njit(nogil=True, error_model="numpy", fastmath=ASSOCIATIVE)
def _unit(x: Float32, out: Float32) -> None:
    """`x` L2-normalised, as `NeuralMemory` does it."""
    total_square = np.float32(1e-6)
    for i in range(x.shape[0]):
        total_square += x[i] * x[i]
    scale = np.float32(1) / np.float32(np.sqrt(total_square))
    for i in range(x.shape[0]):
        out[i] = x[i] * scale


@njit(nogil=True, error_model="numpy", fastmath=False, forceinline=True)
def _sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x) of a vector to 2e-7: e^-x = 2^n e^r with |r| <= ln 2 / 2."""
    one, shift = fill(np.float32(1)), fill(np.float32(12582912))  # 1.5 * 2^23
    x = limit(x, fill(np.float32(87)))
    shifted = add(multiply(x, fill(np.float32(-1.44269504))), shift)
    n = subtract(shifted, shift)
    r = subtract(multiply(n, fill(np.float32(-0.693359375))), x)
    r = add_product(n, fill(np.float32(2.12194440e-4)), r)
    p = fill(np.float32(1.98756915e-4))
    p = add_product(p, r, fill(np.float32(1.39819995e-3)))
    p = add_product(p, r, fill(np.float32(8.33345191e-3)))
    p = add_product(p, r, fill(np.float32(4.16657960e-2)))
    p = add_product(p, r, fill(np.float32(1.66666655e-1)))
    p = add_product(p, r, fill(np.float32(0.5)))
    e = add(add_product(p, multiply(r, r), r), one)
    return divide(one, add_product(e, power_of_two(shifted), one))
