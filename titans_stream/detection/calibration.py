"""From surprises to ranks: each among the maxima of its channel's past blocks."""

from __future__ import annotations

import math

import numpy as np

from titans_stream.detection import layout
from titans_stream.detection.arrays import Series
from titans_stream.detection.fusion import close_magnitudes
from titans_stream.detection.layout import Core
from titans_stream.jit import ASSOCIATIVE, njit
from titans_stream.memory.rule_cpu import exp64
from titans_stream.records import Float32, Float64, Int16

_DECADES = 1.0 / math.log(10.0)
REACH = 20.0 * layout.SOFTNESS
"""Beyond this a step is 0 or 1, to 2e-9."""


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


@njit(inner=True, fastmath=ASSOCIATIVE)
def exceedance(blocks: Int16, n: int, weights: Float32, x: np.float32) -> float:
    """Weighted count of block maxima above x, each step softened by SOFTNESS; blocks [RING]."""
    total = np.float32(0.0)
    unit = np.float32(1.0 / (layout.SOFTNESS * layout.BLOCK_UNIT))
    x *= np.float32(1.0 / layout.SOFTNESS)
    for i in range(n):
        total += weights[i] / (np.float32(1.0) + _exp32(x - np.float32(blocks[i]) * unit))
    return float(total)


@njit(inline="always")
def weight_of(weights: Float32, withheld: int, age: int) -> float:
    """Weight of the block of an age, zero where it does not count now."""
    if age < layout.RECENT and (withheld >> age) & 1:
        return np.float32(0.0)  # type: ignore[return-value]
    weight: float = weights[age]
    return weight


@njit(inner=True)
def calibrate(
    series: Series, block_weights: Float32, counted: Float32, surprise: Float64, timed: bool
) -> float:
    """S0 of a reading from its surprises, NaN while warming up: the level channels' mean score.

    Ranks each log surprise among the channel's past block maxima, beside a logistic prior
    around the channel's level, and puts the channel's score in its place; then takes the reading
    into the current block. `counted` [RING] is scratch space; `timed`: the reading has a time of
    day.
    """
    core, blocks = series.core, series.blocks
    t = core.t
    W = core.w_sum
    n_ring = min(int(core.n_blocks), layout.RING)
    withheld = _withheld(core)
    weights = block_weights
    if withheld != 0:
        weights = counted
        for i in range(n_ring):
            weights[i] = weight_of(block_weights, withheld, i)
    total = 0.0
    history = math.log(0.5 + W)
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
            if x < core.lowest[c] - REACH:
                ge = W
            elif x > core.highest[c] + REACH:
                ge = 0.0
            else:
                ge = exceedance(blocks[c], n_ring, weights, np.float32(x))
            partial = core.partial[c]
            if partial > -1e300:
                ge += 1.0 / (1.0 + exp64((x - partial) / layout.SOFTNESS))
            score = (history - math.log(ge + 0.5 * G)) * _DECADES
            if c < layout.LEVEL_CHANNELS:
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
        close_magnitudes(core)
    return total if t > layout.WARM_UP else math.nan


@njit(inline="always")
def _fixed(x: float) -> int:
    """A log surprise in units of its blocks."""
    return int(min(32_767.0, max(-32_767.0, round(x * layout.BLOCK_UNIT))))


@njit(inner=True)
def _close_block(core: Core, blocks: Int16, block_weights: Float32) -> None:
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
        maxima[0] = _fixed(core.partial[c])
        core.partial[c] = -np.inf
        total = 0.0
        squares = 0.0
        lowest = np.inf
        highest = -np.inf
        for i in range(n):
            b = float(maxima[i]) / layout.BLOCK_UNIT
            lowest = min(lowest, b)
            highest = max(highest, b)
            weight = weight_of(block_weights, withheld, i)
            total += weight * b
            squares += weight * b * b
        core.wb_sum[c] = total
        core.wbb_sum[c] = squares
        core.lowest[c] = lowest
        core.highest[c] = highest


@njit(inner=True)
def _withheld(core: Core) -> int:
    """Bits of the ages of the blocks that do not count now."""
    notable = int(core.notable_bits)
    found = 0
    for age in range(layout.RECENT):
        found += (notable >> age) & 1
    if found > layout.FEW:
        return 0
    return (notable >> layout.WITHHELD_FROM) << layout.WITHHELD_FROM
