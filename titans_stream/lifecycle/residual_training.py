"""Trains the MAL residual of the multi-step forecaster, by gradient descent on its moments.

The block is `titans.variants.MAL`, followed by a layer that starts at zero; autograd goes through
the updates of the memory. The loss is the change of the squared error that the corrections make,
relative to the error of each series and range of steps without them: 0 is no better.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from titans_stream.forecasting.mal import block, residual
from titans_stream.forecasting.mal import weights as mal
from titans_stream.forecasting.multi import layout
from titans_stream.lifecycle.gradient_fit import Descent
from titans_stream.lifecycle.head_fitting import period_of, regular_values
from titans_stream.lifecycle.residual_examples import Examples, examples
from titans_stream.lifecycle.series import Series
from titans_stream.recipe_settings import ResidualConfig
from titans_stream.records import Float64
from titans_stream.titans.config import MALConfig, MemoryConfig
from titans_stream.titans.variants import MAL

LEAST_ERROR = 0.02
"""Added to a range's error, times the mean over the ranges, so that easy ones do not rule."""
MIXED_SHARE = 0.75
"""Share of the series that are sums of two and of noise, as real ones are."""
MEMORIES = (0.0, 0.5, 0.9, 0.97, 0.99, 0.997)
"""Of which the noise of a mixed series has one."""
_UPPER = np.triu_indices(residual.CORRECTIONS)


@dataclass(frozen=True, slots=True)
class ResidualStep:
    """Some optimiser steps; losses are means since the last report."""

    number: int
    training_loss: float
    validation_loss: float
    seconds: float

    @property
    def summary(self) -> str:
        """One line for people."""
        return (
            f"residual, step {self.number:4d}  squared error changes by "
            f"{100 * self.training_loss:+.1f} %, validation {100 * self.validation_loss:+.1f} %  "
            f"({self.seconds:.1f} s)"
        )


class ResidualBlock(nn.Module):
    """Tokens in, corrections out, in parallel over a sequence."""

    def __init__(self) -> None:
        super().__init__()
        memory = MemoryConfig(
            width=block.WIDTH, heads=1, depth=1, chunk=1, convolution=block.TAPS,
            theta_max=block.THETA_MAX, clip=block.CLIP,
        )  # fmt: skip
        self.input = nn.Linear(residual.INPUTS, block.WIDTH)
        self.block = MAL(
            MALConfig(
                memory=memory,
                attention_heads=block.ATTENTION_HEADS,
                persistent=block.PERSISTENT,
                window=block.WINDOW,
            )
        )
        self.last_norm = nn.RMSNorm(block.WIDTH, eps=block.EPSILON)
        self.output = nn.Linear(block.WIDTH, residual.BANDS * residual.CORRECTIONS)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, T, INPUTS] -> [B, T, BANDS, CORRECTIONS]."""
        y, _ = self.block(self.input(tokens))
        corrections: Tensor = residual.GAIN * self.output(self.last_norm(y))
        return corrections.view(*tokens.shape[:2], residual.BANDS, residual.CORRECTIONS)

    def weights(self) -> dict[str, Float64]:
        """The weights `forecast.residual.*` that serve."""
        layer, attention = self.block.layer, self.block.attention
        memory = layer.memory
        assert memory.filter is not None
        found = {
            "input": _affine(self.input),
            "persistent": layer.persistent[0],
            "start": memory.start[0][0],
            "norm": layer.norm.weight,
            "qkv": memory.qkv.weight,
            "gates": _affine(memory.gates),
            "filter": memory.filter,
            "out_norm": layer.output.norm.weight,
            "out_gate": layer.output.gate.weight,
            "out_project": layer.output.project.weight,
            "attention_norm": self.block.norm.weight,
            "attention_qkv": attention.qkv.weight,
            "attended_norm": self.block.output.norm.weight,
            "attended_gate": self.block.output.gate.weight,
            "attended_project": self.block.output.project.weight,
            "last_norm": self.last_norm.weight,
            "output": _affine(self.output),
        }
        return {
            mal.PREFIX + name: tensor.detach().double().numpy().copy()
            for name, tensor in found.items()
        }


def _affine(layer: nn.Linear) -> Tensor:
    return torch.cat([layer.weight, layer.bias[:, None]], 1)


class _Moments:
    """Examples as tensors, with the errors that losses are relative to."""

    def __init__(self, given: Examples) -> None:
        known = np.isfinite(given.errors)
        errors = np.where(known, given.errors, 0.0)
        size = np.square(given.scale)[..., None]
        count = known.sum(1).clip(1)
        base = (errors * size).sum(1) / count
        base = base + LEAST_ERROR * base.mean(1, keepdims=True) + 1e-300
        relative = np.where(known, size / base[:, None], 0.0)
        doubled = np.where(_UPPER[0] == _UPPER[1], 1.0, 2.0)
        self.tokens = torch.tensor(given.tokens, dtype=torch.float32)
        self.cross = torch.tensor(2.0 * given.cross * relative[..., None], dtype=torch.float32)
        self.square = torch.tensor(
            given.square * doubled * relative[..., None], dtype=torch.float32
        )
        self.known = torch.tensor(known, dtype=torch.float32)

    def loss(self, corrections: Tensor, rows: Tensor) -> Tensor:
        """Mean change of the relative squared error."""
        products = corrections[..., _UPPER[0]] * corrections[..., _UPPER[1]]
        change = (products * self.square[rows]).sum(-1) - (corrections * self.cross[rows]).sum(-1)
        return change.sum() / self.known[rows].sum().clamp_min(1.0)


def train_residual(
    training: Sequence[Float64],
    validation: Sequence[Float64],
    heads: Mapping[str, Float64],
    config: ResidualConfig,
    seed: int,
    on_step: Callable[[ResidualStep], None] = lambda step: None,
) -> dict[str, Float64]:
    """The weights `forecast.residual.*`: those of the report with the lowest validation loss, and
    plain ones where none is below 0.

    training, validation: series of equal length whose period is 24 readings, NaN: missing;
    `heads`: the weights `forecast.head.*`. ArithmeticError where the loss stops being finite.
    """
    torch.manual_seed(seed)
    learned = _Moments(examples(mixed(training, seed), heads, seed))
    kept = _Moments(examples(mixed(validation, seed + 1), heads, seed + 1))
    block = ResidualBlock()
    descent = Descent(block.parameters(), config, config.steps, "training.residual")
    best, weights = 0.0, mal.plain_weights()
    begin, losses = time.perf_counter(), []
    everything = torch.arange(len(kept.tokens))
    for number in range(1, config.steps + 1):
        rows = torch.randperm(len(learned.tokens))[: config.batch]
        loss = learned.loss(block(learned.tokens[rows]), rows)
        losses.append(descent.step(loss))
        if number % config.report_every == 0 or number == config.steps:
            with torch.no_grad():
                measured = kept.loss(block(kept.tokens), everything).item()
            if measured < best:
                best, weights = measured, block.weights()
            mean = float(np.mean(losses))
            on_step(ResidualStep(number, mean, measured, time.perf_counter() - begin))
            losses = []
    return weights


def daily_values(series: Sequence[Series]) -> list[Float64]:
    """The values of the series whose period is 24 readings, at every interval and NaN where none
    came, all as long as the longest."""
    found = [regular_values(one)[0] for one in series if period_of(one) == layout.COARSE]
    longest = max((len(values) for values in found), default=0)
    return [np.concatenate((values, np.full(longest - len(values), np.nan))) for values in found]


def mixed(series: Sequence[Float64], seed: int) -> list[Float64]:
    """The series, in units of their deviation, three in four of them with a part of another one
    and with autoregressive noise added."""
    draws = np.random.default_rng(seed)
    units = [_standard(values) for values in series]
    others = draws.permutation(len(units))
    made = []
    for values, other in zip(units, others, strict=True):
        if draws.random() >= MIXED_SHARE:
            made.append(values)
            continue
        total = draws.uniform(0.2, 1.0) * values + draws.uniform(0.0, 1.0) * units[other]
        noise = _autoregressive(draws, len(values), float(draws.choice(MEMORIES)))
        made.append(_standard(total + draws.uniform(0.0, 0.8) * noise))
    return made


def _standard(values: Float64) -> Float64:
    scale = float(np.nanstd(values))
    return (values - np.nanmean(values)) / (scale if scale > 0.0 else 1.0)


def _autoregressive(draws: np.random.Generator, count: int, memory: float) -> Float64:
    value, kicks = 0.0, draws.standard_normal(count) * np.sqrt(1.0 - memory * memory)
    out = np.empty(count)
    for i, kick in enumerate(kicks.tolist()):
        value = memory * value + kick
        out[i] = value
    return out
