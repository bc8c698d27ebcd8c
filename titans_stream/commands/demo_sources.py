"""What the demo publishes: live metrics of this machine, and a recorded stream."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson
from kafka.errors import KafkaError

from titans_stream.commands.demo_metrics import MachineMetrics
from titans_stream.durations import SECOND
from titans_stream.files.csv_file import CsvFile
from titans_stream.files.csv_readings import (
    ReadingsOfCsv,
    choose_columns,
    likely_time,
)
from titans_stream.records import Float64, Int64
from titans_stream.stream.kafka.protocols import Producer
from titans_stream.synthetic import START, SyntheticSeries, generate_labelled
from titans_stream.times import format_timestamps, load_zone, parse_timestamp

LIVE_INTERVAL = 0.1
"""Seconds between two messages with the machine's metrics."""
SYNTHETIC_INTERVAL = 60 * SECOND
_FAMILIES = ("daily", "cycle", "wandering", "bursty", "duty", "regimes")


class Message(NamedTuple):
    """A message for the recorded stream's topic."""

    key: bytes
    value: bytes


class Source(threading.Thread):
    """Publishes messages until they end or `stop` is called."""

    def __init__(self, producer: Producer, topic: str, messages: Iterable[Message]) -> None:
        super().__init__(name=f"source-{topic}", daemon=True)
        self._producer = producer
        self._topic = topic
        self._messages = messages
        self._stopping = threading.Event()
        self.sent = 0
        self.ended = False
        """Whether all messages are sent."""
        self.problem = ""
        """Why it ended early."""

    def run(self) -> None:
        """Publish."""
        try:
            for message in self._messages:
                if self._stopping.is_set():
                    return
                self._producer.send(self._topic, message.value, message.key, None, None, None)
                self.sent += 1
            self._producer.flush(10.0)
            self.ended = True
        except (KafkaError, ValueError) as error:
            self.problem = str(error)

    def stop(self) -> None:
        """End soon; messages already sent may still be on their way."""
        self._stopping.set()


def live_messages(clock: Callable[[], float] = time.time) -> Iterator[Message]:
    """The machine's metrics, one message every LIVE_INTERVAL, for ever."""
    metrics = MachineMetrics(clock())
    due = time.monotonic()
    while True:
        due = max(due + LIVE_INTERVAL, time.monotonic() - LIVE_INTERVAL)
        time.sleep(max(0.0, due - time.monotonic()))
        now = clock()
        yield Message(b"live", orjson.dumps({"ts": int(now * 1000), **metrics.read(now)}))


def synthetic_series() -> list[SyntheticSeries]:
    """The built-in recorded stream: series with two labelled anomalies each."""
    return generate_labelled(
        _FAMILIES, len(_FAMILIES), 4_000, SYNTHETIC_INTERVAL, seed=11, severity=2.0
    )


def synthetic_messages(series: list[SyntheticSeries]) -> Iterator[Message]:
    """The series' readings by turns."""
    times = [format_timestamps(one.timestamp) for one in series]
    for i in range(len(series[0])):
        for one, texts in zip(series, times, strict=True):
            yield _message(one.name, texts[i], float(one.value[i]))


def anomalies_found(
    series: Sequence[SyntheticSeries], onsets: Sequence[tuple[str, str]], grace: int = 10
) -> int:
    """How many injected anomalies an alert begins in, or up to `grace` readings after.

    `onsets` holds series id and time of each alert.
    """
    times = {name: set[int]() for name, _ in onsets}
    for name, onset in onsets:
        times[name].add(parse_timestamp(onset))
    return sum(
        any(
            one.timestamp[first] <= time <= one.timestamp[last] + grace * one.interval
            for time in times.get(one.name, ())
        )
        for one in series
        for first, last in one.windows
    )


class CsvSource:
    """A CSV file as the recorded stream; ValueError where it holds no readings."""

    def __init__(
        self,
        path: Path,
        delimiter: str | None = None,
        timestamp: str | None = None,
        values: Sequence[str] = (),
        series: str | None = None,
        timezone: str | None = None,
    ) -> None:
        self._file = CsvFile(path, delimiter)
        self._zone = load_zone(timezone or "UTC")
        columns = choose_columns(self._file, timestamp, values, series)
        guess = likely_time(self._file, columns)
        if guess is not None:
            columns = choose_columns(self._file, guess, values, series)
        self._columns = columns

    def messages(self) -> Iterator[Message]:
        """The file's readings; where it has no times, five minutes apart."""
        shift = START if self._columns.timestamp is None else 0
        for chunk in ReadingsOfCsv(self._file, self._columns, self._zone):
            yield from _messages(
                chunk.readings.series, chunk.readings.timestamp + shift, chunk.readings.value
            )


def _messages(series: list[str], timestamp: Int64, value: Float64) -> Iterator[Message]:
    times = format_timestamps(timestamp)
    for name, text, number in zip(series, times, value.tolist(), strict=True):
        yield _message(name, text, number)


def _message(series: str, time_text: str, value: float) -> Message:
    document = {"sensor": series, "ts": time_text, "value": value}  # NaN is written as null
    return Message(series.encode(), orjson.dumps(document))
