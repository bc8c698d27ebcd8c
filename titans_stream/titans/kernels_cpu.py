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

from typing import Any, NamedTuple

import numpy as np

from titans_stream.jit import njit
from titans_stream.records import Float32, Int64
from titans_stream.titans.tokens_cpu import Served
from titans_stream.titans.vectors import (
    LANES,
    TINY,
    add,
    add_product,
    fill,
    load,
    multiply,
    prefetch,
    sigmoid,
    spread,
    store,
    store_totals,
    subtract,
    total,
)

TOGETHER = 4
"""Rows of W_2 that are taken at a time; d is a multiple of it, H one of LANES."""


class Rule(NamedTuple):
    """What the update has besides its gates."""

    clip: float
    """Largest gradient norm; infinity clips nothing."""
    residual: bool


class Found(NamedTuple):
    """What a serving step writes, beside the memories."""

    y: Float32
    """[n, P, T, d]."""
    surprise: Float32
    """Squared gradient norm, loss and squared momentum norm [n, P, T, 3]."""


class _Flat(NamedTuple):
    """Everything as flat arrays: a view costs as much as half a pass over a matrix."""

    width: int
    hidden: int
    table: Float32
    q: Float32
    k: Float32
    v: Float32
    gates: Float32
    y: Float32
    surprise: Float32
    scratch: Float32
    """z, h, back and read of H floats each, then error of d."""


class _Update(NamedTuple):
    """Factors of equations 10 and 13 for one token."""

    step: np.float32
    keep: np.float32
    eta: np.float32


@njit(nogil=True, error_model="numpy")
def serve_steps(memories: Float32, rows: Int64, tokens: Served, rule: Rule, out: Found) -> None:
    """Let n rows read and learn T tokens each, in place.

    memories [N, P, 4, d, H]; rows int64 [n], distinct; `out` is written.
    """
    heads, width, hidden = memories.shape[1], memories.shape[3], memories.shape[4]
    count = tokens.k.shape[2]
    size, last = 4 * width * hidden, rows.shape[0] * heads - 1
    flat = _Flat(
        width,
        hidden,
        memories.reshape(-1),
        tokens.q.reshape(-1),
        tokens.k.reshape(-1),
        tokens.v.reshape(-1),
        tokens.gates.reshape(-1),
        out.y.reshape(-1),
        out.surprise.reshape(-1),
        np.empty(4 * hidden + width, np.float32),
    )
    for memory in range(rows.shape[0] * heads):
        then = min(memory + 1, last)
        here = (rows[memory // heads] * heads + memory % heads) * size
        ahead = (rows[then // heads] * heads + then % heads) * size
        for t in range(count):
            _step(flat, here, ahead if t == 0 else -1, memory * count + t, rule)


@njit(nogil=True, error_model="numpy", fastmath=False, forceinline=True)
def _step(flat: _Flat, here: int, ahead: int, token: int, rule: Rule) -> None:
    """Token number `token` for the memory at `here` of the table.

    The memory at `ahead` is the next one; -1: it is in the cache already.
    """
    width, hidden, k, scratch = flat.width, flat.hidden, flat.k, flat.scratch
    clip = np.float32(rule.clip)
    keep, eta, theta = flat.gates[3 * token], flat.gates[3 * token + 1], flat.gates[3 * token + 2]
    x = token * width
    z, h, back, read = 0, hidden, 2 * hidden, 3 * hidden
    w1, s1 = here, here + 2 * width * hidden
    w2, s2 = w1 + width * hidden, s1 + width * hidden
    to_w2, to_s1, to_s2 = w2 - here, s1 - here, s2 - here
    if ahead < 0:
        to_w2 = to_s1 = to_s2 = 0
    one = fill(np.float32(1))
    _columns(flat, w1, ahead, x)
    squares = fill(np.float32(0))
    for j in range(0, hidden, LANES):
        before = load(scratch, z + j)
        after = multiply(before, sigmoid(before))
        squares = add_product(after, after, squares)
        store(scratch, h + j, after)
    squared_h = total(squares)

    squared_error = _errors(flat, w2, ahead + to_w2, x, rule.residual)
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

    update = _Update(step, keep, eta)
    past = _learn_first(flat, w1, s1, ahead + to_s1, x, update)
    for j in range(0, hidden, LANES):
        before = load(scratch, read + j)
        store(scratch, read + j, multiply(before, sigmoid(before)))
    past += _learn_last(flat, w2, s2, ahead + to_s2, x, update)
    if rule.residual:
        for i in range(width):
            flat.y[x + i] += flat.q[x + i]
    flat.surprise[3 * token] = squared
    flat.surprise[3 * token + 1] = np.float32(0.25) * squared_error
    flat.surprise[3 * token + 2] = past


@njit(nogil=True, error_model="numpy", fastmath=False, forceinline=True)
def _columns(flat: _Flat, here: int, ahead: int, at: int) -> None:
    """W' k to the place z, for W [d, H] at `here` of the table, k [d] at `at`."""
    width, hidden, table, x, out = flat.width, flat.hidden, flat.table, flat.k, flat.scratch
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
        store(out, j, a)
        store(out, j + LANES, b)
        store(out, j + 2 * LANES, c)
        store(out, j + 3 * LANES, d)
    for j in range(blocks, hidden, LANES):
        a = fill(np.float32(0))
        for i in range(width):
            if ahead >= 0:
                prefetch(table, ahead + i * hidden + j)
            a = add_product(spread(x, at + i), load(table, here + i * hidden + j), a)
        store(out, j, a)


@njit(nogil=True, error_model="numpy", fastmath=False, forceinline=True)
def _errors(flat: _Flat, here: int, ahead: int, x: int, residual: bool) -> np.float32:
    """g = 2 (W h + k - v) and W' g, for W [d, H] at `here` of the table; |g|^2 is returned.

    h, g and W' g in their places in `scratch`. Both products of four rows are made while these
    are at hand.
    """
    width, hidden, table, k, v = flat.width, flat.hidden, flat.table, flat.k, flat.v
    scratch = flat.scratch
    h, back, error = hidden, 2 * hidden, 4 * hidden
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
def _learn_first(flat: _Flat, w: int, s: int, ahead: int, x: int, update: _Update) -> np.float32:
    """Equations 10 and 13 for W_1, whose gradient is k back', and W_1' q; squared norm of S.

    W_1' q goes to the place `read`.
    """
    width, hidden, table, k, q = flat.width, flat.hidden, flat.table, flat.k, flat.q
    scratch = flat.scratch
    back, read = 2 * hidden, 3 * hidden
    step, kept, carried = update.step, fill(update.keep), fill(update.eta)
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
def _learn_last(flat: _Flat, w: int, s: int, ahead: int, x: int, update: _Update) -> np.float32:
    """Equations 10 and 13 for W_2, whose gradient is g h', and y = W_2 read; squared norm of S."""
    width, hidden, table, scratch = flat.width, flat.hidden, flat.table, flat.scratch
    h, read, error = hidden, 3 * hidden, 4 * hidden
    step, kept, carried = update.step, fill(update.keep), fill(update.eta)
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
        store_totals(flat.y, x + i, a, b, c, d)
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
