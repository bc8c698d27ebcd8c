"""The serving step of an MLP memory (L_M = 2, C = 1) compiled by numba: one row, one token.

Surprise, momentum, forgetting and read-out in place, for the rows of an index list. The rule is
that of `rule.py`; the row loop computes every row by the same instructions whatever shares its
batch. Compiled once, then read from numba's cache.

While a memory is computed with, the next one is asked for: hardware alone looks too little ahead
over such short stretches. Functions that rely on rounding say `fastmath=False`, or they would
take over their caller's liberties.

Letters: N rows of the table, n of them served, T tokens each, P heads, d head width, H hidden
width. A memory is one block [4, d, H]: W_1 transposed, W_2 and their momenta likewise, so that
every inner loop runs along H.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from titans_stream.jit import njit
from titans_stream.records import Float32, Int64
from titans_stream.titans.silu_cpu import sigmoid
from titans_stream.titans.vectors import (
    LANES,
    TINY,
    add,
    add_product,
    fill,
    load,
    multiply,
    prefetch,
    spread,
    store,
    store_totals,
    subtract,
    total,
)

TOGETHER = 4
"""Rows of W_2 that are taken at a time; d is a multiple of it, H one of LANES."""


@njit(nogil=True, error_model="numpy")
def serve_steps(
    memories: Float32,
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

    memories [N, P, 4, d, H]; rows int64 [n], distinct; q, k, v and y (written) [n, P, T, d];
    gates (1 - alpha, eta, theta) [n, P, T, 3]; surprise (written: squared gradient norm, loss,
    squared momentum norm) [n, P, T, 3]. A `clip` of infinity clips nothing.
    """
    heads, count, width, hidden = memories.shape[1], k.shape[2], k.shape[3], memories.shape[4]
    size, last = 4 * width * hidden, rows.shape[0] * heads - 1
    # Flat arrays and places in them: a view costs as much as half a pass over a matrix.
    table = memories.reshape(-1)
    flat_q, flat_k, flat_v, flat_y = q.reshape(-1), k.reshape(-1), v.reshape(-1), y.reshape(-1)
    flat_gates, flat_surprise = gates.reshape(-1), surprise.reshape(-1)
    scratch = np.empty(4 * hidden + width, np.float32)
    for memory in range(rows.shape[0] * heads):
        then = min(memory + 1, last)
        here = (rows[memory // heads] * heads + memory % heads) * size
        ahead = (rows[then // heads] * heads + then % heads) * size
        for t in range(count):
            _step(
                table,
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
    table: Float32,
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
    z, h, back, read = 0, hidden, 2 * hidden, 3 * hidden
    w1, s1 = here, here + 2 * width * hidden
    w2, s2 = w1 + width * hidden, s1 + width * hidden
    to_w2, to_s1, to_s2 = w2 - here, s1 - here, s2 - here
    if ahead < 0:
        to_w2 = to_s1 = to_s2 = 0
    one = fill(np.float32(1))
    _columns(table, w1, ahead, k, x, width, hidden, scratch, z)
    squares = fill(np.float32(0))
    for j in range(0, hidden, LANES):
        before = load(scratch, z + j)
        after = multiply(before, sigmoid(before))
        squares = add_product(after, after, squares)
        store(scratch, h + j, after)
    squared_h = total(squares)

    squared_error = _errors(
        table, w2, ahead + to_w2, scratch, h, k, v, x, residual, width, hidden, error, back
    )
    squared_k = np.float32(0)
    for i in range(width):
        squared_k += k[x + i] * k[x + i]
    squares = fill(np.float32(0))
    for j in range(0, hidden, LANES):
        before, through = load(scratch, z + j), load(scratch, back + j)
        gate = sigmoid(before)
        slope = multiply(gate, add_product(before, subtract(one, gate), one))
        through = multiply(through, slope)
        squares = add_product(through, through, squares)
        store(scratch, back + j, through)
    squared = squared_error * squared_h + total(squares) * squared_k
    step = -theta
    if squared > clip * clip:
        step *= clip / np.float32(np.sqrt(squared))

    past = _learn_first(
        table, w1, s1, ahead + to_s1, k, q, x, scratch, back, read, width, hidden, step, keep, eta
    )
    for j in range(0, hidden, LANES):
        before = load(scratch, read + j)
        store(scratch, read + j, multiply(before, sigmoid(before)))
    past += _learn_last(
        table, w2, s2, ahead + to_s2, scratch, error, h, read, width, hidden, step, keep, eta, y, x
    )
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
            place, xi = i * hidden + j, spread(x, at + i)
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
            a = add_product(spread(x, at + i), load(table, here + i * hidden + j), a)
        store(out, to + j, a)


@njit(nogil=True, error_model="numpy", fastmath=False, forceinline=True)
def _errors(
    table: Float32,
    here: int,
    ahead: int,
    scratch: Float32,
    h: int,
    k: Float32,
    v: Float32,
    x: int,
    residual: bool,
    width: int,
    hidden: int,
    error: int,
    back: int,
) -> np.float32:
    """g = 2 (W h + k - v) and W' g, for W [d, H] at `here` of the table; |g|^2 is returned.

    h, g and W' g in their places in `scratch`. Both products of four rows are made while these
    are at hand.
    """
    two, squared_error = np.float32(2), np.float32(0)
    for j in range(0, hidden, LANES):
        store(scratch, back + j, fill(np.float32(0)))
    for i in range(0, width, TOGETHER):
        a = b = c = d = fill(np.float32(0))
        place = here + i * hidden
        for j in range(0, hidden, LANES):
            hj = load(scratch, h + j)
            if ahead >= 0:
                for line in range(TOGETHER):
                    prefetch(table, ahead + (i + line) * hidden + j)
            a = add_product(hj, load(table, place + j), a)
            b = add_product(hj, load(table, place + j + hidden), b)
            c = add_product(hj, load(table, place + j + 2 * hidden), c)
            d = add_product(hj, load(table, place + j + 3 * hidden), d)
        store_totals(scratch, error + i, a, b, c, d)
        for row in range(i, i + TOGETHER):
            off = scratch[error + row] - v[x + row]
            g = two * (off + (k[x + row] if residual else np.float32(0)))
            scratch[error + row] = g
            squared_error += g * g
        a, b = spread(scratch, error + i), spread(scratch, error + i + 1)
        c, d = spread(scratch, error + i + 2), spread(scratch, error + i + 3)
        for j in range(0, hidden, LANES):
            sums = add_product(a, load(table, place + j), load(scratch, back + j))
            sums = add_product(b, load(table, place + j + hidden), sums)
            sums = add_product(c, load(table, place + j + 2 * hidden), sums)
            sums = add_product(d, load(table, place + j + 3 * hidden), sums)
            store(scratch, back + j, sums)
    return squared_error


@njit(nogil=True, error_model="numpy", fastmath=False, forceinline=True)
def _learn_first(
    table: Float32,
    w: int,
    s: int,
    ahead: int,
    k: Float32,
    q: Float32,
    x: int,
    scratch: Float32,
    back: int,
    read: int,
    width: int,
    hidden: int,
    step: np.float32,
    keep: np.float32,
    eta: np.float32,
) -> np.float32:
    """Equations 10 and 13 for W_1, whose gradient is k back', and W_1' q; squared norm of S.

    W_1' q goes to the place `read`.
    """
    kept, carried = fill(keep), fill(eta)
    past = fill(np.float32(0))
    for j in range(0, hidden, 2 * LANES):
        two = j + LANES < hidden
        right = load(scratch, back + j)
        other = load(scratch, back + j + LANES) if two else right
        a = b = fill(np.float32(0))
        for i in range(width):
            factor, qi = fill(step * k[x + i]), spread(q, x + i)
            place = i * hidden + j
            if ahead >= 0:
                prefetch(table, ahead + place)
            weights, momentum = _learned(table, w + place, s + place, factor, right, kept, carried)
            past = add_product(momentum, momentum, past)
            a = add_product(qi, weights, a)
            if two:
                place += LANES
                if ahead >= 0:
                    prefetch(table, ahead + place)
                weights, momentum = _learned(
                    table, w + place, s + place, factor, other, kept, carried
                )
                past = add_product(momentum, momentum, past)
                b = add_product(qi, weights, b)
        store(scratch, read + j, a)
        if two:
            store(scratch, read + j + LANES, b)
    squared_norm: np.float32 = total(past)
    return squared_norm


@njit(nogil=True, error_model="numpy", fastmath=False, forceinline=True)
def _learn_last(
    table: Float32,
    w: int,
    s: int,
    ahead: int,
    scratch: Float32,
    error: int,
    h: int,
    read: int,
    width: int,
    hidden: int,
    step: np.float32,
    keep: np.float32,
    eta: np.float32,
    y: Float32,
    x: int,
) -> np.float32:
    """Equations 10 and 13 for W_2, whose gradient is g h', and y = W_2 read; squared norm of S."""
    kept, carried = fill(keep), fill(eta)
    past = other = fill(np.float32(0))
    for i in range(0, width, TOGETHER):
        a = b = c = d = fill(np.float32(0))
        f0, f1 = fill(step * scratch[error + i]), fill(step * scratch[error + i + 1])
        f2, f3 = fill(step * scratch[error + i + 2]), fill(step * scratch[error + i + 3])
        for j in range(0, hidden, LANES):
            right, hq = load(scratch, h + j), load(scratch, read + j)
            place = i * hidden + j
            if ahead >= 0:
                for line in range(TOGETHER):
                    prefetch(table, ahead + place + line * hidden)
            weights, momentum = _learned(table, w + place, s + place, f0, right, kept, carried)
            past, a = add_product(momentum, momentum, past), add_product(hq, weights, a)
            place += hidden
            weights, momentum = _learned(table, w + place, s + place, f1, right, kept, carried)
            other, b = add_product(momentum, momentum, other), add_product(hq, weights, b)
            place += hidden
            weights, momentum = _learned(table, w + place, s + place, f2, right, kept, carried)
            past, c = add_product(momentum, momentum, past), add_product(hq, weights, c)
            place += hidden
            weights, momentum = _learned(table, w + place, s + place, f3, right, kept, carried)
            other, d = add_product(momentum, momentum, other), add_product(hq, weights, d)
        store_totals(y, x + i, a, b, c, d)
    squared_norm: np.float32 = total(add(past, other))
    return squared_norm


@njit(nogil=True, error_model="numpy", fastmath=False, forceinline=True)
def _learned(
    table: Float32, w: int, s: int, factor: Any, right: Any, kept: Any, carried: Any
) -> tuple[Any, Any]:
    """16 weights and momenta after S = eta S + factor right, M = keep M + S; both are stored.

    Adding and taking away `TINY` rounds what is below it to multiples of a normal number.
    """
    tiny, off = fill(TINY), fill(-TINY)
    lifted = add_product(carried, load(table, s), add_product(factor, right, tiny))
    momentum = add(lifted, off)
    weights = add(add_product(kept, load(table, w), lifted), off)
    store(table, s, momentum)
    store(table, w, weights)
    return weights, momentum
