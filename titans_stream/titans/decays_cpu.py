"""The coefficients of `scan.py` on a CPU in float32, by their recurrences, and back again."""

from __future__ import annotations

import numpy as np

from titans_stream.jit import njit
from titans_stream.records import Float32
from titans_stream.titans.matrices_cpu import ZERO, clear, inner_product
from titans_stream.titans.vectors import (
    LANES,
    TINY,
    add,
    add_product,
    fill,
    load,
    store,
)


@njit(nogil=True, error_model="numpy")
def decay_factors(
    gates: Float32,
    at: int,
    momentum: bool,
    read: Float32,
    past: Float32,
    write: Float32,
    carry: Float32,
) -> None:
    """R_t, m_t [2, C], e_t [C], W_ti and E_ti [C, C] of `scan.py`, by their recurrences."""
    size = past.shape[0]
    kept, mixed, carried = np.float32(1), np.float32(0), np.float32(1)
    tiny, off = fill(TINY), fill(-TINY)
    for t in range(size):
        keep, eta = gates[at + 3 * t], gates[at + 3 * t + 1]
        if not momentum:
            eta = np.float32(0)
        carried = eta * carried + TINY - TINY
        kept = keep * kept + TINY - TINY
        mixed = keep * mixed + carried
        read[0, t], read[1, t], past[t] = kept, mixed, carried
        row = t * size
        if t == 0:
            clear(write, ZERO, size)
            clear(carry, ZERO, size)
        else:
            for j in range(0, size, LANES):
                e = add_product(fill(eta), load(carry, row - size + j), tiny)
                w = add_product(fill(keep), load(write, row - size + j), e)
                store(carry, row + j, add(e, off))
                store(write, row + j, add(w, off))
        carry[row + t] = np.float32(1)
        write[row + t] = np.float32(1)


@njit(nogil=True, error_model="numpy")
def decays_gradient(
    gates: Float32,
    at: int,
    momentum: bool,
    read: Float32,
    past: Float32,
    write: Float32,
    carry: Float32,
    dread: Float32,
    dends: Float32,
    dwrite: Float32,
    dcarry: Float32,
    dgates: Float32,
) -> None:
    """Gradients for 1 - alpha and eta through the recurrences of `decay_factors`.

    Entries above the diagonals are never read where they matter: the factors there are zero.
    """
    size = len(past)
    dkept, dmixed, dcarried = dends[0], dends[1], dends[2]
    for t in range(size - 1, -1, -1):
        row, last = t * size, t == size - 1
        if not last:
            keep, eta = gates[at + 3 * t + 3], gates[at + 3 * t + 4]
            if not momentum:
                eta = np.float32(0)
            for j in range(0, size, LANES):
                below = load(dwrite, row + size + j)
                here = add_product(fill(keep), below, load(dwrite, row + j))
                store(dwrite, row + j, here)
                below = load(dcarry, row + size + j)
                store(dcarry, row + j, add_product(fill(eta), below, here))
            dkept, dmixed, dcarried = keep * dkept, keep * dmixed, eta * dcarried
        else:
            for j in range(0, size, LANES):
                store(dcarry, row + j, add(load(dcarry, row + j), load(dwrite, row + j)))
        dkept += dread[0, t]
        dmixed += dread[1, t]
        dcarried += dmixed
        if t:
            dkeep = inner_product(dwrite, row, write, row - size, size)
            deta = inner_product(dcarry, row, carry, row - size, size)
            dkeep += dkept * read[0, t - 1] + dmixed * read[1, t - 1]
            deta += dcarried * past[t - 1]
        else:
            dkeep, deta = float(dkept), float(dcarried)
        dgates[at + 3 * t] = dkeep
        dgates[at + 3 * t + 1] = deta if momentum else 0.0
