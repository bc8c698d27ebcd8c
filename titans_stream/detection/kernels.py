"""The detector for one series at a time, compiled by numba.

Series are computed one after another by the same instructions, so no output depends on what
shares a batch. tests/detection/reference.py is the same step written plainly.
"""

from __future__ import annotations

import math

import numpy as np

from titans_stream.detection import layout
from titans_stream.detection.ahead import bring
from titans_stream.detection.arrays import Series, Space, State, Weights, new_space, series_of
from titans_stream.detection.calibration import calibrate
from titans_stream.detection.dense import dense_heads, next_value
from titans_stream.detection.fusion import fuse, gate, magnitudes, patterned
from titans_stream.detection.layout import Core
from titans_stream.detection.sparse import quiet, sparse_heads, transitions
from titans_stream.jit import njit
from titans_stream.records import Float32, Float64, Int8, Int64


@njit(inner=True)
def normalize(core: Core, value: float) -> float:
    """y: the value in past standard deviations, clipped; then mean and variance take it in.

    A deviation is at least that of rounding to the smallest step between two values so far, so
    that nothing depends on the values' unit. Also writes the unclipped size, at most LARGEST.
    """
    n = core.count
    mean = core.mean
    deviation = value - mean
    if n == 0.0:
        core.count = 1.0
        core.mean = value
        core.var = 0.0
        core.last_deviation = 0.0
        core.last_value = value
        core.deviations = 0.0
        core.moved = 0.0
        return 0.0
    sd = max(math.sqrt(core.var), layout.ROUNDING * core.step)
    size = layout.LARGEST if deviation != 0.0 else 0.0
    if abs(deviation) < layout.LARGEST * sd:
        size = abs(deviation) / sd
    core.deviations = size
    y: float = math.copysign(min(layout.Y_CLIP, size), deviation)
    bound = max(layout.OUTLIER_CLIP * sd, abs(core.last_deviation))
    core.last_deviation = deviation
    if n > layout.OUTLIER_AFTER:
        deviation = min(bound, max(-bound, deviation))
    step = abs(value - core.last_value)
    if step > 0.0 and (core.step == 0.0 or step < core.step):
        core.step = step
    core.last_value = value
    core.moved = step
    n = min(n + 1.0, layout.COUNT_CAP)
    core.count = n
    core.mean = mean + deviation / n
    core.var = (1.0 - 1.0 / n) * (core.var + deviation * deviation / n)
    return y


@njit(inner=True)
def score(
    series: Series, weights: Weights, space: Space, value: float, calendar: Float64,
    channels: Float64, joint: Float64,
) -> float:  # fmt: skip
    """S of one reading, NaN while warming up; then the series learns from it.

    calendar [10] as `calendar_features` gives it. Writes the channels' scores [12], and what a
    frame of an asset takes of the reading [2].
    """
    day = calendar[layout.TIME_FEATURES]
    y = normalize(series.core, value)
    next_value(series, y, channels)
    dense_heads(series, weights, space, y, calendar[: layout.TIME_FEATURES], channels)
    sparse_heads(series, y, day, channels)
    transitions(series, channels)
    quiet(series.core, channels)
    return judge(
        series, weights.blocks, space.counted, y, has_time(calendar), day, channels, joint
    )  # fmt: skip


@njit(inner=True)
def judge(
    series: Series, block_weights: Float32, counted: Float32, y: float, timed: bool, day: float,
    channels: Float64, joint: Float64,
) -> float:  # fmt: skip
    """From the surprises [12] of a reading to S, its channels' scores and its `joint` part."""
    core = series.core
    pattern = patterned(core, timed, day)
    predictable = gate(core, y)
    known = core.t / (core.t + layout.KNOWN)
    relative = magnitudes(core)
    s0 = calibrate(series, block_weights, counted, channels, timed)
    return fuse(s0, relative, predictable, known, pattern, channels, joint)


@njit(inline="always")
def has_time(calendar: Float64) -> bool:
    """Whether a reading has a time of day."""
    return bool(calendar[0] != 0.0 or calendar[1] != 0.0)


@njit(inner=True)
def _score_at(
    slot: int, value: float, calendar: Float64, state: State, weights: Weights, space: Space,
    i: int, channels: Float64, joint: Float64,
) -> float:  # fmt: skip
    """Score reading i of a run; apart from `run`, as it borrows arrays only."""
    series = series_of(state, slot)
    return score(series, weights, space, value, calendar[i], channels[i], joint[i])


@njit(nogil=True)
def run(
    slots: Int64, values: Float64, calendar: Float64, state: State, weights: Weights,
    statistic: Float64, channels: Float64, joint: Float64,
) -> None:  # fmt: skip
    """Score N readings in order; slots [N] names the slot of each reading's series.

    calendar [N, 10]. Writes S [N], the channels' scores [N, 12] and the `joint` parts [N, 2].
    """
    space = new_space()
    for i in range(slots.shape[0]):
        bring(state, slots, i)
        statistic[i] = _score_at(
            slots[i], values[i], calendar, state, weights, space, i, channels, joint
        )


@njit(inner=True)
def cause_of(channels: Float64) -> int:
    """The channel that rose most; the first one while warming up."""
    strangest = 0
    for k in range(1, channels.shape[0]):
        best = channels[strangest]
        if channels[k] > best or (math.isnan(best) and not math.isnan(channels[k])):
            strangest = k
    return strangest


@njit(nogil=True)
def causes(channels: Float64) -> Int8:
    """The channel that rose most, per reading: channel scores [N, 12] -> [N]."""
    out = np.empty(channels.shape[0], np.int8)
    for i in range(channels.shape[0]):
        out[i] = cause_of(channels[i])
    return out
