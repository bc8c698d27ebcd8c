"""The state of one series of the multi-step forecaster, and the read-out of its slot memory.

The slot memory holds a value for every fine cell of a period. It is the linear Titans memory of
`memory/rule.py` with the one-hot key of a cell: eta = 0, alpha = 0 and theta = MEMORY_RATE / 2
leave M_p += MEMORY_RATE (v - M_p) for the cell p and nothing for the others. While a cell has few
visits the rate is one over their number, so that it holds the mean of what it has seen. A cell
that was never seen holds NaN.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from titans_stream.forecasting.multi import layout
from titans_stream.forecasting.multi.layout import COARSE, FINE, Meta
from titans_stream.jit import njit, scratch
from titans_stream.memory.rows import Record, dtype_of
from titans_stream.records import Float32, Float64, Records

UInt8 = npt.NDArray[np.uint8]


class Series(NamedTuple):
    """One series' state, in the order of `layout.state_layout`.

    The arrays of all series have their slot as first axis.
    """

    meta: Meta
    memory: Float32
    """[2, FINE]: the slot memory, and the latest value of each fine cell."""
    twins: Float32
    """[2, 2, COARSE]: the same by coarse cells, as they were 4 and 30 periods ago."""
    visits: UInt8
    """[FINE + 2 COARSE]: of the cells of the memory and of both twins."""
    ring: Float32
    """[RING] means of the last coarse cells."""
    lasts: Float32
    """[NEAR_LASTS + FAR_LASTS] the last reading at the origins that are learned from."""
    sums: Records
    """[BANDS] of `layout.Sums`"""
    own: Float32
    """[BANDS, FEATURES] the series' weights."""
    kept: Float32
    """[2, bands from a coarse cell on, FEATURES] weights of some time ago."""
    gate: Records
    """[BANDS] of `layout.Gate`"""
    samples: Records
    """[FINER_BANDS] of `layout.Sample`"""
    longer: Float32
    """[4, CYCLE COARSE]: the longer cycle's memory, now and as it was 2, 4 and 30 periods ago."""
    longer_sums: Records
    """[bands from a coarse cell on] of `layout.LongerSums`"""
    longer_own: Float32
    """[3, the same, LONGER_FEATURES] weights of the longer head, now and of some time ago."""
    values: layout.Values
    rest: UInt8
    """[FINE] periods in a row in which a cell had the same value."""
    spreads: Float32
    """[COARSE] mean errors of the phases, in units of the mean error, less 1."""
    floors: Float32
    """[COARSE] share of a phase's readings that are the least of all."""
    counter: layout.Counter
    carry: layout.Carry


class Shared(NamedTuple):
    """What all series share: the weights, and which parts are switched on."""

    w: Float64
    gram: Float64
    memory: bool
    learning: bool
    fallback: bool
    longer: bool
    carry: bool
    special: UInt8
    """[days from 1970 on] 1: holidays and the like; empty: none are known."""


class Levels(Record):
    """Numbers of a view, in the series' unit."""

    level: float
    """Mean of the latest values."""
    centre: float
    """Mean of the slot memory."""
    last: float
    """Last reading."""
    now: float
    """Last reading less the anchor of its own fine cell."""


class Longer(Record):
    """Numbers of a view of the longer cycle, in the series' unit."""

    ready: float
    """1 where there are any."""
    copy: float
    """Of the memory."""
    origin: float
    """Coarse cell."""
    length: float
    """Coarse cells of a cycle."""
    cells: float
    """Coarse cells of a period."""
    level: float
    """Mean of the last period."""
    shift: float
    """That less the memory's over the same cells."""
    change: float
    """Mean of the last period less that of the one a cycle before."""
    now: float
    """Last reading less the anchor of its own cell."""
    since: float
    """Last reading less the one a cycle before, less `change`."""
    today: float
    """Last reading less the one a period before."""


class Pairs(NamedTuple):
    """Matured targets of one band and what had been forecast of them; each [WIDEST]."""

    value: Float64
    anchor: Float64
    memory: Float64
    """What the slot memory held, and the latest value."""
    latest: Float64
    head: Float64
    """The structured head's forecast, and the longer head's."""
    longer: Float64
    cycle: Float64
    """The reading a cycle ago."""


class PairSums(NamedTuple):
    """As `layout.Sums`, in float64."""

    products: Float64
    cross: Float64


class Inputs(NamedTuple):
    """Of matured targets of one band, what of the longer head's inputs differs between them, and
    what there is to learn; each [WIDEST], in the space of `Pairs`."""

    day: Float64
    days: Float64
    level: Float64
    cycle: Float64
    residual: Float64
    """Target less anchor."""


class InputSums(NamedTuple):
    """Sums over targets."""

    sums: Float64
    """[5] of `Inputs`."""
    squares: Float64
    """[4, 4] of products of inputs, upper triangle."""
    cross: Float64
    """[4] of inputs times the residual."""


class View(NamedTuple):
    """The slot memory read out for one origin: cells without a value are filled, in float64."""

    memory: Float64
    """[cells]"""
    latest: Float64
    """[cells]: the latest value of each cell."""
    levels: Records
    """[1] of `Levels`; a record alone would not keep the memory of its array."""
    longer: Records
    """[1] of `Longer`"""
    longer_x: Float64
    """[LONGER_FEATURES] of the last target that was looked at."""
    x: Float64
    """[FEATURES]; this and the rest is scratch space of what learns."""
    pairs: Pairs
    sums: PairSums
    inputs: Inputs
    input_sums: InputSums


SAMPLE_EVERY = 5
"""Coarse cells between two at which a sampled forecast may begin; shares no factor with a
period's."""

_memory = scratch(FINE)
_latest = scratch(FINE)
_levels = scratch(1, dtype_of(Levels))
_longer = scratch(1, dtype_of(Longer))
_longer_x = scratch(layout.LONGER_FEATURES)
_x = scratch(layout.FEATURES)
_values, _anchors, _memories = (scratch(layout.WIDEST) for _ in range(3))
_latests, _heads, _longers, _cycles = (scratch(layout.WIDEST) for _ in range(4))
_products, _cross = scratch(layout.PRODUCTS), scratch(layout.FEATURES)
_input_sums, _input_squares, _input_cross = scratch(5), scratch((4, 4)), scratch(4)


@njit(inline="always")
def new_view() -> View:
    """Scratch space for the read-out of any series."""
    pairs = Pairs(_values(), _anchors(), _memories(), _latests(), _heads(), _longers(), _cycles())
    sums = PairSums(_products(), _cross())
    inputs = Inputs(pairs.latest, pairs.memory, pairs.anchor, pairs.cycle, pairs.value)
    input_sums = InputSums(_input_sums(), _input_squares(), _input_cross())
    view = View(
        _memory(), _latest(), _levels(), _longer(), _longer_x(), _x(), pairs, sums, inputs,
        input_sums,
    )  # fmt: skip
    view.longer[0].ready = 0.0
    return view


@njit(inner=True)
def fine_cells(period: float) -> int:
    """Cells a period of the slot memory."""
    return min(FINE, int(math.floor(period + 1e-9)))


@njit(inner=True)
def coarse_cells(period: float) -> int:
    """Cells a period of targets."""
    return min(COARSE, int(math.floor(period + 1e-9)))


@njit(inner=True)
def cell_of(tick: float, cells: int, period: float) -> int:
    """Which of the cells, fine or coarse, a tick lies in, counted from tick 0."""
    return int(math.floor(tick * cells / period))


@njit(inline="always")
def cells_ahead(newest: int, first: int, last: int) -> int:
    """How far ahead a sampled forecast that begins at a coarse cell is: above first, last at most,
    in no order."""
    return first + 1 + ((newest * 40_503) >> 7) % (last - first)


@njit()
def write_memory(
    memory: Float32, visits: UInt8, first_visit: int, p: int, value: float, remember: bool
) -> None:
    """One step of the slot memory: memory [2, cells] holds its values and the latest ones."""
    seen = visits[first_visit + p]
    if seen < 255:
        seen += 1
        visits[first_visit + p] = seen
    memory[1, p] = value
    if seen == 1 or not remember:
        memory[0, p] = value
    else:
        memory[0, p] += max(layout.MEMORY_RATE, 1.0 / seen) * (value - memory[0, p])


@njit(inner=True)
def read_memory(memory: Float32, cells: int, last: float, place: int, view: View) -> bool:
    """Fill a view; False where nothing was seen.

    memory [2, >= cells]; `last` is the last reading and `place` its cell. A cell never seen is
    taken for the mean of the others.
    """
    total, latest, seen = 0.0, 0.0, 0
    for p in range(cells):
        if not math.isnan(memory[0, p]):
            total += memory[0, p]
            latest += memory[1, p]
            seen += 1
    if seen == 0 or math.isnan(last):
        return False
    centre, level = total / seen, latest / seen
    for p in range(cells):
        known = not math.isnan(memory[0, p])
        view.memory[p] = memory[0, p] if known else centre
        view.latest[p] = memory[1, p] if known else level
    view.levels[0].level = level
    view.levels[0].centre = centre
    view.levels[0].last = last
    view.levels[0].now = last - (view.memory[place] + level - centre)
    return True


@njit(inline="always")
def features(view: View, p: int, x: Float64) -> float:
    """Inputs of the structured head at cell p of the view -> x [FEATURES]; returns the anchor."""
    level = view.levels[0].level
    anchor: float = view.memory[p] + level - view.levels[0].centre
    x[0] = view.latest[p] - anchor
    x[1] = view.memory[p] - anchor
    x[2] = view.levels[0].now
    x[3] = level - anchor
    return anchor


@njit(inner=True)
def coarse_memory(view: View, coarse_cell: int, cells: int, fine: int) -> float:
    """Mean of the slot memory over a coarse cell."""
    if fine == cells:
        value: float = view.memory[coarse_cell]
        return value
    total, count = 0.0, 0
    p = (coarse_cell * fine + cells - 1) // cells
    while p < fine and p * cells // fine == coarse_cell:
        total += view.memory[p]
        count += 1
        p += 1
    return total / count
