"""The one-step forecaster for one row at a time, compiled by numba: the serving path on CPU.

The twin of `one_step.py`, which is the batched torch reference.
"""

from __future__ import annotations

import math

import numpy as np

from titans_stream.forecasting.one_step import layout as L
from titans_stream.jit import njit
from titans_stream.memory.rule_cpu import exp64, read, silu_key, update
from titans_stream.records import Float64, Int64


@njit(inner=True)
def _half_width(errors: Float64, unit: float, level: float) -> float:
    """Quantile of the past |error| / scale^g, widened for a short history; NaN without one."""
    total = 0.0
    for j in range(L.BINS):
        total += errors[j]
    n = total / unit
    if n < 5.0:
        return math.nan
    wanted = level * total
    below = 0.0
    j = 0
    while j < L.BINS - 1 and below + errors[j] < wanted:
        below += errors[j]
        j += 1
    inside = (wanted - below) / errors[j] if errors[j] > 0.0 else 1.0
    u = math.exp2(L.BIN_ORIGIN + (j + inside) / L.BINS_PER_OCTAVE)
    # Student t with n degrees of freedom over the normal quantile, first terms of its expansion
    z2 = 3.8416
    return u * (1.0 + (z2 + 1.0) / (4.0 * n) + (5.0 * z2 * z2 + 16.0 * z2 + 3.0) / (96.0 * n * n))


@njit(inner=True)
def _remember_error(state: Float64, errors: Float64, error: float, scale: float) -> None:
    power = scale**L.SCALE_POWER
    u = max(abs(error) / power, 1e-12)
    position = (math.log2(u) - L.BIN_ORIGIN) * L.BINS_PER_OCTAVE
    j = int(min(max(position, 0.0), L.BINS - 1.0))
    weight = L.FLAT_WEIGHT if state[L.RUN] >= L.FLAT_RUN else 1.0
    unit = state[L.UNIT] / L.HISTOGRAM_DECAY
    if unit > 1e6:
        for i in range(L.BINS):
            errors[i] /= unit
        unit = 1.0
    state[L.UNIT] = unit
    errors[j] += weight * unit
    bounded = min(abs(error), 20.0 * max(scale, 1.0))
    first = 1.0 / (state[L.COUNT] - L.SCALE_READINGS)
    state[L.ERROR_SCALE] += max(L.SCALE_EMA, first) * (bounded - state[L.ERROR_SCALE])
    state[L.SLOW_SCALE] += max(L.SLOW_EMA, first) * (bounded - state[L.SLOW_SCALE])


@njit(inner=True)
def _take_value(state: Float64, value: float, change: float, change_scale: float) -> None:
    """Running mean, deviation and size of changes; a lone outlier enters bounded."""
    n = min(state[L.COUNT] + 1.0, L.COUNT_CAP)
    deviation = value - state[L.MEAN]
    bounded = change
    if state[L.COUNT] >= L.SCALE_READINGS:
        previous = min(abs(state[L.HISTORY]), abs(state[L.HISTORY + 1]))
        bound = min(L.ESCAPE_BOUND, max(L.CHANGE_BOUND, previous / change_scale)) * change_scale
        bounded = min(bound, max(-bound, change))
        limit = L.DEVIATION_BOUND * max(math.sqrt(state[L.VAR]), change_scale)
        deviation = min(limit, max(-limit, deviation))
    state[L.COUNT] += 1.0
    state[L.CHANGE_VAR] += (bounded * bounded - state[L.CHANGE_VAR]) / (n - 1.0)
    state[L.MEAN] += deviation / n
    state[L.VAR] = (1.0 - 1.0 / n) * (state[L.VAR] + deviation * deviation / n)
    state[L.RUN] = state[L.RUN] + 1.0 if change == 0.0 else 0.0
    for i in range(L.LAGS - 1, 0, -1):
        state[L.HISTORY + i] = state[L.HISTORY + i - 1]
    state[L.HISTORY] = change
    state[L.LAST] = value


@njit(inner=True)
def _shrink(state: Float64) -> float:
    """Least-squares factor of the memory's forecast, 0..1, small while it has forecast little."""
    mass = state[L.GAIN_SQUARE] * (1.0 + L.BLEND_MASS / min(state[L.COUNT], 1_000.0))
    if mass <= L.BLEND_FLOOR:
        return 0.0
    factor: float = min(1.0, max(0.0, state[L.GAIN_CROSS] / mass))
    return factor


@njit(inner=True)
def _trust(state: Float64) -> float:
    """0 where repeating the last value has the smaller absolute error, else 1."""
    if state[L.ERROR_LAST] <= L.BLEND_FLOOR:
        return 1.0
    ratio = state[L.ERROR_MEMORY] / state[L.ERROR_LAST]
    trust: float = min(1.0, max(0.0, (L.FALLBACK[1] - ratio) / (L.FALLBACK[1] - L.FALLBACK[0])))
    return trust


@njit(inner=True)
def _gate(weight: Float64, bias: float, key: Float64, maximum: float) -> float:
    total = bias
    for i in range(key.shape[0]):
        total += weight[i] * key[i]
    return maximum / (1.0 + exp64(-total))


@njit(inner=True)
def _step(
    state: Float64,
    memory: Float64,
    errors: Float64,
    value: float,
    times: Float64,
    key_weight: Float64,
    key_bias: Float64,
    gate_weight: Float64,
    gate_bias: Float64,
    x: Float64,
    key: Float64,
    out: Float64,
) -> None:
    """Forecast this reading from the past (out: expected, lower, upper), then learn from it."""
    out[:] = math.nan
    value = min(L.VALUE_LIMIT, max(-L.VALUE_LIMIT, value))
    n = state[L.COUNT]
    if n == 0.0:
        state[L.COUNT] = 1.0
        state[L.MEAN] = value
        state[L.LAST] = value
        state[L.UNIT] = 1.0
        return
    last = state[L.LAST]
    sd = max(math.sqrt(state[L.VAR]), 1e-9 * abs(state[L.MEAN]) + 1e-12)
    change_scale = max(math.sqrt(state[L.CHANGE_VAR]), 1e-3 * sd)
    change = value - last
    if n == 1.0 and change == 0.0:
        state[L.RUN] += 1.0
        if state[L.RUN] >= L.MINIMUM_READINGS:
            out[0], out[1], out[2] = last, last - 1e-3 * sd, last + 1e-3 * sd
        return
    if n <= L.SCALE_READINGS:
        _take_value(state, value, change, change_scale)
        return
    for i in range(L.LAGS):
        scaled = state[L.HISTORY + i] / change_scale
        x[i] = min(L.INPUT_CLIP, max(-L.INPUT_CLIP, scaled))
    level = (last - state[L.MEAN]) / sd
    x[L.LAGS] = min(L.INPUT_CLIP, max(-L.INPUT_CLIP, level))
    for i in range(L.TIME_FEATURES):
        x[L.LAGS + 1 + i] = 0.5 * times[i]
    silu_key(key_weight, key_bias, x, L.KEY_CONSTANT, key)
    target = min(L.INPUT_CLIP, max(-L.INPUT_CLIP, change / change_scale))
    forecast = min(L.INPUT_CLIP, max(-L.INPUT_CLIP, read(memory[0], key)))
    shrunk = _shrink(state) * forecast
    blended = _trust(state) * shrunk
    scale = max(state[L.ERROR_SCALE], 0.05 * state[L.SLOW_SCALE], 1e-3)
    if n >= L.MINIMUM_READINGS:
        half = _half_width(errors, state[L.UNIT], L.BAND_LEVEL)
        half = max(half * scale**L.SCALE_POWER * change_scale, 1e-3 * sd)
        out[0] = last + blended * change_scale
        out[1] = out[0] - half
        out[2] = out[0] + half
    _remember_error(state, errors, change / change_scale - blended, scale)
    state[L.ERROR_MEMORY] = L.BLEND_DECAY * state[L.ERROR_MEMORY] + abs(target - shrunk)
    state[L.ERROR_LAST] = L.BLEND_DECAY * state[L.ERROR_LAST] + abs(target)
    state[L.GAIN_CROSS] = L.BLEND_DECAY * state[L.GAIN_CROSS] + target * forecast
    state[L.GAIN_SQUARE] = L.BLEND_DECAY * state[L.GAIN_SQUARE] + forecast * forecast
    alpha = _gate(gate_weight[0], gate_bias[0], key, L.GATE_MAXIMA[0])
    eta = _gate(gate_weight[1], gate_bias[1], key, L.GATE_MAXIMA[1])
    theta = _gate(gate_weight[2], gate_bias[2], key, L.GATE_MAXIMA[2])
    error = read(memory[0], key) - target
    update(memory[0], memory[1], key, 1.0, error, alpha, eta, theta, L.CLIP)
    _take_value(state, value, change, change_scale)


@njit(nogil=True)
def run(
    rows: Int64,
    values: Float64,
    calendar: Float64,
    one_step: Float64,
    one_step_memory: Float64,
    one_step_errors: Float64,
    key_weight: Float64,
    key_bias: Float64,
    gate_weight: Float64,
    gate_bias: Float64,
    out: Float64,
) -> None:
    """Forecast N readings in order; rows [N] names each reading's row of the state arrays.

    calendar [N, 10] as `calendar_features` gives it. Writes expected, lower, upper: out [N, 3],
    NaN while there is too little history.
    """
    x = np.empty(L.INPUTS)
    key = np.empty(L.KEY)
    for i in range(rows.shape[0]):
        r = rows[i]
        _step(
            one_step[r], one_step_memory[r], one_step_errors[r], values[i],
            calendar[i, : L.TIME_FEATURES], key_weight, key_bias, gate_weight, gate_bias,
            x, key, out[i],
        )  # fmt: skip
