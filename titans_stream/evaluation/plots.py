"""Pictures of detections and of the alert budget."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from titans_stream.evaluation.calibration import CalibrationReport
from titans_stream.evaluation.nab_report import STANDARD, NabReport
from titans_stream.evaluation.protocol import Detection, LabelledSeries
from titans_stream.evaluation.silence import alert_rows
from titans_stream.evaluation.tables import Table
from titans_stream.evaluation.telemetry_report import TelemetryReport
from titans_stream.records import Float64, Int64

WIDTH, HEIGHT, DPI = 14.0, 5.5, 80
Axis = npt.NDArray[np.int64] | npt.NDArray[np.datetime64]

LANE = 6.0
"""Distance of two channels' drawings, in standard deviations."""
COLOURS = [colormaps["tab20"](i) for i in (*range(0, 20, 2), *range(1, 20, 2))]
BLUE, RED, GREY = "#1f5fa8", "#c0392b", "#8a8a8a"


def time_axis(axes: Axes, x: Axis) -> None:
    """Short dates where `x` are times."""
    if np.issubdtype(x.dtype, np.datetime64):
        locator = AutoDateLocator()  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def save(figure: Figure, path: Path) -> None:
    """Write a PNG. ValueError where the place cannot be written to."""
    FigureCanvasAgg(figure)
    try:
        figure.savefig(path, dpi=DPI, format="png")
    except OSError as error:
        raise ValueError(f"{path}: cannot be written: {error.strerror or error}") from error


def plot_series(
    path: Path,
    series: LabelledSeries,
    detection: Detection,
    alerts: Int64,
    threshold: float = float("nan"),
) -> None:
    """Draw the values and expected band over the statistic; alerts as lines, windows shaded.

    `alerts` are rows. Several channels are drawn standardised, one above the other. The x axis
    is time, UTC, where the series has timestamps. Rows that do not count are grey.
    """
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="tight")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    x = _x(series)
    _draw_values(upper, x, series, detection)
    lower.plot(x, detection.statistic, color="black", linewidth=0.6)
    if np.isfinite(threshold):
        lower.axhline(threshold, color=RED, linewidth=0.8, linestyle="--", label="threshold")
        _legend(lower)
    counts, good = series.evaluated[alerts], series.label[alerts]
    for axes in (upper, lower):
        for first, last in series.windows:
            axes.axvspan(x[first], x[last], color="#f5b041", alpha=0.3, linewidth=0)
        for rows, colour in (
            (alerts[~counts], GREY),
            (alerts[counts & good], BLUE),
            (alerts[counts & ~good], RED),
        ):
            top = axes.get_xaxis_transform()
            axes.vlines(x[rows], 0, 1, transform=top, color=colour, linewidth=0.9, alpha=0.8)
    if not series.evaluated.all():
        first = int(series.evaluated.argmax())
        upper.axvspan(x[0], x[first], color=GREY, alpha=0.12, linewidth=0)
    upper.set_title(
        f"{series.name}: labelled windows orange, alerts in them blue, others red",
        fontsize=10,
        loc="left",
    )
    lower.set_ylabel("statistic")
    time_axis(lower, x)
    lower.set_xlim(x[0], x[-1])
    save(figure, path)


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
        lanes = LANE * np.arange(series.channels)
        limits = 0.5 * LANE
        axes.plot(x, np.clip(_standardised(series.values), -limits, limits) + lanes, linewidth=0.6)
        axes.set_yticks(lanes, [str(channel) for channel in range(series.channels)])
        axes.set_ylabel("channel")
        return
    values = series.values.reshape(-1)
    if detection.lower is not None and detection.upper is not None:
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        room = 0.5 * (high - low)
        below = np.clip(detection.lower, low - room, high + room)
        above = np.clip(detection.upper, low - room, high + room)
        axes.fill_between(x, below, above, color=BLUE, alpha=0.18, linewidth=0, label="expected")
    axes.plot(x, values, color="black", linewidth=0.6, label="value")
    _legend(axes)


def _legend(axes: Axes) -> None:
    """Above the axes at the right, where it hides nothing."""
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=3, fontsize=8, frameon=False)


def _standardised(values: Float64) -> Float64:
    scale = np.maximum(np.nanstd(values, axis=0), 1e-12)
    shifted: Float64 = (values - np.nanmean(values, axis=0)) / scale
    return shifted


def plot_nab(report: NabReport, folder: Path) -> list[Path]:
    """One PNG per file of the corpus, at the best threshold of the profile `standard`."""
    folder.mkdir(parents=True, exist_ok=True)
    threshold = report.first[STANDARD].threshold
    written = []
    for series, detection in zip(report.series, report.detections, strict=True):
        path = folder / f"{series.name.replace('/', '__')}.png"
        plot_series(path, series, detection, alert_rows(detection.statistic, threshold), threshold)
        written.append(path)
    return written


def plot_telemetry(report: TelemetryReport, detector: str, folder: Path) -> list[Path]:
    """One PNG per series, at the best threshold of its set."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, every in report.series.items():
        threshold = report.sets[name][detector]["threshold"]
        for series, detection in zip(every, report.detections[name][detector], strict=True):
            statistic = np.where(series.evaluated, detection.statistic, np.nan)
            path = folder / f"{name}__{series.name.replace('/', '__')}.png"
            plot_series(path, series, detection, alert_rows(statistic, threshold), threshold)
            written.append(path)
    return written


def plot_calibration(report: CalibrationReport, path: Path) -> Path:
    """Episodes that came over those that were due, by budget, a line per set; both axes in logs.

    Bars are the square root of the count; budgets at which none came are left out.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(13.0, 5.0), layout="constrained")
    for axes, rows, title in zip(
        figure.subplots(1, 2, sharey=True),
        (report.sets, report.young),
        ("by set", "by age in readings, all sets"),
        strict=True,
    ):
        axes.axhspan(0.5, 2.0, color=GREY, alpha=0.15, linewidth=0)
        axes.axhline(1.0, color="black", linewidth=1.0)
        for number, (name, table) in enumerate(rows.items()):
            shown = Table((q, table[q]) for q in sorted(table) if table[q]["observed"])
            shown.draw(
                axes,
                lambda row: row["ratio"],
                lambda row: row["observed"] ** 0.5 / row["nominal"],
                1.0 + 0.012 * (number - len(rows) / 2),
                color=COLOURS[number % len(COLOURS)],
                elinewidth=0.7,
                label=name,
            )
        axes.set(xscale="log", yscale="log", title=title)
        axes.set_xlabel("budget, false episodes per 100 readings")
        ticks = (0.1, 0.2, 0.5, 1, 2, 5)
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        budgets = sorted({budget for table in rows.values() for budget in table})
        axes.set_xticks(budgets, [f"{budget:g}" for budget in budgets])
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.axes[0].set_ylabel("observed / nominal; within a factor 2: grey")
    save(figure, path)
    return path
