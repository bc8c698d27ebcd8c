"""SiLU and its first two derivatives for `njit` kernels, in vectors of 16 floats."""

from __future__ import annotations

from typing import Any

import numpy as np

from titans_stream.jit import njit
from titans_stream.records import Float32
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
    store,
    subtract,
)


@njit(nogil=True, error_model="numpy", fastmath=False, forceinline=True)
def sigmoid(x: Any) -> Any:
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


@njit(nogil=True, error_model="numpy")
def silu(
    z: Float32, at: int, x: Float32, x_at: int, plus: bool, out: Float32, to: int, size: int
) -> None:
    """out = silu(z), or silu(z) + x."""
    for j in range(0, size, LANES):
        before = load(z, at + j)
        after = multiply(before, sigmoid(before))
        store(out, to + j, add(after, load(x, x_at + j)) if plus else after)


@njit(nogil=True, error_model="numpy")
def slope(
    back: Float32, back_at: int, z: Float32, at: int, out: Float32, to: int, size: int
) -> None:
    """out = back silu'(z)."""
    one = fill(np.float32(1))
    for j in range(0, size, LANES):
        before = load(z, at + j)
        gate = sigmoid(before)
        rise = multiply(gate, add_product(before, subtract(one, gate), one))
        store(out, to + j, multiply(load(back, back_at + j), rise))


@njit(nogil=True, error_model="numpy")
def curve(de: Float32, tape: Float32, back: int, at: int, out: Float32, size: int) -> None:
    """out = de back silu''(z), for `back` and z in their places on the tape."""
    two, one = fill(np.float32(2)), fill(np.float32(1))
    for j in range(0, size, LANES):
        z = load(tape, at + j)
        gate = sigmoid(z)
        flat = multiply(gate, subtract(one, gate))
        bend = add_product(z, subtract(one, add(gate, gate)), two)
        store(out, j, multiply(multiply(load(de, j), load(tape, back + j)), multiply(flat, bend)))
