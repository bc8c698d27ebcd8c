"""Tokens, corrections and their gate for one row of the MAL residual, compiled by numba.

A row's correction of a step is g (c_0 s + c . x): s the scale of the deviations from the slot
memory, x the inputs of the structured head, c the block's output for the step's range, g the
gate. So it is blind to the level and scales with the series. The gate is the share of the
correction that matured errors ask for, g = sum (e d) / (sum d^2 + m), within 0 and 1; e is a
range's mean error without correction, d its mean correction, and m holds g down until there is
evidence.

Letters: D width, R ranges of steps (rows of the heads from one 24th of a period on).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from titans_stream.forecasting.mal import block as K
from titans_stream.forecasting.multi import layout as L
from titans_stream.forecasting.multi import rows as R
from titans_stream.jit import njit
from titans_stream.records import Float64

ROWS = 7
"""Ranges that are corrected."""
REACH = L.ENDS[ROWS - 1]
"""Coarse cells that they reach over: one period."""
CORRECTIONS = 1 + L.FEATURES
TOKENS = 4
"""Tokens a period; a period of less than 24 readings has none."""
LENGTH = L.COARSE // TOKENS
INPUTS = LENGTH + 11
BOUND = 8.0
"""Largest token input."""
GAIN = 0.2
"""Of the corrections, so that they start small."""
SCALE_DECAY = 0.5 ** (1.0 / 56.0)
"""Per token: the scale remembers two weeks of a daily period."""
DAY_DECAY, WEEK_DECAY, MONTH_DECAY = 0.5 ** (1.0 / 4.0), 0.5 ** (1.0 / 28.0), 0.5 ** (1.0 / 120.0)
LEAST_SCALE = 1e-3
"""In deviations of the series."""
TINIEST = 1e-150
PENDING = 1
PENDING_EVERY = 5
"""Tokens between two that the gate learns from; it shares no factor with TOKENS."""
GATE_DECAY = 0.5 ** (1.0 / 72.0)
"""Per matured token: 90 periods."""
GATE_MASS = 3.0

# Columns of `residual_meta`
COUNT = 0
"""Tokens read."""
NEWEST = 1
"""Coarse cell after the last token's last one."""
PERIOD = 2
SQUARE = 3
"""Decaying mean square of the deviations, in units of measurement."""
MASS = 4
MEAN_DAY, MEAN_WEEK = 5, 6
LEVEL_DAYS, LEVEL_MONTH = 7, 8
LEVELS = 9
"""The levels of the last tokens, newest first."""
SCALE = LEVELS + TOKENS
FRESH = SCALE + 1
"""1 where the last token is to be kept for the gate."""
META = FRESH + 1

# Columns of `residual_gate`
CROSS, DEN, MATURED, SHARE = 0, 1, 2, 3
GATE = 4

# Columns of `residual_pending`: origin + 1 (0: free), then per range forecast and correction
SLOT = 1 + 2 * ROWS

ENDS = np.array(L.ENDS[:ROWS], np.int64)


class ResidualWeights(NamedTuple):
    """Slow weights and what the persistent tokens leave in an empty row."""

    input: Float64
    """[D, INPUTS + 1], the last column is the bias."""
    block: K.BlockWeights
    memory: np.ndarray
    """[2, D, D] at the start."""
    tail: np.ndarray
    last_norm: Float64
    output: Float64
    """[R CORRECTIONS, D + 1]"""
    active: bool
    """False: corrections are zero and nothing is computed."""


class Residual(NamedTuple):
    """One row's state, in the order of `mal.state_layout`."""

    memory: np.ndarray
    tail: np.ndarray
    window: np.ndarray
    meta: Float64
    head: np.ndarray
    gate: np.ndarray
    pending: Float64


@njit(inner=True)
def wants(meta: Float64, row_meta: Float64) -> bool:
    """Whether `observe` has something to do after the last reading."""
    if row_meta[L.PERIOD] != meta[PERIOD] or row_meta[L.STARTED] > meta[NEWEST]:
        return True
    newest = int(row_meta[L.CELL]) + 1
    return newest > meta[NEWEST] and newest % LENGTH == 0


@njit(inner=True)
def observe(own: Residual, w: ResidualWeights, row: R.Row, view: R.View) -> bool:
    """Read a token if one is complete; the view is that after the last reading.

    True where the token is one that the gate learns from: the caller then gives `remember` the
    forecasts of the next period.
    """
    if not w.active:
        return False
    meta = own.meta
    period = row.meta[L.PERIOD]
    if period != meta[PERIOD] or row.meta[L.STARTED] > meta[NEWEST]:
        _restart(own, w, period)
    cells = R.coarse_cells(period)
    if cells < L.COARSE:
        return False
    newest = int(row.meta[L.CELL]) + 1
    if newest <= meta[NEWEST] or newest % LENGTH != 0:
        return False
    meta[NEWEST] = newest
    x = np.empty(INPUTS)
    token(own, row, view, x)
    _mature(own, row, newest - 1)
    hidden, y = np.empty(K.WIDTH), np.empty(K.WIDTH)
    for i in range(K.WIDTH):
        hidden[i] = w.input[i, INPUTS]
        for j in range(INPUTS):
            hidden[i] += w.input[i, j] * x[j]
    count = int(meta[COUNT])
    K.advance(w.block, K.BlockState(own.memory, own.tail, own.window), count, hidden, y)
    meta[COUNT] = count + 1
    K.normalise(y, w.last_norm, hidden)
    for r in range(ROWS):
        for k in range(CORRECTIONS):
            o = r * CORRECTIONS + k
            total = w.output[o, K.WIDTH]
            for i in range(K.WIDTH):
                total += w.output[o, i] * hidden[i]
            own.head[r, k] = GAIN * total
    return count % PENDING_EVERY == 0


@njit(inner=True)
def _restart(own: Residual, w: ResidualWeights, period: float) -> None:
    own.meta[:] = 0.0
    own.gate[:] = 0.0
    own.pending[:] = 0.0
    own.head[:] = 0.0
    own.window[:] = 0.0
    for i in range(w.memory.shape[1]):
        for j in range(w.memory.shape[2]):
            own.memory[0, i, j] = w.memory[0, i, j]
            own.memory[1, i, j] = w.memory[1, i, j]
    for i in range(w.tail.shape[0]):
        for j in range(w.tail.shape[1]):
            own.tail[i, j] = w.tail[i, j]
    own.meta[PERIOD] = period


@njit(inner=True)
def token(own: Residual, row: R.Row, view: R.View, x: Float64) -> None:
    """Inputs of the token that ends with the last coarse cell -> x [INPUTS]; scales learn it."""
    meta, unit = own.meta, row.meta[L.UNIT]
    fine = R.fine_cells(row.meta[L.PERIOD])
    newest = int(row.meta[L.CELL])
    centre, level = view.numbers[R.CENTRE], view.numbers[R.LEVEL]
    mean, square, known = 0.0, 0.0, 0
    for j in range(LENGTH):
        cell = newest - (LENGTH - 1 - j)
        value = row.ring[cell % L.RING]
        x[j] = 0.0
        if not math.isnan(value):
            x[j] = unit * (
                value - R.coarse_slot(view, cell % L.COARSE, L.COARSE, fine) - level + centre
            )
            mean += x[j]
            square += x[j] * x[j]
            known += 1
    if known > 0:
        mean /= known
        square /= known
    first = meta[COUNT] == 0.0
    raw_level = row.meta[L.OFFSET] + unit * level
    if first:
        meta[LEVEL_DAYS] = meta[LEVEL_MONTH] = raw_level
        meta[LEVELS : LEVELS + TOKENS] = raw_level
    meta[SQUARE] = SCALE_DECAY * meta[SQUARE] + (1.0 - SCALE_DECAY) * square
    meta[MASS] = SCALE_DECAY * meta[MASS] + 1.0 - SCALE_DECAY
    meta[MEAN_DAY] = DAY_DECAY * meta[MEAN_DAY] + (1.0 - DAY_DECAY) * mean
    meta[MEAN_WEEK] = WEEK_DECAY * meta[MEAN_WEEK] + (1.0 - WEEK_DECAY) * mean
    meta[LEVEL_DAYS] += (1.0 - DAY_DECAY) * (raw_level - meta[LEVEL_DAYS])
    meta[LEVEL_MONTH] += (1.0 - MONTH_DECAY) * (raw_level - meta[LEVEL_MONTH])
    sd = unit * math.sqrt(max(row.meta[L.VAR], 0.0))
    scale = math.sqrt(meta[SQUARE] / meta[MASS]) + LEAST_SCALE * sd
    meta[SCALE] = scale
    if scale < TINIEST:  # a series at rest: inputs are zero
        scale = 1.0
    spread, recent, common = 0.0, 0.0, 0.0
    for p in range(fine):
        slot = view.slots[p] - centre
        late = view.latest[p] - level
        spread += slot * slot
        recent += (late - slot) * (late - slot)
        common += (late - slot) * slot
    spread = unit * math.sqrt(spread / fine)
    x[6] = unit * view.numbers[R.NOW] / scale
    x[7] = unit * (centre - level) / scale
    x[8] = (raw_level - meta[LEVELS + TOKENS - 1]) / scale
    x[9] = (raw_level - meta[LEVEL_DAYS]) / scale
    x[10] = (raw_level - meta[LEVEL_MONTH]) / scale
    x[11] = spread / scale
    x[12] = unit * math.sqrt(recent / fine) / scale
    x[13] = unit * common / fine / scale * unit / (spread + 0.1 * scale)
    x[14] = math.log(1.0 + meta[COUNT] / TOKENS)
    x[15] = meta[MEAN_DAY] / scale
    x[16] = meta[MEAN_WEEK] / scale
    for k in range(TOKENS - 1, 0, -1):
        meta[LEVELS + k] = meta[LEVELS + k - 1]
    meta[LEVELS] = raw_level
    for j in range(LENGTH):
        x[j] /= scale
    for j in range(INPUTS):
        x[j] = min(BOUND, max(-BOUND, x[j]))


@njit(inline="always")
def proposed(own: Residual, row: R.Row, r: int, x: Float64) -> float:
    """The correction in the row's unit before the gate: range r, inputs x of the head."""
    total: float = own.head[r, 0] * own.meta[SCALE] / row.meta[L.UNIT]
    for k in range(L.FEATURES):
        total += own.head[r, 1 + k] * x[k]
    return total


@njit(inner=True)
def correction(own: Residual, row: R.Row, head_row: int, x: Float64) -> float:
    """What is added to a forecast, in the row's unit; `head_row` is the row of the heads."""
    r = head_row - L.FINER_ROWS
    if r < 0 or r >= ROWS or own.gate[r, SHARE] <= 0.0:
        return 0.0
    share: float = own.gate[r, SHARE]
    return share * proposed(own, row, r, x)


@njit(inner=True)
def remember(own: Residual, row: R.Row, k: int, r: int, forecast: float, change: float) -> None:
    """Keep the forecast without correction, and the proposed correction, of coarse cell k >= 1
    after the last one, which is in range r; cells come in order."""
    slot = own.pending[int(own.meta[COUNT]) // PENDING_EVERY % PENDING]
    if k == 1:
        slot[:] = 0.0
        slot[0] = own.meta[NEWEST]
    first = 0 if r == 0 else ENDS[r - 1]
    width = float(ENDS[r] - first)
    slot[1 + 2 * r] += (row.meta[L.OFFSET] + row.meta[L.UNIT] * forecast) / width
    slot[2 + 2 * r] += row.meta[L.UNIT] * change / width


@njit(inner=True)
def _mature(own: Residual, row: R.Row, newest: int) -> None:
    """Ranges of kept tokens whose last cell has come since the token before."""
    for slot in own.pending:
        if slot[0] == 0.0:
            continue
        origin = int(slot[0]) - 1
        for r in range(ROWS):
            end = origin + ENDS[r]
            if end > newest or end <= newest - LENGTH:
                continue
            first = origin + (1 if r == 0 else ENDS[r - 1] + 1)
            total, known = 0.0, 0
            for cell in range(first, end + 1):
                value = row.ring[cell % L.RING]
                if not math.isnan(value):
                    total += value
                    known += 1
            if known == 0:
                continue
            gate = own.gate[r]
            error = row.meta[L.OFFSET] + row.meta[L.UNIT] * total / known - slot[1 + 2 * r]
            change = slot[2 + 2 * r]
            gate[CROSS] = GATE_DECAY * gate[CROSS] + error * change
            gate[DEN] = GATE_DECAY * gate[DEN] + change * change
            gate[MATURED] = GATE_DECAY * gate[MATURED] + 1.0
            mass = GATE_MASS * gate[DEN] / gate[MATURED]
            if gate[DEN] > 0.0:
                gate[SHARE] = min(1.0, max(0.0, gate[CROSS] / (gate[DEN] + mass)))
