"""The one-step forecaster as gradients see it: what serves is `forecasting.one_step.kernels`.

The loss is that of the forecast the service publishes, the memory's forecast blended with
repeating the last value, as a pseudo-Huber error in deviations of the series' changes, divided by
that of repeating the last value: every series counts alike, and 1 is no better than that.

Letters: B series, T readings, K key width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from titans_stream.forecasting.one_step import layout
from titans_stream.lifecycle import gradient_fit
from titans_stream.lifecycle.gradient_fit import Tensors, Weights, pseudo_huber
from titans_stream.memory import rule

LEAST_DIFFICULTY = 0.02
"""Added to the loss of repeating the last value, so that a series at rest does not count much."""

Sums = tuple[Tensor, Tensor, Tensor, Tensor]
"""cross, square, error_memory and error_last of `Carry`."""


@dataclass(frozen=True, slots=True)
class Inputs(gradient_fit.Inputs):
    """`target` [T, B] is the next change, in deviations of the changes, clipped; the memory learns
    from readings that count: the scales are known by then."""

    x: Tensor
    """[T, B, INPUTS]"""
    seen: Tensor
    """[T, B]: readings seen before."""


@dataclass(frozen=True, slots=True)
class Carry(Tensors):
    """The part of the state that weights shape."""

    memory: Tensor
    """[B, 1, K]"""
    surprise: Tensor
    """[B, 1, K]: the past surprise S."""
    cross: Tensor
    """[B]: decayed sum over the past of target x forecast, as the following ones are."""
    square: Tensor
    """forecast^2"""
    error_memory: Tensor
    """|target - shrunk forecast|"""
    error_last: Tensor
    """|target|, the error of repeating the last value"""


def fresh_carry(series: int) -> Carry:
    """Empty memories."""
    empty = torch.zeros(series, 1, layout.KEY, dtype=torch.float64)
    zero = torch.zeros(series, dtype=torch.float64)
    return Carry(empty, empty, zero, zero, zero, zero)


@torch.no_grad()
def prepare(values: Tensor, calendar: Tensor) -> Inputs:
    """Inputs of series values [B, T] (NaN after a series' end) with calendar [B, T, 10].

    Running mean, deviation and size of changes take a reading in after it is described by them; a
    lone outlier enters bounded.
    """
    known = values.isfinite()
    values = torch.where(known, values, 0.0).clamp(-layout.VALUE_LIMIT, layout.VALUE_LIMIT)
    mean = last = values[:, 0]
    var = change_var = torch.zeros_like(last)
    count = torch.ones_like(last)
    changes = torch.zeros(len(values), layout.LAGS, dtype=torch.float64)
    nothing = torch.zeros(len(values), layout.LAGS + 1, dtype=torch.float64)
    xs, targets, seen = [nothing], [var], [var]
    for value in values.unbind(1)[1:]:
        sd = var.sqrt().maximum(1e-9 * mean.abs() + 1e-12)
        change_scale = change_var.sqrt().maximum(1e-3 * sd)
        change = value - last
        x = torch.cat((changes / change_scale[:, None], ((last - mean) / sd)[:, None]), dim=1)
        xs.append(x.clamp(-layout.INPUT_CLIP, layout.INPUT_CLIP))
        targets.append((change / change_scale).clamp(-layout.INPUT_CLIP, layout.INPUT_CLIP))
        seen.append(count)

        free = count < layout.SCALE_READINGS
        previous = changes[:, :2].abs().amin(1)
        bound = (previous / change_scale).clamp(
            layout.CHANGE_BOUND, layout.ESCAPE_BOUND
        ) * change_scale
        bounded = torch.where(free, change, change.clamp(-bound, bound))
        limit = layout.DEVIATION_BOUND * var.sqrt().maximum(change_scale)
        deviation = value - mean
        deviation = torch.where(free, deviation, deviation.clamp(-limit, limit))
        n = (count + 1.0).clamp_max(layout.COUNT_CAP)
        change_var = change_var + (bounded.square() - change_var) / (n - 1.0)
        mean = mean + deviation / n
        var = (1.0 - 1.0 / n) * (var + deviation.square() / n)
        changes = torch.cat((change[:, None], changes[:, :-1]), dim=1)
        last = value
        # a sensor that has not changed yet is not in use
        count = torch.where((count == 1.0) & (change == 0.0), count, count + 1.0)
    times = 0.5 * calendar[:, :, : layout.TIME_FEATURES].transpose(0, 1)
    return Inputs(
        target=torch.stack(targets),
        counts=(torch.stack(seen) > layout.SCALE_READINGS) & known.mT,
        x=torch.cat((torch.stack(xs), times), dim=2),
        seen=torch.stack(seen),
    )


def unroll(inputs: Inputs, carry: Carry, weights: Weights) -> tuple[Tensor, Carry]:
    """Forecast and learn T readings in turn.

    Returns the forecasts [T, B] in units of the change scale, as they are published, and the
    carry.
    """
    keys, (alphas, etas, thetas) = keys_and_gates(inputs.x, weights)
    thetas = thetas * inputs.counts  # M and S stay zero until a series learns
    M, S = carry.memory, carry.surprise
    sums = (carry.cross, carry.square, carry.error_memory, carry.error_last)
    forecasts = []
    columns = (keys, inputs.target, inputs.seen, inputs.counts, alphas, etas, thetas)
    for key, target, seen, learns, alpha, eta, theta in zip(
        *(column.unbind(0) for column in columns), strict=True
    ):
        forecast = rule.read(M, key).squeeze(-1).clamp(-layout.INPUT_CLIP, layout.INPUT_CLIP)
        blended, (cross, square, error_memory, error_last) = blend(sums, forecast, target, seen)
        forecasts.append(blended)
        sums = (
            torch.where(learns, cross, sums[0]),
            torch.where(learns, square, sums[1]),
            torch.where(learns, error_memory, sums[2]),
            torch.where(learns, error_last, sums[3]),
        )
        M, S, _, _ = rule.update(M, S, key, target.unsqueeze(-1), alpha, eta, theta, layout.CLIP)
    return torch.stack(forecasts), Carry(M, S, *sums)


def keys_and_gates(x: Tensor, weights: Weights) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Keys [..., K] of unit length, and alpha (forgetting), eta (momentum) and theta (step) [...],
    from inputs x [..., INPUTS]."""
    z = F.silu(x @ weights["forecast.key_weight"] + weights["forecast.key_bias"])
    constant = torch.full_like(z[..., :1], layout.KEY_CONSTANT)
    key = F.normalize(torch.cat((z, constant), dim=-1), dim=-1)
    open_ = torch.sigmoid(key @ weights["forecast.gate_weight"].mT + weights["forecast.gate_bias"])
    alpha, eta, theta = (open_[..., i] * maximum for i, maximum in enumerate(layout.GATE_MAXIMA))
    return key, (alpha, eta, theta)


def blend(sums: Sums, forecast: Tensor, target: Tensor, seen: Tensor) -> tuple[Tensor, Sums]:
    """What is published of the memory's forecast [...], and the sums with this reading in them.

    The forecast is shrunk by its past least-squares factor and dropped where repeating the last
    value has had the smaller absolute error.
    """
    cross, square, error_memory, error_last = sums
    mass = square * (1.0 + layout.BLEND_MASS / seen.clamp_max(1_000.0))
    shrunk = _ratio(cross, mass, 0.0).clamp(0.0, 1.0) * forecast
    full, none = layout.FALLBACK
    worse = _ratio(error_memory, error_last, full)
    blended = ((none - worse) / (none - full)).clamp(0.0, 1.0) * shrunk
    return blended, (
        layout.BLEND_DECAY * cross + target * forecast,
        layout.BLEND_DECAY * square + forecast * forecast,
        layout.BLEND_DECAY * error_memory + (target - shrunk).abs(),
        layout.BLEND_DECAY * error_last + target.abs(),
    )


def _ratio(above: Tensor, below: Tensor, unknown: float) -> Tensor:
    known = below > layout.BLEND_FLOOR
    return torch.where(known, above / torch.where(known, below, 1.0), unknown)


def yardsticks(inputs: Inputs, _: Weights) -> tuple[Tensor, ...]:
    """[B]: mean error of repeating the last value, over all readings of each series."""
    counts = inputs.counts.double()
    total = (pseudo_huber(inputs.target) * counts).sum(0)
    return (total / counts.sum(0).clamp_min(1.0) + LEAST_DIFFICULTY,)


def loss(forecasts: Tensor, inputs: Inputs, yardsticks: tuple[Tensor, ...]) -> Tensor:
    """Mean over readings and series; 1 is no better than repeating the last value."""
    (difficulty,) = yardsticks
    counts = inputs.counts.double()
    errors = pseudo_huber(forecasts - inputs.target) * counts
    return (errors / difficulty).sum() / counts.sum().clamp_min(1.0)
