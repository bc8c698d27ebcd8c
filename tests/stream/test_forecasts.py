"""Forecasts through the worker on the development broker: exactly once, and never from a replay."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import generate_latest

from tests.engine.streams import MODEL
from tests.stream_harness import Kafka, Message, Running, Setup
from titans_stream.detection.rules import AlertConfig
from titans_stream.devbroker.broker import DevBroker
from titans_stream.engine.build import compile_kernels
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.settings import EngineConfig
from titans_stream.forecasting.settings import ForecastConfig
from titans_stream.ops.exposition import WorkerCollector, registry_of
from titans_stream.records import Readings, Results

MINUTE = 60_000
START_MS = 1_772_366_400_000
FORECAST = ForecastConfig(steps=12, every=10)


class CrashingEngine(StreamEngine):
    """An engine that ends its worker once it has taken so many readings."""

    crash_at = math.inf
    taken = 0

    def process(self, readings: Readings) -> Results:
        self.taken += len(readings)
        if self.taken > self.crash_at:
            raise RuntimeError("crash")
        return super().process(readings)


def make_engine(
    topic: str, crash_at: float = math.inf, forecast: ForecastConfig | None = FORECAST
) -> CrashingEngine:
    alerts, config = AlertConfig(), EngineConfig(device="cpu")
    engine = CrashingEngine(config, alerts, MODEL, topic, forecast=forecast)
    engine.crash_at = crash_at
    return engine


def waves(count: int, partitions: int = 2, series: int = 2) -> list[Message]:
    """A reading a minute of each series: hours of waves with noise."""
    rng = np.random.default_rng(7)
    messages = []
    for i in range(count):
        for partition in range(partitions):
            for s in range(series):
                value = 10 * s + math.sin(i / 12) + 0.1 * rng.standard_normal()
                name = f"p{partition}s{s}"
                messages.append(Message(name, value, partition, START_MS + i * MINUTE))
    return messages


def offline(messages: list[Message], topic: str, **more: Any) -> dict[str, list[Any]]:
    """The forecasts by series of an engine that takes one reading after another."""
    engine = make_engine(topic, **more)
    offsets: dict[int, int] = {}
    found: dict[str, list[Any]] = {}
    for message in messages:
        offset = offsets.get(message.partition, 0)
        offsets[message.partition] = offset + 1
        reading = Readings(
            [message.series],
            np.array([message.timestamp_ms * 1_000_000], np.int64),
            np.array([message.value]),
            np.array([message.partition], np.int32),
            np.array([offset], np.int64),
        )
        for forecast in engine.process(reading).forecasts:
            plain = {**dataclasses.asdict(forecast), "model": {"name": "test", "version": "0"}}
            found.setdefault(forecast.series_id, []).append(plain)
    return found


def published(kafka: Kafka) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for record in kafka.read(kafka.forecasts):
        forecast = json.loads(record.value)
        assert record.key == forecast["series_id"].encode()
        found.setdefault(forecast["series_id"], []).append(forecast)
    return found


@pytest.fixture(scope="module")
def broker() -> Iterator[DevBroker]:
    compile_kernels(MODEL, forecasting=True)
    running = DevBroker(auto_create=False).start()
    yield running
    running.stop()


@pytest.fixture
def setup(broker: DevBroker, tmp_path: Path) -> Setup:
    kafka = Kafka(broker.bootstrap).create()
    return Setup(kafka, tmp_path, output={"forecasts": kafka.forecasts})


def test_forecasts_are_published_as_they_are_made(setup: Setup) -> None:
    messages = waves(90)
    setup.kafka.produce(messages)
    running = Running(setup.worker(make_engine(setup.kafka.input)))
    running.wait_for("messages", len(messages))
    running.stop()
    expected = offline(messages, setup.kafka.input)
    assert published(setup.kafka) == expected
    assert {name: len(forecasts) for name, forecasts in expected.items()} == {
        "p0s0": 5, "p0s1": 5, "p1s0": 5, "p1s1": 5,
    }  # fmt: skip
    assert running.worker.metrics.counts["forecasts"] == 20
    worker = running.worker
    metrics = generate_latest(registry_of([WorkerCollector(worker.metrics, worker.model)]))
    assert b"titans_forecasts_total 20.0" in metrics


@pytest.mark.parametrize("snapshot_interval", ["1h", "1ms"])
@pytest.mark.parametrize("crash_at", [150, 250, 359])
def test_a_crash_repeats_none_and_loses_none(
    setup: Setup, crash_at: int, snapshot_interval: str
) -> None:
    messages = waves(90)
    setup.kafka.produce(messages)
    setup.delivery = {"commit_interval": "10ms", "max_poll_records": 20}
    setup.state = {"snapshot_interval": snapshot_interval}
    crashing = Running(setup.worker(make_engine(setup.kafka.input, crash_at)))
    crashing.join()
    assert isinstance(crashing.error, RuntimeError)
    before = sum(each or 0 for each in setup.kafka.committed(setup.group_id).values())
    assert before < 360
    running = Running(setup.worker(make_engine(setup.kafka.input)))
    running.wait_for("messages", 360 - before)
    running.stop()
    assert published(setup.kafka) == offline(messages, setup.kafka.input)


def test_switched_on_they_begin_beside_the_memories_that_are_there(setup: Setup) -> None:
    messages = waves(140)
    first, rest = messages[:280], messages[280:]
    setup.kafka.produce(first)
    output, setup.output = setup.output, {}
    without = Running(setup.worker(make_engine(setup.kafka.input, forecast=None)))
    without.wait_for("messages", 280)
    without.stop()
    setup.kafka.produce(rest)
    setup.output = output
    running = Running(setup.worker(make_engine(setup.kafka.input)))
    running.wait_for("messages", 280)
    running.stop()
    assert running.worker.metrics.counts["replayed_messages"] == 0, "the snapshot fits"
    found = published(setup.kafka)
    assert {name: [f["source"]["offset"] for f in each] for name, each in found.items()} == {
        f"p{p}s{s}": [2 * (70 + at) + s for at in (49, 59, 69)] for p in (0, 1) for s in (0, 1)
    }


def test_a_warm_up_is_learned_from_but_not_forecast(setup: Setup) -> None:
    messages = waves(90)
    setup.kafka.produce(messages)
    setup.input = {"start": "2026-03-01T13:10:00Z", "warm_up": "1d"}
    running = Running(setup.worker(make_engine(setup.kafka.input)))
    running.wait_for("messages", 80)
    running.stop()
    expected = offline(messages, setup.kafka.input)
    late = {
        name: [f for f in each if f["source"]["offset"] >= 140] for name, each in expected.items()
    }
    assert published(setup.kafka) == late
    assert sum(map(len, late.values())) == 8
