"""The detector for one row at a time, compiled by numba: the serving path on CPU.

Each function is the twin of a batched torch function (normalize.py, keys.py, heads.py,
calibrate.py), which is the reference. Rows are computed one after another by the same
instructions, so no output depends on what shares its batch.
"""

from __future__ import annotations

import math

import numpy as np

from titans_stream.detection import layout as L
from titans_stream.jit import ASSOCIATIVE, njit
from titans_stream.memory.rule_cpu import exp64, read, silu_key, update
from titans_stream.records import Float64, Int16, Int64

_WIDE = L.HOUR_BINS + L.MEAN_BINS


@njit()
def normalize(core: Float64, value: float) -> float:
    """y: the value in past standard deviations, clipped; then mean and variance take it in."""
    n = core[L.COUNT]
    mean = core[L.MEAN]
    deviation = value - mean
    if n == 0.0:
        core[L.COUNT] = 1.0
        core[L.MEAN] = value
        core[L.VAR] = 0.0
        core[L.LAST_DEVIATION] = 0.0
        return 0.0
    sd = max(math.sqrt(core[L.VAR]), 1e-3 * abs(mean) + 1e-9)
    y: float = min(L.Y_CLIP, max(-L.Y_CLIP, deviation / sd))
    bound = max(L.OUTLIER_CLIP * sd, abs(core[L.LAST_DEVIATION]))
    core[L.LAST_DEVIATION] = deviation
    if n > L.OUTLIER_AFTER:
        deviation = min(bound, max(-bound, deviation))
    n = min(n + 1.0, L.COUNT_CAP)
    core[L.COUNT] = n
    core[L.MEAN] = mean + deviation / n
    core[L.VAR] = (1.0 - 1.0 / n) * (core[L.VAR] + deviation * deviation / n)
    return y


@njit()
def dense_heads(
    core: Float64,
    history: Float64,
    memory: Float64,
    y: float,
    times: Float64,
    weights_a: Float64,
    bias_a: Float64,
    weights_t: Float64,
    bias_t: Float64,
    x: Float64,
    key: Float64,
    surprise: Float64,
) -> None:
    """Memories A, T and N: predict, take the surprises, then learn. Writes surprise[0:5].

    `history` holds y_t-1 ... newest first, and is shifted here; x and key are scratch.
    """
    t = core[L.T]
    n_past = min(t, float(L.HISTORY))
    for i in range(L.LAGS):
        x[i] = min(8.0, max(-8.0, history[i]))
    for i in range(L.TIME_FEATURES):
        x[L.LAGS + i] = 0.5 * times[i]
    for i in range(L.HISTORY - 1, 0, -1):
        history[i] = history[i - 1]
    history[0] = y
    n = n_past + 1.0
    sum_a = 0.0
    for i in range(L.HORIZON_A):
        sum_a += history[i]
    sum_t = sum_a
    for i in range(L.HORIZON_A, L.HORIZON_T):
        sum_t += history[i]
    target_a = sum_a / min(n, float(L.HORIZON_A))
    target_t = sum_t / min(n, float(L.HORIZON_T))
    theta = max(L.THETA_FLOOR, L.THETA * math.sqrt(L.THETA_DECAY / (t + L.THETA_DECAY)))

    silu_key(weights_a, bias_a, x, L.KEY_CONSTANT, key)
    error_a = read(memory[0, 0], key) - target_a
    error_n = read(memory[2, 0], key) - y
    _learn(core, memory[0], key, error_a, theta, 0)
    _learn(core, memory[2], key, error_n, theta, 2)
    silu_key(weights_t, bias_t, times, L.KEY_CONSTANT, key)
    error_t = read(memory[1, 0], key) - target_t
    _learn(core, memory[1], key, error_t, theta, 1)

    dense_surprises(core, error_a, error_t, error_n, surprise)


@njit()
def dense_surprises(
    core: Float64, error_a: float, error_t: float, error_n: float, surprise: Float64
) -> None:
    """The five dense channels from the errors of A, T and N; A's running means take it in."""
    core[L.EMA24] += L.EMA_SHORT * (error_a - core[L.EMA24])
    core[L.EMA192] += L.EMA_LONG * (error_a - core[L.EMA192])
    surprise[0] = abs(error_a)
    surprise[1] = abs(core[L.EMA24])
    surprise[2] = abs(core[L.EMA192])
    surprise[3] = abs(error_t)
    surprise[4] = abs(error_n)


@njit()
def _learn(
    core: Float64, memory: Float64, key: Float64, error: float, theta: float, index: int
) -> None:
    level = core[L.GRADIENT + index]
    clip = L.CLIP_FACTOR * max(level, L.CLIP_FLOOR)
    norm = update(memory[0], memory[1], key, 1.0, error, 0.0, L.ETA, theta, clip)
    core[L.GRADIENT + index] = level + L.CLIP_EMA * (min(norm, clip) - level)


@njit()
def sparse_heads(
    core: Float64,
    history: Float64,
    cells: Int16,
    y: float,
    day_fraction: float,
    surprise: Float64,
) -> None:
    """Familiarity of this value in its contexts, then the cells learn. Writes surprise[5:9].

    `history` already holds y_t at index 0.
    """
    u = math.asinh(y)
    hour = L.HOUR_BINS * day_fraction
    total = 0.0
    for i in range(L.MEAN_WINDOW, 2 * L.MEAN_WINDOW):
        total += history[i]
    seen = min(max(core[L.T] + 1.0 - L.MEAN_WINDOW, 1.0), float(L.MEAN_WINDOW))
    mean = math.asinh(total / seen)
    n0 = core[L.N0]
    unit = 1.0 / L.CELL_UNIT
    for w in range(2):
        width, bins, origin = L.VALUE_WIDTHS[w], L.VALUE_BINS[w], L.VALUE_ORIGIN[w]
        c1 = L.CELLS_C1_FINE if w == 0 else L.CELLS_C1_COARSE
        c0 = L.CELLS_C0_FINE if w == 0 else L.CELLS_C0_COARSE
        p_hour = 0.0
        p_mean = 0.0
        for k in range(L.TILINGS):
            bin_v = int(math.floor(u / width + 0.25 * k)) + origin
            shift = 0.25 * ((3 * k) % 4)
            bin_h = int(math.floor(hour + shift)) % L.HOUR_BINS
            bin_m = int(math.floor(mean + shift)) + L.MEAN_ORIGIN + L.HOUR_BINS
            i0 = c0 + k * bins + bin_v
            ih = c1 + (k * _WIDE + bin_h) * bins + bin_v
            im = c1 + (k * _WIDE + bin_m) * bins + bin_v
            nh = L.CELLS_N1 + k * _WIDE + bin_h
            nm = L.CELLS_N1 + k * _WIDE + bin_m
            p1 = (cells[i0] * unit + L.PRIOR_FAMILIARITY) / (n0 + 1.0)
            p_hour += (cells[ih] * unit + p1) / (cells[nh] * unit + 1.0)
            p_mean += (cells[im] * unit + p1) / (cells[nm] * unit + 1.0)
            visit(cells, i0)
            visit(cells, ih)
            visit(cells, im)
            if w == 1:
                visit(cells, nh)
                visit(cells, nm)
        for c in range(2):
            p = (p_hour if c == 0 else p_mean) / L.TILINGS
            j = 2 * w + c
            core[L.P_SMOOTH + j] += L.P_EMA * (-math.log(p) - core[L.P_SMOOTH + j])
            surprise[L.DENSE_CHANNELS + j] = core[L.P_SMOOTH + j]
    core[L.N0] = L.MASS_DECAY * n0 + 1.0


@njit(inline="always")
def visit(cells: Int16, at: int) -> None:
    """A cell was seen once more."""
    cells[at] = ((np.int32(cells[at]) * L.CELL_DECAY) >> L.CELL_DECAY_SHIFT) + L.CELL_UNIT


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
def exceedance(blocks: Float64, n: int, weights: Float64, x: np.float32) -> float:
    """Weighted count of block maxima above x, each step softened by SOFTNESS; blocks [RING]."""
    total = np.float32(0.0)
    inverse = np.float32(1.0 / L.SOFTNESS)
    for i in range(n):
        total += weights[i] / (np.float32(1.0) + _exp32((x - blocks[i]) * inverse))
    return float(total)


@njit()
def calibrate(
    core: Float64, blocks: Float64, block_weights: Float64, surprise: Float64, timed: bool
) -> float:
    """The statistic S of a reading from its nine surprises; NaN while warming up.

    Ranks each log surprise among the channel's past block maxima, beside a logistic prior
    around the channel's level, and puts the channel's score in its place; then takes the reading
    into the current block. `timed`: the reading has a time of day.
    """
    t = core[L.T]
    W = core[L.W_SUM]
    n_ring = min(int(core[L.N_BLOCKS]), L.RING)
    weights = _counted(_withheld(core), block_weights)
    total = 0.0
    for c in range(L.CHANNELS):
        magnitude = surprise[c]
        x = math.log(max(magnitude, L.LOG_FLOOR))
        if t >= L.WARM_UP:
            level = math.log(max(core[L.LEVEL + c], L.LOG_FLOOR)) + 1.0
            wb = core[L.WB_SUM + c]
            mu = (2.0 * level + wb) / (2.0 + W)
            spread = core[L.WBB_SUM + c] - 2.0 * mu * wb + mu * mu * W
            var = (2.0 * (0.35**2 + (level - mu) ** 2) + max(spread, 0.0)) / (2.0 + W)
            G = 1.0 / (1.0 + math.exp(min(69.0, 1.8138 * (x - mu) / math.sqrt(var))))
            ge = exceedance(blocks[c], n_ring, weights, np.float32(x))
            partial = core[L.PARTIAL + c]
            if partial > -1e300:
                ge += 1.0 / (1.0 + exp64((x - partial) / L.SOFTNESS))
            score = -math.log10(ge + 0.5 * G) + math.log10(0.5 + W)
            total += (L.WEIGHTS[c] if timed else L.WEIGHTS_WITHOUT_TIME[c]) * score
            surprise[c] = score
        n = min(t + 1.0, L.COUNT_CAP)
        core[L.LEVEL + c] += (magnitude - core[L.LEVEL + c]) / n
        if t >= L.BLOCK:
            core[L.PARTIAL + c] = max(core[L.PARTIAL + c], x)
    if t >= L.WARM_UP:
        core[L.PEAK_S] = max(core[L.PEAK_S], total)
    t += 1.0
    core[L.T] = t
    if t > L.BLOCK and t % L.BLOCK == 0.0:
        _close_block(core, blocks, block_weights)
    return total if t > L.WARM_UP else math.nan


@njit()
def _close_block(core: Float64, blocks: Float64, block_weights: Float64) -> None:
    """The block's maxima enter the ring, newest first; the sums over the counted blocks follow."""
    core[L.N_BLOCKS] += 1.0
    notable = 1 if core[L.PEAK_S] >= L.NOTABLE else 0
    core[L.NOTABLE_BITS] = (2 * int(core[L.NOTABLE_BITS]) + notable) % (1 << L.RECENT)
    core[L.PEAK_S] = -np.inf
    n = min(int(core[L.N_BLOCKS]), L.RING)
    weights = _counted(_withheld(core), block_weights)
    core[L.W_SUM] = 0.0
    for i in range(n):
        core[L.W_SUM] += weights[i]
    for c in range(L.CHANNELS):
        row = blocks[c]
        for i in range(n - 1, 0, -1):
            row[i] = row[i - 1]
        row[0] = np.float32(core[L.PARTIAL + c])
        core[L.PARTIAL + c] = -np.inf
        total = 0.0
        squares = 0.0
        for i in range(n):
            b = float(row[i])
            total += weights[i] * b
            squares += weights[i] * b * b
        core[L.WB_SUM + c] = total
        core[L.WBB_SUM + c] = squares


@njit()
def _withheld(core: Float64) -> int:
    """Bits of the ages of the blocks that do not count now."""
    notable = int(core[L.NOTABLE_BITS])
    found = 0
    for age in range(L.RECENT):
        found += (notable >> age) & 1
    if found > L.FEW:
        return 0
    return (notable >> L.WITHHELD_FROM) << L.WITHHELD_FROM


@njit()
def _counted(withheld: int, block_weights: Float64) -> Float64:
    """Weights of the blocks with those withheld at zero; [RING]."""
    if withheld == 0:
        return block_weights
    weights = block_weights.copy()
    for age in range(L.RECENT):
        if (withheld >> age) & 1:
            weights[age] = 0.0
    return weights


@njit(nogil=True)
def run(
    rows: Int64,
    values: Float64,
    calendar: Float64,
    core: Float64,
    history: Float64,
    memory: Float64,
    cells: Int16,
    blocks: Float64,
    weights_a: Float64,
    bias_a: Float64,
    weights_t: Float64,
    bias_t: Float64,
    block_weights: Float64,
    statistic: Float64,
    weight: Float64,
    channels: Float64,
) -> None:
    """Score N readings in order; rows [N] names each reading's row of the state arrays.

    calendar [N, 10] as `calendar_features` gives it. Writes S [N], the weight of the block
    history behind it [N] and the channels' scores [N, 9].
    """
    x = np.empty(L.LAGS + L.TIME_FEATURES)
    key = np.empty(L.KEY)
    for i in range(rows.shape[0]):
        r = rows[i]
        y = normalize(core[r], values[i])
        dense_heads(
            core[r], history[r], memory[r], y, calendar[i, : L.TIME_FEATURES],
            weights_a, bias_a, weights_t, bias_t, x, key, channels[i],
        )  # fmt: skip
        sparse_heads(core[r], history[r], cells[r], y, calendar[i, L.TIME_FEATURES], channels[i])
        weight[i] = core[r, L.W_SUM]
        timed = calendar[i, 0] != 0.0 or calendar[i, 1] != 0.0
        statistic[i] = calibrate(core[r], blocks[r], block_weights, channels[i], timed)


def block_weights() -> Float64:
    """Weights of the RING newest blocks, newest first; [RING] float32."""
    return np.power(L.BLOCK_DECAY, np.arange(L.RING)).astype(np.float32)
