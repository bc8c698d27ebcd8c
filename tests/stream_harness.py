"""What the worker's tests share: an exact engine, and Kafka as seen from outside."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError

from titans_stream.ops.storage import Snapshots
from titans_stream.records import (
    Alert,
    Capture,
    EngineFigures,
    ModelRef,
    Order,
    Readings,
    Results,
    Scores,
    Snapshot,
    Source,
)
from titans_stream.stream.journal import Entry
from titans_stream.stream.kafka.client import KafkaClients
from titans_stream.stream.kafka.settings import KafkaConfig
from titans_stream.stream.settings import (
    ControlConfig,
    DeliveryConfig,
    InputConfig,
    OutputConfig,
    StateConfig,
    WorkerSettings,
)
from titans_stream.stream.swap_settings import SwapConfig
from titans_stream.stream.worker import Worker
from titans_stream.times import format_timestamp

MODEL = ModelRef("exact", "1")


@dataclass
class SeriesState:
    """One series: readings and their sum so far, the open episode, and a reading that waits."""

    count: int = 0
    total: float = 0.0
    episode: int = -1
    waiting: tuple[int, float, int] | None = None
    touched: int = 0


class NeverSilent:
    """The part of an engine that hears of silences, where there are none."""

    def tick(self, partition: int, silence: int, patience: int, offset: int) -> list[Alert]:
        return []

    def silent_since(self, partition: int) -> list[int]:
        return [0, 0]

    def set_silent_since(self, partition: int, since: list[int]) -> None:
        raise AssertionError("nothing was silent")

    def control(self, partition: int, order: Order, offset: int) -> list[Alert]:
        raise AssertionError("no control message was sent")


@dataclass
class AtOnce:
    """A capture that needs no time."""

    snapshot: Snapshot
    whole: bool
    mark: int

    def step(self, seconds: float) -> bool:
        del seconds
        return True

    def cancel(self) -> None:
        pass


class ExactEngine(NeverSilent):
    """Counts and sums; an episode is values above `threshold`.

    Every alert carries the count and the sum of its series, so that a reading lost, taken twice
    or out of order shows in every later alert. With `delay`, each reading is kept back until the
    next one of its series comes, as a reorder buffer does. `crash_at`: raise when the engine has
    taken in so many readings.
    """

    def __init__(
        self,
        topic: str,
        threshold: float = 100.0,
        *,
        delay: bool = False,
        schema: str = "exact-1",
        crash_at: int | None = None,
        pause: float = 0.0,
    ) -> None:
        self.topic = topic
        self.threshold = threshold
        self.delay = delay
        self.schema = schema
        self.crash_at = crash_at
        self.pause = pause
        self.seen = 0
        self.states: dict[int, dict[str, SeriesState]] = {}
        self.thresholds: dict[int, float] = {}
        self.now = 1

    def control(self, partition: int, order: Order, offset: int) -> list[Alert]:
        """`budget` sets the threshold of a partition, `reset` ends and forgets a series."""
        fields = json.loads(order.text) if order.text else {"action": "undo"}
        if fields["action"] == "reset":
            state = self.states.get(partition, {}).pop(fields["series"], None)
            if state is None or state.episode < 0:
                return []
            identity = f"{fields['series']}@{state.episode}"
            return [
                _alert(
                    identity, "resolved", fields["series"], 0, 0.0, state, self.topic, partition,
                    offset,
                )
            ]  # fmt: skip
        self.thresholds.pop(partition, None)
        if fields["action"] == "budget":
            self.thresholds[partition] = fields["false_alarms_per_series_per_day"]
        return []

    @property
    def state_schema(self) -> str:
        return self.schema

    def process(self, readings: Readings) -> Results:
        time.sleep(self.pause)
        rows: list[tuple[Any, ...]] = []
        alerts: list[Alert] = []
        for i, series in enumerate(readings.series):
            self.seen += 1
            if self.crash_at is not None and self.seen > self.crash_at:
                raise RuntimeError("crash")
            partition = int(readings.partition[i])
            state = self.states.setdefault(partition, {}).setdefault(series, SeriesState())
            state.touched = self.now
            reading = (
                int(readings.timestamp[i]),
                float(readings.value[i]),
                int(readings.offset[i]),
            )
            if self.delay:
                reading, state.waiting = state.waiting, reading
                if reading is None:
                    continue
            self._take(series, partition, state, reading, rows, alerts)
        return Results(_scores(rows), alerts)

    def _take(
        self,
        series: str,
        partition: int,
        state: SeriesState,
        reading: tuple[int, float, int],
        rows: list[tuple[Any, ...]],
        alerts: list[Alert],
    ) -> None:
        timestamp, value, offset = reading
        state.count += 1
        state.total += value
        threshold = self.thresholds.get(partition, self.threshold)
        above, was_open = value > threshold, state.episode >= 0
        if above and not was_open:
            state.episode = offset
        if above != was_open:
            identity = f"{series}@{state.episode}"
            status = "opened" if above else "resolved"
            alerts.append(
                _alert(
                    identity, status, series, timestamp, value, state, self.topic, partition, offset
                )
            )
        if not above:
            state.episode = -1
        rows.append((series, timestamp, value, state.total, int(above), partition, offset))

    def snapshot(self, partition: int) -> Snapshot:
        return self._snapshot(partition, self.states.get(partition, {}))

    def _snapshot(self, partition: int, states: dict[str, SeriesState]) -> Snapshot:
        names = sorted(states)
        waiting = [states[name].waiting or (0, np.nan, -1) for name in names]
        return Snapshot(
            self.schema,
            {"series": names, "threshold": self.thresholds.get(partition)},
            {
                "count": np.array([states[name].count for name in names], np.int64),
                "total": np.array([states[name].total for name in names], np.float64),
                "episode": np.array([states[name].episode for name in names], np.int64),
                "waiting_time": np.array([each[0] for each in waiting], np.int64),
                "waiting_value": np.array([each[1] for each in waiting], np.float64),
                "waiting_offset": np.array([each[2] for each in waiting], np.int64),
            },
        )

    def capture(self, partition: int, since: int | None) -> Capture:
        """All at once: the series that were touched since a mark, and the names of all."""
        states = self.states.get(partition, {})
        least = 0 if since is None else since + 1
        touched = {name: state for name, state in states.items() if state.touched >= least}
        meta = {"series": sorted(states), "threshold": self.thresholds.get(partition)}
        parts = [self._snapshot(partition, touched)]
        snapshot = Snapshot(self.schema, meta, {}, parts)
        return AtOnce(snapshot, since is None, self.mark(partition))

    def mark(self, partition: int) -> int:
        del partition
        self.now += 1
        return self.now - 1

    def restore(self, partition: int, snapshot: Snapshot) -> None:
        if snapshot.schema != self.schema:
            raise ValueError("another schema")
        assert partition not in self.states, "restored over a state"
        if snapshot.meta["threshold"] is not None:
            self.thresholds[partition] = snapshot.meta["threshold"]
        found: dict[str, SeriesState] = {}
        for part in [snapshot] if snapshot.parts is None else snapshot.parts:
            columns = {name: part.arrays[name].tolist() for name in part.arrays}
            for i, name in enumerate(part.meta["series"]):
                found.setdefault(name, _series_state(columns, i))
        self.states[partition] = {name: found[name] for name in snapshot.meta["series"]}

    def release(self, partition: int) -> None:
        self.states.pop(partition, None)
        self.thresholds.pop(partition, None)

    def taken(self) -> int:
        """Readings in the state, those that wait included."""
        states = [state for each in list(self.states.values()) for state in list(each.values())]
        return sum(state.count + (state.waiting is not None) for state in states)

    def series_count(self) -> int:
        return sum(map(len, self.states.values()))

    def series_warning(self) -> str:
        return ""

    def figures(self) -> EngineFigures:
        states = [state for each in list(self.states.values()) for state in list(each.values())]
        return EngineFigures(sum(state.episode >= 0 for state in states), 0, 0.0, 0)


def _series_state(columns: dict[str, list[Any]], i: int) -> SeriesState:
    offset = columns["waiting_offset"][i]
    waiting = (columns["waiting_time"][i], columns["waiting_value"][i], offset)
    return SeriesState(
        columns["count"][i],
        columns["total"][i],
        columns["episode"][i],
        None if offset < 0 else waiting,
    )


def _alert(
    identity: str,
    status: Any,
    series: str,
    timestamp: int,
    value: float,
    state: SeriesState,
    topic: str,
    partition: int,
    offset: int,
) -> Alert:
    return Alert(
        alert_id=identity,
        status=status,
        series_id=series,
        severity="warning",
        reason="surprise",
        onset=format_timestamp(timestamp),
        timestamp=format_timestamp(timestamp),
        peak_timestamp=format_timestamp(timestamp),
        value=value,
        expected=None,
        lower=None,
        upper=None,
        band_level=0.95,
        direction="above",
        score=0.5,
        p_value=0.01,
        surprise=state.total,
        rate_per_day=None,
        extrapolated=False,
        explanation="",
        duration_s=0.0,
        readings=state.count,
        model=MODEL,
        source=Source(topic, partition, offset),
    )


def _scores(rows: list[tuple[Any, ...]]) -> Scores:
    def column(index: int, kind: Any) -> Any:
        return np.array([row[index] for row in rows], kind)

    nothing = np.full(len(rows), np.nan)
    zero = np.zeros(len(rows), np.int8)
    return Scores(
        series=[row[0] for row in rows],
        timestamp=column(1, np.int64),
        value=column(2, np.float64),
        status=zero,
        surprise=column(3, np.float64),
        score=nothing,
        p_value=nothing,
        rarity=nothing,
        expected=nothing,
        lower=nothing,
        upper=nothing,
        alert=column(4, np.int8),
        onset=zero,
        gap=zero,
        partition=column(5, np.int32),
        offset=column(6, np.int64),
    )


@dataclass
class Message:
    """One input message: series, value, and where it goes."""

    series: str
    value: float
    partition: int
    timestamp_ms: int


def stream(
    count: int, partitions: int = 2, series: int = 3, start_ms: int = 1_000
) -> list[Message]:
    """Readings of `series` series per partition; every 7th to 9th value is above 100."""
    messages = []
    for i in range(count):
        partition = i % partitions
        name = f"p{partition}s{(i // partitions) % series}"
        turn = i // (partitions * series)
        value = 200.0 + turn if turn % 10 >= 7 else 1.0 + turn / 8
        messages.append(Message(name, value, partition, start_ms + i))
    return messages


def obeyed(kafka: Kafka, messages: Iterable[Message]) -> dict[str, list[Any]]:
    """Alerts by series of an engine that is never stopped, and is told what the journal says."""
    entries = [Entry.decode(record.key, record.value) for record in kafka.read(kafka.journal)]
    exact = ExactEngine(kafka.input)
    found: dict[str, list[Any]] = {}
    by_partition: dict[int, list[Message]] = {}
    for message in messages:
        by_partition.setdefault(message.partition, []).append(message)
    for partition, mine in sorted(by_partition.items()):
        due = sorted(
            (e for e in entries if e.partition.partition == partition), key=lambda e: e.number
        )
        assert [e.number for e in due] == list(range(1, len(due) + 1)), "an entry twice, or none"
        for offset in range(len(mine) + 1):
            alerts: list[Alert] = []
            while due and due[0].at <= offset:
                order = due.pop(0).order
                alerts += [] if order is None else exact.control(partition, order, offset)
            if offset < len(mine):
                alerts += one_reading(exact, mine[offset], offset)
            for alert in alerts:
                found.setdefault(alert.series_id, []).append(brief(alert))
    return found


def expected_alerts(messages: Iterable[Message], topic: str, **engine: Any) -> dict[str, list[Any]]:
    """The alerts per series of an engine that is never stopped."""
    exact = ExactEngine(topic, **engine)
    found: dict[str, list[Any]] = {}
    offsets: dict[int, int] = {}
    for message in messages:
        offset = offsets.get(message.partition, 0)
        offsets[message.partition] = offset + 1
        for alert in one_reading(exact, message, offset):
            found.setdefault(alert.series_id, []).append(brief(alert))
    return found


def one_reading(exact: ExactEngine, message: Message, offset: int) -> list[Alert]:
    """The alerts of one reading."""
    return exact.process(
        Readings(
            [message.series],
            np.array([message.timestamp_ms * 1_000_000], np.int64),
            np.array([message.value]),
            np.array([message.partition], np.int32),
            np.array([offset], np.int64),
        )
    ).alerts


def brief(alert: Any) -> tuple[Any, ...]:
    """What tells alerts apart, of an `Alert` or of its JSON."""
    if isinstance(alert, Alert):
        return (alert.alert_id, alert.status, alert.readings, alert.surprise, alert.source.offset)
    source = alert["source"]["offset"]
    return (alert["alert_id"], alert["status"], alert["readings"], alert["surprise"], source)


@dataclass
class Kafka:
    """Topics of one test on a broker, and a view on them from outside."""

    bootstrap: str
    prefix: str = field(default_factory=lambda: "t" + uuid.uuid4().hex[:8])

    @property
    def input(self) -> str:
        return self.prefix + ".in"

    @property
    def alerts(self) -> str:
        return self.prefix + ".alerts"

    @property
    def scores(self) -> str:
        return self.prefix + ".scores"

    @property
    def forecasts(self) -> str:
        return self.prefix + ".forecasts"

    @property
    def control(self) -> str:
        return self.prefix + ".control"

    @property
    def journal(self) -> str:
        return self.prefix + ".journal"

    @property
    def dead(self) -> str:
        return self.prefix + ".in.dead-letter"

    def create(self, partitions: int = 2, **configs: Any) -> Kafka:
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            admin.create_topics(
                [
                    # readings may be older than a broker keeps messages
                    NewTopic(self.input, partitions, 1, topic_configs={"retention.ms": "-1"}),
                    NewTopic(self.alerts, 1, 1),
                    NewTopic(self.scores, 1, 1, topic_configs=configs.get("scores", {})),
                    NewTopic(self.forecasts, 2, 1),
                    NewTopic(self.dead, 1, 1, topic_configs=configs.get("dead", {})),
                ]
            )
            admin.wait_for_topics([self.input, self.alerts, self.scores, self.forecasts, self.dead])
        finally:
            admin.close()
        return self

    def produce(self, messages: Iterable[Message | tuple[bytes | None, bytes | None]]) -> None:
        """Write readings; a pair of key and value goes to partition 0 as it is."""
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, linger_ms=5)
        futures = []
        for each in messages:
            if isinstance(each, Message):
                value = json.dumps({"s": each.series, "v": each.value}).encode()
                futures.append(
                    producer.send(
                        self.input, value, partition=each.partition, timestamp_ms=each.timestamp_ms
                    )
                )
            else:
                futures.append(producer.send(self.input, each[1], each[0], partition=0))
        producer.flush(30)
        for future in futures:
            future.get(10)
        producer.close()

    def tell(self, name: str, **fields: Any) -> None:
        """Send a control message; one without an action undoes its id."""
        producer = KafkaProducer(bootstrap_servers=self.bootstrap)
        value = json.dumps(fields).encode() if fields else None
        producer.send(self.control, value, name.encode()).get(10)
        producer.close()

    def read(self, topic: str) -> list[Any]:
        """All committed messages of a topic, partition after partition."""
        consumer = KafkaConsumer(
            bootstrap_servers=self.bootstrap,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        try:
            names = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic))]
            found = []
            for name in names:
                consumer.assign([name])
                consumer.seek(name, 0)
                end = consumer.end_offsets([name])[name]
                deadline = time.monotonic() + 10
                while consumer.position(name) < end and time.monotonic() < deadline:
                    for records in consumer.poll(200).values():
                        found += records
            return found
        finally:
            consumer.close()

    def alerts_by_series(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for record in self.read(self.alerts):
            alert = json.loads(record.value)
            assert record.key == alert["series_id"].encode()
            found.setdefault(alert["series_id"], []).append(brief(alert))
        return found

    def committed(self, group: str, partitions: int = 2) -> dict[int, int | None]:
        consumer = KafkaConsumer(
            bootstrap_servers=self.bootstrap,
            group_id=group,
            enable_auto_commit=False,
            isolation_level="read_committed",
        )
        try:
            return {p: consumer.committed(TopicPartition(self.input, p)) for p in range(partitions)}
        finally:
            consumer.close()


@dataclass
class Setup:
    """Everything a worker needs, on one broker and folder."""

    kafka: Kafka
    folder: Path
    group: str = "g"
    input: dict[str, Any] = field(default_factory=dict)
    output: dict[str, Any] = field(default_factory=dict)
    delivery: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    swap: dict[str, Any] = field(default_factory=dict)
    client: dict[str, Any] = field(default_factory=dict)
    control: bool = False
    commit_timeout: float = 20.0

    @property
    def group_id(self) -> str:
        return f"{self.kafka.prefix}.{self.group}"

    def snapshots(self) -> Snapshots:
        return Snapshots(self.folder, self.group_id, keep=3)

    def clients(self, stop: threading.Event | None = None, **more: Any) -> KafkaClients:
        config = KafkaConfig(bootstrap_servers=self.kafka.bootstrap, **self.client)
        return KafkaClients(config, stop=stop, **more)

    def worker(self, engine: Any = None, clients: Any = None, snapshots: Any = None) -> Worker:
        stop = threading.Event()
        settings = {"topic": self.kafka.input, "series": "{s}", "value": "v", "start": "earliest"}
        return Worker(
            clients if clients is not None else self.clients(stop),
            engine if engine is not None else ExactEngine(self.kafka.input),
            snapshots if snapshots is not None else self.snapshots(),
            WorkerSettings(
                input=InputConfig(
                    **settings
                    | {"group_id": self.group_id}
                    | self.input
                    | {"min_timestamp": "1970-01-01"}
                ),
                output=OutputConfig(**{"alerts": self.kafka.alerts} | self.output),
                delivery=DeliveryConfig(**{"commit_interval": "100ms"} | self.delivery),
                state=StateConfig(**{"snapshot_interval": "1h"} | self.state),
                swap=SwapConfig(**self.swap),
                control=ControlConfig(topic=self.kafka.control, journal=self.kafka.journal)
                if self.control
                else None,
            ),
            MODEL,
            stop=stop,
            commit_timeout=self.commit_timeout,
        )


class Running:
    """A worker in a thread of its own."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.worker.run()
        except (RuntimeError, ValueError, AssertionError, KafkaError) as error:
            self.error = error

    def wait(self, condition: Callable[[], bool], seconds: float = 90.0) -> None:
        """Wait for a condition; fail when the worker ends or time runs out."""
        deadline = time.monotonic() + seconds
        while not condition():
            if self.error is not None:
                raise self.error
            assert time.monotonic() < deadline, f"timed out; {self.worker.metrics.stats()}"
            time.sleep(0.02)

    def wait_for(self, count: str, number: int, seconds: float = 90.0) -> None:
        self.wait(lambda: self.worker.metrics.counts[count] >= number, seconds)

    def stop(self) -> None:
        self.worker.stop()
        self.join()
        if self.error is not None:
            raise self.error

    def join(self, seconds: float = 90.0) -> None:
        self.thread.join(seconds)
        assert not self.thread.is_alive(), "the worker does not end"


class WorkerProcess:
    """A worker in a process of its own; its log goes to a file."""

    def __init__(self, setup: Setup, **engine: Any) -> None:
        fields = {
            name: getattr(setup, name)
            for name in ("group", "input", "output", "delivery", "state", "client", "control")
        }
        self.log = setup.folder / f"{uuid.uuid4().hex[:6]}.log"
        setup.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.stream_worker_process",
                    setup.kafka.bootstrap,
                    setup.kafka.prefix,
                    str(setup.folder),
                    json.dumps(fields),
                    json.dumps(engine),
                ],
                cwd=Path(__file__).resolve().parents[1],
                stdout=log,
                stderr=log,
            )

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, seconds: float = 20.0) -> tuple[int, str]:
        """Exit code and log of the process once it has ended."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return code, self.log.read_text()


def eventually(condition: Callable[[], bool], seconds: float = 90.0) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.1)
