"""A picture of a file's scores: values with the band that was normal, scores, and episodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from titans_stream.commands.scoring import ScoredChunk
from titans_stream.evaluation.plots import BLUE, RED, Axis, save, time_axis
from titans_stream.files.csv_readings import ASSUMED_INTERVAL
from titans_stream.records import Float64, Int64

SHOWN_SERIES = 6
"""Those with the most severe episodes, then the first ones of the file."""
KEPT_SERIES = 64
"""Series that are watched, the first ones of the file."""
MOST_POINTS = 20_000
"""Of a series; where there are more, each four become the least and the largest of them."""
ORANGE = "#e08e0b"
_COLOURS = {1: ORANGE, 2: RED}
_SEVERITY = {"": 0, "warning": 1, "critical": 2}


class _Points(NamedTuple):
    """N readings of a series; `severity` 0: no episode is open, 1: warning, 2: critical."""

    time: Int64
    value: Float64
    lower: Float64
    upper: Float64
    score: Float64
    severity: Int64

    def take(self, at: npt.NDArray[np.int64]) -> _Points:
        return _Points._make(column[at] for column in self)


class ScorePlot:
    """Watches scores go by and keeps what the picture of the end needs."""

    def __init__(self, timed: bool) -> None:
        self._timed = timed
        self._parts: dict[str, list[_Points]] = {}
        self._left_out: set[str] = set()

    def watch(self, chunks: Iterable[ScoredChunk]) -> Iterator[ScoredChunk]:
        """Hand chunks on."""
        for chunk in chunks:
            self._take(chunk)
            yield chunk

    def _take(self, chunk: ScoredChunk) -> None:
        scores = chunk.scores
        names = np.array(scores.series, dtype=object)
        severity = np.array([_SEVERITY[each] for each in chunk.severity], np.int64)
        points = _Points(
            scores.timestamp, scores.value, scores.lower, scores.upper, scores.score, severity
        )
        for series in dict.fromkeys(scores.series):
            if series not in self._parts and len(self._parts) >= KEPT_SERIES:
                self._left_out.add(series)
                continue
            parts = self._parts.setdefault(series, [])
            parts.append(points.take(np.flatnonzero(names == series)))
            if sum(len(part.time) for part in parts) > 2 * MOST_POINTS:
                parts[:] = [_thinned(_joined(parts))]

    def draw(self, path: Path) -> None:
        """Write the picture; ValueError where there is nothing to draw, or no place for it."""
        series = {name: _joined(parts) for name, parts in self._parts.items()}
        series = {
            name: points for name, points in series.items() if np.isfinite(points.value).any()
        }
        if not series:
            raise ValueError(f"{path}: there is no value to draw")
        order = sorted(series, key=lambda name: -int(series[name].severity.max()))
        shown = [name for name in series if name in order[:SHOWN_SERIES]]
        columns = 1 if len(shown) == 1 else 2
        rows = -(-len(shown) // columns)
        figure = Figure(
            figsize=(12.0 if columns == 1 else 15.0, 3.4 * rows + 0.6), layout="constrained"
        )
        panels = figure.subfigures(rows, columns, squeeze=False).ravel()
        for panel, name in zip(panels, shown, strict=False):
            upper, lower = panel.subplots(2, 1, sharex=True, height_ratios=(3, 1))
            self._draw_series(upper, lower, name, series[name])
        more = len(series) + len(self._left_out) - len(shown)
        if more:
            figure.suptitle(f"{len(shown)} of {len(shown) + more:,} series", fontsize=10)
        save(figure, path)

    def _draw_series(self, upper: Axes, lower: Axes, name: str, points: _Points) -> None:
        points = points.take(np.argsort(points.time, kind="stable"))
        x = self._x(points.time)
        band = np.isfinite(points.lower) & np.isfinite(points.upper)
        upper.fill_between(
            x, points.lower, points.upper, where=band.tolist(), color=BLUE, alpha=0.3, linewidth=0,
            label="normal",
        )  # fmt: skip
        upper.plot(x, points.value, color="black", linewidth=0.7, label="value")
        lower.plot(x, points.score, color=BLUE, linewidth=0.6)
        for first, last, severity in _episodes(points.severity):
            colour = _COLOURS[severity]
            for axes in (upper, lower):
                axes.axvspan(x[first], x[last], color=colour, alpha=0.25, linewidth=0)
            # an episode of one reading has no width of its own
            upper.plot(
                [x[first]], [1.0], marker="v", color=colour, markersize=7, clip_on=False,
                linestyle="", transform=upper.get_xaxis_transform(),
            )  # fmt: skip
        upper.set_title(name if len(name) <= 60 else name[:57] + "...", fontsize=10, loc="left",
                        parse_math=False)  # fmt: skip
        upper.set_ylim(*_limits(points))
        upper.margins(x=0.01)
        lower.set_ylim(0.0, 1.02)
        lower.set_ylabel("score", fontsize=8)
        for axes in (upper, lower):
            axes.tick_params(labelsize=8)
        upper.legend(loc="upper left", fontsize=7, framealpha=0.7)
        time_axis(lower, x)

    def _x(self, times: Int64) -> Axis:
        return times.astype("datetime64[ns]") if self._timed else times // ASSUMED_INTERVAL + 1


def _limits(points: _Points) -> tuple[float, float]:
    """Bounds of the y axis: of the values; a band that is far wider does not flatten them."""
    values = points.value[np.isfinite(points.value)]
    low, high = float(values.min()), float(values.max())
    span = (high - low) or abs(high) or 1.0
    bands = [column[np.isfinite(column)] for column in (points.lower, points.upper)]
    if len(bands[0]) and len(bands[1]):
        low = max(low - span, min(low, float(np.quantile(bands[0], 0.01))))
        high = min(high + span, max(high, float(np.quantile(bands[1], 0.99))))
    return low - 0.05 * span, high + 0.1 * span


def _episodes(severity: Int64) -> Iterator[tuple[int, int, int]]:
    """First and last place of each episode, and its highest severity."""
    is_open = np.concatenate(([0], (severity > 0).astype(np.int64), [0]))
    firsts, ends = np.flatnonzero(np.diff(is_open) == 1), np.flatnonzero(np.diff(is_open) == -1)
    for first, end in zip(firsts.tolist(), ends.tolist(), strict=True):
        yield first, end - 1, int(severity[first:end].max())


def _joined(parts: list[_Points]) -> _Points:
    return parts[0] if len(parts) == 1 else _Points(*map(np.concatenate, zip(*parts, strict=True)))


def _thinned(points: _Points) -> _Points:
    """Half as many points: of each four the least and the largest value, in their order.

    They take the highest score and severity of the four.
    """
    count = len(points.time) // 4 * 4
    fours = points.value[:count].reshape(-1, 4)
    begins = np.arange(0, count, 4)
    least = begins + np.argmin(np.where(np.isnan(fours), np.inf, fours), axis=1)
    most = begins + np.argmax(np.where(np.isnan(fours), -np.inf, fours), axis=1)
    same = least == most
    most[same] = begins[same] + (most[same] - begins[same] + 1) % 4
    kept = np.sort(np.stack((least, most), axis=1), axis=1).ravel()
    thin = points.take(np.concatenate((kept, np.arange(count, len(points.time)))))
    score = np.where(np.isnan(points.score), -np.inf, points.score)[:count].reshape(-1, 4)
    highest = np.repeat(score.max(axis=1), 2)
    thin.score[: len(kept)] = np.where(np.isinf(highest), np.nan, highest)
    thin.severity[: len(kept)] = np.repeat(points.severity[:count].reshape(-1, 4).max(axis=1), 2)
    return thin
