"""The one-step forecaster, batched over series: the reference in torch, on any device.

The twin of `kernels_cpu.py`, in the same order. Training goes through the same functions
(`observe`, `keys_and_gates`, `blend`) and the same update rule.

Letters: B rows (series), T readings, K key width (`layout.KEY`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from titans_stream.forecasting.one_step import layout as L
from titans_stream.memory import rule

State = dict[str, Tensor]
"""The arrays of `layout.state_layout()`, B rows each, float64."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What one reading of each row is, seen from its past; none of it depends on slow weights."""

    x: Tensor
    """[B, INPUTS]: lagged changes, level, time; the input of the keys."""
    target: Tensor
    """[B]: the change in units of `change_scale`, clipped."""
    change: Tensor
    """[B]: the change, in units of the value."""
    change_scale: Tensor
    """[B]: deviation of the past changes."""
    sd: Tensor
    """[B]: deviation of the past values."""
    ready: Tensor
    """[B] bool: the scales are known, so memory and errors learn from this reading."""


@dataclass(frozen=True, slots=True)
class Gates:
    """Forgetting alpha, momentum eta and step theta, all [...]."""

    alpha: Tensor
    eta: Tensor
    theta: Tensor


class Blend(NamedTuple):
    """Decayed sums over the past [...]: how good the memory's forecasts were."""

    cross: Tensor
    """target x forecast"""
    square: Tensor
    """forecast^2"""
    error_memory: Tensor
    """|target - shrunk forecast|"""
    error_last: Tensor
    """|target|, the error of repeating the last value"""


BLEND_COLUMNS = (L.GAIN_CROSS, L.GAIN_SQUARE, L.ERROR_MEMORY, L.ERROR_LAST)


def fresh_state(rows: int, device: torch.device | str = "cpu") -> State:
    """The state of `rows` series that have not been read yet."""
    return {
        name: torch.zeros((rows, *spec.shape), dtype=torch.float64, device=device)
        for name, spec in L.state_layout().items()
    }


def forecast_step(
    state: State, values: Tensor, calendar: Tensor, weights: Mapping[str, Tensor]
) -> tuple[Tensor, State]:
    """Forecast one reading of each row from its past, then learn from it.

    values [B] float64; calendar [B, 10] as `calendar_features` gives it; weights by the names of
    `layout.weight_shapes()`. Returns out [B, 3] (expected, lower, upper; NaN while there is too
    little history) and the new state; the given one is not changed.
    """
    past, memory, errors = state["one_step"], state["one_step_memory"], state["one_step_errors"]
    seen, new = observe(past, values, calendar)
    key, gates = keys_and_gates(seen.x, weights)
    forecast = rule.read(memory[:, :1], key).squeeze(-1).clamp(-L.INPUT_CLIP, L.INPUT_CLIP)
    sums = Blend(*(past[:, column] for column in BLEND_COLUMNS))
    blended, new_sums = blend(sums, forecast, seen.target, past[:, L.COUNT])
    out = _band(past, errors, seen, blended)

    ready = seen.ready
    error = seen.change / seen.change_scale - blended
    learnt_errors = _remember_error(past, new, errors, error)
    for column, before, after in zip(BLEND_COLUMNS, sums, new_sums, strict=True):
        new[:, column] = torch.where(ready, after, before)
    M, S, _, _ = rule.update(
        memory[:, :1],
        memory[:, 1:],
        key,
        seen.target.unsqueeze(-1),
        gates.alpha,
        gates.eta,
        gates.theta,
        L.CLIP,
    )
    rows = ready[:, None, None]
    return out, {
        "one_step": new,
        "one_step_memory": torch.where(rows, torch.cat((M, S), dim=1), memory),
        "one_step_errors": torch.where(ready[:, None], learnt_errors, errors),
    }


def observe(past: Tensor, values: Tensor, calendar: Tensor) -> tuple[Observation, Tensor]:
    """Describe one reading of each row by its past, and take it into the running statistics.

    past [B, STATE] is the state's `one_step`, values [B], calendar [B, 10]. Returns the
    observation and a new [B, STATE].
    """
    value = values.clamp(-L.VALUE_LIMIT, L.VALUE_LIMIT)
    count, mean, last = past[:, L.COUNT], past[:, L.MEAN], past[:, L.LAST]
    sd = past[:, L.VAR].sqrt().maximum(1e-9 * mean.abs() + 1e-12)
    change_scale = past[:, L.CHANGE_VAR].sqrt().maximum(1e-3 * sd)
    change = value - last
    history = past[:, L.HISTORY : L.HISTORY + L.LAGS] / change_scale[:, None]
    level = (last - mean) / sd
    x = torch.cat(
        (
            torch.cat((history, level[:, None]), dim=1).clamp(-L.INPUT_CLIP, L.INPUT_CLIP),
            0.5 * calendar[:, : L.TIME_FEATURES],
        ),
        dim=1,
    )
    target = (change / change_scale).clamp(-L.INPUT_CLIP, L.INPUT_CLIP)
    ready = count > L.SCALE_READINGS
    seen = Observation(x, target, change, change_scale, sd, ready)
    return seen, _take_value(past, value, change, change_scale)


def _take_value(past: Tensor, value: Tensor, change: Tensor, change_scale: Tensor) -> Tensor:
    """Running mean, deviation and size of changes; a lone outlier enters bounded."""
    count = past[:, L.COUNT]
    n = (count + 1.0).clamp_max(L.COUNT_CAP)
    previous = past[:, L.HISTORY : L.HISTORY + 2].abs().amin(1)
    bound = (previous / change_scale).clamp(L.CHANGE_BOUND, L.ESCAPE_BOUND) * change_scale
    limit = L.DEVIATION_BOUND * past[:, L.VAR].sqrt().maximum(change_scale)
    free = count < L.SCALE_READINGS
    bounded = torch.where(free, change, change.clamp(-bound, bound))
    deviation = value - past[:, L.MEAN]
    deviation = torch.where(free, deviation, deviation.clamp(-limit, limit))
    same = change == 0.0

    new = past.clone()
    new[:, L.COUNT] = count + 1.0
    variance = past[:, L.CHANGE_VAR]
    new[:, L.CHANGE_VAR] = variance + (bounded.square() - variance) / (n - 1.0)
    new[:, L.MEAN] += deviation / n
    new[:, L.VAR] = (1.0 - 1.0 / n) * (past[:, L.VAR] + deviation.square() / n)
    new[:, L.RUN] = torch.where(same, past[:, L.RUN] + 1.0, 0.0)
    new[:, L.HISTORY + 1 : L.HISTORY + L.LAGS] = past[:, L.HISTORY : L.HISTORY + L.LAGS - 1]
    new[:, L.HISTORY] = change
    new[:, L.LAST] = value

    unused = (count == 1.0) & same
    still = past.clone()
    still[:, L.RUN] += 1.0
    first = past.clone()
    first[:, L.COUNT] = 1.0
    first[:, L.MEAN] = value
    first[:, L.LAST] = value
    first[:, L.UNIT] = 1.0
    new = torch.where(unused[:, None], still, new)
    return torch.where((count == 0.0)[:, None], first, new)


def keys_and_gates(x: Tensor, weights: Mapping[str, Tensor]) -> tuple[Tensor, Gates]:
    """Keys [..., K] of unit length and their gates, from inputs x [..., INPUTS]."""
    z = F.silu(x @ weights["forecast.key_weight"] + weights["forecast.key_bias"])
    constant = torch.full_like(z[..., :1], L.KEY_CONSTANT)
    key = F.normalize(torch.cat((z, constant), dim=-1), dim=-1)
    open_ = torch.sigmoid(key @ weights["forecast.gate_weight"].mT + weights["forecast.gate_bias"])
    alpha, eta, theta = (open_[..., i] * maximum for i, maximum in enumerate(L.GATE_MAXIMA))
    return key, Gates(alpha, eta, theta)


def blend(sums: Blend, forecast: Tensor, target: Tensor, count: Tensor) -> tuple[Tensor, Blend]:
    """What is published of the memory's forecast, and the sums with this reading in them.

    forecast, target and count are [...]. The forecast is shrunk by its past least-squares factor
    and dropped where repeating the last value has had the smaller absolute error.
    """
    mass = sums.square * (1.0 + L.BLEND_MASS / count.clamp_max(1_000.0))
    shrunk = _ratio(sums.cross, mass, 0.0).clamp(0.0, 1.0) * forecast
    full, none = L.FALLBACK
    worse = _ratio(sums.error_memory, sums.error_last, full)
    blended = ((none - worse) / (none - full)).clamp(0.0, 1.0) * shrunk
    news = (target * forecast, forecast * forecast, (target - shrunk).abs(), target.abs())
    return blended, Blend(*(L.BLEND_DECAY * old + new for old, new in zip(sums, news, strict=True)))


def _ratio(above: Tensor, below: Tensor, unknown: float) -> Tensor:
    known = below > L.BLEND_FLOOR
    return torch.where(known, above / torch.where(known, below, 1.0), unknown)


def _band(past: Tensor, errors: Tensor, seen: Observation, forecast: Tensor) -> Tensor:
    """expected, lower, upper [B, 3]; forecast [B] in units of the change scale."""
    last, run = past[:, L.LAST], past[:, L.RUN]
    half = _half_width(errors, past[:, L.UNIT]) * _error_scale(past).pow(L.SCALE_POWER)
    half = (half * seen.change_scale).maximum(1e-3 * seen.sd)
    expected = last + forecast * seen.change_scale
    unused = (past[:, L.COUNT] == 1.0) & (seen.change == 0.0)
    half = torch.where(unused, 1e-3 * seen.sd, half)
    expected = torch.where(unused, last, expected)
    given = torch.where(
        unused, run + 1.0 >= L.MINIMUM_READINGS, past[:, L.COUNT] >= L.MINIMUM_READINGS
    )
    out = torch.stack((expected, expected - half, expected + half), dim=1)
    return torch.where(given[:, None], out, torch.nan)


def _error_scale(past: Tensor) -> Tensor:
    return past[:, L.ERROR_SCALE].maximum(0.05 * past[:, L.SLOW_SCALE]).clamp_min(1e-3)


def _half_width(errors: Tensor, unit: Tensor) -> Tensor:
    """Quantile [B] of the past |error| / scale^g, widened for a short history."""
    total = errors.sum(1)
    n = total / unit
    wanted = L.BAND_LEVEL * total
    above = errors.cumsum(1)
    j = (above[:, :-1] < wanted[:, None]).sum(1)
    bin_ = errors.gather(1, j[:, None]).squeeze(1)
    below = torch.where(j > 0, above.gather(1, (j - 1).clamp_min(0)[:, None]).squeeze(1), 0.0)
    inside = torch.where(bin_ > 0.0, (wanted - below) / bin_, 1.0)
    u = torch.exp2(L.BIN_ORIGIN + (j + inside) / L.BINS_PER_OCTAVE)
    # Student t with n degrees of freedom over the normal quantile, first terms of its expansion
    z2 = 3.8416
    wider = 1.0 + (z2 + 1.0) / (4.0 * n) + (5.0 * z2 * z2 + 16.0 * z2 + 3.0) / (96.0 * n * n)
    return torch.where(n < 5.0, torch.nan, u * wider)


def _remember_error(past: Tensor, new: Tensor, errors: Tensor, error: Tensor) -> Tensor:
    """The histogram [B, BINS] with `error` [B] in it; scales and unit are written to `new`."""
    scale = _error_scale(past)
    u = (error.abs() / scale.pow(L.SCALE_POWER)).clamp_min(1e-12)
    position = (torch.log2(u) - L.BIN_ORIGIN) * L.BINS_PER_OCTAVE
    j = position.clamp(0.0, L.BINS - 1.0).nan_to_num(0.0).long()
    weight = torch.where(past[:, L.RUN] >= L.FLAT_RUN, L.FLAT_WEIGHT, 1.0)
    unit = past[:, L.UNIT] / L.HISTOGRAM_DECAY
    large = unit > 1e6
    divisor = torch.where(large, unit, 1.0)
    unit = torch.where(large, 1.0, unit)
    learnt = (errors / divisor[:, None]).scatter_add(1, j[:, None], (weight * unit)[:, None])
    bounded = error.abs().minimum(20.0 * scale.clamp_min(1.0))
    ready = past[:, L.COUNT] > L.SCALE_READINGS
    first = 1.0 / (past[:, L.COUNT] - L.SCALE_READINGS)
    for column, rate in ((L.ERROR_SCALE, L.SCALE_EMA), (L.SLOW_SCALE, L.SLOW_EMA)):
        moved = past[:, column] + first.clamp_min(rate) * (bounded - past[:, column])
        new[:, column] = torch.where(ready, moved, past[:, column])
    new[:, L.UNIT] = torch.where(ready, unit, new[:, L.UNIT])
    return learnt
