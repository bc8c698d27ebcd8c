"""Runs one model over a set and gathers its errors, so that no forecast is kept.

D is the number of series, N of origins, H of steps ahead, B of origins in a block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np

from titans_stream.evaluation.forecasting_data import ForecastSet
from titans_stream.evaluation.forecasting_metrics import (
    LEVELS,
    ForecastBlock,
    ForecastModel,
    IntervalErrors,
    PointErrors,
    pinball,
)
from titans_stream.records import Float64, Int64

STEPS = (1, 6, 24, 96, 168, 192, 336, 720)
"""Steps ahead at which intervals are judged."""
VALIDATION_STRIDE = 4
"""Origins of the validation part, from whose errors the Gaussian reference is made: one in."""
DEVIATES = np.array([NormalDist().inv_cdf(level) for level in LEVELS])

Progress = Callable[[int, int], None]
"""Takes the origins done and those in all."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked of every model on a set: horizons, and the origins of the test part [N].

    `kept` are the origins whose forecasts are kept for pictures.
    """

    data: ForecastSet
    horizons: tuple[int, ...]
    origins: Int64
    kept: tuple[int, ...] = ()

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps at which intervals are judged."""
        return tuple(step for step in STEPS if step <= max(self.horizons))


def make_task(data: ForecastSet, horizons: Sequence[int], kept: int = 2) -> Task:
    """All windows of the test part. ValueError where it holds none of the longest horizon."""
    longest = data.origins(data.test_start, len(data), max(horizons))
    if len(longest) == 0:
        raise ValueError(
            f"horizons: the test part of {data.name} has {len(data) - data.test_start} rows, "
            f"too few for {max(horizons)} steps"
        )
    origins = data.origins(data.test_start, len(data), min(horizons))
    at = np.linspace(0, len(longest) - 1, kept + 2)[1:-1].astype(int)
    return Task(data, tuple(sorted(horizons)), origins, tuple(longest[at].tolist()))


@dataclass(frozen=True, slots=True)
class ModelScore:
    """Errors of one model; `gaussian` is the pinball loss by step of the Gaussian reference."""

    points: PointErrors
    intervals: IntervalErrors | None = None
    gaussian: dict[int, float] = field(default_factory=dict)
    kept: dict[int, ForecastBlock] = field(default_factory=dict)


def score_model(
    task: Task,
    model: ForecastModel,
    *,
    intervals: bool = False,
    origins: Int64 | None = None,
    progress: Progress | None = None,
) -> ModelScore:
    """The errors of a model on the test part; `origins` [M] picks some of the task's.

    With `intervals` its quantiles are judged too, beside those of a Gaussian that has the same
    medians and the root mean square errors of the validation part.
    """
    data, steps = task.data, max(task.horizons)
    chosen = task.origins if origins is None else origins
    points = PointErrors(data, chosen, task.horizons)
    judged = IntervalErrors(data, chosen, task.steps) if intervals else None
    reference = _Gaussian(data, task.steps) if intervals else None
    asked = np.concatenate([_validation(data, steps), chosen]) if intervals else chosen
    kept: dict[int, ForecastBlock] = {}
    done = 0
    for block in model.blocks(data, asked, steps):
        done += len(block.first)
        if progress is not None:
            progress(done, len(asked))
        before, inside = (
            _part(block, block.first < data.test_start),
            _part(block, block.first >= data.test_start),
        )
        if reference is not None:
            reference.learn(before, data.truth(before.first, steps))
        truth = data.truth(inside.first, steps)
        points.add(inside, truth)
        if judged is not None and reference is not None:
            judged.add(inside, truth)
            reference.judge(inside, truth)
        for i in np.flatnonzero(np.isin(inside.first, task.kept)).tolist():
            kept[int(inside.first[i])] = _part(inside, np.arange(len(inside.first)) == i)
    gaussian = {} if reference is None else reference.pinball()
    return ModelScore(points, judged, gaussian, kept)


def _validation(data: ForecastSet, steps: int) -> Int64:
    """Origins of the validation part; the last ones see only a part of their values."""
    least = min(steps, (data.test_start - data.train_end) // 2)
    return data.origins(data.train_end, data.test_start, max(least, 1), VALIDATION_STRIDE)


def _part(block: ForecastBlock, at: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> ForecastBlock:
    if at.all():
        return block
    quantiles = None if block.quantiles is None else block.quantiles[:, at]
    return ForecastBlock(block.first[at], block.median[at], quantiles)


class _Gaussian:
    """Intervals from the root mean square error of each series and step on the validation part."""

    def __init__(self, data: ForecastSet, steps: Sequence[int]) -> None:
        self._steps = tuple(steps)
        self._at = np.array(steps) - 1
        self._square, self._count = (np.zeros((data.series, len(steps))) for _ in range(2))
        self._loss, self._judged = (np.zeros(len(steps)) for _ in range(2))

    def learn(self, block: ForecastBlock, truth: Float64) -> None:
        """Take errors; `truth` [B, D, H]."""
        error = (truth - block.median)[..., self._at]
        known = ~np.isnan(error)
        self._square += np.where(known, error * error, 0.0).sum(axis=0)
        self._count += known.sum(axis=0)

    def judge(self, block: ForecastBlock, truth: Float64) -> None:
        """Take the pinball loss of the intervals around the medians of a block."""
        spread = np.sqrt(self._square / np.maximum(self._count, 1.0))
        spread = np.where(self._count > 0, spread, np.nan)
        actual, median = truth[..., self._at], block.median[..., self._at]
        ends = median + DEVIATES[:, None, None, None] * spread
        losses = pinball(actual, ends, LEVELS).sum(axis=0) + 0.5 * np.abs(actual - median)
        known = ~np.isnan(losses)
        self._loss += np.where(known, losses, 0.0).sum(axis=(0, 1)) / (len(LEVELS) + 1)
        self._judged += known.sum(axis=(0, 1))

    def pinball(self) -> dict[int, float]:
        """Step -> mean pinball loss; NaN where the validation part is too short for it."""
        return {
            step: float(loss / count) if count else float("nan")
            for step, loss, count in zip(self._steps, self._loss, self._judged, strict=True)
        }
