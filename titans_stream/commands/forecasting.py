"""Forecasts the series of a file with the service's own engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from titans_stream.commands.outputs import Dropped
from titans_stream.durations import format_duration
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.order import EXPIRE_INTERVALS
from titans_stream.engine.rhythm import FIRST_FORECAST
from titans_stream.files.csv_readings import CsvReadings
from titans_stream.forecasting.settings import ForecastConfig
from titans_stream.records import Forecast, Int64, Readings, Results, Status

NEVER = 1_000_000
"""More readings between two forecasts than any file's end will meet by chance."""
SHOWN_NAMES = 10
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
            for i in np.flatnonzero(np.isfinite(readings.value)).tolist():
                series = readings.series[i]
                if times[i] > found.time.get(series, times[i] - 1):
                    found.time[series], found.offset[series] = times[i], offsets[i]
        return found

    def split(self, readings: Readings) -> tuple[Readings, Readings, Readings]:
        """Those before each series' last one, the last ones themselves, and those after them."""
        last = np.array([self.offset.get(series, -1) for series in readings.series], np.int64)
        before, at = readings.offset < last, readings.offset == last
        return (
            _take(readings, np.flatnonzero(before)),
            _take(readings, np.flatnonzero(at)),
            _take(readings, np.flatnonzero(~(before | at))),
        )


@dataclass
class _Learned:
    """What a series had when its readings ended; `paused` where it has started anew by then."""

    values: int = 0
    last: int | None = None
    paused: bool = False
    step: int = 0
    """Nanoseconds between its two last readings."""


@dataclass
class FileForecasts:
    """Makes the forecasts of a file's series and knows why a series has none.

    `expire_after` is the engine's: a series that pauses for longer (nanoseconds) starts anew.
    """

    make: MakeEngine
    config: ForecastConfig
    expire_after: int
    dropped: Dropped = field(default_factory=Dropped)
    _learned: dict[str, _Learned] = field(default_factory=dict)

    def turns(self, chunks: Iterable[CsvReadings]) -> Iterator[Forecast]:
        """The forecasts that the service would publish, in its order."""
        engine = self.make(self.config)
        for chunk in chunks:
            yield from self._counted(engine.process(chunk.readings))
        yield from self._counted(engine.flush())

    def last(self, last: LastReadings, chunks: Iterable[CsvReadings]) -> Iterator[Forecast]:
        """One forecast of each series, made after its last reading.

        `chunks` are those that `last` was found in. An engine that forecasts nothing learns all
        readings but the last ones; each of these goes to one that takes over the state of its
        series and forecasts after every reading. To that end each series is a partition of its
        own, so that its state moves by itself and whatever the others' clocks say.
        """
        engine = self.make(self.config.model_copy(update={"every": NEVER}))
        heir = self.make(self.config.model_copy(update={"every": 1}))
        partitions: dict[str, int] = {}
        for chunk in chunks:
            of = [partitions.setdefault(name, len(partitions)) for name in chunk.readings.series]
            readings = replace(chunk.readings, partition=np.array(of, np.int32))
            before, at, after = last.split(readings)
            self._counted(engine.process(before))
            for partition in at.partition.tolist():
                heir.restore(partition, engine.snapshot(partition))
            if len(at):
                yield from self._counted(heir.process(at))
            self._counted(heir.process(after))

    def _counted(self, results: Results) -> list[Forecast]:
        """The forecasts; the readings are taken down as the engine judged them."""
        scores = results.scores
        self.dropped.count(scores)
        taken = ~np.isin(scores.status, (Status.DUPLICATE, Status.LATE))
        for name, time, value, is_taken in zip(
            scores.series,
            scores.timestamp.tolist(),
            (scores.status != Status.MISSING).tolist(),
            taken.tolist(),
            strict=True,
        ):
            one = self._learned.setdefault(name, _Learned())
            if is_taken:
                step = 0 if one.last is None else time - one.last
                longest = max(self.expire_after, EXPIRE_INTERVALS * one.step)
                if one.values > 1 and step > longest:
                    one.values, one.paused = 0, True
                one.step = step
                one.values += value
                one.last = time
        return results.forecasts

    def reasons(self, made: Iterable[str]) -> list[str]:
        """Lines that name the series without a forecast; `made` has those with one."""
        without = {name: self._learned[name] for name in sorted({*self._learned} - {*made})}
        few = f"without a forecast, fewer than {FIRST_FORECAST} values"
        pause = f"{few} since a pause of more than {format_duration(self.expire_after)}"
        found = {
            few: [name for name, one in without.items() if not one.paused],
            pause: [name for name, one in without.items() if one.paused],
        }
        return [
            f"{why}: {', '.join(names[:SHOWN_NAMES])}{', ...' * (len(names) > SHOWN_NAMES)}"
            for why, names in found.items()
            if names
        ]


def _take(readings: Readings, at: Int64) -> Readings:
    columns: dict[str, Any] = {
        name: getattr(readings, name)[at] for name in ("timestamp", "value", "partition", "offset")
    }
    return replace(readings, series=[readings.series[i] for i in at.tolist()], **columns)
