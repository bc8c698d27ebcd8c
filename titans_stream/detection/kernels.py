"""The detector for one series at a time, compiled by numba.

Series are computed one after another by the same instructions, so no output depends on what
shares a batch. tests/detection/reference.py is the same step written plainly.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from titans_stream.detection import layout
from titans_stream.detection.layout import Core
from titans_stream.jit import ASSOCIATIVE, njit, scratch
from titans_stream.memory.rule_cpu import exp64, read, silu_key, update
from titans_stream.records import Float32, Float64, Int16, Int64, Records

_WIDE = layout.HOUR_BINS + layout.MEAN_BINS
_inputs = scratch(layout.LAGS + layout.TIME_FEATURES)
_key = scratch(layout.KEY)
_counted = scratch(layout.RING, np.float32)


class State(NamedTuple):
    """The arrays of `layout.state_layout()`, [slots, ...]."""

    core: Records
    history: Float64
    memory: Float64
    cells: Int16
    blocks: Float32


class Series(NamedTuple):
    """The state of one series: a row of each array of `State`."""

    core: Core
    history: Float64
    memory: Float64
    cells: Int16
    blocks: Float32


class Weights(NamedTuple):
    """Slow weights of the keys A and T, and the weights of the RING newest blocks, float32."""

    key_a_weight: Float64
    key_a_bias: Float64
    key_t_weight: Float64
    key_t_bias: Float64
    blocks: Float32


class Space(NamedTuple):
    """Scratch space: a key's inputs and the key."""

    inputs: Float64
    key: Float64


@njit(inline="always")
def new_space() -> Space:
    """Scratch space for any series."""
    return Space(_inputs(), _key())


@njit(inline="always")
def series_of(state: State, slot: int) -> Series:
    """The state of the series in a slot."""
    return Series(
        state.core[slot], state.history[slot], state.memory[slot], state.cells[slot],
        state.blocks[slot],
    )  # fmt: skip


@njit()
def normalize(core: Core, value: float) -> float:
    """y: the value in past standard deviations, clipped; then mean and variance take it in."""
    n = core.count
    mean = core.mean
    deviation = value - mean
    if n == 0.0:
        core.count = 1.0
        core.mean = value
        core.var = 0.0
        core.last_deviation = 0.0
        return 0.0
    sd = max(math.sqrt(core.var), 1e-3 * abs(mean) + 1e-9)
    y: float = min(layout.Y_CLIP, max(-layout.Y_CLIP, deviation / sd))
    bound = max(layout.OUTLIER_CLIP * sd, abs(core.last_deviation))
    core.last_deviation = deviation
    if n > layout.OUTLIER_AFTER:
        deviation = min(bound, max(-bound, deviation))
    n = min(n + 1.0, layout.COUNT_CAP)
    core.count = n
    core.mean = mean + deviation / n
    core.var = (1.0 - 1.0 / n) * (core.var + deviation * deviation / n)
    return y


@njit()
def dense_heads(
    series: Series, weights: Weights, space: Space, y: float, times: Float64, surprise: Float64
) -> None:
    """Memories A, T and N: predict, take the surprises, then learn. Writes surprise[0:5].

    `series.history` holds y_t-1 ... newest first, and is shifted here; `times` [9] are the
    features of time.
    """
    core, history, memory = series.core, series.history, series.memory
    x, key = space.inputs, space.key
    t = core.t
    n_past = min(t, float(layout.HISTORY))
    for i in range(layout.LAGS):
        x[i] = min(8.0, max(-8.0, history[i]))
    for i in range(layout.TIME_FEATURES):
        x[layout.LAGS + i] = 0.5 * times[i]
    for i in range(layout.HISTORY - 1, 0, -1):
        history[i] = history[i - 1]
    history[0] = y
    n = n_past + 1.0
    sum_a = 0.0
    for i in range(layout.HORIZON_A):
        sum_a += history[i]
    sum_t = sum_a
    for i in range(layout.HORIZON_A, layout.HORIZON_T):
        sum_t += history[i]
    target_a = sum_a / min(n, float(layout.HORIZON_A))
    target_t = sum_t / min(n, float(layout.HORIZON_T))
    theta = max(
        layout.THETA_FLOOR,
        layout.THETA * math.sqrt(layout.THETA_DECAY / (t + layout.THETA_DECAY)),
    )

    silu_key(weights.key_a_weight, weights.key_a_bias, x, layout.KEY_CONSTANT, key)
    error_a = read(memory[0, 0], key) - target_a
    error_n = read(memory[2, 0], key) - y
    _learn(core, memory[0], key, error_a, theta, 0)
    _learn(core, memory[2], key, error_n, theta, 2)
    silu_key(weights.key_t_weight, weights.key_t_bias, times, layout.KEY_CONSTANT, key)
    error_t = read(memory[1, 0], key) - target_t
    _learn(core, memory[1], key, error_t, theta, 1)

    dense_surprises(core, error_a, error_t, error_n, surprise)


@njit()
def dense_surprises(
    core: Core, error_a: float, error_t: float, error_n: float, surprise: Float64
) -> None:
    """The five dense channels from the errors of A, T and N; A's running means take it in."""
    core.ema24 += layout.EMA_SHORT * (error_a - core.ema24)
    core.ema192 += layout.EMA_LONG * (error_a - core.ema192)
    surprise[0] = abs(error_a)
    surprise[1] = abs(core.ema24)
    surprise[2] = abs(core.ema192)
    surprise[3] = abs(error_t)
    surprise[4] = abs(error_n)


@njit()
def _learn(
    core: Core, memory: Float64, key: Float64, error: float, theta: float, index: int
) -> None:
    level = core.gradient[index]
    clip = layout.CLIP_FACTOR * max(level, layout.CLIP_FLOOR)
    norm = update(memory[0], memory[1], key, 1.0, error, 0.0, layout.ETA, theta, clip)
    core.gradient[index] = level + layout.CLIP_EMA * (min(norm, clip) - level)


@njit()
def sparse_heads(series: Series, y: float, day_fraction: float, surprise: Float64) -> None:
    """Familiarity of this value in its contexts, then the cells learn. Writes surprise[5:9].

    `series.history` already holds y_t at index 0.
    """
    core, history, cells = series.core, series.history, series.cells
    u = math.asinh(y)
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


@njit(inline="always")
def visit(cells: Int16, at: int) -> None:
    """A cell was seen once more."""
    cells[at] = (
        (np.int32(cells[at]) * layout.CELL_DECAY) >> layout.CELL_DECAY_SHIFT
    ) + layout.CELL_UNIT


@njit(inline="always")
def _exp32(x: np.float32) -> np.float32:
    one = np.float32(1.0)
    x = min(np.float32(20.0), max(np.float32(-20.0), x)) * np.float32(0.015625)
    e = one + x * (
        one
        + x
        * (
            np.float32(0.5)
            + x
            * (
                np.float32(1 / 6)
                + x * (np.float32(1 / 24) + x * (np.float32(1 / 120) + x * np.float32(1 / 720)))
            )
        )
    )
    e *= e
    e *= e
    e *= e
    e *= e
    e *= e
    return e * e


@njit(fastmath=ASSOCIATIVE)
def exceedance(blocks: Float32, n: int, weights: Float32, x: np.float32) -> float:
    """Weighted count of block maxima above x, each step softened by SOFTNESS; blocks [RING]."""
    total = np.float32(0.0)
    inverse = np.float32(1.0 / layout.SOFTNESS)
    for i in range(n):
        total += weights[i] / (np.float32(1.0) + _exp32((x - blocks[i]) * inverse))
    return float(total)


@njit(inline="always")
def weight_of(weights: Float32, withheld: int, age: int) -> float:
    """Weight of the block of an age, zero where it does not count now."""
    if age < layout.RECENT and (withheld >> age) & 1:
        return np.float32(0.0)  # type: ignore[return-value]
    weight: float = weights[age]
    return weight


@njit()
def calibrate(series: Series, block_weights: Float32, surprise: Float64, timed: bool) -> float:
    """The statistic S of a reading from its nine surprises; NaN while warming up.

    Ranks each log surprise among the channel's past block maxima, beside a logistic prior
    around the channel's level, and puts the channel's score in its place; then takes the reading
    into the current block. `timed`: the reading has a time of day.
    """
    core, blocks = series.core, series.blocks
    t = core.t
    W = core.w_sum
    n_ring = min(int(core.n_blocks), layout.RING)
    withheld = _withheld(core)
    weights = block_weights
    if withheld != 0:
        weights = _counted()
        for i in range(n_ring):
            weights[i] = weight_of(block_weights, withheld, i)
    total = 0.0
    for c in range(layout.CHANNELS):
        magnitude = surprise[c]
        x = math.log(max(magnitude, layout.LOG_FLOOR))
        if t >= layout.WARM_UP:
            level = math.log(max(core.level[c], layout.LOG_FLOOR)) + 1.0
            wb = core.wb_sum[c]
            mu = (2.0 * level + wb) / (2.0 + W)
            spread = core.wbb_sum[c] - 2.0 * mu * wb + mu * mu * W
            var = (2.0 * (0.35**2 + (level - mu) ** 2) + max(spread, 0.0)) / (2.0 + W)
            G = 1.0 / (1.0 + math.exp(min(69.0, 1.8138 * (x - mu) / math.sqrt(var))))
            ge = exceedance(blocks[c], n_ring, weights, np.float32(x))
            partial = core.partial[c]
            if partial > -1e300:
                ge += 1.0 / (1.0 + exp64((x - partial) / layout.SOFTNESS))
            score = -math.log10(ge + 0.5 * G) + math.log10(0.5 + W)
            total += (layout.WEIGHTS[c] if timed else layout.WEIGHTS_WITHOUT_TIME[c]) * score
            surprise[c] = score
        n = min(t + 1.0, layout.COUNT_CAP)
        core.level[c] += (magnitude - core.level[c]) / n
        if t >= layout.BLOCK:
            core.partial[c] = max(core.partial[c], x)
    if t >= layout.WARM_UP:
        core.peak_s = max(core.peak_s, total)
    t += 1.0
    core.t = t
    if t > layout.BLOCK and t % layout.BLOCK == 0.0:
        _close_block(core, blocks, block_weights)
    return total if t > layout.WARM_UP else math.nan


@njit()
def _close_block(core: Core, blocks: Float32, block_weights: Float32) -> None:
    """The block's maxima enter the ring, newest first; the sums over the counted blocks follow."""
    core.n_blocks += 1.0
    notable = 1 if core.peak_s >= layout.NOTABLE else 0
    core.notable_bits = (2 * int(core.notable_bits) + notable) % (1 << layout.RECENT)
    core.peak_s = -np.inf
    n = min(int(core.n_blocks), layout.RING)
    withheld = _withheld(core)
    core.w_sum = 0.0
    for i in range(n):
        core.w_sum += weight_of(block_weights, withheld, i)
    for c in range(layout.CHANNELS):
        maxima = blocks[c]
        for i in range(n - 1, 0, -1):
            maxima[i] = maxima[i - 1]
        maxima[0] = np.float32(core.partial[c])
        core.partial[c] = -np.inf
        total = 0.0
        squares = 0.0
        for i in range(n):
            b = float(maxima[i])
            weight = weight_of(block_weights, withheld, i)
            total += weight * b
            squares += weight * b * b
        core.wb_sum[c] = total
        core.wbb_sum[c] = squares


@njit()
def _withheld(core: Core) -> int:
    """Bits of the ages of the blocks that do not count now."""
    notable = int(core.notable_bits)
    found = 0
    for age in range(layout.RECENT):
        found += (notable >> age) & 1
    if found > layout.FEW:
        return 0
    return (notable >> layout.WITHHELD_FROM) << layout.WITHHELD_FROM


@njit()
def score(
    series: Series, weights: Weights, space: Space, value: float, calendar: Float64,
    channels: Float64,
) -> float:  # fmt: skip
    """S of one reading, NaN while warming up; then the series learns from it.

    calendar [10] as `calendar_features` gives it. Writes the channels' scores [9].
    """
    y = normalize(series.core, value)
    dense_heads(series, weights, space, y, calendar[: layout.TIME_FEATURES], channels)
    sparse_heads(series, y, calendar[layout.TIME_FEATURES], channels)
    return calibrate(series, weights.blocks, channels, has_time(calendar))


@njit(inline="always")
def has_time(calendar: Float64) -> bool:
    """Whether a reading has a time of day."""
    return bool(calendar[0] != 0.0 or calendar[1] != 0.0)


@njit(nogil=True)
def run(
    slots: Int64, values: Float64, calendar: Float64, state: State, weights: Weights,
    statistic: Float64, channels: Float64,
) -> None:  # fmt: skip
    """Score N readings in order; slots [N] names the slot of each reading's series.

    calendar [N, 10]. Writes S [N] and the channels' scores [N, 9].
    """
    space = new_space()
    for i in range(slots.shape[0]):
        series = series_of(state, slots[i])
        statistic[i] = score(series, weights, space, values[i], calendar[i], channels[i])
