"""What the demo publishes: live metrics of this machine, and a recorded stream."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson
import psutil
from kafka.errors import KafkaError

from titans_stream.durations import SECOND
from titans_stream.files.column_choice import choose_columns, likely_time
from titans_stream.files.csv_file import CsvFile
from titans_stream.files.csv_readings import ReadingsOfCsv
from titans_stream.files.dialect import Dialect
from titans_stream.stream.kafka.protocols import Producer
from titans_stream.synthetic import START, SyntheticSeries, generate_labelled
from titans_stream.times import format_timestamps, load_zone, parse_timestamp

LIVE_INTERVAL = 0.1
"""Seconds between two messages with the machine's metrics."""
WINDOW = 5
"""Samples of the metrics that a mean covers: half a second."""
SYNTHETIC_INTERVAL = 60 * SECOND
_FAMILIES = ("daily", "cycle", "wandering", "bursty", "duty", "regimes")
_LOADAVG = Path("/proc/loadavg")


class _Sample(NamedTuple):
    """Counters of the machine at one moment; `runnable` is a number of tasks."""

    time: float
    idle_seconds: float
    total_seconds: float
    disk_bytes: int
    network_bytes: int
    runnable: float


class MachineMetrics:
    """Reads the machine's counters. Call `read` at a steady pace."""

    def __init__(self, clock_sample: float) -> None:
        self._cores = psutil.cpu_count() or 1
        self._samples = deque([self._sample(clock_sample)], maxlen=WINDOW + 1)
        self._cpu = 0.0

    def read(self, now: float) -> dict[str, float]:
        """The metrics at `now` (seconds); rates are per second, shares in percent.

        `cpu_runnable` is the number of tasks per core that run or wait for a core.
        """
        self._samples.append(self._sample(now))
        first, last = self._samples[0], self._samples[-1]
        seconds = max(last.time - first.time, 1e-3)
        total = last.total_seconds - first.total_seconds
        if total > 0:
            idle = (last.idle_seconds - first.idle_seconds) / total
            self._cpu = 100.0 * min(max(1.0 - idle, 0.0), 1.0)
        recent = list(self._samples)[1:]
        return {
            "cpu_percent": self._cpu,
            "cpu_runnable": sum(one.runnable for one in recent) / len(recent) / self._cores,
            "memory_percent": psutil.virtual_memory().percent,
            "disk_mb_s": (last.disk_bytes - first.disk_bytes) / seconds / 1e6,
            "network_mb_s": (last.network_bytes - first.network_bytes) / seconds / 1e6,
        }

    def _sample(self, now: float) -> _Sample:
        cpu = psutil.cpu_times()
        disk, network = psutil.disk_io_counters(), psutil.net_io_counters()
        return _Sample(
            time=now,
            idle_seconds=cpu.idle + getattr(cpu, "iowait", 0.0),
            total_seconds=sum(cpu[:8]),  # the fields after it are part of the first two
            disk_bytes=disk.read_bytes + disk.write_bytes if disk else 0,
            network_bytes=network.bytes_sent + network.bytes_recv if network else 0,
            runnable=_runnable(),
        )


def _runnable() -> float:
    """Tasks that run or wait for a core, this one left out; where it is not told, the load."""
    if _LOADAVG.exists():
        return max(0.0, float(_LOADAVG.read_text().split()[3].split("/")[0]) - 1.0)
    return psutil.getloadavg()[0]


class Message(NamedTuple):
    """A message for the recorded stream's topic."""

    key: bytes
    value: bytes


class Part(threading.Thread):
    """A thread of the demo that works until it is done or `stop` is called."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.stopping = threading.Event()
        self.problem = ""
        """Why it ended early."""

    def run(self) -> None:
        """Work."""
        try:
            self.work()
        except (KafkaError, ValueError) as error:
            self.problem = str(error)

    def work(self) -> None:
        """What it does; to return soon once `stopping` is set."""
        raise NotImplementedError

    def stop(self) -> None:
        """End soon."""
        self.stopping.set()


class Source(Part):
    """Publishes messages; when it stops, those already sent may still be on their way."""

    def __init__(self, producer: Producer, topic: str, messages: Iterable[Message]) -> None:
        super().__init__(f"source-{topic}")
        self._producer = producer
        self._topic = topic
        self._messages = messages
        self.sent = 0
        self.ended = False
        """Whether all messages are sent."""

    def work(self) -> None:
        """Publish."""
        for message in self._messages:
            if self.stopping.is_set():
                return
            self._producer.send(self._topic, message.value, message.key, None, None, None)
            self.sent += 1
        self._producer.flush(10.0)
        self.ended = True


def live_messages() -> Iterator[Message]:
    """The machine's metrics, one message every LIVE_INTERVAL, for ever."""
    metrics = MachineMetrics(time.time())
    due = time.monotonic()
    while True:
        due = max(due + LIVE_INTERVAL, time.monotonic() - LIVE_INTERVAL)
        time.sleep(max(0.0, due - time.monotonic()))
        now = time.time()
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


def csv_messages(
    path: Path,
    delimiter: str | None = None,
    timestamp: str | None = None,
    values: Sequence[str] = (),
    series: str | None = None,
    timezone: str | None = None,
) -> Iterator[Message]:
    """A file's readings; where it has no times, five minutes apart.

    ValueError, at once, where it holds no readings.
    """
    file = CsvFile(path, Dialect(delimiter))
    columns = choose_columns(file, timestamp, values, series)
    guess = likely_time(file, columns)
    if guess is not None:
        columns = choose_columns(file, guess, values, series)
    chunks = ReadingsOfCsv(file, columns, load_zone(timezone or "UTC"))
    shift = START if columns.timestamp is None else 0
    return (
        _message(name, text, number)
        for readings in (chunk.readings for chunk in chunks)
        for name, text, number in zip(
            readings.series,
            format_timestamps(readings.timestamp + shift),
            readings.value.tolist(),
            strict=True,
        )
    )


def _message(series: str, time_text: str, value: float) -> Message:
    document = {"sensor": series, "ts": time_text, "value": value}  # NaN is written as null
    return Message(series.encode(), orjson.dumps(document))
