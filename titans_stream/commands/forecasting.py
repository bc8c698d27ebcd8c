"""Forecasts the series of a file with the service's own engine."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo
from typing import Any

import numpy as np

from titans_stream.commands.outputs import Account
from titans_stream.durations import format_duration
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.order import EXPIRE_INTERVALS
from titans_stream.engine.rhythm import FIRST_FORECAST
from titans_stream.files.calendar_steps import next_times
from titans_stream.files.csv_readings import CsvReadings
from titans_stream.forecasting.settings import ForecastConfig
from titans_stream.ids import taken
from titans_stream.records import Forecast, Int64, Readings, Results, Status
from titans_stream.times import format_timestamps

NEVER = 1_000_000
"""More readings between two forecasts than any file's end will meet by chance."""
SHOWN_NAMES = 10
KEPT_TIMES = 4_000
"""Timestamps of a series by which its next ones are known."""
MakeEngine = Callable[[ForecastConfig], StreamEngine]


@dataclass
class LastReadings:
    """The last reading with a value of each series: the latest by time.

    Offsets count the readings in the order in which they come.
    """

    time: dict[str, int]
    offset: dict[str, int]

    @staticmethod
    def of(chunks: Iterable[CsvReadings], duplicates: str = "drop") -> LastReadings:
        """Of all series of a file; `duplicates` is the engine's setting.

        Of equal times it is the first one that counts (`drop`), the last one with a value that the
        time has not had (`keep-order`), or the last one.
        """
        found = LastReadings({}, {})
        seen: dict[str, set[float]] = {}
        for chunk in renumbered(chunks):
            readings = chunk.readings
            times, offsets = readings.timestamp.tolist(), readings.offset.tolist()
            for i in np.flatnonzero(np.isfinite(readings.value)).tolist():
                series, value = readings.series[i], float(readings.value[i])
                before = found.time.get(series)
                if before is not None and times[i] < before:
                    continue
                if before is None or times[i] > before:
                    seen[series] = set()
                elif duplicates == "drop" or (duplicates == "keep-order" and value in seen[series]):
                    continue
                seen[series].add(value)
                found.time[series], found.offset[series] = times[i], offsets[i]
        return found

    def chosen(self, forecasts: Iterable[Forecast]) -> list[Forecast]:
        """Those that follow a last reading."""
        return [one for one in forecasts if one.source.offset == self.offset[one.series_id]]

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
    """What a series had when its readings ended; `paused` where it has started anew by then.

    `times` are the last of its different timestamps.
    """

    values: int = 0
    times: deque[int] = field(default_factory=lambda: deque(maxlen=KEPT_TIMES))
    paused: bool = False
    step: int = 0
    """Nanoseconds between its two last readings."""

    def take(self, time: int, is_value: bool, expire_after: int) -> None:
        """Take a reading that was neither late nor a duplicate."""
        step = time - self.times[-1] if self.times else 0
        if self.values > 1 and step > max(expire_after, EXPIRE_INTERVALS * self.step):
            self.values, self.paused = 0, True
        self.step = step
        self.values += is_value
        if not self.times or time > self.times[-1]:
            self.times.append(time)


@dataclass
class FileForecasts:
    """Makes the forecasts of a file's series and knows why a series has none.

    `expire_after` is the engine's: a series that pauses for longer (nanoseconds), and for more than
    a few of its own intervals, starts anew. `zone` is that of the days and months in which the
    steps of a forecast follow the calendar; `timed` False: times are none. `duplicates` is the
    engine's setting.
    """

    make: MakeEngine
    config: ForecastConfig
    expire_after: int
    zone: tzinfo = UTC
    timed: bool = True
    duplicates: str = "drop"
    account: Account = field(default_factory=Account)
    _learned: dict[str, _Learned] = field(default_factory=dict)

    def turns(self, chunks: Iterable[CsvReadings]) -> Iterator[Forecast]:
        """The forecasts that the service would publish, in its order."""
        engine = self.make(self.config)
        for chunk in renumbered(chunks):
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
        for chunk in renumbered(chunks):
            of = [partitions.setdefault(name, len(partitions)) for name in chunk.readings.series]
            readings = replace(chunk.readings, partition=np.array(of, np.int32))
            before, at, after = last.split(readings)
            self._counted(engine.process(before))
            for partition in at.partition.tolist():
                heir.restore(partition, engine.snapshot(partition))
                engine.release(partition)
            if len(at):
                yield from last.chosen(self._counted(heir.process(at)))
            self._counted(heir.process(after))
        self._counted(engine.flush())
        yield from last.chosen(self._counted(heir.flush()))

    def _counted(self, results: Results) -> list[Forecast]:
        """The forecasts; the readings are taken down as the engine judged them."""
        scores = results.scores
        self.account.count(scores)
        taken = ~np.isin(scores.status, (Status.DUPLICATE, Status.LATE))
        due = {forecast.source.offset: forecast for forecast in results.forecasts}
        for name, time, value, is_taken, offset in zip(
            scores.series,
            scores.timestamp.tolist(),
            (scores.status != Status.MISSING).tolist(),
            taken.tolist(),
            scores.offset.tolist(),
            strict=True,
        ):
            one = self._learned.setdefault(name, _Learned())
            if is_taken:
                one.take(time, value, self.expire_after)
            if offset in due:
                due[offset] = self._dated(due[offset], one)
        return [due[forecast.source.offset] for forecast in results.forecasts]

    def _dated(self, forecast: Forecast, learned: _Learned) -> Forecast:
        """The forecast with the times at which its series' next readings are due.

        Of a `horizon` those stay that it holds, and at least one.
        """
        steps = len(forecast.timestamps)
        times = next_times(np.array(learned.times), steps, self.zone) if self.timed else None
        if times is None:
            return forecast
        if self.config.horizon is not None:
            end = learned.times[-1] + self.config.horizon
            steps = max(1, int((times <= end).sum()))
        return replace(
            forecast,
            timestamps=format_timestamps(times[:steps]),
            median=forecast.median[:steps],
            quantiles={level: values[:steps] for level, values in forecast.quantiles.items()},
        )

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


def renumbered(chunks: Iterable[CsvReadings]) -> Iterator[CsvReadings]:
    """The same readings; their offsets count them as they come."""
    first = 0
    for chunk in chunks:
        offset = np.arange(first, first + len(chunk.row), dtype=np.int64)
        yield CsvReadings(replace(chunk.readings, offset=offset), chunk.row)
        first += len(offset)


def _take(readings: Readings, at: Int64) -> Readings:
    columns: dict[str, Any] = {
        name: getattr(readings, name)[at] for name in ("timestamp", "value", "partition", "offset")
    }
    return replace(readings, series=taken(readings.series, at), **columns)
