"""Pictures of forecasts: fans, coverage by step, errors by step.

H is the number of steps ahead, L of quantile levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from titans_stream.evaluation.forecasting_data import ForecastSet
from titans_stream.evaluation.forecasting_metrics import INTERVALS, LEVELS
from titans_stream.evaluation.forecasting_report import ForecastReport, SetReport
from titans_stream.evaluation.plots import BLUE, COLOURS, GREY, Axis, save, time_axis
from titans_stream.evaluation.tables import Row
from titans_stream.records import Float64, Int64

SHOWN_SERIES = 4
SHOWN_STEPS = 336
SHOWN_HISTORY = 240
"""At most so many series, steps and readings before the origin in a set's picture."""
SHADE = 0.15
"""Opacity that each band adds to the wider one around it."""
SMOOTHING = 24
"""Steps in the running mean of the errors by step."""


def draw_fan(
    axes: Axes, x: Axis, median: Float64, quantiles: Float64, levels: Sequence[float]
) -> None:
    """Draw a median [H] and its quantiles [L, H], each pair of levels that belong together a band.

    A level without its opposite is a thin line.
    """
    places = {round(level, 9): i for i, level in enumerate(levels)}
    shade = 0.0
    for level in sorted(places):
        opposite = round(1.0 - level, 9)
        if level < 0.5 and opposite in places:
            share = f"{100 * (opposite - level):g} %"
            shade += SHADE
            low, high = quantiles[places[level]], quantiles[places[opposite]]
            axes.fill_between(x, low, high, color=BLUE, alpha=shade, linewidth=0, label=share)
        elif opposite not in places:
            line = quantiles[places[level]]
            axes.plot(x, line, color=BLUE, linewidth=0.6, linestyle=":", label=f"{level:g}")
    axes.plot(x, median, color=BLUE, linewidth=1.2, label="median")


def fan_legend(axes: Axes) -> None:
    """Above the axes at the right, where it hides nothing; each label once."""
    handles, labels = axes.get_legend_handles_labels()
    known = dict(zip(labels, handles, strict=True))
    axes.legend(
        known.values(), known, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=8, fontsize=8,
        frameon=False,
    )  # fmt: skip


def plot_forecasting(report: ForecastReport, folder: Path) -> list[Path]:
    """Fans and errors by step for each set, and the coverage of all sets."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, found in report.sets.items():
        written.append(_plot_fans(found, folder / f"forecast_{name}.png"))
        written.append(_plot_errors(found, folder / f"errors_{name}.png"))
    return [*written, _plot_coverage(report, folder / "coverage.png")]


def _plot_fans(report: SetReport, path: Path) -> Path:
    data, kept = report.task.data, report.ours.kept
    shown = min(SHOWN_SERIES, data.series)
    figure = Figure(figsize=(7.0 * len(kept), 2.1 * shown + 0.6), layout="constrained")
    grid = figure.subplots(shown, len(kept), squeeze=False)
    for column, (origin, block) in enumerate(kept.items()):
        assert block.quantiles is not None
        steps = min(SHOWN_STEPS, block.median.shape[-1])
        rows = np.arange(max(0, origin - SHOWN_HISTORY), min(len(data), origin + steps))
        ahead = np.arange(origin, origin + steps)
        for d in range(shown):
            axes = grid[d, column]
            x, x_ahead = _x(data, rows), _x(data, ahead)
            fan = block.quantiles[:, 0, d, :steps]
            draw_fan(axes, x_ahead, block.median[0, d, :steps], fan, LEVELS)
            actual = data.scored[rows, d]
            axes.plot(x, actual, color="black", linewidth=0.7, label="value")
            axes.axvline(x_ahead[0], color=GREY, linewidth=0.8, linestyle="--")
            axes.set_xlim(x[0], x_ahead[-1])
            time_axis(axes, x)
            if column == 0:
                axes.set_ylabel(data.columns[d])
    fan_legend(grid[0, -1])
    grid[0, 0].set_title(
        f"{data.name}, z-scored: forecasts of {steps} steps", fontsize=10, loc="left"
    )
    save(figure, path)
    return path


def _x(data: ForecastSet, rows: Int64) -> Axis:
    if data.timestamp is None:
        return rows
    return data.timestamp[rows].astype("datetime64[ns]")


def _plot_errors(report: SetReport, path: Path) -> Path:
    """MSE by step, running mean, a line per model that ran on all windows."""
    figure = Figure(figsize=(9.0, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, (name, score) in enumerate(report.scores.items()):
        errors = score.points.by_step()
        width = min(SMOOTHING, len(errors))
        smooth = np.convolve(errors, np.ones(width) / width, mode="valid")
        x = np.arange(len(smooth)) + (width + 1) / 2
        axes.plot(
            x, smooth, color=COLOURS[number], linewidth=1.8 if number == 0 else 1.0, label=name
        )
    axes.set(xlabel=f"steps ahead (mean over {width})", ylabel="mse, z-scored")
    axes.set_ylim(bottom=0.0)
    axes.set_title(f"{report.task.data.name}: error by step", fontsize=10, loc="left")
    axes.legend(fontsize=8, frameon=False)
    save(figure, path)
    return path


def _percent(row: Row, name: str) -> float:
    return float(np.nan_to_num(100 * row[name]))


def _plot_coverage(report: ForecastReport, path: Path) -> Path:
    """Share of values inside the intervals by step, with bootstrap errors, a line per set."""
    figure = Figure(figsize=(11.0, 4.5), layout="constrained")
    panels = figure.subplots(1, len(INTERVALS))
    for axes, level in zip(panels, sorted(INTERVALS), strict=True):
        axes.axhline(level, color="black", linewidth=1.0)
        axes.axhspan(level - 2, min(level + 2, 100), color=GREY, alpha=0.15, linewidth=0)
        ticks: set[int] = set()
        for number, (name, found) in enumerate(report.sets.items()):
            found.intervals.draw(
                axes,
                partial(_percent, name=f"coverage_{level}"),
                partial(_percent, name=f"coverage_{level}_error"),
                1.0 + 0.03 * (number - len(report.sets) / 2),
                color=COLOURS[number % len(COLOURS)],
                capsize=2.0,
                label=name,
            )
            ticks |= set(found.intervals)
        axes.set_xscale("log")
        shown = sorted(ticks - {168})
        axes.set_xticks(shown, [str(step) for step in shown])
        axes.minorticks_off()
        axes.set_xlabel("steps ahead")
        axes.set_title(
            f"{level} % interval: share of values inside, %; within 2 points: grey",
            fontsize=10,
            loc="left",
        )
    panels[0].legend(fontsize=8, frameon=False)
    save(figure, path)
    return path
