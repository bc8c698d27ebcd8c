"""Compares forecasters on sets of series: the run over each set, its tables and its numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from titans_stream.evaluation.forecasting_baselines import (
    LOOKBACK,
    default_baselines,
    published,
)
from titans_stream.evaluation.forecasting_data import HORIZONS, ForecastSet
from titans_stream.evaluation.forecasting_metrics import INTERVALS, ForecastModel, PointErrors
from titans_stream.evaluation.forecasting_ours import OurForecaster, ablations
from titans_stream.evaluation.forecasting_scores import ModelScore, Task, make_task, score_model
from titans_stream.evaluation.forecasting_statistical import EVERY, statistical_models
from titans_stream.evaluation.tables import Cell, number, text_table
from titans_stream.forecasting.multi.forecaster import ForecastOptions
from titans_stream.records import Float64, Int64

OURS = "titans-stream, streaming"
FRESH = f"titans-stream, lookback {LOOKBACK}"

Progress = Callable[[str, int, int], None]
"""Takes what is run, the origins done and those in all."""


@dataclass(frozen=True, slots=True)
class SetReport:
    """What was found on one set.

    `rows` holds the models that ran on all windows, ours first; `subset` those that ran on every
    `EVERY`-th origin, ours among them; `ablations` ours with a part switched off.
    """

    task: Task
    rows: Mapping[str, ModelScore]
    subset: Mapping[str, PointErrors]
    subset_at: Int64
    ablations: Mapping[str, ModelScore]

    @property
    def ours(self) -> ModelScore:
        """The score of the streaming forecaster."""
        return self.rows[OURS]

    def to_json(self) -> dict[str, object]:
        """Numbers of ours at the top, those of the others under `rows`."""
        return {
            **_points_json(self.ours.points),
            **_intervals_json(self.ours),
            "rows": {name: _points_json(score.points) for name, score in self.rows.items()},
            "published": {
                name: {"mse": mse, "mae": mae}
                for name, (mse, mae) in published(self.task.data).items()
            },
            "subset": {
                "origins": len(self.subset_at),
                "rows": {
                    name: _points_json(points, self._places(points))
                    for name, points in self.subset.items()
                },
            },
            "ablations": {
                name: {**_points_json(score.points), **_intervals_json(score)}
                for name, score in self.ablations.items()
            },
        }

    def _places(self, points: PointErrors) -> Int64 | None:
        """Where the subset's origins are among those of `points`; None: it has no others."""
        return self.subset_at if points is self.ours.points else None

    def tables(self) -> str:
        """Point errors, intervals, subset and ablations, as far as they were asked for."""
        parts = [self._point_table(), self._interval_table()]
        if len(self.subset) > 1:
            parts.append(self._subset_table())
        if self.ablations:
            parts.append(self._ablation_table())
        return "\n\n".join(parts)

    def _point_table(self) -> str:
        horizons = self.task.horizons
        rows: list[list[Cell]] = [
            [name, *_averages(score.points), *_pairs(score.points)]
            for name, score in self.rows.items()
        ]
        blank = [float("nan")] * (2 * len(horizons))
        if horizons == HORIZONS:
            rows += [
                [f"{name} (published)", *figures, *blank]
                for name, figures in published(self.task.data).items()
            ]
        columns = ["model", "mse", "mae"]
        columns += [f"{kind} {horizon}" for horizon in horizons for kind in ("mse", "mae")]
        title = (
            f"{self.task.data.name}: errors on {len(self.task.origins):,} origins x "
            f"{self.task.data.series} series, z-scored"
        )
        return text_table(title, columns, [_fixed(row) for row in rows])

    def _interval_table(self) -> str:
        ours = self.ours
        assert ours.intervals is not None
        columns = ["step"]
        for level in sorted(INTERVALS):
            columns += [f"in {level} %", "+-", "width"]
        columns += ["pinball", "Gaussian"]
        rows: list[list[Cell]] = []
        for step in ours.intervals.steps:
            row: list[Cell] = [str(step)]
            for level in sorted(INTERVALS):
                row += [
                    _percent(ours.intervals.coverage(step, level)),
                    _percent(ours.intervals.coverage_error(step, level)),
                    ours.intervals.width(step, level),
                ]
            rows.append([*row, ours.intervals.pinball(step), ours.gaussian[step]])
        title = (
            f"{self.task.data.name}: intervals of {OURS} by step, share inside with its bootstrap "
            "error"
        )
        return text_table(title, columns, [_fixed(row) for row in rows])

    def _subset_table(self) -> str:
        rows: list[list[Cell]] = [
            [
                name,
                *_averages(points, self._places(points)),
                *_pairs(points, self._places(points)),
            ]
            for name, points in self.subset.items()
        ]
        columns = ["model", "mse", "mae"]
        columns += [
            f"{kind} {horizon}" for horizon in self.task.horizons for kind in ("mse", "mae")
        ]
        title = f"{self.task.data.name}: every {EVERY}th origin, {len(self.subset_at)} of them"
        return text_table(title, columns, [_fixed(row) for row in rows])

    def _ablation_table(self) -> str:
        whole = _averages(self.ours.points)
        rows: list[list[Cell]] = []
        for name, score in {"whole": self.ours, **self.ablations}.items():
            assert score.intervals is not None
            mse, mae = _averages(score.points)
            row: list[Cell] = [name, mse, mae, f"{100 * (mse / whole[0] - 1):+.1f} %"]
            row += [score.points.mse(horizon) for horizon in self.task.horizons]
            at = [step for step in (24, 192) if step in score.intervals.steps]
            row += [_percent(score.intervals.coverage(step, 80)) for step in at]
            rows.append(row)
        columns = ["ablation", "mse", "mae", "change"]
        columns += [f"mse {horizon}" for horizon in self.task.horizons]
        columns += [f"in 80 % at {step}" for step in at]
        return text_table(
            f"{self.task.data.name}: ablations of {OURS}", columns, [_fixed(row) for row in rows]
        )


def _fixed(row: Sequence[Cell]) -> list[Cell]:
    """Errors with four digits, which is what separates the published models."""
    return [
        f"{cell:.4f}" if isinstance(cell, float) and not np.isnan(cell) else cell for cell in row
    ]


def _percent(share: float) -> Cell:
    return f"{100 * share:.1f}" if not np.isnan(share) else "-"


def _averages(points: PointErrors, at: Int64 | None = None) -> tuple[float, float]:
    """MSE and MAE, means over the horizons."""
    mse = [points.mse(horizon, at) for horizon in points.horizons]
    mae = [points.mae(horizon, at) for horizon in points.horizons]
    return float(np.mean(mse)), float(np.mean(mae))


def _pairs(points: PointErrors, at: Int64 | None = None) -> list[float]:
    """MSE and MAE by horizon."""
    return [error(horizon, at) for horizon in points.horizons for error in (points.mse, points.mae)]


def _points_json(points: PointErrors, at: Int64 | None = None) -> dict[str, object]:
    mse, mae = _averages(points, at)
    return {
        "mse": number(mse),
        "mae": number(mae),
        "horizons": {
            str(horizon): {
                "mse": number(points.mse(horizon, at)),
                "mae": number(points.mae(horizon, at)),
            }
            for horizon in points.horizons
        },
    }


def _intervals_json(score: ModelScore) -> dict[str, object]:
    """By measure, then by step."""
    intervals = score.intervals
    if intervals is None:
        return {}
    found: dict[str, dict[str, float | None]] = {}
    for level in INTERVALS:
        for step in intervals.steps:
            measures = {
                f"coverage_{level}": intervals.coverage(step, level),
                f"coverage_{level}_error": intervals.coverage_error(step, level),
                f"width_{level}": intervals.width(step, level),
                "pinball": intervals.pinball(step),
                "pinball_gaussian": score.gaussian[step],
            }
            for name, value in measures.items():
                found.setdefault(name, {})[str(step)] = number(value)
    return dict(found)


@dataclass(frozen=True, slots=True)
class ForecastReport:
    """Set -> what was found on it; `note` says what was left out, empty where nothing was."""

    sets: Mapping[str, SetReport]
    note: str = ""

    def to_json(self) -> dict[str, object]:
        """Set -> numbers."""
        return {name: report.to_json() for name, report in self.sets.items()}

    def table(self) -> str:
        """All tables of all sets."""
        parts = [report.tables() for report in self.sets.values()]
        return "\n\n".join([*parts, self.note] if self.note else parts)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is run on each set beside the streaming forecaster.

    `options` and `calendar` are those of our rows; `baselines` False leaves all others out.
    """

    weights: Mapping[str, Float64]
    horizons: tuple[int, ...] = HORIZONS
    options: ForecastOptions = field(default_factory=ForecastOptions)
    calendar: bool = True
    baselines: bool = True
    ablations: bool = False

    def run(self, data: ForecastSet, progress: Progress) -> SetReport:
        """All models on one set. ValueError where it is too short for the horizons."""
        task = make_task(data, self.horizons)

        def score(name: str, model: ForecastModel, **how: Any) -> ModelScore:
            shown = partial(progress, f"{data.name}: {name}")
            return score_model(task, model, progress=shown, **how)

        ours = OurForecaster(self.weights, self.options, calendar=self.calendar)
        rows = {OURS: score(OURS, ours, intervals=True)}
        at = np.arange(0, len(task.origins), EVERY)
        subset = {OURS: rows[OURS].points}
        if self.baselines:
            fresh = OurForecaster(self.weights, self.options, LOOKBACK, self.calendar)
            for name, model in {FRESH: fresh, **default_baselines(data)}.items():
                rows[name] = score(name, model)
            for name, model in statistical_models(data).items():
                subset[name] = score(name, model, origins=task.origins[at]).points
        ablated = {}
        if self.ablations:
            for name, one in ablations(data, self.weights).items():
                ablated[name] = score(name, one.of(self.weights), intervals=True)
        return SetReport(task, rows, subset, at, ablated)
