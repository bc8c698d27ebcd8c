"""The serving step of an MLP memory (L_M = 2, C = 1) compiled by numba: one row, one token.

Surprise, momentum, forgetting and read-out in two passes over the state, in place, for the rows
of an index list. The rule is that of `rule.py`; the row loop computes every row by the same
instructions whatever shares its batch. Compiled once, then read from numba's cache.

Letters: N rows of the table, n of them served, T tokens each, P heads, d head width, H hidden
width. Both matrices are kept as [d, H], W_1 transposed and W_2 as it is, so that every inner loop
runs along H.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np import arrayobj

from titans_stream.jit import ASSOCIATIVE, njit
from titans_stream.records import Int64

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]

_LINE = 16
"""Floats of a cache line."""
_TINY = np.float32(1e-30)
"""Weights below this are flushed to zero: denormal arithmetic is some twenty times slower."""


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """Load the cache line of `array.flat[index]` (C order) without waiting for it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = arrayobj.make_array(signature.args[0])(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        to_write, to_l2, data_cache = number(1), number(2), number(1)
        builder.call(function, [place, to_write, to_l2, data_cache])
        return context.get_dummy_value()

    return types.void(array, index), generate


@njit(nogil=True, error_model="numpy", fastmath=ASSOCIATIVE)
def prepare_tokens(
    projected: Float32,
    logits: Float32,
    taps: Float32,
    tail: Float32,
    rows: Int64,
    theta_max: float,
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
    history = np.empty((past + count, channels), np.float32)
    mixed, gate = np.empty(channels, np.float32), np.empty(channels, np.float32)
    bits = np.empty(channels, np.int32)
    switch, opened = np.empty(3 * heads, np.float32), np.empty(3 * heads, np.float32)
    for i in range(rows.shape[0]):
        row = rows[i]
        history[:past] = tail[row]
        history[past:] = projected[i]
        tail[row] = history[count:]
        for t in range(count):
            if taps.shape[0]:
                mixed[:] = np.float32(0)
                for j in range(taps.shape[0]):
                    for c in range(channels):
                        mixed[c] += taps[j, c] * history[t + j, c]
            else:
                mixed[:] = projected[i, t]
            _sigmoid(mixed, gate, bits)
            for c in range(channels):
                mixed[c] *= gate[c]
            for head in range(heads):
                first = head * width
                _unit(mixed[first : first + width], q[i, head, t])
                first += heads * width
                _unit(mixed[first : first + width], k[i, head, t])
                first += heads * width
                v[i, head, t] = mixed[first : first + width]
            switch[:] = logits[i, t]
            switch[:heads] *= np.float32(-1)
            _sigmoid(switch, opened, bits)
            for head in range(heads):
                gates[i, head, t, 0] = opened[head] if forgetting else np.float32(1)
                gates[i, head, t, 1] = opened[heads + head]
                gates[i, head, t, 2] = np.float32(theta_max) * opened[2 * heads + head]


@njit(nogil=True, error_model="numpy", fastmath=ASSOCIATIVE)
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
    width, hidden = w1.shape[2], w1.shape[3]
    scratch = np.empty((6, hidden), np.float32)
    bits = np.empty(hidden, np.int32)
    error = np.empty(width, np.float32)
    for i in range(rows.shape[0]):
        row = rows[i]
        for head in range(w1.shape[1]):
            ahead = (head + 1) // w1.shape[1]
            next_row = rows[min(i + ahead, rows.shape[0] - 1)]
            next_head = (head + 1) % w1.shape[1]
            for t in range(k.shape[2]):
                _step(
                    w1[row, head],
                    w2[row, head],
                    s1[row, head],
                    s2[row, head],
                    t == 0,
                    w1[next_row, next_head],
                    w2[next_row, next_head],
                    q[i, head, t],
                    k[i, head, t],
                    v[i, head, t],
                    gates[i, head, t],
                    np.float32(clip),
                    residual,
                    y[i, head, t],
                    surprise[i, head, t],
                    scratch,
                    bits,
                    error,
                )


@njit(nogil=True, error_model="numpy", fastmath=ASSOCIATIVE)
def _step(
    w1: Float32,
    w2: Float32,
    s1: Float32,
    s2: Float32,
    first: bool,
    next_w1: Float32,
    next_w2: Float32,
    q: Float32,
    k: Float32,
    v: Float32,
    gates: Float32,
    clip: np.float32,
    residual: bool,
    y: Float32,
    surprise: Float32,
    scratch: Float32,
    bits: Int32,
    error: Float32,
) -> None:
    """One token of one memory; names as in `serve_steps`.

    With the `first` token the momentum, and later the next memory's weights, are asked for while
    others are computed with: hardware alone looks too little ahead over such short stretches.
    """
    width, hidden = w1.shape
    z, gate, h, back, zq, hq = (
        scratch[0],
        scratch[1],
        scratch[2],
        scratch[3],
        scratch[4],
        scratch[5],
    )
    keep, eta, theta = gates[0], gates[1], gates[2]
    one, two, zero = np.float32(1), np.float32(2), np.float32(0)
    for j in range(hidden):
        z[j] = zero
        zq[j] = zero
        back[j] = zero
    for i in range(width):
        ki = k[i]
        if first:
            _fetch(s1, i)
        for j in range(hidden):
            z[j] += ki * w1[i, j]
    _sigmoid(z, gate, bits)
    squared_h = zero
    for j in range(hidden):
        h[j] = z[j] * gate[j]
        squared_h += h[j] * h[j]

    squared_k, squared_error = zero, zero
    for i in range(width):
        if first:
            _fetch(s2, i)
        out = zero
        for j in range(hidden):
            out += w2[i, j] * h[j]
        g = two * (out - v[i] + (k[i] if residual else zero))
        error[i] = g
        squared_error += g * g
        squared_k += k[i] * k[i]
        for j in range(hidden):
            back[j] += g * w2[i, j]
    squared_back = zero
    for j in range(hidden):
        back[j] *= gate[j] * (one + z[j] * (one - gate[j]))
        squared_back += back[j] * back[j]
    squared = squared_error * squared_h + squared_back * squared_k
    step = -theta
    if squared > clip * clip:
        step *= clip / np.float32(np.sqrt(squared))

    past = zero
    for i in range(width):
        factor, qi = step * k[i], q[i]
        if first:
            _fetch(next_w1, i)
        for j in range(hidden):
            s = eta * s1[i, j] + factor * back[j]
            m = keep * w1[i, j] + s
            s = s if abs(s) > _TINY else zero
            m = m if abs(m) > _TINY else zero
            past += s * s
            s1[i, j] = s
            w1[i, j] = m
            zq[j] += qi * m
    _sigmoid(zq, gate, bits)
    for j in range(hidden):
        hq[j] = zq[j] * gate[j]
    for i in range(width):
        factor = step * error[i]
        if first:
            _fetch(next_w2, i)
        out = zero
        for j in range(hidden):
            s = eta * s2[i, j] + factor * h[j]
            m = keep * w2[i, j] + s
            s = s if abs(s) > _TINY else zero
            m = m if abs(m) > _TINY else zero
            past += s * s
            s2[i, j] = s
            w2[i, j] = m
            out += m * hq[j]
        y[i] = out + (q[i] if residual else zero)
    surprise[0] = squared
    surprise[1] = np.float32(0.25) * squared_error
    surprise[2] = past


@njit(nogil=True)
def _fetch(matrix: Float32, i: int) -> None:
    """Ask for row i of a matrix that is needed soon."""
    for j in range(0, matrix.shape[1], _LINE):
        prefetch(matrix, i * matrix.shape[1] + j)


@njit(nogil=True, error_model="numpy", fastmath=ASSOCIATIVE)
def _unit(x: Float32, out: Float32) -> None:
    """`x` L2-normalised, as `NeuralMemory` does it."""
    total = np.float32(1e-6)
    for i in range(x.shape[0]):
        total += x[i] * x[i]
    scale = np.float32(1) / np.float32(np.sqrt(total))
    for i in range(x.shape[0]):
        out[i] = x[i] * scale


@njit(nogil=True, error_model="numpy", fastmath=ASSOCIATIVE)
def _sigmoid(z: Float32, out: Float32, bits: Int32) -> None:
    """1 / (1 + e^-z) to 2e-7, in loops that vectorise: e^x = 2^n e^r with |r| <= ln 2 / 2."""
    powers = bits.view(np.float32)
    for j in range(z.shape[0]):
        x = min(np.float32(87.0), max(np.float32(-87.0), -z[j]))
        n = np.float32(np.floor(x * np.float32(1.44269504) + np.float32(0.5)))
        r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
        p = np.float32(1.98756915e-4)
        p = p * r + np.float32(1.39819995e-3)
        p = p * r + np.float32(8.33345191e-3)
        p = p * r + np.float32(4.16657960e-2)
        p = p * r + np.float32(1.66666655e-1)
        p = p * r + np.float32(0.5)
        out[j] = p * r * r + r + np.float32(1)
        bits[j] = (np.int32(n) + np.int32(127)) << np.int32(23)
    for j in range(z.shape[0]):
        e = out[j] * powers[j]
        if z[j] != z[j]:
            e = z[j]
        out[j] = np.float32(1) / (np.float32(1) + e)
