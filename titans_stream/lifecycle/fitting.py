"""Gradient descent on the forecaster's slow weights, through the recurrence of its memory.

What a reading looks like from its past (`one_step.observe`) does not depend on slow weights, so
it is computed once; keys and gates of a whole unroll are one matrix product; only reading and
updating the memory are sequential. Unrolls are truncated: the memory is carried on from one to
the next, the gradient is not.

Letters: B series, T readings, K key width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from titans_stream.forecasting.one_step import layout as L
from titans_stream.forecasting.one_step import reference as one_step
from titans_stream.memory import rule


@dataclass(frozen=True, slots=True)
class Inputs:
    """T readings of B series as the memory sees them."""

    x: Tensor
    """[T, B, INPUTS]"""
    target: Tensor
    """[T, B]: the next change, in deviations of the changes, clipped."""
    count: Tensor
    """[T, B]: readings seen before."""
    learns: Tensor
    """[T, B] bool: the scales are known and the reading is not padding."""

    def part(self, rows: Tensor | slice, times: slice) -> Inputs:
        """The readings `times` of the series `rows`."""
        return Inputs(
            self.x[times, rows],
            self.target[times, rows],
            self.count[times, rows],
            self.learns[times, rows],
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
    """[B, 1, K]"""
    surprise: Tensor
    """[B, 1, K]: the past surprise S."""
    sums: one_step.Blend
    """[B] each."""

    def detach(self) -> Carry:
        """The same values, cut from the graph."""
        sums = one_step.Blend(*(total.detach() for total in self.sums))
        return Carry(self.memory.detach(), self.surprise.detach(), sums)


def fresh_carry(series: int) -> Carry:
    """Empty memories."""
    empty = torch.zeros(series, 1, L.KEY, dtype=torch.float64)
    zero = torch.zeros(series, dtype=torch.float64)
    return Carry(empty, empty, one_step.Blend(zero, zero, zero, zero))


@torch.no_grad()
def prepare(values: Tensor, calendar: Tensor) -> Inputs:
    """Inputs of series values [B, T] (NaN after a series' end) with calendar [B, T, 10]."""
    past = one_step.fresh_state(len(values))["one_step"]
    seen, counts = [], []
    known = values.isfinite()
    filled = torch.where(known, values, 0.0)
    for t in range(values.shape[1]):
        counts.append(past[:, L.COUNT])
        observation, past = one_step.observe(past, filled[:, t], calendar[:, t])
        seen.append(observation)
    return Inputs(
        torch.stack([observation.x for observation in seen]),
        torch.stack([observation.target for observation in seen]),
        torch.stack(counts),
        torch.stack([observation.ready for observation in seen]) & known.mT,
    )


def unroll(inputs: Inputs, carry: Carry, weights: Mapping[str, Tensor]) -> tuple[Tensor, Carry]:
    """Forecast and learn T readings in turn.

    Returns the forecasts [T, B] in units of the change scale, as they are published, and the
    carry.
    """
    keys, gates = one_step.keys_and_gates(inputs.x, weights)
    theta = gates.theta * inputs.learns  # M and S stay zero until a series learns
    M, S, sums = carry.memory, carry.surprise, carry.sums
    forecasts = []
    columns = (keys, inputs.target, inputs.count, inputs.learns, gates.alpha, gates.eta, theta)
    for key, target, count, learns, alpha, eta, step in zip(
        *(column.unbind(0) for column in columns), strict=True
    ):
        forecast = rule.read(M, key).squeeze(-1).clamp(-L.INPUT_CLIP, L.INPUT_CLIP)
        blended, after = one_step.blend(sums, forecast, target, count)
        forecasts.append(blended)
        sums = one_step.Blend(
            *(torch.where(learns, new, old) for new, old in zip(after, sums, strict=True))
        )
        M, S, _, _ = rule.update(M, S, key, target.unsqueeze(-1), alpha, eta, step, L.CLIP)
    return torch.stack(forecasts), Carry(M, S, sums)
