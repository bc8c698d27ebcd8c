"""The update rule of `rule.py` for one row, compiled by numba; the heads' serving path on CPU.

The row loop lives in the caller, so that every row is computed by the same instructions
whatever shares its batch: results are bitwise independent of batching. K is the key width.
"""

from __future__ import annotations

import math

from titans_stream.jit import ASSOCIATIVE, njit
from titans_stream.records import Float64

TINY = 1e-150
"""Weights below this are flushed to zero: denormal arithmetic is some twenty times slower."""


@njit(inner=True, fastmath=ASSOCIATIVE)
def read(M: Float64, k: Float64) -> float:
    """Retrieval y = M k (eq. 15); M [K], k [K]."""
    total = 0.0
    for i in range(k.shape[0]):
        total += M[i] * k[i]
    return total


@njit(inner=True, fastmath=ASSOCIATIVE)
def update(
    M: Float64,
    S: Float64,
    k: Float64,
    k_norm: float,
    error: float,
    alpha: float,
    eta: float,
    theta: float,
    clip: float,
) -> float:
    """One step of a linear memory with one output, in place; returns the gradient's norm.

    M, S [K]; `error` is M k - v as `read` gave it; `k_norm` is |k|. Equations 10, 13 and 14.
    """
    norm = 2.0 * abs(error) * k_norm
    scale = 1.0
    if norm > clip:
        scale = clip / norm
    step = theta * 2.0 * scale * error
    keep = 1.0 - alpha
    for i in range(k.shape[0]):
        s = eta * S[i] - step * k[i]
        m = keep * M[i] + s
        S[i] = s if abs(s) > TINY else 0.0
        M[i] = m if abs(m) > TINY else 0.0
    return norm


@njit(inline="always")
def exp64(x: float) -> float:
    """e^x for |x| <= 40 (clamped), to 1e-11 for |x| <= 10; made of products, so it vectorises."""
    x = min(40.0, max(-40.0, x)) * 0.015625
    e = 1.0 + x * (
        1.0
        + x
        * (
            0.5
            + x
            * (
                1 / 6
                + x * (1 / 24 + x * (1 / 120 + x * (1 / 720 + x * (1 / 5040 + x * (1 / 40320)))))
            )
        )
    )
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    return e * e


@njit(inner=True, fastmath=ASSOCIATIVE)
def silu_key(weight: Float64, bias: Float64, x: Float64, constant: float, out: Float64) -> None:
    """Key of a row: SiLU(W x + b), a constant appended, L2-normalised.

    weight [X, F] (transposed, so that features are contiguous), bias [F], x [X], out [F + 1].
    """
    width = bias.shape[0]
    for j in range(width):
        out[j] = bias[j]
    for i in range(x.shape[0]):
        xi = x[i]
        if xi != 0.0:
            for j in range(width):
                out[j] += xi * weight[i, j]
    total = constant * constant
    for j in range(width):
        z = out[j]
        z = z / (1.0 + exp64(-z))
        out[j] = z
        total += z * z
    out[width] = constant
    scale = 1.0 / math.sqrt(total)
    for j in range(width + 1):
        out[j] *= scale
