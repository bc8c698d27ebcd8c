"""Trains the forecaster's slow weights: keys and gates of one step, heads of many steps.

Keys and gates are fitted by gradient descent (`one_step_recurrence.py`), the heads in closed form
(`head_fitting.py`), the residual on top of them by gradient descent (`residual_training.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from titans_stream.config import Recipe
from titans_stream.engine.model import Model, make_model, untrained_weights
from titans_stream.forecasting.multi.forecaster import ForecastOptions
from titans_stream.forecasting.one_step import layout as forecasting_layout
from titans_stream.lifecycle import one_step_recurrence
from titans_stream.lifecycle.accuracy import (
    Accuracy,
    accuracy,
    by_family,
    forecast,
    mean_head_error,
    naive_ratio,
)
from titans_stream.lifecycle.artifacts import base_model
from titans_stream.lifecycle.checkpoint import Checkpoint
from titans_stream.lifecycle.data import TrainingData, load_data
from titans_stream.lifecycle.gradient_fit import RecurrentFit, one_thread
from titans_stream.lifecycle.head_fitting import HeadFit, fit_heads
from titans_stream.lifecycle.processes import ALONE, Processes
from titans_stream.lifecycle.residual_training import ResidualStep, daily_values, train_residual
from titans_stream.records import Float64, ModelRef

ONE_STEP = tuple(forecasting_layout.weight_shapes())
"""The weights that gradient descent trains."""
NAIVE_RATIO = "long_validation_naive_ratio"
"""The metric of the series that were read, none made: absolute error of 96 steps over that of each
series' best naive forecast, mean over the series."""


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
    """Mean squared error of 96 steps over that of repeating the last value; `NAIVE_RATIO`."""
    families: Mapping[str, float]
    """The same by family, where it could be told."""


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
    checkpoint: Checkpoint | None = None,
    processes: Processes = ALONE,
) -> Trained:
    """Fit the forecaster's weights as `recipe` says, from random ones.

    The same recipe gives the same bits on the same machine. `data` are the series of
    `recipe.data` where the caller has them already. Epochs that a `checkpoint` holds are not
    trained again. Of several `processes` this is the first; the others `follow`. ValueError for a
    recipe that cannot be trained; ArithmeticError where the loss stops being finite.
    """
    if recipe.kind != "forecaster":
        raise ValueError(f"kind: this trains a forecaster, not a {recipe.kind}")
    if data is None:
        data = load_data(recipe.data, recipe.seed, recipe.training.heads)
    start = _start(recipe)
    with one_thread():
        made = []
        for epoch, trained in _epochs(recipe, data, start, checkpoint, processes):
            made.append((epoch, trained))
            on_epoch(epoch)
        best, trained = min(made, key=lambda one: one[0].validation_loss)
        weights, heads = {**base_model().weights, **trained}, None
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
        "metrics": {**metrics_of(best), **({} if heads is None else heads.metrics)},
    }
    shown = data.validation[0]
    return Trained(
        make_model(ModelRef(recipe.name, "unregistered"), weights, card),
        tuple(epoch for epoch, _ in made),
        best,
        accuracy(data.validation, start),
        by_family([*data.validation, *data.held_out], lambda part: accuracy(part, weights)),
        Example(shown.name, shown.value, forecast(shown, weights)),
        heads,
    )


def follow(
    recipe: Recipe, data: TrainingData, checkpoint: Checkpoint, processes: Processes
) -> None:
    """Take part in the gradient descent of the first process, and in nothing else."""
    with one_thread():
        for _ in _fit(recipe, data, _start(recipe), processes).passes(checkpoint):
            pass


def _start(recipe: Recipe) -> dict[str, Float64]:
    """The weights that the descent begins with."""
    drawn = untrained_weights(recipe.seed)
    return {name: array for name, array in drawn.items() if name in ONE_STEP}


def _fit(
    recipe: Recipe, data: TrainingData, start: Mapping[str, Float64], processes: Processes
) -> RecurrentFit[one_step_recurrence.Inputs, one_step_recurrence.Carry]:
    return RecurrentFit[one_step_recurrence.Inputs, one_step_recurrence.Carry](
        one_step_recurrence, recipe.training, data, start, recipe.seed, processes=processes
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
        linear = mean_head_error(series, weights)
        metrics[f"long_{name}_mse_ratio"] = linear
        if recipe.training.residual is not None:
            whole = mean_head_error(series, weights, ForecastOptions(mal=True))
            metrics[f"long_{name}_mse_ratio"] = whole
            metrics[f"long_{name}_linear_mse_ratio"] = linear
    ratios = np.array([naive_ratio(one, weights) for one in data.own_validation])
    if np.isfinite(ratios).any():
        metrics[NAIVE_RATIO] = float(np.nanmean(ratios))
    measured = [*data.whole_validation, *data.whole_held_out]
    families = by_family(measured, lambda part: mean_head_error(part, weights))
    return Heads(fit, _known(metrics), _known(families))


def _known(numbers: Mapping[str, float]) -> dict[str, float]:
    """Those that could be measured."""
    return {name: number for name, number in numbers.items() if np.isfinite(number)}


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


def _epochs(
    recipe: Recipe,
    data: TrainingData,
    start: Mapping[str, Float64],
    checkpoint: Checkpoint | None,
    processes: Processes,
) -> Iterator[tuple[Epoch, dict[str, Float64]]]:
    """Train; measures and weights after each epoch."""
    fit = _fit(recipe, data, start, processes)
    begin = time.perf_counter()
    for made in fit.passes(checkpoint):
        epoch = Epoch(
            made.number,
            made.training_loss,
            made.validation_loss,
            accuracy(data.validation, made.weights),
            accuracy(data.held_out, made.weights) if data.held_out else None,
            made.learning_rate,
            time.perf_counter() - begin,
        )
        yield epoch, made.weights
        begin = time.perf_counter()
