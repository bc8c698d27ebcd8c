"""Trains the forecaster's slow weights: keys and gates of one step, heads of many steps.

The heads are fitted in closed form (`head_fitting.py`), keys and gates by gradient descent. Its
loss is that of the forecast the service publishes, the memory's forecast blended with repeating
the last value, as a pseudo-Huber error in deviations of the series' changes, divided by that of
repeating the last value: every series counts alike, and 1 is no better than that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from titans_stream.config import Recipe
from titans_stream.engine.model import Model, make_model, untrained_weights
from titans_stream.forecasting.multi.forecaster import ForecastOptions
from titans_stream.forecasting.one_step import layout as forecasting_layout
from titans_stream.lifecycle import fitting
from titans_stream.lifecycle.accuracy import Accuracy, accuracy, by_family, forecast
from titans_stream.lifecycle.artifacts import base_model
from titans_stream.lifecycle.data import Series, TrainingData, load_data, stack
from titans_stream.lifecycle.head_accuracy import head_error_by_family, mean_head_error
from titans_stream.lifecycle.head_fitting import HeadFit, fit_heads
from titans_stream.lifecycle.residual_training import ResidualStep, daily_values, train_residual
from titans_stream.lifecycle.settings import TrainingConfig
from titans_stream.records import Float64, ModelRef

ONE_STEP = tuple(forecasting_layout.weight_shapes())
"""The weights that gradient descent trains."""
LEAST_DIFFICULTY = 0.02
"""Added to the loss of repeating the last value, so that a series at rest does not count much."""
RISE = 0.1
"""Share of all steps in which the learning rate rises."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training series; losses are relative to repeating the last value."""

    number: int
    training_loss: float
    validation_loss: float
    validation: Accuracy
    held_out: Accuracy | None
    learning_rate: float
    seconds: float

    @property
    def summary(self) -> str:
        """One line for people."""
        return (
            f"epoch {self.number:3d}  loss {self.training_loss:.4f}, validation "
            f"{self.validation_loss:.4f}; error {self.validation.mae_ratio:.3f} of repeating the "
            f"last value, band covers {100 * self.validation.coverage:.1f} %  "
            f"({self.seconds:.1f} s)"
        )


@dataclass(frozen=True, slots=True)
class Example:
    """A validation series and its forecasts by the trained model."""

    name: str
    value: Float64
    forecast: Float64
    """[T, 3]: expected, lower, upper."""


@dataclass(frozen=True, slots=True)
class Heads:
    """The fitted heads of forecasts of many steps and what they are worth."""

    fit: HeadFit
    metrics: Mapping[str, float]
    """Mean squared error of 96 steps over that of repeating the last value."""
    families: Mapping[str, float]
    """The same by family."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training run made."""

    model: Model
    epochs: tuple[Epoch, ...]
    best: Epoch
    """The epoch whose weights the model has: the one of the lowest validation loss."""
    before: Accuracy
    """Validation series, with the random weights that training started from."""
    families: Mapping[str, Accuracy]
    example: Example
    heads: Heads | None
    """None where the base model's were kept."""


def train(
    recipe: Recipe,
    data: TrainingData | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_step: Callable[[ResidualStep], None] = lambda step: None,
) -> Trained:
    """Fit the forecaster's weights as `recipe` says, from random ones.

    The same recipe gives the same bits on the same machine. `data` are the series of
    `recipe.data` where the caller has them already. ValueError for a recipe that cannot be
    trained; ArithmeticError where the loss stops being finite.
    """
    if recipe.kind != "forecaster":
        raise ValueError(f"kind: this trains a forecaster, not a {recipe.kind}")
    if data is None:
        data = load_data(recipe.data, recipe.seed, recipe.training.heads)
    start = {
        name: array for name, array in untrained_weights(recipe.seed).items() if name in ONE_STEP
    }
    with one_thread():
        fit = _Fit(recipe.training, data, start, recipe.seed)
        epochs = []
        for epoch in fit.epochs():
            epochs.append(epoch)
            on_epoch(epoch)
        weights, heads = {**base_model().weights, **fit.best_weights}, None
        if recipe.training.heads:
            head_fit = fit_heads(data.whole)
            weights = {**weights, **head_fit.weights}
            if recipe.training.residual is not None:
                weights = {**weights, **_residual(recipe, data, weights, on_step)}
            heads = _measured(recipe, data, weights, head_fit)
    card = {
        "data": {
            "fingerprint": data.fingerprint,
            "training_series": len(data.training),
            "validation_series": len(data.validation),
            "held_out_series": len(data.held_out),
            "long_series": len(data.whole),
        },
        "metrics": {**metrics_of(fit.best), **({} if heads is None else heads.metrics)},
    }
    return Trained(
        make_model(ModelRef(recipe.name, "unregistered"), weights, card),
        tuple(epochs),
        fit.best,
        accuracy(data.validation, start),
        by_family([*data.validation, *data.held_out], weights),
        _example(data.validation, weights),
        heads,
    )


def _measured(
    recipe: Recipe, data: TrainingData, weights: Mapping[str, Float64], fit: HeadFit
) -> Heads:
    """What the weights are worth on the long series that were not learned from."""
    metrics = {}
    parts = {"validation": data.whole_validation, "held_out": data.whole_held_out}
    for name, series in parts.items():
        if not series:
            continue
        metrics[f"long_{name}_mse_ratio"] = mean_head_error(series, weights)
        if recipe.training.residual is not None:
            linear = mean_head_error(series, weights, ForecastOptions(mal=False))
            metrics[f"long_{name}_linear_mse_ratio"] = linear
    measured = [*data.whole_validation, *data.whole_held_out]
    return Heads(fit, metrics, head_error_by_family(measured, weights))


def _residual(
    recipe: Recipe,
    data: TrainingData,
    heads: Mapping[str, Float64],
    on_step: Callable[[ResidualStep], None],
) -> dict[str, Float64]:
    """Train the residual on the long series that have a period of 24 readings."""
    config = recipe.training.residual
    assert config is not None
    training, validation = (daily_values(part) for part in (data.whole, data.whole_validation))
    if not training or not validation:
        raise ValueError("training.residual: no long series has a period of 24 readings")
    return train_residual(training, validation, heads, config, recipe.seed, on_step)


def metrics_of(epoch: Epoch) -> dict[str, float]:
    """The numbers of an epoch by name."""
    metrics = {
        "training_loss": epoch.training_loss,
        "validation_loss": epoch.validation_loss,
        "validation_mae_ratio": epoch.validation.mae_ratio,
        "validation_coverage": epoch.validation.coverage,
    }
    if epoch.held_out is not None:
        metrics["held_out_mae_ratio"] = epoch.held_out.mae_ratio
        metrics["held_out_coverage"] = epoch.held_out.coverage
    return metrics


class _Fit:
    """The optimisation; `epochs` runs it and leaves the best weights behind."""

    def __init__(
        self, config: TrainingConfig, data: TrainingData, start: Mapping[str, Float64], seed: int
    ) -> None:
        self._config = config
        self._data = data
        self._training = _prepare(data.training)
        self._validation = _prepare(data.validation)
        self._difficulty = _difficulty(self._training)
        self._weights = {n: torch.from_numpy(a.copy()).requires_grad_() for n, a in start.items()}
        self._optimizer = torch.optim.AdamW(
            list(self._weights.values()),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
        )
        self._order = torch.Generator().manual_seed(seed)
        series, readings = self._training.series, self._training.readings
        batches = -(-series // config.batch)
        self._unrolls = [
            slice(first, min(first + config.unroll, readings))
            for first in range(0, readings, config.unroll)
        ]
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer,
            config.learning_rate,
            total_steps=config.epochs * batches * len(self._unrolls) + 1,
            pct_start=RISE,
        )
        self.best: Epoch
        self.best_weights: dict[str, Float64] = {}

    def epochs(self) -> Iterator[Epoch]:
        """Train; one item after each epoch."""
        waited = 0
        for number in range(1, self._config.epochs + 1):
            begin = time.perf_counter()
            training_loss = self._pass()
            epoch = self._measure(number, training_loss, begin)
            if number == 1 or epoch.validation_loss < self.best.validation_loss:
                self.best, self.best_weights, waited = epoch, self._arrays(), 0
            else:
                waited += 1
            yield epoch
            if self._config.patience is not None and waited >= self._config.patience:
                return

    def _pass(self) -> float:
        losses = []
        order = torch.randperm(self._training.series, generator=self._order)
        for first in range(0, len(order), self._config.batch):
            rows = order[first : first + self._config.batch]
            carry = fitting.fresh_carry(len(rows))
            for times in self._unrolls:
                inputs = self._training.part(rows, times)
                forecasts, carry = fitting.unroll(inputs, carry, self._weights)
                carry = carry.detach()
                loss = _loss(forecasts, inputs, self._difficulty[rows])
                self._step(loss)
                losses.append(loss.item())
        return float(np.mean(losses))

    def _step(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise ArithmeticError("training diverged: the loss is not finite; lower learning_rate")
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._weights.values(), self._config.gradient_clip)
        self._optimizer.step()
        self._schedule.step()

    @torch.no_grad()
    def _measure(self, number: int, training_loss: float, begin: float) -> Epoch:
        inputs, weights = self._validation, self._arrays()
        carry = fitting.fresh_carry(inputs.series)
        forecasts, _ = fitting.unroll(inputs, carry, self._weights)
        held_out = self._data.held_out
        return Epoch(
            number,
            training_loss,
            _loss(forecasts, inputs, _difficulty(inputs)).item(),
            accuracy(self._data.validation, weights),
            accuracy(held_out, weights) if held_out else None,
            float(self._schedule.get_last_lr()[0]),
            time.perf_counter() - begin,
        )

    def _arrays(self) -> dict[str, Float64]:
        return {name: tensor.detach().numpy().copy() for name, tensor in self._weights.items()}


def _prepare(series: Sequence[Series]) -> fitting.Inputs:
    values, calendar = stack(series)
    return fitting.prepare(torch.from_numpy(values), torch.from_numpy(calendar))


def _difficulty(inputs: fitting.Inputs) -> Tensor:
    """[B]: mean error of repeating the last value, over all readings of each series."""
    learns = inputs.learns.double()
    total = (_pseudo_huber(inputs.target) * learns).sum(0)
    return total / learns.sum(0).clamp_min(1.0) + LEAST_DIFFICULTY


def _loss(forecasts: Tensor, inputs: fitting.Inputs, difficulty: Tensor) -> Tensor:
    learns = inputs.learns.double()
    errors = _pseudo_huber(forecasts - inputs.target) * learns
    return (errors / difficulty).sum() / learns.sum().clamp_min(1.0)


def _pseudo_huber(error: Tensor) -> Tensor:
    return (1.0 + error.square()).sqrt() - 1.0


def _example(series: Sequence[Series], weights: Mapping[str, Float64]) -> Example:
    chosen = series[0]
    return Example(chosen.name, chosen.value, forecast(chosen, weights))


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch: sums in parallel may differ in the last bit from run to run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
