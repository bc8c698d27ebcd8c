"""Chooses the detector's slow weights: the projections of the dense memories' keys.

Candidates are random projections of several seeds, and those of the first seed trained by
gradient descent, one after each epoch. Training minimises the memories' prediction errors on
series without anomalies: the less a memory is surprised by what is normal, the more an anomaly
stands out. Each channel's error of each series is scaled by that of the random projections, so
that 1 is no better than they are. What is chosen is the candidate that detects best
(`detector_selection`); one that is not clearly better than the first candidate does not replace
it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from titans_stream.config import Recipe
from titans_stream.detection import layout as L
from titans_stream.engine.model import Model, make_model, untrained_weights
from titans_stream.evaluation.calibration import CalibrationReport
from titans_stream.lifecycle import detector_fitting as fitting
from titans_stream.lifecycle.artifacts import base_model
from titans_stream.lifecycle.data import Series, TrainingData, load_data, stack
from titans_stream.lifecycle.detector_selection import (
    LabelledData,
    Quality,
    calibration,
    load_labelled,
    quality,
)
from titans_stream.lifecycle.settings import TrainingConfig
from titans_stream.lifecycle.training import RISE, one_thread
from titans_stream.records import Float64, ModelRef

LEAST_ERROR = 0.02
"""Added to the scale of the errors, so that a series at rest does not count much; deviations."""
CLEARLY = 2.0
"""Standard errors, over series, by which a candidate must be better than the first one."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Weights that were tried. `number` is the seed of untrained ones, else the epoch."""

    trained: bool
    number: int
    validation_loss: float
    """Errors on validation series without anomalies relative to those of the first candidate."""
    training_loss: float | None
    validation: Quality
    held_out: Quality | None
    seconds: float

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
) -> TrainedDetector:
    """Choose the detector's weights as `recipe` says; all others are the base model's.

    The same recipe gives the same bits on the same machine. `data` are the series of
    `recipe.data` where the caller has them already. ValueError for a recipe that cannot be
    trained; ArithmeticError where the loss stops being finite.
    """
    if recipe.kind != "detector":
        raise ValueError(f"kind: this trains a detector, not a {recipe.kind}")
    data = load_data(recipe.data, recipe.seed) if data is None else data
    selection = recipe.training.selection
    labelled = load_labelled(selection, recipe.data.synthetic, recipe.seed)
    with one_thread():
        search = _Search(recipe, data, labelled)
        candidates = []
        for candidate in search.candidates():
            candidates.append(candidate)
            on_candidate(candidate)
    card = {
        "data": {
            "fingerprint": data.fingerprint,
            "training_series": len(data.training),
            "validation_series": len(data.validation),
            "labelled_series": len(labelled.validation),
            "labelled_held_out_series": len(labelled.held_out),
        },
        "chosen": search.best.name,
        "metrics": metrics_of(search.best),
    }
    model = _model(recipe.name, search.best_weights, card)
    families = recipe.data.synthetic.families if recipe.data.synthetic is not None else ()
    return TrainedDetector(
        model,
        tuple(candidates),
        search.best,
        _model(f"{recipe.name}-trained", search.trained_weights, {}),
        calibration(model, families, selection, recipe.seed),
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


class _Search:
    """Tries all candidates and leaves the best ones behind; the first of equals wins."""

    def __init__(self, recipe: Recipe, data: TrainingData, labelled: LabelledData) -> None:
        self._recipe = recipe
        self._labelled = labelled
        self._fit = _Fit(recipe.training, data, _random(recipe.seed), recipe.seed)
        self.best: Candidate
        self.best_weights: dict[str, Float64] = {}
        self.trained_weights: dict[str, Float64] = {}
        self._first: Quality
        self._highest = -1.0

    def candidates(self) -> Iterator[Candidate]:
        """Try them; one item after each."""
        for seed in range(
            self._recipe.seed, self._recipe.seed + self._recipe.training.selection.seeds
        ):
            begin = time.perf_counter()
            weights = _random(seed)
            yield self._tried(False, seed, None, self._fit.validation_loss(weights), weights, begin)
        waited, lowest = 0, float("inf")
        begin = time.perf_counter()
        for epoch, training_loss, loss, weights in self._fit.epochs():
            waited, lowest = (0, loss) if loss < lowest else (waited + 1, lowest)
            yield self._tried(True, epoch, training_loss, loss, weights, begin)
            patience = self._recipe.training.patience
            if patience is not None and waited >= patience:
                return
            begin = time.perf_counter()

    def _tried(
        self,
        trained: bool,
        number: int,
        training_loss: float | None,
        validation_loss: float,
        weights: dict[str, Float64],
        begin: float,
    ) -> Candidate:
        model = _model(self._recipe.name, weights, {})
        budget = self._recipe.training.selection.budget
        held_out = self._labelled.held_out
        candidate = Candidate(
            trained,
            number,
            validation_loss,
            training_loss,
            quality(model, self._labelled.validation, budget),
            quality(model, held_out, budget) if held_out else None,
            time.perf_counter() - begin,
        )
        self._keep(candidate, weights)
        return candidate

    def _keep(self, candidate: Candidate, weights: dict[str, Float64]) -> None:
        found = candidate.validation
        if not self.best_weights:
            self.best, self.best_weights, self._first = candidate, weights, found
        gain, error = found.gain_over(self._first)
        if gain > CLEARLY * error and found.measure > self.best.validation.measure:
            self.best, self.best_weights = candidate, weights
        if candidate.trained and found.measure > self._highest:
            self._highest, self.trained_weights = found.measure, weights


class _Fit:
    """Gradient descent from random projections."""

    def __init__(
        self, config: TrainingConfig, data: TrainingData, start: Mapping[str, Float64], seed: int
    ) -> None:
        self._config = config
        self._training = _prepare(data.training)
        self._validation = _prepare(data.validation)
        self._weights = {n: torch.from_numpy(a.copy()).requires_grad_() for n, a in start.items()}
        self._scale, self._difficulty = _scale_and_difficulty(self._training, self._weights)
        self._reference = _scale_and_difficulty(self._validation, self._weights)
        self._optimizer = torch.optim.AdamW(
            list(self._weights.values()), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self._order = torch.Generator().manual_seed(seed)
        series, readings = self._training.series, self._training.readings
        self._unrolls = [
            slice(first, min(first + config.unroll, readings))
            for first in range(0, readings, config.unroll)
        ]
        steps = config.epochs * -(-series // config.batch) * len(self._unrolls)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, config.learning_rate, total_steps=steps + 1, pct_start=RISE
        )

    def epochs(self) -> Iterator[tuple[int, float, float, dict[str, Float64]]]:
        """Number, training loss, validation loss and weights after each epoch."""
        for number in range(1, self._config.epochs + 1):
            training_loss = self._pass()
            weights = {n: tensor.detach().numpy().copy() for n, tensor in self._weights.items()}
            yield number, training_loss, self.validation_loss(weights), weights

    @torch.no_grad()
    def validation_loss(self, weights: Mapping[str, Float64]) -> float:
        """The loss on the validation series; 1 for the weights that training started from."""
        tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
        carry = fitting.fresh_carry(self._validation.series)
        errors, _ = fitting.unroll(self._validation, carry, tensors)
        return _loss(errors, self._validation, *self._reference).item()

    def _pass(self) -> float:
        losses = []
        order = torch.randperm(self._training.series, generator=self._order)
        for first in range(0, len(order), self._config.batch):
            rows = order[first : first + self._config.batch]
            carry = fitting.fresh_carry(len(rows))
            for times in self._unrolls:
                inputs = self._training.part(rows, times)
                errors, carry = fitting.unroll(inputs, carry, self._weights)
                carry = carry.detach()
                loss = _loss(errors, inputs, self._scale[rows], self._difficulty[rows])
                if inputs.counts.any():
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


def _random(seed: int) -> dict[str, Float64]:
    return {name: untrained_weights(seed)[name] for name in L.weight_shapes()}


def _model(name: str, weights: Mapping[str, Float64], card: Mapping[str, object]) -> Model:
    return make_model(ModelRef(name, "unregistered"), {**base_model().weights, **weights}, card)


def _prepare(series: Sequence[Series]) -> fitting.Inputs:
    values, calendar = stack(series)
    return fitting.prepare(torch.from_numpy(values), torch.from_numpy(calendar))


@torch.no_grad()
def _scale_and_difficulty(
    inputs: fitting.Inputs, weights: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Root mean square and mean loss [B, C] of the errors that random projections make."""
    errors, _ = fitting.unroll(inputs, fitting.fresh_carry(inputs.series), weights)
    counts = inputs.counts.double()[:, :, None]
    readings = counts.sum(0).clamp_min(1.0)
    scale = ((errors.square() * counts).sum(0) / readings).sqrt() + LEAST_ERROR
    difficulty = (_pseudo_huber(errors / scale) * counts).sum(0) / readings
    return scale, difficulty.clamp_min(1e-6)


def _loss(errors: Tensor, inputs: fitting.Inputs, scale: Tensor, difficulty: Tensor) -> Tensor:
    """Mean over readings, series and channels; 1 is no better than random projections."""
    counts = inputs.counts.double()
    relative = (_pseudo_huber(errors / scale) / difficulty).mean(2)
    return (relative * counts).sum() / counts.sum().clamp_min(1.0)


def _pseudo_huber(error: Tensor) -> Tensor:
    return (1.0 + error.square()).sqrt() - 1.0
