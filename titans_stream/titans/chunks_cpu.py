"""Whole chunks of the neural memory on a CPU in float32, compiled by numba: the forward pass.

The computation is that of `chunk.py` and `scan.py`. One memory reads all its chunks before the
next one begins, so that weights and activations stay in the cache; what the backward pass in
`chunks_back_cpu.py` needs is left on a tape.

The tape holds, per memory and chunk, the places that `layout` lists: weights and momentum at the
chunk's start, and the activations of `chunk.py`. Letters: N rows times heads, T tokens (whole
chunks), C chunk length, D width of keys and values, I and O a layer's input and output width.
"""

from __future__ import annotations

import numpy as np

from titans_stream.jit import njit
from titans_stream.records import Float32, Int64
from titans_stream.titans.decays_cpu import decay_factors
from titans_stream.titans.matrices_cpu import (
    ADD,
    ALL,
    LOWER,
    ONE,
    SET,
    ZERO,
    add_to,
    copy,
    inner_product,
    product,
    scale_rows,
    transpose,
)
from titans_stream.titans.silu_cpu import silu, slope
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

WEIGHT, MOMENTUM, INPUT, ERROR, READ, ALIKE, BEFORE, BACK, BEFORE_READ = range(9)
"""Columns of a layout: M [I, O] and S [I, O] at the chunk's start, h [C, I], g [C, O], what is
read at [C, I], q_t h_i [C, C]; and of layers but the last what SiLU is applied to [C, O], its
gradient [C, O], what SiLU of the read-out is applied to [C, O]."""


def layout(widths: list[int], chunk: int, momentum: bool) -> tuple[Int64, int]:
    """Places of the parts of one chunk on the tape [L_M, 9], and the length of them all.

    Weights and momentum of all layers come first; the last 2 C numbers are the squared norms of
    the gradients and the factors that clip them.
    """
    depth, end = len(widths) - 1, 0
    places = np.zeros((depth, 9), np.int64)

    def place(layer: int, kind: int, size: int) -> None:
        nonlocal end
        places[layer, kind], end = end, end + size

    for layer in range(depth):
        place(layer, WEIGHT, widths[layer] * widths[layer + 1])
        place(layer, MOMENTUM, widths[layer] * widths[layer + 1] * momentum)
    for layer in range(depth):
        before, after = chunk * widths[layer], chunk * widths[layer + 1]
        for kind, size in ((INPUT, before), (ERROR, after), (READ, before), (ALIKE, chunk**2)):
            place(layer, kind, size)
        if layer < depth - 1:
            for kind in (BEFORE, BACK, BEFORE_READ):
                place(layer, kind, after)
    return places, end + 2 * chunk


@njit(nogil=True, error_model="numpy")
def read_and_fold_chunks(
    q: Float32,
    k: Float32,
    v: Float32,
    gates: Float32,
    widths: Int64,
    places: Int64,
    tape: Float32,
    momentum: bool,
    residual: bool,
    clip: float,
    y: Float32,
) -> None:
    """Read and learn T tokens: y [N, T, D] is written, and the tape [N, slots, length].

    q, k, v [N, T, D]; gates (1 - alpha, eta, theta) [N, chunks, C, 3]; weights and momentum are
    in the tape's first slot, and at last in its last; it has a slot per chunk and one more, or
    just two where no backward pass follows. A `clip` of infinity clips nothing.
    """
    chunks, size, slots, length = gates.shape[1], gates.shape[2], tape.shape[1], tape.shape[2]
    width = widths[0]
    flat_q, flat_k, flat_v, flat_y = q.reshape(-1), k.reshape(-1), v.reshape(-1), y.reshape(-1)
    flat_gates, flat_tape = gates.reshape(-1), tape.reshape(-1)
    read, past = np.empty((2, size), np.float32), np.empty(size, np.float32)
    write, carry = np.empty(size * size, np.float32), np.empty(size * size, np.float32)
    for memory in range(q.shape[0]):
        for chunk in range(chunks):
            here, then = chunk % slots, (chunk + 1) % slots
            token = (memory * chunks + chunk) * size
            decay_factors(flat_gates, 3 * token, momentum, read, past, write, carry)
            _chunk(
                flat_q,
                flat_k,
                flat_v,
                flat_gates,
                token,
                width,
                widths,
                places,
                flat_tape,
                (memory * slots + here) * length,
                (memory * slots + then) * length,
                length,
                momentum,
                residual,
                np.float32(clip),
                read,
                past,
                write,
                carry,
                flat_y,
            )
        if (chunks % slots) != slots - 1:
            here, then = memory * slots + chunks % slots, (memory + 1) * slots - 1
            copy(flat_tape, here * length, flat_tape, then * length, length)


@njit(nogil=True, error_model="numpy", inline="always")
def _chunk(
    q: Float32,
    k: Float32,
    v: Float32,
    gates: Float32,
    token: int,
    width: int,
    widths: Int64,
    places: Int64,
    tape: Float32,
    here: int,
    then: int,
    length: int,
    momentum: bool,
    residual: bool,
    clip: np.float32,
    read: Float32,
    past: Float32,
    write: Float32,
    carry: Float32,
    y: Float32,
) -> None:
    """One chunk, from its slot at `here` of the tape to the one at `then`; all arrays flat."""
    depth, size = len(widths) - 1, len(past)
    skip = residual and depth > 1
    widest = size
    for i in range(depth + 1):
        widest = max(widest, widths[i])
    scratch = np.empty(size * widest, np.float32)
    matrix = np.empty(widest * widest, np.float32)
    place = np.empty_like(places)
    for layer in range(depth):
        for kind in range(places.shape[1]):
            place[layer, kind] = places[layer, kind] + here
    norms, scales = here + length - 2 * size, here + length - size
    at = token * width

    # Gradients at the chunk's start.
    copy(k, at, tape, place[0, INPUT], size * width)
    for layer in range(depth - 1):
        before, after, z = widths[layer], widths[layer + 1], place[layer, BEFORE]
        h, w = place[layer, INPUT], place[layer, WEIGHT]
        product(tape, h, before, ONE, tape, w, tape, z, size, after, before, ALL, SET)
        through = residual and layer > 0
        silu(tape, z, tape, h, through, tape, place[layer + 1, INPUT], size * after)
    layer = depth - 1
    before, e = widths[layer], place[layer, ERROR]
    h, w = place[layer, INPUT], place[layer, WEIGHT]
    product(tape, h, before, ONE, tape, w, tape, e, size, width, before, ALL, SET)
    two = fill(np.float32(2))
    for j in range(0, size * width, LANES):
        off = subtract(load(tape, e + j), load(v, at + j))
        if skip:
            off = add(off, load(k, at + j))
        store(tape, e + j, multiply(two, off))
    for layer in range(depth - 1, 0, -1):
        before, after, back = widths[layer], widths[layer + 1], place[layer - 1, BACK]
        e = place[layer, ERROR]
        transpose(tape, place[layer, WEIGHT], before, after, matrix)
        product(tape, e, after, ONE, matrix, ZERO, tape, back, size, before, after, ALL, SET)
        if residual and layer < depth - 1:
            add_to(tape, place[layer, BACK], tape, back, size * before)
        z = place[layer - 1, BEFORE]
        slope(tape, back, tape, z, tape, place[layer - 1, ERROR], size * before)

    # Steps.
    step = np.empty(size, np.float32)
    for t in range(size):
        norm = np.float32(0)
        for layer in range(depth):
            before, after = widths[layer], widths[layer + 1]
            h, e = place[layer, INPUT] + t * before, place[layer, ERROR] + t * after
            norm += inner_product(tape, h, tape, h, before) * inner_product(tape, e, tape, e, after)
        scale = np.float32(1)
        if norm > clip * clip:
            scale = clip / np.float32(np.sqrt(norm))
        tape[norms + t], tape[scales + t] = norm, scale
        step[t] = -gates[3 * (token + t) + 2] * scale

    # The read-out.
    within = np.empty(size * size, np.float32)
    copy(q, at, tape, place[0, READ], size * width)
    for layer in range(depth):
        before, after = widths[layer], widths[layer + 1]
        h, e, r = place[layer, INPUT], place[layer, ERROR], place[layer, READ]
        last = layer == depth - 1
        out, u = (y, at) if last else (tape, place[layer, BEFORE_READ])
        scale_rows(tape, r, read[0], scratch, ZERO, size, before)
        w, s, alike = place[layer, WEIGHT], place[layer, MOMENTUM], place[layer, ALIKE]
        product(scratch, ZERO, before, ONE, tape, w, out, u, size, after, before, ALL, SET)
        if momentum:
            scale_rows(tape, r, read[1], scratch, ZERO, size, before)
            product(scratch, ZERO, before, ONE, tape, s, out, u, size, after, before, ALL, ADD)
        transpose(tape, h, size, before, scratch)
        product(tape, r, before, ONE, scratch, ZERO, tape, alike, size, size, before, ALL, SET)
        weigh(write, step, tape, alike, within, size)
        product(within, ZERO, size, ONE, tape, e, out, u, size, after, size, LOWER, ADD)
        if not last:
            through = residual and layer > 0
            silu(tape, u, tape, r, through, tape, place[layer + 1, READ], size * after)
        elif skip:
            add_to(q, at, y, at, size * width)

    # The fold.
    shares, final = np.empty(size, np.float32), size * (size - 1)
    for layer in range(depth):
        before, after = widths[layer], widths[layer + 1]
        h, e, area = place[layer, INPUT], place[layer, ERROR], before * after
        w, s = places[layer, WEIGHT], places[layer, MOMENTUM]
        for j in range(0, area, LANES):
            weights = load(tape, here + w + j)
            mixed = add_product(fill(read[0, size - 1]), weights, fill(TINY))
            if momentum:
                old = load(tape, here + s + j)
                mixed = add_product(fill(read[1, size - 1]), old, mixed)
                held = add_product(fill(past[size - 1]), old, fill(TINY))
                store(tape, then + s + j, add(held, fill(-TINY)))
            store(tape, then + w + j, add(mixed, fill(-TINY)))
        for i in range(size):
            shares[i] = write[final + i] * step[i]
        scale_rows(tape, h, shares, scratch, ZERO, size, before)
        product(scratch, ZERO, ONE, before, tape, e, tape, then + w, before, after, size, ALL, ADD)
        if momentum:
            for i in range(size):
                shares[i] = carry[final + i] * step[i]
            scale_rows(tape, h, shares, scratch, ZERO, size, before)
            product(
                scratch, ZERO, ONE, before, tape, e, tape, then + s, before, after, size, ALL, ADD
            )


@njit(nogil=True, error_model="numpy")
def weigh(
    write: Float32, step: Float32, tape: Float32, alike: int, out: Float32, size: int
) -> None:
    """out [C, C] = W_ti step_i q_t h_i."""
    for row in range(0, size * size, size):
        for j in range(0, size, LANES):
            scores = multiply(load(write, row + j), load(step, j))
            store(out, row + j, multiply(scores, load(tape, alike + row + j)))
