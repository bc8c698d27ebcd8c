"""Forecasts on a real Kafka: the worker is killed and started again while readings keep coming."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from tests.stream_harness import Kafka, eventually
from titans_stream.config import Connector, load_connector
from titans_stream.engine.build import compile_kernels
from titans_stream.engine.engine import StreamEngine
from titans_stream.lifecycle.loading import load_model
from titans_stream.records import Readings
from titans_stream.times import format_timestamp, parse_timestamp

pytestmark = pytest.mark.kafka

PARTITIONS = 3
METERS = 6
READINGS = 400
QUARTER = 900_000_000_000
START = parse_timestamp("2026-03-01T00:00:00Z")


@dataclass(frozen=True)
class Sent:
    """One message: the partition it goes to, and what is in it."""

    partition: int
    meter: str
    timestamp: int
    value: float

    @property
    def body(self) -> bytes:
        value = None if math.isnan(self.value) else self.value
        return orjson.dumps({"m": self.meter, "v": value, "ts": format_timestamp(self.timestamp)})


def sent() -> list[Sent]:
    """Days of quarter-hours of some meters: a daily wave, noise, a gap, missing values."""
    rng = np.random.default_rng(5)
    messages = []
    for i in range(READINGS):
        at = START + QUARTER * (i + 9 * (i > 230))
        for meter in range(METERS):
            value = 50 + 20 * math.sin(2 * math.pi * i / 96 + meter) + rng.standard_normal()
            value = math.nan if rng.random() < 0.02 else value
            messages.append(Sent(meter % PARTITIONS, f"m{meter}", at, value))
    return messages


def write_connector(folder: Path, kafka: Kafka) -> Path:
    path = folder / "connector.yaml"
    path.write_text(
        f"""
name: {kafka.prefix}
kafka:
  bootstrap_servers: {kafka.bootstrap}
  consumer: {{heartbeat_interval_ms: 300, session_timeout_ms: 6000}}
  producer: {{transaction_timeout_ms: 10000}}
input: {{topic: {kafka.input}, start: earliest, series: "{{m}}", value: v, timestamp: ts}}
output: {{alerts: {kafka.alerts}, forecasts: {kafka.forecasts}}}
forecast: {{horizon: 6h, every: 8, quantiles: [0.05, 0.25, 0.75, 0.95]}}
delivery: {{commit_interval: 1s, max_poll_records: 50}}
state: {{path: {folder / "state"}, snapshot_interval: 2s}}
""",
        encoding="utf-8",
    )
    return path


@pytest.fixture
def kafka(kafka_bootstrap: str) -> Kafka:
    kafka = Kafka(kafka_bootstrap)
    topics = [(kafka.input, PARTITIONS), (kafka.alerts, 1), (kafka.forecasts, 2), (kafka.dead, 1)]
    admin = KafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    admin.create_topics([NewTopic(name, count, 1) for name, count in topics])
    admin.wait_for_topics([name for name, _ in topics])
    admin.close()
    return kafka


class Sender:
    """Sends messages at a steady rate, on a thread of its own."""

    def __init__(self, kafka: Kafka, messages: list[Sent], rate: float) -> None:
        self._kafka = kafka
        self._messages = messages
        self._rate = rate
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        producer = KafkaProducer(bootstrap_servers=self._kafka.bootstrap)
        begun = time.monotonic()
        for i, message in enumerate(self._messages):
            time.sleep(max(0.0, begun + i / self._rate - time.monotonic()))
            producer.send(self._kafka.input, message.body, partition=message.partition)
        producer.flush(30)
        producer.close()


def start(connector: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "titans_stream.cli", "run", str(connector)],
            env={**os.environ},
            stdout=output,
            stderr=output,
        )


def holds(log: Path) -> set[int]:
    """The partitions that a worker has taken over, some of them more than once."""
    return {int(n) for n in re.findall(r"partition (\d+): .* output from", log.read_text())}


def published(kafka: Kafka, isolation: str) -> Iterator[dict[str, Any]]:
    """All forecasts of the topic, partition after partition; `isolation` as Kafka calls it."""
    consumer = KafkaConsumer(
        bootstrap_servers=kafka.bootstrap, isolation_level=isolation, enable_auto_commit=False
    )
    try:
        for partition in sorted(consumer.partitions_for_topic(kafka.forecasts)):
            name = TopicPartition(kafka.forecasts, partition)
            consumer.assign([name])
            consumer.seek(name, 0)
            end = consumer.end_offsets([name])[name]
            while consumer.position(name) < end:
                for records in consumer.poll(200).values():
                    for record in records:
                        forecast = json.loads(record.value)
                        assert record.key == forecast["series_id"].encode()
                        yield forecast
    finally:
        consumer.close()


def offline(connector: Connector, messages: list[Sent]) -> dict[str, list[dict[str, Any]]]:
    """The forecasts by series of an engine that gets everything in one call per partition."""
    model = load_model(connector.model)
    engine = StreamEngine(
        connector.engine,
        connector.alerts,
        model,
        connector.input.topic,
        forecast=connector.forecast,
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for partition in range(PARTITIONS):
        mine = [message for message in messages if message.partition == partition]
        readings = Readings(
            [message.meter for message in mine],
            np.array([message.timestamp for message in mine], np.int64),
            np.array([message.value for message in mine]),
            np.full(len(mine), partition, np.int32),
            np.arange(len(mine)),
        )
        for forecast in engine.process(readings).forecasts:
            found.setdefault(forecast.series_id, []).append(dataclasses.asdict(forecast))
    return found


def test_every_forecast_comes_once_whatever_is_killed(kafka: Kafka, tmp_path: Path) -> None:
    path = write_connector(tmp_path, kafka)
    connector = load_connector(path)
    compile_kernels(load_model(connector.model), forecasting=True)
    messages = sent()
    group = connector.input.group_id

    def committed() -> int:
        return sum(offset or 0 for offset in kafka.committed(group, PARTITIONS).values())

    for first in range(0, 1_800, 600):
        log = tmp_path / f"worker{first}.log"
        worker = start(path, log)
        try:
            eventually(lambda log=log: holds(log) == set(range(PARTITIONS)), 90)
            sender = Sender(kafka, messages[first : first + 600], rate=150)
            eventually(lambda n=first: committed() >= n + 200, 60)
            time.sleep(0.6)  # a transaction is open: it commits once a second
        finally:
            worker.send_signal(signal.SIGKILL)
            worker.wait(20)
        sender.thread.join(60)
    Sender(kafka, messages[1_800:], rate=2_000).thread.join(60)
    log = tmp_path / "last.log"
    worker = start(path, log)
    try:
        eventually(lambda: committed() == len(messages), 90)
    finally:
        worker.send_signal(signal.SIGTERM)
        ended = worker.wait(60)
    assert ended == 0, log.read_text()
    expected = offline(connector, messages)
    counts = {name: len(forecasts) for name, forecasts in expected.items()}
    assert counts == {f"m{meter}": 44 for meter in range(METERS)}
    total = sum(counts.values())
    # What the last killed worker had open hides what comes after it until the broker ends it.
    eventually(lambda: sum(1 for _ in published(kafka, "read_committed")) >= total, 60)
    found: dict[str, list[dict[str, Any]]] = {}
    for forecast in published(kafka, "read_committed"):
        found.setdefault(forecast["series_id"], []).append(forecast)
    assert {name: len(forecasts) for name, forecasts in found.items()} == counts
    assert found == expected
    steps = {len(forecast["timestamps"]) for each in found.values() for forecast in each}
    assert steps == {24}
    written = sum(1 for _ in published(kafka, "read_uncommitted"))
    assert written > total, "no kill hit an open transaction with forecasts in it"
