"""The dense memories: A, T and N over random features, P over the last 32 values."""

from __future__ import annotations

import math

from titans_stream.detection import layout
from titans_stream.detection.arrays import Series, Space, Weights
from titans_stream.detection.layout import Core
from titans_stream.jit import ASSOCIATIVE, njit
from titans_stream.memory.rule_cpu import TINY, read, silu_key, update
from titans_stream.records import Float64


@njit(inner=True)
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


@njit(inner=True)
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


@njit(inner=True)
def _learn(
    core: Core, memory: Float64, key: Float64, error: float, theta: float, index: int
) -> None:
    level = core.gradient[index]
    clip = layout.CLIP_FACTOR * max(level, layout.CLIP_FLOOR)
    norm = update(memory[0], memory[1], key, 1.0, error, 0.0, layout.ETA, theta, clip)
    core.gradient[index] = level + layout.CLIP_EMA * (min(norm, clip) - level)


@njit(inner=True, fastmath=ASSOCIATIVE)
def next_value(series: Series, y: float, surprise: Float64) -> None:
    """Memory P: y from the last HISTORY values and a constant, with a normalised step.

    Before `dense_heads`, which takes y into the history. Writes its smoothed error.
    """
    core, history, memory = series.core, series.history, series.next_value
    predicted = memory[layout.HISTORY]
    norm = 1.0
    for i in range(layout.HISTORY):
        lag = min(8.0, max(-8.0, history[i]))
        predicted += memory[i] * lag
        norm += lag * lag
    error = y - predicted
    step = layout.NEXT_RATE * error / norm
    for i in range(layout.HISTORY):
        lag = min(8.0, max(-8.0, history[i]))
        weight = memory[i] + step * lag
        memory[i] = weight if abs(weight) > TINY else 0.0
    memory[layout.HISTORY] += step
    next_surprise(core, error, surprise)


@njit(inner=True)
def next_surprise(core: Core, error: float, surprise: Float64) -> None:
    """P's channel from its error."""
    core.error = error
    core.next_error += layout.NEXT_EMA * (abs(error) - core.next_error)
    surprise[layout.NEXT_CHANNEL] = core.next_error
