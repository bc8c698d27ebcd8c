"""Pictures of detections and of the alert budget."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from titans_stream.evaluation.calibration import CalibrationReport
from titans_stream.evaluation.nab_report import STANDARD, NabReport
from titans_stream.evaluation.protocol import Detection, LabelledSeries
from titans_stream.evaluation.silence import alert_rows
from titans_stream.records import Float64, Int64

WIDTH, HEIGHT, DPI = 14.0, 5.5, 80
Axis = npt.NDArray[np.int64] | npt.NDArray[np.datetime64]

BLUE, RED, GREY = "#1f5fa8", "#c0392b", "#8a8a8a"


def plot_series(
    path: Path,
    series: LabelledSeries,
    detection: Detection,
    alerts: Int64,
    threshold: float = float("nan"),
) -> None:
    """Draw the values and expected band over the statistic; alerts as lines, windows shaded.

    `alerts` are rows. Several channels are drawn standardised. The x axis is time, UTC, where
    the series has timestamps.
    """
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="tight")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    x = _x(series)
    _draw_values(upper, x, series, detection)
    lower.plot(x, detection.statistic, color=GREY, linewidth=0.6, label="statistic")
    if np.isfinite(threshold):
        lower.axhline(threshold, color=RED, linewidth=0.8, linestyle="--", label="threshold")
    good = series.label[alerts] | ~series.evaluated[alerts]
    for axes in (upper, lower):
        for first, last in series.windows:
            axes.axvspan(x[first], x[last], color="#f5b041", alpha=0.3, linewidth=0)
        for rows, colour in ((alerts[good], BLUE), (alerts[~good], RED)):
            top = axes.get_xaxis_transform()
            axes.vlines(x[rows], 0, 1, transform=top, color=colour, linewidth=0.9, alpha=0.8)
    if not series.evaluated.all():
        first = int(series.evaluated.argmax())
        upper.axvspan(x[0], x[first], color=GREY, alpha=0.12, linewidth=0)
    upper.set_title(f"{series.name}: alerts in labelled windows blue, others red", fontsize=10)
    lower.legend(loc="upper left", fontsize=8)
    _save(figure, path)


def _x(series: LabelledSeries) -> Axis:
    if series.timestamp is None:
        return np.arange(len(series))
    return series.timestamp.astype("datetime64[ns]")


def _draw_values(
    axes: Axes,
    x: Axis,
    series: LabelledSeries,
    detection: Detection,
) -> None:
    if series.channels > 1:
        axes.plot(x, _standardised(series.values), linewidth=0.6)
        return
    values = series.values.reshape(-1)
    if detection.lower is not None and detection.upper is not None:
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        room = 0.5 * (high - low)
        below = np.clip(detection.lower, low - room, high + room)
        above = np.clip(detection.upper, low - room, high + room)
        axes.fill_between(x, below, above, color=BLUE, alpha=0.18, linewidth=0, label="expected")
    axes.plot(x, values, color="black", linewidth=0.6, label="value")
    axes.legend(loc="upper left", fontsize=8)


def _standardised(values: Float64) -> Float64:
    scale = np.maximum(np.nanstd(values, axis=0), 1e-12)
    shifted: Float64 = (values - np.nanmean(values, axis=0)) / scale
    return shifted


def plot_nab(
    report: NabReport, folder: Path, progress: Callable[[str], None] | None = None
) -> list[Path]:
    """One PNG per file of the corpus, at the best threshold of the profile `standard`."""
    folder.mkdir(parents=True, exist_ok=True)
    threshold = report.first.profiles[STANDARD].threshold
    written = []
    for series, detection in zip(report.series, report.detections, strict=True):
        path = folder / f"{series.name.replace('/', '__')}.png"
        plot_series(path, series, detection, alert_rows(detection.statistic, threshold), threshold)
        written.append(path)
        if progress is not None:
            progress(series.name)
    return written


def plot_calibration(report: CalibrationReport, path: Path) -> None:
    """Observed episodes per 100 readings against the budget, a line per set; both axes in logs."""
    figure = Figure(figsize=(11.0, 5.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, rows, title in (
        (left, report.sets, "by set"),
        (right, report.young, "by age in readings"),
    ):
        budgets = sorted({budget for row in rows.values() for budget in row})
        axes.plot(budgets, budgets, color="black", linewidth=1.0, label="as promised")
        axes.fill_between(
            budgets,
            [q / 2 for q in budgets],
            [q * 2 for q in budgets],
            color=GREY,
            alpha=0.2,
            label="within a factor 2",
        )
        for name, row in rows.items():
            shown = [q for q in sorted(row) if row[q].observed]
            axes.plot(shown, [row[q].per_100 for q in shown], "o-", markersize=3, label=name)
        axes.set(xscale="log", yscale="log", title=title)
        axes.set_xlabel("budget, false episodes per 100 readings")
        axes.set_ylabel("observed")
        axes.legend(fontsize=7)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=DPI)
