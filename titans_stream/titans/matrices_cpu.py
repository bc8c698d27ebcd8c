"""Products and transposes of small float32 matrices for `njit` kernels, in vectors of 16.

A matrix is a place in a flat array and its sizes, which are multiples of 16. Called per chunk,
such products cost less than the call of a library, and what they multiply is still in the cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from titans_stream.jit import njit
from titans_stream.records import Float32
from titans_stream.titans.vectors import (
    LANES,
    add,
    add_product,
    fill,
    load,
    multiply,
    spread,
    store,
    total,
    transpose_tile,
)

# As int64, not int: for literal numbers numba would compile a function of its own each.
ALL: Any = np.int64(0)
LOWER: Any = np.int64(1)
UPPER: Any = np.int64(2)
"""Which part of the left matrix is not zero: all, on and below the diagonal, on and above it."""
SET: Any = np.int64(0)
ADD: Any = np.int64(1)
"""Whether a product replaces what is there or is added to it."""
ZERO: Any = np.int64(0)
ONE: Any = np.int64(1)
_ROWS, _COLUMNS = 4, 4 * LANES


@njit(nogil=True, error_model="numpy")
def product(
    a: Float32,
    a_at: int,
    a_row: int,
    a_column: int,
    b: Float32,
    b_at: int,
    c: Float32,
    c_at: int,
    m: int,
    n: int,
    k: int,
    part: int,
    mode: int,
) -> None:
    """C = A B (SET) or C += A B (ADD); A [m, k] with its strides, perhaps transposed, B [k, n]."""
    wide = n // _COLUMNS * _COLUMNS
    for j in range(0, wide, _COLUMNS):
        for i in range(0, m, _ROWS):
            first = i if part == UPPER else 0
            last = min(i + _ROWS, k) if part == LOWER else k
            _tile(
                a,
                a_at + i * a_row,
                a_row,
                a_column,
                b,
                b_at + j,
                c,
                c_at + i * n + j,
                n,
                first,
                last,
                mode,
            )
    for j in range(wide, n, LANES):
        for i in range(0, m, _ROWS):
            first = i if part == UPPER else 0
            last = min(i + _ROWS, k) if part == LOWER else k
            _narrow_tile(
                a,
                a_at + i * a_row,
                a_row,
                a_column,
                b,
                b_at + j,
                c,
                c_at + i * n + j,
                n,
                first,
                last,
                mode,
            )


@njit(nogil=True, error_model="numpy", forceinline=True)
def _tile(
    a: Float32,
    a_at: int,
    row: int,
    column: int,
    b: Float32,
    b_at: int,
    c: Float32,
    at: int,
    n: int,
    first: int,
    last: int,
    mode: int,
) -> None:
    """4 rows by 64 columns of a product, its sums in registers."""
    c00 = c01 = c02 = c03 = fill(np.float32(0))
    c10 = c11 = c12 = c13 = fill(np.float32(0))
    c20 = c21 = c22 = c23 = fill(np.float32(0))
    c30 = c31 = c32 = c33 = fill(np.float32(0))
    if mode == ADD:
        c00, c01, c02, c03 = _four(c, at)
        c10, c11, c12, c13 = _four(c, at + n)
        c20, c21, c22, c23 = _four(c, at + 2 * n)
        c30, c31, c32, c33 = _four(c, at + 3 * n)
    for p in range(first, last):
        b0, b1, b2, b3 = _four(b, b_at + p * n)
        x = spread(a, a_at + p * column)
        c00, c01 = add_product(x, b0, c00), add_product(x, b1, c01)
        c02, c03 = add_product(x, b2, c02), add_product(x, b3, c03)
        x = spread(a, a_at + row + p * column)
        c10, c11 = add_product(x, b0, c10), add_product(x, b1, c11)
        c12, c13 = add_product(x, b2, c12), add_product(x, b3, c13)
        x = spread(a, a_at + 2 * row + p * column)
        c20, c21 = add_product(x, b0, c20), add_product(x, b1, c21)
        c22, c23 = add_product(x, b2, c22), add_product(x, b3, c23)
        x = spread(a, a_at + 3 * row + p * column)
        c30, c31 = add_product(x, b0, c30), add_product(x, b1, c31)
        c32, c33 = add_product(x, b2, c32), add_product(x, b3, c33)
    _put_four(c, at, c00, c01, c02, c03)
    _put_four(c, at + n, c10, c11, c12, c13)
    _put_four(c, at + 2 * n, c20, c21, c22, c23)
    _put_four(c, at + 3 * n, c30, c31, c32, c33)


@njit(nogil=True, error_model="numpy", forceinline=True)
def _narrow_tile(
    a: Float32,
    a_at: int,
    row: int,
    column: int,
    b: Float32,
    b_at: int,
    c: Float32,
    at: int,
    n: int,
    first: int,
    last: int,
    mode: int,
) -> None:
    """4 rows by 16 columns of a product."""
    c0 = c1 = c2 = c3 = fill(np.float32(0))
    if mode == ADD:
        c0, c1, c2, c3 = load(c, at), load(c, at + n), load(c, at + 2 * n), load(c, at + 3 * n)
    for p in range(first, last):
        x = load(b, b_at + p * n)
        c0 = add_product(spread(a, a_at + p * column), x, c0)
        c1 = add_product(spread(a, a_at + row + p * column), x, c1)
        c2 = add_product(spread(a, a_at + 2 * row + p * column), x, c2)
        c3 = add_product(spread(a, a_at + 3 * row + p * column), x, c3)
    store(c, at, c0)
    store(c, at + n, c1)
    store(c, at + 2 * n, c2)
    store(c, at + 3 * n, c3)


@njit(nogil=True, error_model="numpy", forceinline=True)
def _four(x: Float32, at: int) -> Any:
    return load(x, at), load(x, at + LANES), load(x, at + 2 * LANES), load(x, at + 3 * LANES)


@njit(nogil=True, error_model="numpy", forceinline=True)
def _put_four(x: Float32, at: int, a: Any, b: Any, c: Any, d: Any) -> None:
    store(x, at, a)
    store(x, at + LANES, b)
    store(x, at + 2 * LANES, c)
    store(x, at + 3 * LANES, d)


@njit(nogil=True, error_model="numpy")
def transpose(x: Float32, at: int, rows: int, columns: int, out: Float32) -> None:
    """`out` [columns, rows] = the transpose of the matrix [rows, columns] at `at`."""
    for i in range(0, rows, LANES):
        for j in range(0, columns, LANES):
            transpose_tile(x, at + i * columns + j, columns, out, j * rows + i, rows)


@njit(nogil=True, error_model="numpy")
def scale_rows(
    x: Float32, at: int, factors: Float32, out: Float32, to: int, rows: int, width: int
) -> None:
    """out = diag(factors) x, for x [rows, width]."""
    for t in range(rows):
        factor = spread(factors, t)
        for j in range(t * width, (t + 1) * width, LANES):
            store(out, to + j, multiply(factor, load(x, at + j)))


@njit(nogil=True, error_model="numpy")
def add_scaled_rows(
    x: Float32, at: int, factors: Float32, out: Float32, to: int, rows: int, width: int
) -> None:
    """out += diag(factors) x, for x [rows, width]."""
    for t in range(rows):
        factor = spread(factors, t)
        for j in range(t * width, (t + 1) * width, LANES):
            store(out, to + j, add_product(factor, load(x, at + j), load(out, to + j)))


@njit(nogil=True, error_model="numpy")
def add_row_products(
    x: Float32, at: int, y: Float32, y_at: int, out: Float32, rows: int, width: int
) -> None:
    """out[t] += x_t y_t, for x, y [rows, width]."""
    for t in range(rows):
        out[t] += _product_of(x, at + t * width, y, y_at + t * width, width)


@njit(nogil=True, error_model="numpy")
def _product_of(x: Float32, at: int, y: Float32, y_at: int, size: int) -> np.float32:
    sums = fill(np.float32(0))
    for j in range(0, size, LANES):
        sums = add_product(load(x, at + j), load(y, y_at + j), sums)
    inner: np.float32 = total(sums)
    return inner


@njit(nogil=True, error_model="numpy")
def inner_product(x: Float32, at: int, y: Float32, y_at: int, size: int) -> float:
    """x y of vectors of `size` numbers, summed in parts so that long ones keep their precision."""
    whole = 0.0
    for start in range(0, size, 1024):
        part = _product_of(x, at + start, y, y_at + start, min(1024, size - start))
        whole += float(part)
    return whole


@njit(nogil=True, error_model="numpy")
def add_to(x: Float32, at: int, out: Float32, to: int, size: int) -> None:
    """out += x."""
    for j in range(0, size, LANES):
        store(out, to + j, add(load(x, at + j), load(out, to + j)))


@njit(nogil=True, error_model="numpy")
def copy(x: Float32, at: int, out: Float32, to: int, size: int) -> None:
    """out = x."""
    for j in range(0, size, LANES):
        store(out, to + j, load(x, at + j))


@njit(nogil=True, error_model="numpy")
def clear(out: Float32, to: int, size: int) -> None:
    """out = 0."""
    for j in range(0, size, LANES):
        store(out, to + j, fill(np.float32(0)))
