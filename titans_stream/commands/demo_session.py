"""One run of the demo: broker, workers, sources and reader, from the start to the outcome."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Self

import orjson
import psutil
from kafka import KafkaConsumer, TopicPartition

from titans_stream.commands.demo_sources import Message, Part, Source, live_messages
from titans_stream.commands.demo_view import AlertState, DemoState, SeriesState, StreamState
from titans_stream.config import Connector, load_connector
from titans_stream.devbroker.broker import DevBroker
from titans_stream.durations import SECOND
from titans_stream.stream.encoding import decode_scores
from titans_stream.stream.kafka.client import KafkaClients
from titans_stream.times import parse_timestamp

WARM_UP = 200
"""Readings of a live series before the cores are burnt."""
DISTURBANCE_SECONDS = 4.0
LIVE, RECORDED = "live", "recorded"
WATCHED = "cpu_"
"""The disturbance is to be seen in series whose names begin so."""

_CATCH_UP_SECONDS = 8.0
"""Longest wait for the recorded stream: its worker keeps a core busy while it catches up."""
_QUIET_SECONDS = 10.0
"""Longest wait for an open alert on a watched series to end before the disturbance."""
_LATE_SECONDS = 3.0
"""An alert that begins within this time after the disturbance is still its own."""
_BUSY_PERCENT = 95.0
_POLL_MS = 100
_STOP_SECONDS = 8.0
_BUSY_LOOP = """
import os, sys, time
os.nice(5) if hasattr(os, "nice") else None
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    sum(range(10_000))
"""


class WorkerProcess:
    """`titans-stream run` of a connector, with its log in a file."""

    def __init__(self, connector: Path, log: Path, environment: Mapping[str, str]) -> None:
        self._log = log
        self.name = connector.stem
        with log.open("wb") as out:
            self._process = subprocess.Popen(  # noqa: S603 - our own program and file
                [sys.executable, "-m", "titans_stream.cli", "run", str(connector)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={"OMP_NUM_THREADS": "1", **os.environ, **environment},
                start_new_session=True,  # Ctrl-C is the demo's; it ends its children in order
            )

    def problem(self) -> str | None:
        """The last line of the log where the worker has ended by itself, else None."""
        code = self._process.poll()
        if code is None:
            return None
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"the worker ended with code {code}"

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        if self._process.poll() is None:
            self._process.terminate()

    def wait(self) -> None:
        """Wait for the end, and enforce it in the end."""
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Disturbance:
    """Burns all cores for some seconds. The loops end by themselves, whatever happens here."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.cores = psutil.cpu_count() or 1
        self.began: float | None = None
        """Time of the start, seconds since 1970."""
        self._loops: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Begin: two busy loops per core, for a machine that has other work to do as well."""
        self.began = time.time()
        self._loops = [
            subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-c", _BUSY_LOOP, str(self.seconds)],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            for _ in range(2 * self.cores)
        ]

    @property
    def running(self) -> bool:
        """Whether the cores are burnt right now."""
        return any(loop.poll() is None for loop in self._loops)

    def stop(self) -> None:
        """End the busy loops."""
        for loop in self._loops:
            if loop.poll() is None:
                loop.kill()
            loop.wait()


class OutputReader(Part):
    """Reads alerts and scores of the connectors, committed ones only, into a state."""

    def __init__(self, servers: str, connectors: Iterable[Connector], state: DemoState) -> None:
        super().__init__("demo-reader")
        self._state = state
        outputs = [one.output for one in connectors]
        self._alerts = {output.alerts for output in outputs}
        self._topics = [topic for one in outputs for topic in (one.alerts, one.scores) if topic]
        self._consumer = KafkaConsumer(
            bootstrap_servers=servers,
            isolation_level="read_committed",
            fetch_max_wait_ms=_POLL_MS,
            metrics_enabled=False,
        )

    def work(self) -> None:
        """Read."""
        partitions = [TopicPartition(topic, 0) for topic in self._topics]
        self._consumer.assign(partitions)
        self._consumer.seek_to_beginning(*partitions)
        while not self.stopping.is_set():
            for partition, messages in self._consumer.poll(_POLL_MS).items():
                for message in messages:
                    self._take(partition.topic, message.value)
        self._consumer.close()

    def _take(self, topic: str, value: bytes) -> None:
        if topic in self._alerts:
            self._state.add_alert(orjson.loads(value))
        else:
            frame = decode_scores(value)
            self._state.add_scores(frame.topic, frame.scores)


class DemoFailedError(RuntimeError):
    """A part of the demo ended by itself; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the disturbance: the alerts it caused, the first of them after `delay` s."""

    alerts: tuple[AlertState, ...]
    delay: float | None
    busy_before: bool
    """Whether the cores were busy already."""


class DemoSession:
    """Starts all parts when entered and ends them when left. Call `step` a few times a second."""

    def __init__(self, recorded: Iterable[Message], disturb: bool) -> None:
        self._recorded = recorded
        self._disturb = disturb
        self._stack = ExitStack()
        self._connectors: dict[str, Connector] = {}
        self._workers: list[WorkerProcess] = []
        self._sources: dict[str, Source] = {}
        self._ready_at: float | None = None
        self._warm_at: float | None = None
        self._busy_before = False
        self.disturbance = Disturbance(DISTURBANCE_SECONDS)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        prefix = "titans-demo-"
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix=prefix)))
        broker = self._stack.enter_context(DevBroker(auto_create=False))
        environment = {
            "TITANS_DEMO_BROKER": broker.bootstrap,
            "TITANS_DEMO_FOLDER": str(folder / "state"),
        }
        self._stack.callback(self._stop_workers)
        for name in (LIVE, RECORDED):
            path = folder / f"{name}.yaml"
            path.write_bytes(
                files("titans_stream").joinpath(f"assets/demo/{name}.yaml").read_bytes()
            )
            connector = self._connectors[name] = load_connector(path, environment)
            for topic in (connector.input.topic, *connector.output.topics.values()):
                broker.create_topic(topic)
            self._workers.append(WorkerProcess(path, folder / f"{name}.log", environment))
        self.state = DemoState(tuple(one.input.topic for one in self._connectors.values()))
        self._stack.callback(self.disturbance.stop)
        self._reader = OutputReader(broker.bootstrap, self._connectors.values(), self.state)
        self._stack.callback(self._reader.stop)
        self._reader.start()
        self._group = KafkaConsumer(
            bootstrap_servers=broker.bootstrap,
            group_id=self._connectors[LIVE].input.group_id,
            enable_auto_commit=False,
            metrics_enabled=False,
        )
        self._stack.callback(self._group.close)
        self._add_source(RECORDED, self._recorded)

    def _add_source(self, name: str, messages: Iterable[Message]) -> None:
        connector = self._connectors[name]
        producer = KafkaClients(connector.kafka).producer()
        self._stack.callback(producer.close, 2.0)
        source = self._sources[name] = Source(producer, connector.input.topic, messages)
        self._stack.callback(source.join, 2.0)
        self._stack.callback(source.stop)
        source.start()

    def _stop_workers(self) -> None:
        for worker in self._workers:
            worker.ask_to_stop()
        for worker in self._workers:
            worker.wait()

    def stream(self, name: str) -> StreamState:
        """What came back of a connector."""
        return self.state.streams[self._connectors[name].input.topic]

    def lags(self) -> dict[str, int]:
        """Messages sent and not yet scored, by input topic."""
        return {
            one.input.topic: max(0, self._sent(name) - self.stream(name).messages)
            for name, one in self._connectors.items()
        }

    def _sent(self, name: str) -> int:
        return self._sources[name].sent if name in self._sources else 0

    def step(self) -> str:
        """Do what is due; the phase in words. DemoFailedError where a part has ended."""
        self._check()
        now = time.monotonic()
        if self._ready_at is None:
            if not self._is_ready():
                return "starting the workers"
            self._ready_at = now
        if LIVE not in self._sources:
            if not self._recorded_is_read() and now < self._ready_at + _CATCH_UP_SECONDS:
                return "reading the recorded stream"
            self._add_source(LIVE, live_messages())
        with self.state.lock:
            readings = min((one.readings for one in self._watched().values()), default=0)
        if readings < WARM_UP:
            return f"warming up: {readings} of {WARM_UP} live readings"
        return self._disturbed(now)

    def _is_ready(self) -> bool:
        """Whether the live worker has its partition: it commits that before it reads."""
        partition = TopicPartition(self._connectors[LIVE].input.topic, 0)
        return self._group.committed(partition) is not None

    def _recorded_is_read(self) -> bool:
        return self._sources[RECORDED].ended and not any(self.lags().values())

    def _watched(self) -> dict[str, SeriesState]:
        return {
            name: series
            for name, series in self.stream(LIVE).series.items()
            if name.startswith(WATCHED)
        }

    def _disturbed(self, now: float) -> str:
        if not self._disturb:
            return "watching, without a disturbance"
        if self.disturbance.began is None:
            self._warm_at = self._warm_at or now
            if self._alert_is_open() and now < self._warm_at + _QUIET_SECONDS:
                return "waiting for quiet"
            self._busy_before = self._is_busy()
            self.disturbance.start()
        if self.disturbance.running:
            return f"burning {self.disturbance.cores} cores for {DISTURBANCE_SECONDS:.0f} s"
        return "watching, after the disturbance"

    def _alert_is_open(self) -> bool:
        with self.state.lock:
            return any(series.alert for series in self._watched().values())

    def _is_busy(self) -> bool:
        with self.state.lock:
            return self.stream(LIVE).series["cpu_percent"].value >= _BUSY_PERCENT

    def _check(self) -> None:
        for worker in self._workers:
            problem = worker.problem()
            if problem is not None:
                raise DemoFailedError(f"the worker of {worker.name}.yaml ended: {problem}")
        for part in (self._reader, *self._sources.values()):
            if part.problem:
                raise DemoFailedError(part.problem)

    def outcome(self) -> Outcome | None:
        """What came of the disturbance; None where none was made."""
        began = self.disturbance.began
        if began is None:
            return None
        first, last = began - 0.2, began + DISTURBANCE_SECONDS + _LATE_SECONDS
        with self.state.lock:
            caused = [
                alert
                for alert in self.stream(LIVE).alerts.values()
                if str(alert.message["series_id"]).startswith(WATCHED)
                and first <= parse_timestamp(alert.message["onset"]) / SECOND <= last
            ]
        caused.sort(key=lambda alert: alert.first_seen)
        delay = caused[0].first_seen - began if caused else None
        return Outcome(tuple(caused), delay, self._busy_before)
