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
from titans_stream.evaluation.tables import Row, Show, Table, dump, text_table
from titans_stream.forecasting.multi.forecaster import ForecastOptions
from titans_stream.records import Float64, Int64

OURS = "titans-stream, streaming"
FRESH = f"titans-stream, lookback {LOOKBACK}"

Progress = Callable[[str, int, int], None]
"""Takes what is run, the origins done and those in all."""


@dataclass(frozen=True, slots=True)
class SetReport:
    """What was found on one set.

    `scores` holds the models that ran on all windows, ours first, and `rows` their errors;
    `intervals` is about ours, by step. `subset` holds errors of the models that ran on every
    `EVERY`-th origin, `subset_size` of them, ours among them; `ablations` errors and intervals
    (by measure, then by step) of ours with a part switched off.
    """

    task: Task
    scores: Mapping[str, ModelScore]
    rows: Table
    intervals: Table
    subset: Table
    subset_size: int
    ablations: Table

    @property
    def ours(self) -> ModelScore:
        """The score of the streaming forecaster."""
        return self.scores[OURS]

    def numbers(self) -> Row:
        """Numbers of ours at the top, those of the others under `rows`."""
        figures = published(self.task.data).items()
        return {
            **self.rows[OURS],
            **self.intervals.columns(),
            "rows": self.rows,
            "published": {name: {"mse": mse, "mae": mae} for name, (mse, mae) in figures},
            "subset": {"origins": self.subset_size, "rows": self.subset},
            "ablations": self.ablations,
        }

    def tables(self) -> str:
        """Point errors, intervals, subset and ablations, as far as they were asked for."""
        parts = [self._point_table(), self._interval_table()]
        name, horizons = self.task.data.name, self.task.horizons
        if len(self.subset) > 1:
            title = f"{name}: every {EVERY}th origin, {self.subset_size} of them"
            parts.append(self.subset.text(title, ["model"], _error_columns(horizons)))
        if self.ablations:
            parts.append(self._ablation_table())
        return "\n\n".join(parts)

    def _point_table(self) -> str:
        data, horizons = self.task.data, self.task.horizons
        rows = Table(self.rows)
        if horizons == HORIZONS:
            unknown = {key: {"mse": float("nan"), "mae": float("nan")} for key in horizons}
            for name, (mse, mae) in published(data).items():
                rows[f"{name} (published)"] = {"mse": mse, "mae": mae, "horizons": unknown}
        title = (
            f"{data.name}: errors on {len(self.task.origins):,} origins x {data.series} series, "
            "z-scored"
        )
        return rows.text(title, ["model"], _error_columns(horizons))

    def _interval_table(self) -> str:
        columns = ["step"]
        for level in sorted(INTERVALS):
            columns += [f"in {level} %", "+-", "width"]
        rows: list[list[str | float]] = []
        for step, row in self.intervals.items():
            cells: list[str | float] = [str(step)]
            for level in sorted(INTERVALS):
                cells += [
                    _percent(row[f"coverage_{level}"]),
                    _percent(row[f"coverage_{level}_error"]),
                    _fixed(row[f"width_{level}"]),
                ]
            rows.append([*cells, _fixed(row["pinball"]), _fixed(row["pinball_gaussian"])])
        title = (
            f"{self.task.data.name}: intervals of {OURS} by step, share inside with its bootstrap "
            "error"
        )
        return text_table(title, [*columns, "pinball", "Gaussian"], rows)

    def _ablation_table(self) -> str:
        whole = self.rows[OURS]
        rows = Table({"whole": {**whole, **self.intervals.columns()}, **self.ablations})
        columns = _error_columns(self.task.horizons)
        shown: dict[str, Show] = {name: columns[name] for name in ("mse", "mae")}
        shown["change"] = lambda row: f"{100 * (row['mse'] / whole['mse'] - 1):+.1f} %"
        shown |= {name: show for name, show in columns.items() if name.startswith("mse ")}
        for step in (24, 192):
            if step in self.intervals:
                shown[f"in 80 % at {step}"] = partial(_covered, step=step)
        return rows.text(f"{self.task.data.name}: ablations of {OURS}", ["ablation"], shown)


def _fixed(error: float) -> str | float:
    """Errors with four digits, which is what separates the published models."""
    return error if np.isnan(error) else f"{error:.4f}"


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:.1f}"


def _covered(row: Row, step: int) -> str:
    return _percent(row["coverage_80"][step])


def _error_columns(horizons: Sequence[int]) -> dict[str, Show]:
    """MSE and MAE, means over the horizons and of each."""

    def of(kind: str, horizon: int | None = None) -> Show:
        return lambda row: _fixed((row if horizon is None else row["horizons"][horizon])[kind])

    each = {f"{kind} {h}": of(kind, h) for h in horizons for kind in ("mse", "mae")}
    return {"mse": of("mse"), "mae": of("mae"), **each}


def _errors(points: PointErrors, at: Int64 | None = None) -> Row:
    """MSE and MAE, means over the horizons and by horizon; `at`: of the origins at these places."""
    horizons = Table(
        (horizon, {"mse": points.mse(horizon, at), "mae": points.mae(horizon, at)})
        for horizon in points.horizons
    )
    means = {k: float(np.mean([row[k] for row in horizons.values()])) for k in ("mse", "mae")}
    return {**means, "horizons": horizons}


def _intervals(score: ModelScore) -> Table:
    """By step: coverage with its error and width at each level, pinball losses."""
    intervals, found = score.intervals, Table()
    assert intervals is not None
    for step in intervals.steps:
        row = found[step] = {}
        for level in INTERVALS:
            row[f"coverage_{level}"] = intervals.coverage(step, level)
            row[f"coverage_{level}_error"] = intervals.coverage_error(step, level)
            row[f"width_{level}"] = intervals.width(step, level)
            row["pinball"] = intervals.pinball(step)
            row["pinball_gaussian"] = score.gaussian[step]
    return found


@dataclass(frozen=True, slots=True)
class ForecastReport:
    """Set -> what was found on it; `note` says what was left out, empty where nothing was."""

    sets: Mapping[str, SetReport]
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Set -> numbers."""
        numbers: dict[str, Any] = dump({name: one.numbers() for name, one in self.sets.items()})
        return numbers

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
        scores = {OURS: score(OURS, ours, intervals=True)}
        at = np.arange(0, len(task.origins), EVERY)
        subset = Table({OURS: _errors(scores[OURS].points, at)})
        if self.baselines:
            fresh = OurForecaster(self.weights, self.options, LOOKBACK, self.calendar)
            for name, model in {FRESH: fresh, **default_baselines(data)}.items():
                scores[name] = score(name, model)
            for name, model in statistical_models(data).items():
                subset[name] = _errors(score(name, model, origins=task.origins[at]).points)
        ablated = Table()
        for name, one in ablations(data, self.weights).items() if self.ablations else ():
            found = score(name, one.of(self.weights), intervals=True)
            ablated[name] = {**_errors(found.points), **_intervals(found).columns()}
        return SetReport(
            task=task,
            scores=scores,
            rows=Table((name, _errors(one.points)) for name, one in scores.items()),
            intervals=_intervals(scores[OURS]),
            subset=subset,
            subset_size=len(at),
            ablations=ablated,
        )
