"""Tokens, corrections and their gate for one series of the MAL residual, compiled by numba.

The correction of a step is g (c_0 s + c . x): s the scale of the deviations from the slot
memory, x the inputs of the structured head, c the block's output for the step's band, g the
gate. So it is blind to the level and scales with the series. The gate is the share of the
correction that matured errors ask for, g = sum (e d) / (sum d^2 + m), within 0 and 1; e is a
band's mean error without correction, d its mean correction, and m holds g down until there is
evidence.

Letters: D width, R bands of steps (those of the heads from one 24th of a period on).
"""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple

import numpy as np

from titans_stream.forecasting.mal.block import WIDTH, BlockState, BlockWeights, advance, normalise
from titans_stream.forecasting.multi import layout
from titans_stream.forecasting.multi.series import (
    Series,
    View,
    coarse_cells,
    coarse_memory,
    fine_cells,
)
from titans_stream.jit import njit, scratch
from titans_stream.memory.rows import Record, Single
from titans_stream.records import Float32, Float64, Records

BANDS = 7
"""Bands that are corrected."""
REACH = layout.ENDS[BANDS - 1]
"""Coarse cells that they reach over: one period."""
CORRECTIONS = 1 + layout.FEATURES
TOKENS = 4
"""Tokens a period; a period of less than 24 readings has none."""
LENGTH = layout.COARSE // TOKENS
INPUTS = LENGTH + 11
"""How the coarse cells of a token went, then eleven numbers that sum up the series."""
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

ENDS = np.array(layout.ENDS[:BANDS], np.int64)


class Meta(Record):
    """Where a series' residual is, and the scales that its inputs are measured by."""

    count: float
    """Tokens read."""
    newest: float
    """Coarse cell after the last token's last one."""
    period: float
    square: float
    """Decaying mean square of the deviations, in units of measurement."""
    mass: float
    mean_day: float
    """Decaying means of the deviations."""
    mean_week: float
    level_days: float
    """Decaying means of the level."""
    level_month: float
    levels: Annotated[Float64, TOKENS]
    """The levels of the last tokens, newest first."""
    scale: float
    unused: float


class Gate(Record):
    """What a band's corrections have been worth: decaying sums over matured tokens."""

    cross: Single
    """error x correction"""
    square: Single
    """correction^2"""
    matured: Single
    share: Single
    """Of the correction that is applied."""


class Pending(Record):
    """A token that the gate waits to learn from."""

    origin: float
    """The coarse cell after its last one; 0: none."""
    bands: Annotated[Float64, BANDS, 2]
    """Mean forecast and mean correction of each band."""


class ResidualWeights(NamedTuple):
    """Slow weights and what the persistent tokens leave in an empty state."""

    input: Float64
    """[D, INPUTS + 1], the last column is the bias."""
    block: BlockWeights
    memory: Float32
    """[2, D, D] at the start."""
    tail: Float32
    last_norm: Float64
    output: Float64
    """[R CORRECTIONS, D + 1]"""
    active: bool
    """False: corrections are zero and nothing is computed."""


class Residual(NamedTuple):
    """One series' state, in the order of `weights.state_layout`.

    The arrays of all series have their slot as first axis.
    """

    memory: Float32
    tail: Float32
    window: Float32
    meta: Meta
    head: Float32
    """[R, CORRECTIONS] the block's last output."""
    gate: Records
    """[R] of `Gate`"""
    pending: Records
    """[PENDING] of `Pending`"""


_inputs = scratch(INPUTS)
_hidden, _output = scratch(WIDTH), scratch(WIDTH)


@njit(inner=True)
def wants(meta: Meta, heads: layout.Meta) -> bool:
    """Whether `observe` has something to do after the last reading."""
    if heads.period != meta.period or heads.started > meta.newest:
        return True
    newest = int(heads.coarse_cell) + 1
    return newest > meta.newest and newest % LENGTH == 0


@njit(inner=True)
def observe(own: Residual, w: ResidualWeights, series: Series, view: View) -> bool:
    """Read a token if one is complete; the view is that after the last reading.

    True where the token is one that the gate learns from: the caller then gives `remember` the
    forecasts of the next period.
    """
    if not w.active:
        return False
    meta = own.meta
    period = series.meta.period
    if period != meta.period or series.meta.started > meta.newest:
        _restart(own, w, period)
    cells = coarse_cells(period)
    if cells < layout.COARSE:
        return False
    newest = int(series.meta.coarse_cell) + 1
    if newest <= meta.newest or newest % LENGTH != 0:
        return False
    meta.newest = newest
    x = _inputs()
    token(own, series, view, x)
    _mature(own, series, newest - 1)
    hidden, y = _hidden(), _output()
    for i in range(WIDTH):
        hidden[i] = w.input[i, INPUTS]
        for j in range(INPUTS):
            hidden[i] += w.input[i, j] * x[j]
    count = int(meta.count)
    advance(w.block, BlockState(own.memory, own.tail, own.window), count, hidden, y)
    meta.count = count + 1
    normalise(y, w.last_norm, hidden)
    for band in range(BANDS):
        for k in range(CORRECTIONS):
            o = band * CORRECTIONS + k
            total = w.output[o, WIDTH]
            for i in range(WIDTH):
                total += w.output[o, i] * hidden[i]
            own.head[band, k] = GAIN * total
    return count % PENDING_EVERY == 0


@njit(inner=True)
def _restart(own: Residual, w: ResidualWeights, period: float) -> None:
    """Begin anew with a period."""
    meta = own.meta
    meta.count = meta.newest = meta.square = meta.mass = meta.scale = 0.0
    meta.mean_day = meta.mean_week = meta.level_days = meta.level_month = 0.0
    for k in range(TOKENS):
        meta.levels[k] = 0.0
    for band in range(BANDS):
        gate = own.gate[band]
        gate.cross = gate.square = gate.matured = gate.share = 0.0
    for k in range(PENDING):
        _wait(own.pending[k], 0.0)
    own.head[:] = 0.0
    own.window[:] = 0.0
    for i in range(w.memory.shape[1]):
        for j in range(w.memory.shape[2]):
            own.memory[0, i, j] = w.memory[0, i, j]
            own.memory[1, i, j] = w.memory[1, i, j]
    for i in range(w.tail.shape[0]):
        for j in range(w.tail.shape[1]):
            own.tail[i, j] = w.tail[i, j]
    meta.period = period


@njit(inner=True)
def token(own: Residual, series: Series, view: View, x: Float64) -> None:
    """Inputs of the token that ends with the last coarse cell -> x [INPUTS]; scales learn it."""
    meta, unit = own.meta, series.meta.unit
    fine = fine_cells(series.meta.period)
    newest = int(series.meta.coarse_cell)
    centre, level = view.levels[0].centre, view.levels[0].level
    mean, square, known = 0.0, 0.0, 0
    for j in range(LENGTH):
        coarse_cell = newest - (LENGTH - 1 - j)
        value = series.ring[coarse_cell % layout.RING]
        x[j] = 0.0
        if not math.isnan(value):
            expected = coarse_memory(view, coarse_cell % layout.COARSE, layout.COARSE, fine)
            x[j] = unit * (value - expected - level + centre)
            mean += x[j]
            square += x[j] * x[j]
            known += 1
    if known > 0:
        mean /= known
        square /= known
    first = meta.count == 0.0
    raw_level = series.meta.offset + unit * level
    if first:
        meta.level_days = meta.level_month = raw_level
        for k in range(TOKENS):
            meta.levels[k] = raw_level
    meta.square = SCALE_DECAY * meta.square + (1.0 - SCALE_DECAY) * square
    meta.mass = SCALE_DECAY * meta.mass + 1.0 - SCALE_DECAY
    meta.mean_day = DAY_DECAY * meta.mean_day + (1.0 - DAY_DECAY) * mean
    meta.mean_week = WEEK_DECAY * meta.mean_week + (1.0 - WEEK_DECAY) * mean
    meta.level_days += (1.0 - DAY_DECAY) * (raw_level - meta.level_days)
    meta.level_month += (1.0 - MONTH_DECAY) * (raw_level - meta.level_month)
    sd = unit * math.sqrt(max(series.meta.variance, 0.0))
    scale = math.sqrt(meta.square / meta.mass) + LEAST_SCALE * sd
    meta.scale = scale
    if scale < TINIEST:  # a series at rest: inputs are zero
        scale = 1.0
    spread, recent, common = 0.0, 0.0, 0.0
    for p in range(fine):
        kept = view.memory[p] - centre
        late = view.latest[p] - level
        spread += kept * kept
        recent += (late - kept) * (late - kept)
        common += (late - kept) * kept
    spread = unit * math.sqrt(spread / fine)
    now = unit * view.levels[0].now / scale
    memory_shift = unit * (centre - level) / scale
    day_change = (raw_level - meta.levels[TOKENS - 1]) / scale
    days_change = (raw_level - meta.level_days) / scale
    month_change = (raw_level - meta.level_month) / scale
    memory_spread = spread / scale
    latest_change = unit * math.sqrt(recent / fine) / scale
    latest_likeness = unit * common / fine / scale * unit / (spread + 0.1 * scale)
    age = math.log(1.0 + meta.count / TOKENS)
    summary = (
        now, memory_shift, day_change, days_change, month_change, memory_spread, latest_change,
        latest_likeness, age, meta.mean_day / scale, meta.mean_week / scale,
    )  # fmt: skip
    for k in range(TOKENS - 1, 0, -1):
        meta.levels[k] = meta.levels[k - 1]
    meta.levels[0] = raw_level
    for j in range(INPUTS):
        value = x[j] / scale if j < LENGTH else summary[j - LENGTH]
        x[j] = min(BOUND, max(-BOUND, value))


@njit(inline="always")
def proposed(own: Residual, series: Series, band: int, x: Float64) -> float:
    """The correction in the series' unit before the gate, from the inputs x of the head."""
    total: float = own.head[band, 0] * own.meta.scale / series.meta.unit
    for k in range(layout.FEATURES):
        total += own.head[band, 1 + k] * x[k]
    return total


@njit(inner=True)
def correction(own: Residual, series: Series, band_of_heads: int, x: Float64) -> float:
    """What is added to a forecast, in the series' unit."""
    band = band_of_heads - layout.FINER_BANDS
    if band < 0 or band >= BANDS or own.gate[band].share <= 0.0:
        return 0.0
    share: float = own.gate[band].share
    return share * proposed(own, series, band, x)


@njit(inner=True)
def _wait(token: Pending, origin: float) -> None:
    """Make a token the one that begins at `origin`; 0: none."""
    token.origin = origin
    for band in range(BANDS):
        token.bands[band, 0] = 0.0
        token.bands[band, 1] = 0.0


@njit(inner=True)
def remember(
    own: Residual, series: Series, k: int, band: int, forecast: float, change: float
) -> None:
    """Keep the forecast without correction, and the proposed correction, of coarse cell k >= 1
    after the last one, which is in the band; cells come in order."""
    token = own.pending[int(own.meta.count) // PENDING_EVERY % PENDING]
    if k == 1:
        _wait(token, own.meta.newest)
    first = 0 if band == 0 else ENDS[band - 1]
    width = float(ENDS[band] - first)
    token.bands[band, 0] += (series.meta.offset + series.meta.unit * forecast) / width
    token.bands[band, 1] += series.meta.unit * change / width


@njit(inner=True)
def _mature(own: Residual, series: Series, newest: int) -> None:
    """Let the gate learn from bands of kept tokens that are complete since the token before."""
    for k in range(PENDING):
        token = own.pending[k]
        if token.origin == 0.0:
            continue
        origin = int(token.origin) - 1
        for band in range(BANDS):
            end = origin + ENDS[band]
            if end > newest or end <= newest - LENGTH:
                continue
            first = origin + (1 if band == 0 else ENDS[band - 1] + 1)
            total, known = 0.0, 0
            for coarse_cell in range(first, end + 1):
                value = series.ring[coarse_cell % layout.RING]
                if not math.isnan(value):
                    total += value
                    known += 1
            if known == 0:
                continue
            gate = own.gate[band]
            mean = series.meta.offset + series.meta.unit * total / known
            error, change = mean - token.bands[band, 0], token.bands[band, 1]
            gate.cross = GATE_DECAY * gate.cross + error * change
            gate.square = GATE_DECAY * gate.square + change * change
            gate.matured = GATE_DECAY * gate.matured + 1.0
            mass = GATE_MASS * gate.square / gate.matured
            if gate.square > 0.0:
                gate.share = min(1.0, max(0.0, gate.cross / (gate.square + mass)))
