"""The detector's dense memories as gradients see them: what serves is `detection.kernels`.

The clip of a memory's gradient follows the errors' size and counts as a constant. Each channel's
error of each series is scaled by that of the projections that training starts from, so that 1 is
no better than they are.

Letters: B series, T readings, H = 3 memories (A, T, N), K key width, C = 5 channels (A, its two
running means, T, N).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import silu

from titans_stream.detection import layout
from titans_stream.lifecycle import gradient_fit
from titans_stream.lifecycle.gradient_fit import Tensors, Weights, pseudo_huber
from titans_stream.memory import rule

LEAST_ERROR = 0.02
"""Added to the scale of the errors, so that a series at rest does not count much; deviations."""


@dataclass(frozen=True, slots=True)
class Inputs(gradient_fit.Inputs):
    """`target` is [T, B, H]; readings count after the first block."""

    lags: Tensor
    """[T, B, LAGS + TIME_FEATURES]: the input of key A."""
    times: Tensor
    """[T, B, TIME_FEATURES]: the input of key T."""
    theta: Tensor
    """[T, B]: the step, 0 for padding."""


@dataclass(frozen=True, slots=True)
class Carry(Tensors):
    """The part of the state that weights shape."""

    memory: Tensor
    """[B, H, 1, K]"""
    surprise: Tensor
    """[B, H, 1, K]: the past surprise S."""
    gradient: Tensor
    """[B, H]: running mean of the gradient's norm."""
    means: Tensor
    """[B, 2]: running means of A's error."""


def fresh_carry(series: int) -> Carry:
    """Empty memories."""
    empty = torch.zeros(series, layout.MEMORIES, 1, layout.KEY, dtype=torch.float64)
    level = torch.ones(series, layout.MEMORIES, dtype=torch.float64)
    return Carry(empty, empty, level, torch.zeros(series, 2, dtype=torch.float64))


@torch.no_grad()
def prepare(values: Tensor, calendar: Tensor) -> Inputs:
    """Inputs of series values [B, T] (NaN after a series' end) with calendar [B, T, 10]."""
    known = values.isfinite()
    normal = normalised(torch.where(known, values, 0.0))
    history = torch.zeros(len(values), layout.HISTORY, dtype=torch.float64)
    lags, targets = [], []
    for t, y in enumerate(normal.unbind(1)):
        lags.append(history[:, : layout.LAGS].clamp(-8.0, 8.0))
        history = torch.cat([y[:, None], history[:, :-1]], dim=1)
        means = [
            history[:, :horizon].sum(1) / float(min(t + 1, horizon))
            for horizon in (layout.HORIZON_A, layout.HORIZON_T)
        ]
        targets.append(torch.stack([*means, y], dim=1))
    times = calendar[:, :, : layout.TIME_FEATURES].transpose(0, 1)
    age = torch.arange(values.shape[1], dtype=torch.float64)
    theta = (layout.THETA * (layout.THETA_DECAY / (age + layout.THETA_DECAY)).sqrt()).clamp_min(
        layout.THETA_FLOOR
    )
    return Inputs(
        target=torch.stack(targets),
        counts=(age >= layout.BLOCK)[:, None] & known.mT,
        lags=torch.cat([torch.stack(lags), 0.5 * times], dim=2),
        times=times.contiguous(),
        theta=theta[:, None] * known.mT,
    )


def normalised(values: Tensor) -> Tensor:
    """`values` [B, T] in past standard deviations, clipped to +-Y_CLIP.

    Mean and variance take a value in afterwards; a lone outlier beyond OUTLIER_CLIP deviations
    enters bounded, a second one in a row as it is.
    """
    mean, var, last = values[:, 0], torch.zeros_like(values[:, 0]), torch.zeros_like(values[:, 0])
    normal = [torch.zeros_like(mean)]
    for n, value in enumerate(values.unbind(1)[1:], 1):
        deviation = value - mean
        sd = torch.maximum(var.sqrt(), 1e-3 * mean.abs() + 1e-9)
        normal.append((deviation / sd).clamp(-layout.Y_CLIP, layout.Y_CLIP))
        bound = torch.maximum(layout.OUTLIER_CLIP * sd, last.abs())
        taken = deviation.clamp(-bound, bound) if n > layout.OUTLIER_AFTER else deviation
        count = min(n + 1.0, layout.COUNT_CAP)
        mean = mean + taken / count
        var = (1.0 - 1.0 / count) * (var + taken * taken / count)
        last = deviation
    return torch.stack(normal, dim=1)


def unroll(inputs: Inputs, carry: Carry, weights: Weights) -> tuple[Tensor, Carry]:
    """Predict and learn T readings in turn.

    Returns the channels' signed errors [T, B, C], whose magnitudes are the surprises that the
    detector ranks, and the carry.
    """
    key_a = _keys(inputs.lags, weights["detect.key_a_weight"], weights["detect.key_a_bias"])
    key_t = _keys(inputs.times, weights["detect.key_t_weight"], weights["detect.key_t_bias"])
    keys = torch.stack([key_a, key_t, key_a], dim=2)
    M, S, level, means = carry.memory, carry.surprise, carry.gradient, carry.means
    speed = means.new_tensor([layout.EMA_SHORT, layout.EMA_LONG])
    channels = []
    for key, target, theta in zip(
        keys.unbind(0), inputs.target.unbind(0), inputs.theta.unbind(0), strict=True
    ):
        clip = layout.CLIP_FACTOR * level.clamp_min(layout.CLIP_FLOOR)
        M, S, error, norm = rule.update(
            M, S, key, target.unsqueeze(2), 0.0, layout.ETA, theta[:, None], clip
        )
        error = error.squeeze(2)
        level = level + layout.CLIP_EMA * (torch.minimum(norm.detach(), clip) - level)
        means = means + speed * (error[:, :1] - means)
        channels.append(torch.cat([error[:, :1], means, error[:, 1:]], dim=1))
    return torch.stack(channels), Carry(M, S, level, means)


def _keys(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Keys [T, B, K] of unit length: SiLU of projections, the last feature constant."""
    features = silu(inputs.flatten(0, 1) @ weight + bias)
    key = torch.cat([features, torch.full_like(features[:, :1], layout.KEY_CONSTANT)], dim=1)
    return (key / key.square().sum(1, keepdim=True).sqrt()).view(*inputs.shape[:2], layout.KEY)


def yardsticks(inputs: Inputs, weights: Weights) -> tuple[Tensor, ...]:
    """Root mean square and mean loss [B, C] of the errors that `weights` make."""
    errors, _ = unroll(inputs, fresh_carry(inputs.series), weights)
    counts = inputs.counts.double()[:, :, None]
    readings = counts.sum(0).clamp_min(1.0)
    scale = ((errors.square() * counts).sum(0) / readings).sqrt() + LEAST_ERROR
    difficulty = (pseudo_huber(errors / scale) * counts).sum(0) / readings
    return scale, difficulty.clamp_min(1e-6)


def loss(errors: Tensor, inputs: Inputs, yardsticks: tuple[Tensor, ...]) -> Tensor:
    """Mean over readings, series and channels; 1 is no better than the first projections."""
    scale, difficulty = yardsticks
    counts = inputs.counts.double()
    relative = (pseudo_huber(errors / scale) / difficulty).mean(2)
    return (relative * counts).sum() / counts.sum().clamp_min(1.0)
