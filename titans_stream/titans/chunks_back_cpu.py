"""Whole chunks of the neural memory on a CPU in float32: the backward pass of `chunks_cpu.py`.

Written out as in `chunk_gradient.py`, from the last chunk to the first. Letters as in
`chunks_cpu.py`; d_x is the gradient for x.
"""

from __future__ import annotations

import numpy as np

from titans_stream.jit import njit
from titans_stream.records import Float32, Int64
from titans_stream.titans.chunks_cpu import (
    ALIKE,
    BACK,
    BEFORE,
    BEFORE_READ,
    ERROR,
    INPUT,
    MOMENTUM,
    READ,
    WEIGHT,
    weigh,
)
from titans_stream.titans.decays_cpu import decay_factors, decays_gradient
from titans_stream.titans.matrices_cpu import (
    ADD,
    ALL,
    LOWER,
    ONE,
    SET,
    UPPER,
    ZERO,
    add_row_products,
    add_scaled_rows,
    add_to,
    clear,
    copy,
    inner_product,
    product,
    scale_rows,
    transpose,
)
from titans_stream.titans.silu_cpu import curve, slope
from titans_stream.titans.vectors import (
    LANES,
    TINY,
    add,
    add_product,
    fill,
    load,
    multiply,
    store,
    subtract,
)


@njit(nogil=True, error_model="numpy")
def chunks_gradient(
    dy: Float32,
    gates: Float32,
    widths: Int64,
    places: Int64,
    tape: Float32,
    momentum: bool,
    residual: bool,
    clip: float,
    dstack: Float32,
    dq: Float32,
    dk: Float32,
    dv: Float32,
    dgates: Float32,
) -> None:
    """Gradients of `read_and_fold_chunks`, whose tape is read.

    dy [N, T, D]; dstack [N, stack]: for weights and momentum after the last chunk, replaced by
    those before the first; dq, dk, dv and dgates are written.
    """
    chunks, size, slots, length = gates.shape[1], gates.shape[2], tape.shape[1], tape.shape[2]
    flat_dy, flat_dq = dy.reshape(-1), dq.reshape(-1)
    flat_dk, flat_dv, flat_dgates = dk.reshape(-1), dv.reshape(-1), dgates.reshape(-1)
    flat_gates, flat_tape, flat_dstack = gates.reshape(-1), tape.reshape(-1), dstack.reshape(-1)
    read, past = np.empty((2, size), np.float32), np.empty(size, np.float32)
    write, carry = np.empty(size * size, np.float32), np.empty(size * size, np.float32)
    dread, dends = np.empty((2, size), np.float32), np.empty(LANES, np.float32)
    dwrite, dcarry = np.empty(size * size, np.float32), np.empty(size * size, np.float32)
    for memory in range(dy.shape[0]):
        for chunk in range(chunks - 1, -1, -1):
            token = (memory * chunks + chunk) * size
            decay_factors(flat_gates, 3 * token, momentum, read, past, write, carry)
            _chunk(
                flat_dy,
                flat_gates,
                token,
                widths,
                places,
                flat_tape,
                (memory * slots + chunk) * length,
                length,
                momentum,
                residual,
                np.float32(clip),
                read,
                past,
                write,
                carry,
                flat_dstack,
                memory * dstack.shape[1],
                flat_dq,
                flat_dk,
                flat_dv,
                flat_dgates,
                dread,
                dends,
                dwrite,
                dcarry,
            )
            decays_gradient(
                flat_gates,
                3 * token,
                momentum,
                read,
                past,
                write,
                carry,
                dread,
                dends,
                dwrite,
                dcarry,
                flat_dgates,
            )


@njit(nogil=True, error_model="numpy", inline="always")
def _chunk(
    dy: Float32,
    gates: Float32,
    token: int,
    widths: Int64,
    places: Int64,
    tape: Float32,
    here: int,
    length: int,
    momentum: bool,
    residual: bool,
    clip: np.float32,
    read: Float32,
    past: Float32,
    write: Float32,
    carry: Float32,
    dstack: Float32,
    after_all: int,
    dq: Float32,
    dk: Float32,
    dv: Float32,
    dgates: Float32,
    dread: Float32,
    dends: Float32,
    dwrite: Float32,
    dcarry: Float32,
) -> None:
    """One chunk; all arrays flat."""
    depth, size, width = len(widths) - 1, len(past), widths[0]
    skip, parts = residual and depth > 1, 2 if momentum else 1
    widest = size
    for i in range(depth + 1):
        widest = max(widest, widths[i])
    place = np.empty_like(places)
    for layer in range(depth):
        for kind in range(places.shape[1]):
            place[layer, kind] = places[layer, kind] + here
    norms, scales = here + length - 2 * size, here + length - size
    at = token * width
    area = size * widest
    dh, de = np.empty((depth, area), np.float32), np.empty((depth, area), np.float32)
    clear(dwrite, ZERO, size * size)
    clear(dcarry, ZERO, size * size)
    clear(dread[0], ZERO, size)
    clear(dread[1], ZERO, size)
    clear(dends, ZERO, LANES)
    step = np.empty(size, np.float32)
    shares, dshares = np.empty((2, size), np.float32), np.zeros((2, size), np.float32)
    final = size * (size - 1)
    for t in range(size):
        step[t] = -gates[3 * (token + t) + 2] * tape[scales + t]
        shares[0, t], shares[1, t] = write[final + t] * step[t], carry[final + t] * step[t]

    # The fold.
    x, z = np.empty(area, np.float32), np.empty(area, np.float32)
    matrix = np.empty(widest * widest, np.float32)
    for layer in range(depth):
        before, after = widths[layer], widths[layer + 1]
        h, e = place[layer, INPUT], place[layer, ERROR]
        for part in range(parts):
            d = after_all + places[layer, WEIGHT + part]
            transpose(dstack, d, before, after, matrix)
            product(tape, e, after, ONE, matrix, ZERO, x, ZERO, size, before, after, ALL, SET)
            if part:
                add_scaled_rows(x, ZERO, shares[part], dh[layer], ZERO, size, before)
            else:
                scale_rows(x, ZERO, shares[part], dh[layer], ZERO, size, before)
            add_row_products(x, ZERO, tape, h, dshares[part], size, before)
            scale_rows(tape, h, shares[part], x, ZERO, size, before)
            product(
                x, ZERO, before, ONE, dstack, d, de[layer], ZERO, size, after, before, ALL, part
            )
        w, s = places[layer, WEIGHT], places[layer, MOMENTUM]
        _unmix(
            dstack,
            after_all + w,
            after_all + s,
            tape,
            here + w,
            here + s,
            before * after,
            read[0, size - 1],
            read[1, size - 1],
            past[size - 1],
            momentum,
            dends,
        )

    # The read-out.
    du, dr, passed = (
        np.empty(area, np.float32),
        np.empty(area, np.float32),
        np.empty(area, np.float32),
    )
    passing = False
    within, dproduct = np.empty(size * size, np.float32), np.empty(size * size, np.float32)
    copy(dy, at, du, ZERO, size * width)
    for layer in range(depth - 1, -1, -1):
        before, after = widths[layer], widths[layer + 1]
        h, e, r = place[layer, INPUT], place[layer, ERROR], place[layer, READ]
        alike = place[layer, ALIKE]
        weigh(write, step, tape, alike, within, size)
        for part in range(parts):
            transpose(tape, place[layer, WEIGHT + part], before, after, matrix)
            product(du, ZERO, after, ONE, matrix, ZERO, x, ZERO, size, before, after, ALL, SET)
            add_row_products(x, ZERO, tape, r, dread[part], size, before)
            if part:
                add_scaled_rows(x, ZERO, read[part], dr, ZERO, size, before)
            else:
                scale_rows(x, ZERO, read[part], dr, ZERO, size, before)
            scale_rows(tape, r, read[part], x, ZERO, size, before)
            d = after_all + places[layer, WEIGHT + part]
            product(x, ZERO, ONE, before, du, ZERO, dstack, d, before, after, size, ALL, ADD)
        transpose(tape, e, size, after, x)
        product(du, ZERO, after, ONE, x, ZERO, dproduct, ZERO, size, size, after, ALL, SET)
        product(within, ZERO, ONE, size, du, ZERO, de[layer], ZERO, size, after, size, UPPER, ADD)
        for row in range(0, size * size, size):
            for j in range(0, size, LANES):
                found = load(dproduct, row + j)
                scored = multiply(found, load(tape, alike + row + j))
                store(dwrite, row + j, add(load(dwrite, row + j), scored))
                found = multiply(found, multiply(load(write, row + j), load(step, j)))
                store(dproduct, row + j, found)
        product(dproduct, ZERO, size, ONE, tape, h, dr, ZERO, size, before, size, LOWER, ADD)
        product(dproduct, ZERO, ONE, size, tape, r, dh[layer], ZERO, size, before, size, UPPER, ADD)
        if passing:
            add_to(passed, ZERO, dr, ZERO, size * before)
        passing = residual and layer > 1
        if layer > 0:
            slope(dr, ZERO, tape, place[layer - 1, BEFORE_READ], du, ZERO, size * before)
            dr, passed = passed, dr
        else:
            copy(dr, ZERO, dq, at, size * width)
    if skip:
        add_to(dy, at, dq, at, size * width)

    # The step: step = -theta min(1, clip / norm).
    for t in range(size):
        dstep = dshares[0, t] * write[final + t] + dshares[1, t] * carry[final + t]
        for row in range(t * size, size * size, size):
            dstep += dwrite[row + t] * write[row + t]
        norm, scale = tape[norms + t], tape[scales + t]
        theta = gates[3 * (token + t) + 2]
        dgates[3 * (token + t) + 2] = -scale * dstep
        if norm > clip * clip:
            twice = dstep * theta * scale / norm
            for layer in range(depth):
                before, after = widths[layer], widths[layer + 1]
                h, e = place[layer, INPUT] + t * before, place[layer, ERROR] + t * after
                of_h = np.float32(twice * inner_product(tape, h, tape, h, before))
                of_e = np.float32(twice * inner_product(tape, e, tape, e, after))
                _add_multiple(of_h, tape, e, de[layer], t * after, after)
                _add_multiple(of_e, tape, h, dh[layer], t * before, before)
    for row in range(0, size * size, size):
        for j in range(0, size, LANES):
            store(dwrite, row + j, multiply(load(dwrite, row + j), load(step, j)))
    for j in range(0, size, LANES):
        last = add_product(load(dshares[0], j), load(step, j), load(dwrite, final + j))
        store(dwrite, final + j, last)
        store(dcarry, final + j, multiply(load(dshares[1], j), load(step, j)))

    # The gradients' own backward pass, from the first layer to the last; x is d_back.
    dz = np.empty((depth, area), np.float32)
    for layer in range(depth):
        before, after = widths[layer], widths[layer + 1]
        e, d = place[layer, ERROR], after_all + places[layer, WEIGHT]
        if layer > 0:
            w = place[layer, WEIGHT]
            product(x, ZERO, before, ONE, tape, w, de[layer], ZERO, size, after, before, ALL, ADD)
            product(x, ZERO, ONE, before, tape, e, dstack, d, before, after, size, ALL, ADD)
        if layer < depth - 1:
            back, before_silu = place[layer, BACK], place[layer, BEFORE]
            curve(de[layer], tape, back, before_silu, dz[layer], size * after)
            slope(de[layer], ZERO, tape, before_silu, z, ZERO, size * after)
            if residual and layer > 0:
                add_to(x, ZERO, z, ZERO, size * after)
            x, z = z, x

    # The forward pass over the keys, from the last layer to the first.
    two = fill(np.float32(2))
    for j in range(0, size * width, LANES):
        dout = multiply(two, load(de[depth - 1], j))
        store(dz[depth - 1], j, dout)
        store(dv, at + j, subtract(fill(np.float32(0)), dout))
    for layer in range(depth - 1, -1, -1):
        before, after = widths[layer], widths[layer + 1]
        h, d = place[layer, INPUT], after_all + places[layer, WEIGHT]
        if layer < depth - 1:
            slope(dh[layer + 1], ZERO, tape, place[layer, BEFORE], x, ZERO, size * after)
            add_to(x, ZERO, dz[layer], ZERO, size * after)
        product(tape, h, ONE, before, dz[layer], ZERO, dstack, d, before, after, size, ALL, ADD)
        transpose(tape, place[layer, WEIGHT], before, after, matrix)
        product(
            dz[layer],
            ZERO,
            after,
            ONE,
            matrix,
            ZERO,
            dh[layer],
            ZERO,
            size,
            before,
            after,
            ALL,
            ADD,
        )
        if residual and 0 < layer < depth - 1:
            add_to(dh[layer + 1], ZERO, dh[layer], ZERO, size * before)
    copy(dh[0], ZERO, dk, at, size * width)
    if skip:
        add_to(dz[depth - 1], ZERO, dk, at, size * width)


@njit(nogil=True, error_model="numpy")
def _unmix(
    dstack: Float32,
    dw: int,
    ds: int,
    tape: Float32,
    w: int,
    s: int,
    area: int,
    kept: np.float32,
    mixed: np.float32,
    carried: np.float32,
    momentum: bool,
    dends: Float32,
) -> None:
    """Gradients for a layer's weights and momentum at the chunk's start and for their shares."""
    dends[0] += inner_product(dstack, dw, tape, w, area)
    if momentum:
        dends[1] += inner_product(dstack, dw, tape, s, area)
        dends[2] += inner_product(dstack, ds, tape, s, area)
    tiny, off = fill(TINY), fill(-TINY)
    for j in range(0, area, LANES):
        weight = load(dstack, dw + j)
        if momentum:
            both = multiply(fill(mixed), weight)
            both = add_product(fill(carried), load(dstack, ds + j), both)
            store(dstack, ds + j, add(add(both, tiny), off))
        store(dstack, dw + j, add(add_product(fill(kept), weight, tiny), off))


@njit(nogil=True, error_model="numpy")
def _add_multiple(
    factor: np.float32, x: Float32, at: int, out: Float32, to: int, size: int
) -> None:
    """out += factor x."""
    for j in range(0, size, LANES):
        store(out, to + j, add_product(fill(factor), load(x, at + j), load(out, to + j)))
