"""Gradient descent on the detector's slow weights, through the recurrence of its dense memories.

What a reading looks like from its past (lags, time, targets) does not depend on slow weights, so
it is computed once; the keys of a whole unroll are one matrix product; only reading and updating
the memories are sequential. Unrolls are truncated: the memories are carried on from one to the
next, the gradient is not. The clip of a memory's gradient follows the errors' size and counts as
a constant.

Letters: B series, T readings, H = 3 memories (A, T, N), K key width, C = 5 channels (A, its two
running means, T, N).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from titans_stream.detection import layout as L
from titans_stream.detection.keys import silu_key
from titans_stream.detection.normalize import normalize
from titans_stream.memory import rule


@dataclass(frozen=True, slots=True)
class Inputs:
    """T readings of B series as the dense memories see them."""

    lags: Tensor
    """[T, B, LAGS + TIME_FEATURES]: the input of key A."""
    times: Tensor
    """[T, B, TIME_FEATURES]: the input of key T."""
    target: Tensor
    """[T, B, H]"""
    theta: Tensor
    """[T, B]: the step, 0 for padding."""
    counts: Tensor
    """[T, B] bool: the reading is not padding and comes after the first block."""

    def part(self, rows: Tensor | slice, times: slice) -> Inputs:
        """The readings `times` of the series `rows`."""
        return Inputs(
            self.lags[times, rows],
            self.times[times, rows],
            self.target[times, rows],
            self.theta[times, rows],
            self.counts[times, rows],
        )

    @property
    def readings(self) -> int:
        """T."""
        return self.target.shape[0]

    @property
    def series(self) -> int:
        """B."""
        return self.target.shape[1]


@dataclass(frozen=True, slots=True)
class Carry:
    """What goes on from one unroll to the next: the part of the state that weights shape."""

    memory: Tensor
    """[B, H, 1, K]"""
    surprise: Tensor
    """[B, H, 1, K]: the past surprise S."""
    gradient: Tensor
    """[B, H]: running mean of the gradient's norm."""
    means: Tensor
    """[B, 2]: running means of A's error."""

    def detach(self) -> Carry:
        """The same values, cut from the graph."""
        return Carry(
            self.memory.detach(),
            self.surprise.detach(),
            self.gradient.detach(),
            self.means.detach(),
        )


def fresh_carry(series: int) -> Carry:
    """Empty memories."""
    empty = torch.zeros(series, L.MEMORIES, 1, L.KEY, dtype=torch.float64)
    level = torch.ones(series, L.MEMORIES, dtype=torch.float64)
    return Carry(empty, empty, level, torch.zeros(series, 2, dtype=torch.float64))


@torch.no_grad()
def prepare(values: Tensor, calendar: Tensor) -> Inputs:
    """Inputs of series values [B, T] (NaN after a series' end) with calendar [B, T, 10]."""
    known = values.isfinite()
    filled = torch.where(known, values, 0.0)
    core = torch.from_numpy(L.fresh_core()).expand(len(values), -1).clone()
    history = torch.zeros(len(values), L.HISTORY, dtype=torch.float64)
    lags, targets = [], []
    for t in range(values.shape[1]):
        y = normalize(core, filled[:, t])
        lags.append(history[:, : L.LAGS].clamp(-8.0, 8.0))
        history = torch.cat([y[:, None], history[:, :-1]], dim=1)
        seen = float(min(t + 1, L.HISTORY))
        targets.append(
            torch.stack(
                [
                    history[:, : L.HORIZON_A].sum(1) / min(seen, float(L.HORIZON_A)),
                    history[:, : L.HORIZON_T].sum(1) / min(seen, float(L.HORIZON_T)),
                    y,
                ],
                dim=1,
            )
        )
    times = calendar[:, :, : L.TIME_FEATURES].transpose(0, 1)
    age = torch.arange(values.shape[1], dtype=torch.float64)
    theta = (L.THETA * (L.THETA_DECAY / (age + L.THETA_DECAY)).sqrt()).clamp_min(L.THETA_FLOOR)
    return Inputs(
        torch.cat([torch.stack(lags), 0.5 * times], dim=2),
        times.contiguous(),
        torch.stack(targets),
        theta[:, None] * known.mT,
        (age >= L.BLOCK)[:, None] & known.mT,
    )


def unroll(inputs: Inputs, carry: Carry, weights: Mapping[str, Tensor]) -> tuple[Tensor, Carry]:
    """Predict and learn T readings in turn.

    Returns the channels' signed errors [T, B, C], whose magnitudes are the surprises that the
    detector ranks, and the carry.
    """
    keys = _keys(inputs, weights)
    M, S, level, means = carry.memory, carry.surprise, carry.gradient, carry.means
    speed = means.new_tensor([L.EMA_SHORT, L.EMA_LONG])
    channels = []
    for key, target, theta in zip(
        keys.unbind(0), inputs.target.unbind(0), inputs.theta.unbind(0), strict=True
    ):
        clip = L.CLIP_FACTOR * level.clamp_min(L.CLIP_FLOOR)
        M, S, error, norm = rule.update(
            M, S, key, target.unsqueeze(2), 0.0, L.ETA, theta[:, None], clip
        )
        error = error.squeeze(2)
        level = level + L.CLIP_EMA * (torch.minimum(norm.detach(), clip) - level)
        means = means + speed * (error[:, :1] - means)
        channels.append(torch.cat([error[:, :1], means, error[:, 1:]], dim=1))
    return torch.stack(channels), Carry(M, S, level, means)


def _keys(inputs: Inputs, weights: Mapping[str, Tensor]) -> Tensor:
    """[T, B, H, K]"""
    shape = (inputs.readings, inputs.series, L.KEY)
    key_a, key_t = (
        silu_key(
            weights[f"detect.key_{name}_weight"],
            weights[f"detect.key_{name}_bias"],
            x.flatten(0, 1),
            L.KEY_CONSTANT,
        ).view(shape)
        for name, x in (("a", inputs.lags), ("t", inputs.times))
    )
    return torch.stack([key_a, key_t, key_a], dim=2)
