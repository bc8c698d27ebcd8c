"""The sparse memories: was this value seen in its context, was it seen after the one before?"""

from __future__ import annotations

import math

import numpy as np

from titans_stream.detection import layout
from titans_stream.detection.arrays import Series
from titans_stream.detection.layout import Core
from titans_stream.jit import njit
from titans_stream.records import Float64, Int16

_WIDE = layout.HOUR_BINS + layout.MEAN_BINS


@njit(inner=True)
def sparse_heads(series: Series, y: float, day_fraction: float, surprise: Float64) -> None:
    """Familiarity of this value in its contexts, then the cells learn. Writes surprise[5:9].

    `series.history` already holds y_t at index 0.
    """
    core, history, cells = series.core, series.history, series.cells
    u = math.asinh(y)
    core.before = core.u
    core.u = u
    hour = layout.HOUR_BINS * day_fraction
    total = 0.0
    for i in range(layout.MEAN_WINDOW, 2 * layout.MEAN_WINDOW):
        total += history[i]
    seen = min(max(core.t + 1.0 - layout.MEAN_WINDOW, 1.0), float(layout.MEAN_WINDOW))
    mean = math.asinh(total / seen)
    n0 = core.n0
    unit = 1.0 / layout.CELL_UNIT
    for w in range(2):
        width, bins, origin = layout.VALUE_WIDTHS[w], layout.VALUE_BINS[w], layout.VALUE_ORIGIN[w]
        c1 = layout.CELLS_C1_FINE if w == 0 else layout.CELLS_C1_COARSE
        c0 = layout.CELLS_C0_FINE if w == 0 else layout.CELLS_C0_COARSE
        p_hour = 0.0
        p_mean = 0.0
        for k in range(layout.TILINGS):
            bin_v = int(math.floor(u / width + 0.25 * k)) + origin
            shift = 0.25 * ((3 * k) % 4)
            bin_h = int(math.floor(hour + shift)) % layout.HOUR_BINS
            bin_m = int(math.floor(mean + shift)) + layout.MEAN_ORIGIN + layout.HOUR_BINS
            i0 = c0 + k * bins + bin_v
            ih = c1 + (k * _WIDE + bin_h) * bins + bin_v
            im = c1 + (k * _WIDE + bin_m) * bins + bin_v
            nh = layout.CELLS_N1 + k * _WIDE + bin_h
            nm = layout.CELLS_N1 + k * _WIDE + bin_m
            p1 = (cells[i0] * unit + layout.PRIOR_FAMILIARITY) / (n0 + 1.0)
            p_hour += (cells[ih] * unit + p1) / (cells[nh] * unit + 1.0)
            p_mean += (cells[im] * unit + p1) / (cells[nm] * unit + 1.0)
            visit(cells, i0)
            visit(cells, ih)
            visit(cells, im)
            if w == 1:
                visit(cells, nh)
                visit(cells, nm)
        for c in range(2):
            p = (p_hour if c == 0 else p_mean) / layout.TILINGS
            j = 2 * w + c
            core.p_smooth[j] += layout.P_EMA * (-math.log(p) - core.p_smooth[j])
            surprise[layout.DENSE_CHANNELS + j] = core.p_smooth[j]
    core.n0 = layout.MASS_DECAY * n0 + 1.0


@njit(inner=True)
def transitions(series: Series, surprise: Float64) -> None:
    """Memory V: familiarity of this value after the one before it, then its cells learn.

    After `sparse_heads`, which leaves asinh of both.
    """
    core, cells = series.core, series.transitions
    u = core.u
    before = core.before / layout.PREVIOUS_WIDTH
    bins, width, origin = layout.VALUE_BINS[0], layout.VALUE_WIDTHS[0], layout.VALUE_ORIGIN[0]
    unit = 1.0 / layout.CELL_UNIT
    total = 0.0
    for k in range(layout.TILINGS):
        bin_v = int(math.floor(u / width + 0.25 * k)) + origin
        bin_p = int(math.floor(before + 0.25 * ((3 * k) % 4))) + layout.PREVIOUS_ORIGIN
        context = k * layout.PREVIOUS_BINS + bin_p
        at, at_n = context * bins + bin_v, layout.TRANSITIONS_N + context
        total += (cells[at] * unit + layout.PRIOR_FAMILIARITY) / (cells[at_n] * unit + 1.0)
        visit(cells, at)
        visit(cells, at_n)
    transition_surprise(core, -math.log(total / layout.TILINGS), surprise)


@njit(inner=True)
def transition_surprise(core: Core, unfamiliar: float, surprise: Float64) -> None:
    """V's channel from the newest value's unfamiliarity."""
    core.transition += layout.V_EMA * (unfamiliar - core.transition)
    surprise[layout.TRANSITION_CHANNEL] = core.transition


@njit(inner=True)
def quiet(core: Core, surprise: Float64) -> None:
    """Q: how small the recent changes are, in their usual size; after `normalize`.

    Not in the deviations of the values: one large value makes these larger for long.
    """
    moved, usual = core.moved, core.usual_move
    if usual > 0.0:
        share = min(layout.MOVE_BOUND, moved / usual)
        if core.count > layout.MOVES_FREE:
            moved = min(moved, layout.MOVE_BOUND * usual)
    else:
        share = layout.MOVE_BOUND if moved > 0.0 else 0.0
    if core.count > 1.0:
        core.usual_move += (moved - usual) / min(core.count - 1.0, layout.MOVES_CAP)
    core.change += layout.QUIET_EMA * (share - core.change)
    surprise[layout.QUIET_CHANNEL] = 1.0 / (core.change + layout.QUIET_FLOOR)


@njit(inline="always")
def visit(cells: Int16, at: int) -> None:
    """A cell was seen once more."""
    cells[at] = (
        (np.int32(cells[at]) * layout.CELL_DECAY) >> layout.CELL_DECAY_SHIFT
    ) + layout.CELL_UNIT
