"""Forecasts the series of a file with the service's own engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from titans_stream.engine.engine import StreamEngine
from titans_stream.files.csv_readings import CsvReadings
from titans_stream.forecasting.settings import ForecastConfig
from titans_stream.records import Forecast, Int64, Readings

NEVER = 1_000_000
"""More readings between two forecasts than any file's end will meet by chance."""
MakeEngine = Callable[[ForecastConfig], StreamEngine]


@dataclass
class LastReadings:
    """The last reading with a value of each series: the latest by time, the first of equals."""

    time: dict[str, int]
    offset: dict[str, int]

    @staticmethod
    def of(chunks: Iterable[CsvReadings]) -> LastReadings:
        """Of all series of a file."""
        found = LastReadings({}, {})
        for chunk in chunks:
            readings = chunk.readings
            times, offsets = readings.timestamp.tolist(), readings.offset.tolist()
            for i in np.flatnonzero(~np.isnan(readings.value)).tolist():
                series = readings.series[i]
                if times[i] > found.time.get(series, times[i] - 1):
                    found.time[series], found.offset[series] = times[i], offsets[i]
        return found

    def split(self, readings: Readings) -> tuple[Readings, Readings]:
        """Those before each series' last one, and the last ones themselves; no later ones."""
        last = np.array([self.offset.get(series, -1) for series in readings.series], np.int64)
        before, at = readings.offset < last, readings.offset == last
        return _take(readings, np.flatnonzero(before)), _take(readings, np.flatnonzero(at))


def forecast_turns(engine: StreamEngine, chunks: Iterable[CsvReadings]) -> Iterator[Forecast]:
    """The forecasts that the service would publish, in its order."""
    for chunk in chunks:
        yield from engine.process(chunk.readings).forecasts
    yield from engine.flush().forecasts


def forecast_last(
    make: MakeEngine, config: ForecastConfig, last: LastReadings, chunks: Iterable[CsvReadings]
) -> Iterator[Forecast]:
    """One forecast of each series, made after its last reading.

    `chunks` are those that `last` was found in. An engine that forecasts nothing learns all
    readings but the last ones; these go to one that takes over its state and forecasts after
    each.
    """
    engine = make(config.model_copy(update={"every": NEVER}))
    waiting = []
    for chunk in chunks:
        before, at = last.split(chunk.readings)
        engine.process(before)
        if len(at):
            waiting.append(at)
    heir = make(config.model_copy(update={"every": 1}))
    heir.restore(0, engine.snapshot(0))
    for readings in waiting:
        yield from heir.process(readings).forecasts


def _take(readings: Readings, at: Int64) -> Readings:
    columns: dict[str, Any] = {
        name: getattr(readings, name)[at] for name in ("timestamp", "value", "partition", "offset")
    }
    return replace(readings, series=[readings.series[i] for i in at.tolist()], **columns)
