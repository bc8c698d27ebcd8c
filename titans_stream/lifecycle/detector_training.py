"""Chooses the detector's slow weights: the projections of the dense memories' keys.

Candidates are random projections of several seeds, and those of the first seed trained by
gradient descent, one after each epoch. Training minimises the memories' prediction errors on
series without anomalies: the less a memory is surprised by what is normal, the more an anomaly
stands out (`detector_recurrence`). What is chosen is the candidate that detects best
(`detector_selection`); one that is not clearly better than the first candidate does not replace
it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from titans_stream.config import Recipe
from titans_stream.detection import layout
from titans_stream.engine.model import Model, make_model, untrained_weights
from titans_stream.evaluation.calibration import CalibrationReport
from titans_stream.lifecycle import detector_recurrence
from titans_stream.lifecycle.artifacts import base_model
from titans_stream.lifecycle.checkpoint import Checkpoint
from titans_stream.lifecycle.data import TrainingData, load_data
from titans_stream.lifecycle.detector_selection import (
    LabelledData,
    Quality,
    calibration,
    load_labelled,
    quality,
)
from titans_stream.lifecycle.gradient_fit import RecurrentFit, one_thread
from titans_stream.lifecycle.processes import ALONE, Processes
from titans_stream.records import Float64, ModelRef

CLEARLY = 2.0
"""Standard errors, over series, by which a candidate must be better than the first one."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Weights that were tried. `number` is the seed of untrained ones, else the epoch."""

    number: int
    validation_loss: float
    """Errors on validation series without anomalies relative to those of the first candidate."""
    training_loss: float | None
    """None for untrained weights."""
    validation: Quality
    held_out: Quality | None
    seconds: float

    @property
    def trained(self) -> bool:
        """Whether gradient descent made it."""
        return self.training_loss is not None

    @property
    def name(self) -> str:
        """`untrained, seed 0` or `trained, epoch 3`."""
        return f"trained, epoch {self.number}" if self.trained else f"untrained, seed {self.number}"

    @property
    def summary(self) -> str:
        """One line for people."""
        other = "" if self.held_out is None else f"; held out {self.held_out.measure:.4f}"
        return (
            f"{self.name}: loss {self.validation_loss:.4f}, AP {self.validation.ap:.4f}, "
            f"recall {self.validation.recall:.4f}, measure {self.validation.measure:.4f}{other}  "
            f"({self.seconds:.1f} s)"
        )


@dataclass(frozen=True, slots=True)
class TrainedDetector:
    """What a training run made."""

    model: Model
    candidates: tuple[Candidate, ...]
    best: Candidate
    """The one whose weights the model has."""
    best_trained: Model
    """That of the epoch with the highest measure, chosen or not."""
    calibration: CalibrationReport | None
    """Of the model, on the families that are trained on."""

    def spread(self) -> float:
        """Standard deviation of the measure over the untrained seeds."""
        measures = [one.validation.measure for one in self.candidates if not one.trained]
        return float(np.std(measures, ddof=1)) if len(measures) > 1 else 0.0


def train_detector(
    recipe: Recipe,
    data: TrainingData | None = None,
    on_candidate: Callable[[Candidate], None] = lambda candidate: None,
    checkpoint: Checkpoint | None = None,
    processes: Processes = ALONE,
) -> TrainedDetector:
    """Choose the detector's weights as `recipe` says; all others are the base model's.

    The same recipe gives the same bits on the same machine. `data` are the series of
    `recipe.data` where the caller has them already. Epochs that a `checkpoint` holds are not
    trained again. Of several `processes` this is the first; the others `follow`. ValueError for a
    recipe that cannot be trained; ArithmeticError where the loss stops being finite.
    """
    if recipe.kind != "detector":
        raise ValueError(f"kind: this trains a detector, not a {recipe.kind}")
    data = load_data(recipe.data, recipe.seed) if data is None else data
    selection = recipe.training.selection
    labelled = load_labelled(selection, recipe.data.synthetic, recipe.seed)
    with one_thread():
        candidates, weights = [], []
        for candidate, tried in _tried(recipe, data, labelled, checkpoint, processes):
            candidates.append(candidate)
            weights.append(tried)
            on_candidate(candidate)
    best = _chosen(candidates)
    trained = [i for i, one in enumerate(candidates) if one.trained]
    best_trained = max(trained, key=lambda i: candidates[i].validation.measure)
    card = {
        "data": {
            "fingerprint": data.fingerprint,
            "training_series": len(data.training),
            "validation_series": len(data.validation),
            "labelled_series": len(labelled.validation),
            "labelled_held_out_series": len(labelled.held_out),
        },
        "chosen": candidates[best].name,
        "metrics": metrics_of(candidates[best]),
    }
    model = _model(recipe.name, weights[best], card)
    families = recipe.data.synthetic.families if recipe.data.synthetic is not None else ()
    return TrainedDetector(
        model,
        tuple(candidates),
        candidates[best],
        _model(f"{recipe.name}-trained", weights[best_trained], {}),
        calibration(model, families, selection, recipe.seed),
    )


def follow(
    recipe: Recipe, data: TrainingData, checkpoint: Checkpoint, processes: Processes
) -> None:
    """Take part in the gradient descent of the first process, and in nothing else."""
    with one_thread():
        for _ in _fit(recipe, data, processes).passes(checkpoint):
            pass


def _fit(
    recipe: Recipe, data: TrainingData, processes: Processes
) -> RecurrentFit[detector_recurrence.Inputs, detector_recurrence.Carry]:
    return RecurrentFit[detector_recurrence.Inputs, detector_recurrence.Carry](
        detector_recurrence,
        recipe.training,
        data,
        _random(recipe.seed),
        recipe.seed,
        skip_padding=True,
        processes=processes,
    )


def metrics_of(candidate: Candidate) -> dict[str, float]:
    """The numbers of a candidate by name."""
    metrics = {"validation_loss": candidate.validation_loss}
    if candidate.training_loss is not None:
        metrics["training_loss"] = candidate.training_loss
    metrics |= {f"validation_{k}": v for k, v in candidate.validation.metrics().items()}
    if candidate.held_out is not None:
        metrics |= {f"held_out_{k}": v for k, v in candidate.held_out.metrics().items()}
    return metrics


def _tried(
    recipe: Recipe,
    data: TrainingData,
    labelled: LabelledData,
    checkpoint: Checkpoint | None,
    processes: Processes,
) -> Iterator[tuple[Candidate, dict[str, Float64]]]:
    """Try all candidates; measures and weights of one after the other."""
    config = recipe.training
    fit = _fit(recipe, data, processes)

    def measured(
        number: int, training_loss: float | None, loss: float, weights: dict[str, Float64]
    ) -> tuple[Candidate, dict[str, Float64]]:
        model, budget = _model(recipe.name, weights, {}), config.selection.budget
        on_held_out = quality(model, labelled.held_out, budget) if labelled.held_out else None
        found = quality(model, labelled.validation, budget)
        seconds = time.perf_counter() - begin
        return Candidate(number, loss, training_loss, found, on_held_out, seconds), weights

    for seed in range(recipe.seed, recipe.seed + config.selection.seeds):
        begin = time.perf_counter()
        weights = _random(seed)
        yield measured(seed, None, fit.validation_loss(weights), weights)
    begin = time.perf_counter()
    for made in fit.passes(checkpoint):
        yield measured(made.number, made.training_loss, made.validation_loss, made.weights)
        begin = time.perf_counter()


def _chosen(candidates: Sequence[Candidate]) -> int:
    """Which one to take: the first, or the best of those that are clearly better than it."""
    first = candidates[0].validation
    clear = [0]
    for i, one in enumerate(candidates):
        gain, error = one.validation.gain_over(first)
        if gain > CLEARLY * error:
            clear.append(i)
    return max(clear, key=lambda i: candidates[i].validation.measure)


def _random(seed: int) -> dict[str, Float64]:
    return {name: untrained_weights(seed)[name] for name in layout.weight_shapes()}


def _model(name: str, weights: Mapping[str, Float64], card: Mapping[str, object]) -> Model:
    return make_model(ModelRef(name, "unregistered"), {**base_model().weights, **weights}, card)
