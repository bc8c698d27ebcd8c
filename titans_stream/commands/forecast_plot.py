"""A picture of a file's forecasts: history, median and fan of some series."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from titans_stream.evaluation.forecasting_plots import draw_fan, fan_legend
from titans_stream.evaluation.plots import Axis, save, time_axis
from titans_stream.files.csv_readings import ASSUMED_INTERVAL, CsvReadings
from titans_stream.records import Forecast
from titans_stream.times import parse_timestamp

SHOWN_SERIES = 6
"""The first ones of a file that have a forecast, among the first `KEPT_SERIES`."""
KEPT_SERIES = 64
LEAST_HISTORY, MOST_HISTORY = 200, 2_000
"""Readings of a series that are drawn: twice the steps, within these bounds."""
KEPT_FORECASTS = 12


class ForecastPlot:
    """Watches readings and forecasts go by and keeps what the picture of the end needs."""

    def __init__(self, timed: bool) -> None:
        self._timed = timed
        self._history: dict[str, deque[tuple[int, float]]] = {}
        self._forecasts: dict[str, deque[Forecast]] = {}

    def readings(self, chunks: Iterable[CsvReadings]) -> Iterator[CsvReadings]:
        """Hand chunks on."""
        for chunk in chunks:
            readings = chunk.readings
            for series in dict.fromkeys(readings.series):
                if len(self._history) < KEPT_SERIES:
                    self._history.setdefault(series, deque(maxlen=MOST_HISTORY))
            times, values = readings.timestamp.tolist(), readings.value.tolist()
            for series, time, value in zip(readings.series, times, values, strict=True):
                if series in self._history and value == value:
                    self._history[series].append((time, value))
            yield chunk

    def forecasts(self, made: Iterable[Forecast]) -> Iterator[Forecast]:
        """Hand forecasts on."""
        for forecast in made:
            if forecast.series_id in self._history:
                kept = self._forecasts.setdefault(forecast.series_id, deque(maxlen=KEPT_FORECASTS))
                kept.append(forecast)
            yield forecast

    def draw(self, path: Path) -> None:
        """Write the picture, a panel per series.

        ValueError where there is nothing to draw, or no place to write it to.
        """
        shown = [series for series in self._history if series in self._forecasts][:SHOWN_SERIES]
        if not shown:
            raise ValueError(f"{path}: none of the first {KEPT_SERIES} series has a forecast")
        figure = Figure(figsize=(12.0, 2.6 * len(shown) + 0.6), layout="constrained")
        for axes, series in zip(
            figure.subplots(len(shown), 1, squeeze=False)[:, 0], shown, strict=True
        ):
            apart = _apart(self._forecasts[series])
            first = max(LEAST_HISTORY, min(2 * len(apart[-1].median), MOST_HISTORY))
            history = list(self._history[series])[-first:]
            begin = history[0][0]
            x = self._x([time for time, _ in history])
            for forecast in apart:
                ahead = [parse_timestamp(time) for time in forecast.timestamps]
                if ahead[0] < begin:
                    continue
                levels = [float(level) for level in forecast.quantiles]
                quantiles = np.array(list(forecast.quantiles.values())).reshape(len(levels), -1)
                draw_fan(axes, self._x(ahead), np.array(forecast.median), quantiles, levels)
            values = [value for _, value in history]
            axes.plot(x, values, color="black", linewidth=0.8, label="value")
            if series == shown[0]:
                fan_legend(axes)
            axes.set_title(series, fontsize=10, loc="left")
            axes.margins(x=0.0)
            time_axis(axes, x)
        save(figure, path)

    def _x(self, times: list[int]) -> Axis:
        if not self._timed:
            return np.array(times, dtype=np.int64) // ASSUMED_INTERVAL + 1
        return np.array(times, dtype=np.int64).astype("datetime64[ns]")


def _apart(forecasts: Iterable[Forecast]) -> list[Forecast]:
    """The last forecast and those before it that do not overlap, earliest first."""
    chosen: list[Forecast] = []
    for forecast in reversed(list(forecasts)):
        if not chosen or parse_timestamp(forecast.timestamps[-1]) <= parse_timestamp(
            chosen[-1].origin
        ):
            chosen.append(forecast)
    return chosen[::-1]
