"""The one-step forecaster for one series at a time, compiled by numba."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from titans_stream.forecasting.one_step import layout
from titans_stream.forecasting.one_step.layout import OneStep
from titans_stream.jit import njit, scratch
from titans_stream.memory.rule_cpu import exp64, read, silu_key, update
from titans_stream.records import Float64, Int64

_x = scratch(layout.INPUTS)
_key = scratch(layout.KEY)


class State(NamedTuple):
    """One series' state; the arrays of all series have their slot as first axis."""

    past: OneStep
    memory: Float64
    """[2, KEY]: M and the past surprise S."""
    errors: Float64
    """[BINS] histogram of the past |error|."""


class Weights(NamedTuple):
    """The slow weights, in the order of `layout.weight_shapes`."""

    key_weight: Float64
    key_bias: Float64
    gate_weight: Float64
    gate_bias: Float64


class Work(NamedTuple):
    """Scratch space: the inputs of a key [INPUTS], and the key [KEY]."""

    x: Float64
    key: Float64


@njit(inner=True)
def _half_width(errors: Float64, unit: float, level: float) -> float:
    """Quantile of the past |error| / scale^g, widened for a short history; NaN without one."""
    total = 0.0
    for j in range(layout.BINS):
        total += errors[j]
    n = total / unit
    if n < 5.0:
        return math.nan
    wanted = level * total
    below = 0.0
    j = 0
    while j < layout.BINS - 1 and below + errors[j] < wanted:
        below += errors[j]
        j += 1
    inside = (wanted - below) / errors[j] if errors[j] > 0.0 else 1.0
    u = math.exp2(layout.BIN_ORIGIN + (j + inside) / layout.BINS_PER_OCTAVE)
    # Student t with n degrees of freedom over the normal quantile, first terms of its expansion
    z2 = 3.8416
    return u * (1.0 + (z2 + 1.0) / (4.0 * n) + (5.0 * z2 * z2 + 16.0 * z2 + 3.0) / (96.0 * n * n))


@njit(inner=True)
def _remember_error(past: OneStep, errors: Float64, error: float, scale: float) -> None:
    power = scale**layout.SCALE_POWER
    u = max(abs(error) / power, 1e-12)
    position = (math.log2(u) - layout.BIN_ORIGIN) * layout.BINS_PER_OCTAVE
    j = int(min(max(position, 0.0), layout.BINS - 1.0))
    weight = layout.FLAT_WEIGHT if past.run >= layout.FLAT_RUN else 1.0
    unit = past.unit / layout.HISTOGRAM_DECAY
    if unit > 1e6:
        for i in range(layout.BINS):
            errors[i] /= unit
        unit = 1.0
    past.unit = unit
    errors[j] += weight * unit
    bounded = min(abs(error), 20.0 * max(scale, 1.0))
    first = 1.0 / (past.count - layout.SCALE_READINGS)
    past.error_scale += max(layout.SCALE_EMA, first) * (bounded - past.error_scale)
    past.slow_scale += max(layout.SLOW_EMA, first) * (bounded - past.slow_scale)


@njit(inner=True)
def _take_value(past: OneStep, value: float, change: float, change_scale: float) -> None:
    """Running mean, deviation and size of changes; a lone outlier enters bounded."""
    n = min(past.count + 1.0, layout.COUNT_CAP)
    deviation = value - past.mean
    bounded = change
    if past.count >= layout.SCALE_READINGS:
        previous = min(abs(past.history[0]), abs(past.history[1]))
        bound = (
            min(layout.ESCAPE_BOUND, max(layout.CHANGE_BOUND, previous / change_scale))
            * change_scale
        )
        bounded = min(bound, max(-bound, change))
        limit = layout.DEVIATION_BOUND * max(math.sqrt(past.variance), change_scale)
        deviation = min(limit, max(-limit, deviation))
    past.count += 1.0
    past.change_variance += (bounded * bounded - past.change_variance) / (n - 1.0)
    past.mean += deviation / n
    past.variance = (1.0 - 1.0 / n) * (past.variance + deviation * deviation / n)
    past.run = past.run + 1.0 if change == 0.0 else 0.0
    for i in range(layout.LAGS - 1, 0, -1):
        past.history[i] = past.history[i - 1]
    past.history[0] = change
    past.last = value


@njit(inner=True)
def _repeat(past: OneStep, change_scale: float, out: Float64) -> None:
    """Forecast the last value where the series was constant until a few readings ago."""
    if past.constant + 1.0 >= layout.MINIMUM_READINGS:
        half = layout.FIRST_BAND * change_scale
        out[0], out[1], out[2] = past.last, past.last - half, past.last + half


@njit(inner=True)
def _shrink(past: OneStep) -> float:
    """Least-squares factor of the memory's forecast, 0..1, small while it has forecast little."""
    mass = past.gain_square * (1.0 + layout.BLEND_MASS / min(past.count, 1_000.0))
    if mass <= layout.BLEND_FLOOR:
        return 0.0
    factor: float = min(1.0, max(0.0, past.gain_cross / mass))
    return factor


@njit(inner=True)
def _trust(past: OneStep) -> float:
    """0 where repeating the last value has the smaller absolute error, else 1."""
    if past.error_last <= layout.BLEND_FLOOR:
        return 1.0
    ratio = past.error_memory / past.error_last
    trust: float = min(
        1.0, max(0.0, (layout.FALLBACK[1] - ratio) / (layout.FALLBACK[1] - layout.FALLBACK[0]))
    )
    return trust


@njit(inner=True)
def _gate(weights: Weights, gate: int, key: Float64, maximum: float) -> float:
    total = weights.gate_bias[gate]
    for i in range(key.shape[0]):
        total += weights.gate_weight[gate, i] * key[i]
    return maximum / (1.0 + exp64(-total))


@njit(inner=True)
def step(
    state: State, weights: Weights, value: float, times: Float64, work: Work, out: Float64
) -> None:
    """Forecast this reading from the past (out: expected, lower, upper), then learn from it."""
    past, memory, errors = state
    x, key = work
    out[:] = math.nan
    value = min(layout.VALUE_LIMIT, max(-layout.VALUE_LIMIT, value))
    n = past.count
    if n == 0.0:
        past.count = 1.0
        past.mean = value
        past.last = value
        past.unit = 1.0
        return
    last = past.last
    sd = max(math.sqrt(past.variance), 1e-9 * abs(past.mean) + 1e-12)
    change_scale = max(math.sqrt(past.change_variance), 1e-3 * sd)
    change = value - last
    if n == 1.0 and past.constant + 1.0 >= layout.MINIMUM_READINGS:
        out[0], out[1], out[2] = last, last - 1e-3 * sd, last + 1e-3 * sd
    if n == 1.0 and change == 0.0:
        past.run += 1.0
        past.constant += 1.0
        return
    if n <= layout.SCALE_READINGS:
        if n > 1.0:
            _repeat(past, change_scale, out)
        _take_value(past, value, change, change_scale)
        return
    for i in range(layout.LAGS):
        scaled = past.history[i] / change_scale
        x[i] = min(layout.INPUT_CLIP, max(-layout.INPUT_CLIP, scaled))
    level = (last - past.mean) / sd
    x[layout.LAGS] = min(layout.INPUT_CLIP, max(-layout.INPUT_CLIP, level))
    for i in range(layout.TIME_FEATURES):
        x[layout.LAGS + 1 + i] = 0.5 * times[i]
    silu_key(weights.key_weight, weights.key_bias, x, layout.KEY_CONSTANT, key)
    target = min(layout.INPUT_CLIP, max(-layout.INPUT_CLIP, change / change_scale))
    forecast = min(layout.INPUT_CLIP, max(-layout.INPUT_CLIP, read(memory[0], key)))
    shrunk = _shrink(past) * forecast
    blended = _trust(past) * shrunk
    scale = max(past.error_scale, 0.05 * past.slow_scale, 1e-3)
    if n < layout.MINIMUM_READINGS:
        _repeat(past, change_scale, out)
    else:
        half = _half_width(errors, past.unit, layout.BAND_LEVEL)
        half = max(half * scale**layout.SCALE_POWER * change_scale, 1e-3 * sd)
        out[0] = last + blended * change_scale
        out[1] = out[0] - half
        out[2] = out[0] + half
    _remember_error(past, errors, change / change_scale - blended, scale)
    past.error_memory = layout.BLEND_DECAY * past.error_memory + abs(target - shrunk)
    past.error_last = layout.BLEND_DECAY * past.error_last + abs(target)
    past.gain_cross = layout.BLEND_DECAY * past.gain_cross + target * forecast
    past.gain_square = layout.BLEND_DECAY * past.gain_square + forecast * forecast
    alpha = _gate(weights, 0, key, layout.GATE_MAXIMA[0])
    eta = _gate(weights, 1, key, layout.GATE_MAXIMA[1])
    theta = _gate(weights, 2, key, layout.GATE_MAXIMA[2])
    error = read(memory[0], key) - target
    update(memory[0], memory[1], key, 1.0, error, alpha, eta, theta, layout.CLIP)
    _take_value(past, value, change, change_scale)


@njit(inline="always")
def new_work() -> Work:
    """Scratch space for any series."""
    return Work(_x(), _key())


@njit(inline="always")
def state_of(states: Any, k: int) -> State:
    """The state of the series in slot k, from that of all (`State` of arrays)."""
    return State(states.past[k], states.memory[k], states.errors[k])


@njit(inner=True)
def _step_at(
    slot: int, value: float, calendar: Float64, states: Any, weights: Weights, work: Work, i: int,
    out: Float64,
) -> None:  # fmt: skip
    """Step with reading i of a run; apart from `run`, as it borrows arrays only."""
    state = state_of(states, slot)
    step(state, weights, value, calendar[i, : layout.TIME_FEATURES], work, out[i])


@njit(nogil=True)
def run(
    slots: Int64, values: Float64, calendar: Float64, states: State, weights: Weights, out: Float64
) -> None:
    """Forecast N readings in order; slots [N] names each reading's slot of the state arrays.

    calendar [N, 10] as `calendar_features` gives it. Writes expected, lower, upper: out [N, 3],
    NaN while there is too little history.
    """
    work = new_work()
    for i in range(slots.shape[0]):
        _step_at(slots[i], values[i], calendar, states, weights, work, i, out)
