"""The arrays of one row of the multi-step forecaster, and the read-out of its slot memory.

The slot memory is the linear Titans memory of `titans/rule.py` with the one-hot key of a cell:
eta = 0, alpha = 0 and theta = SLOT_RATE / 2 leave M_p += SLOT_RATE (v - M_p) for the cell p and
nothing for the others. While a cell has few visits the rate is one over their number, so that a
slot is the mean of what it has seen. A cell that was never seen holds NaN.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from titans_stream.forecasting.multi import layout as L
from titans_stream.jit import njit
from titans_stream.records import Float64


class Row(NamedTuple):
    """One series' state: a row of every array of `multi_layout.state_layout`, in its order."""

    meta: Float64
    slots: Float64
    twins: Float64
    visits: Float64
    ring: Float64
    lasts: Float64
    sums: Float64
    own: Float64
    kept: Float64
    gate: Float64
    samples: Float64


class Shared(NamedTuple):
    """What all series share: the weights, and which parts are switched on."""

    w: Float64
    gram: Float64
    window: Float64
    memory: bool
    shared_head: bool
    learning: bool
    fallback: bool


class View(NamedTuple):
    """The slot memory read out for one origin: cells without a value are filled, in float64."""

    slots: Float64
    """[cells]"""
    latest: Float64
    """[cells]: the latest value of each cell."""
    inputs: Float64
    """[A_INPUTS] of the shared head."""
    numbers: Float64
    """[NUMBERS]"""


LEVEL = 0
"""Mean of the latest values."""
CENTRE = 1
"""Mean of the slots."""
BASE = 2
"""Mean of the window."""
LATEST = 3
"""Last reading."""
NOW = 4
"""Last reading less the anchor of its own cell."""
NUMBERS = 5


@njit(inner=True)
def new_view() -> View:
    """Scratch space for the read-out of any row."""
    return View(np.empty(L.FINE), np.empty(L.FINE), np.empty(L.A_INPUTS), np.empty(NUMBERS))


@njit(inner=True)
def fine_cells(period: float) -> int:
    """Cells a period of the slot memory."""
    return min(L.FINE, int(math.floor(period + 1e-9)))


@njit(inner=True)
def coarse_cells(period: float) -> int:
    """Cells a period of targets and window."""
    return min(L.COARSE, int(math.floor(period + 1e-9)))


@njit(inner=True)
def cell_of(tick: float, cells: int, period: float) -> int:
    """Which cell, counted from tick 0, a tick lies in."""
    return int(math.floor(tick * cells / period))


@njit()
def write_slot(
    slots: Float64, visits: Float64, first_visit: int, p: int, value: float, remember: bool
) -> None:
    """One step of the slot memory: slots [2, cells] hold memory and latest value."""
    seen = visits[first_visit + p]
    if seen < 255:
        seen += 1
        visits[first_visit + p] = seen
    slots[1, p] = value
    if seen == 1 or not remember:
        slots[0, p] = value
    else:
        slots[0, p] += max(L.SLOT_RATE, 1.0 / seen) * (value - slots[0, p])


@njit(inner=True)
def read_slots(slots: Float64, cells: int, last: float, place: int, view: View) -> bool:
    """Fill a view's slots, latest values and numbers; False where nothing was seen.

    slots [2, >= cells]; `last` is the last reading and `place` its cell. A slot never seen is the
    mean of the others.
    """
    total, latest, seen = 0.0, 0.0, 0
    for p in range(cells):
        if not math.isnan(slots[0, p]):
            total += slots[0, p]
            latest += slots[1, p]
            seen += 1
    if seen == 0 or math.isnan(last):
        return False
    centre, level = total / seen, latest / seen
    for p in range(cells):
        known = not math.isnan(slots[0, p])
        view.slots[p] = slots[0, p] if known else centre
        view.latest[p] = slots[1, p] if known else level
    view.numbers[LEVEL] = level
    view.numbers[CENTRE] = centre
    view.numbers[LATEST] = last
    view.numbers[NOW] = last - (view.slots[place] + level - centre)
    return True


@njit(inline="always")
def features(view: View, p: int, x: Float64) -> float:
    """Inputs of the structured head at cell p -> x [FEATURES]; returns the anchor."""
    level = view.numbers[LEVEL]
    anchor: float = view.slots[p] + level - view.numbers[CENTRE]
    x[0] = view.latest[p] - anchor
    x[1] = view.slots[p] - anchor
    x[2] = view.numbers[NOW]
    x[3] = level - anchor
    return anchor


@njit(inner=True)
def read_window(ring: Float64, newest: int, cells: int, fine: int, view: View) -> None:
    """Inputs of the shared head -> view.inputs: the window up to coarse cell `newest`.

    `fine` is how many cells the view's slots have. Where a period has fewer than 24 coarse cells
    a cell stands for several inputs. A missing cell is its anchor.
    """
    inputs = view.inputs
    shift = view.numbers[LEVEL] - view.numbers[CENTRE]
    total = 0.0
    place = (newest - (L.WINDOW - 1) * cells // L.COARSE) % L.RING
    for i in range(L.WINDOW):
        if cells < L.COARSE:
            place = (newest - (L.WINDOW - 1 - i) * cells // L.COARSE) % L.RING
        value = ring[place]
        if math.isnan(value):
            cell = newest - (L.WINDOW - 1 - i) * cells // L.COARSE
            value = coarse_slot(view, cell % cells, cells, fine) + shift
        inputs[i] = value
        total += value
        place = place + 1 if place < L.RING - 1 else 0
    base = total / L.WINDOW
    for i in range(L.WINDOW):
        inputs[i] -= base
    p = (newest + 1) % cells
    for i in range(L.COARSE):
        cell = p if cells == L.COARSE else (newest + 1 + i * cells // L.COARSE) % cells
        value = view.slots[cell] if fine == cells else coarse_slot(view, cell, cells, fine)
        inputs[L.WINDOW + i] = value - base
        p = p + 1 if p < cells - 1 else 0
    view.numbers[BASE] = base


@njit(inner=True)
def coarse_slot(view: View, cell: int, cells: int, fine: int) -> float:
    """Mean of the slots that a coarse cell holds."""
    if fine == cells:
        value: float = view.slots[cell]
        return value
    total, count = 0.0, 0
    p = (cell * fine + cells - 1) // cells
    while p < fine and p * cells // fine == cell:
        total += view.slots[p]
        count += 1
        p += 1
    return total / count
