"""A worker changes its model while readings flow; what came of it, seen from outside."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from tests.stream_harness import Running, Setup
from titans_stream.detection import layout as detection_layout
from titans_stream.engine.build import EngineSetup, build_engine
from titans_stream.engine.model import Model, make_model, untrained_weights
from titans_stream.lifecycle.artifacts import base_model
from titans_stream.records import ModelRef, Readings
from titans_stream.stream import loop
from titans_stream.stream.encoding import decode_scores
from titans_stream.stream.recovery import Origin
from titans_stream.stream.switch import Candidate, SwitchEngine

PARTITIONS = 2


def model(version: str) -> Model:
    """Models of one name that differ in every score."""
    weights = dict(base_model().weights)
    if version != "1":
        other = untrained_weights(int(version))
        weights |= {name: other[name] for name in detection_layout.weight_shapes()}
    return make_model(ModelRef("pumps", version), weights, {})


def candidate(version: str, topic: str) -> Candidate:
    found = model(version)
    return Candidate(found.ref, build_engine(found, EngineSetup(topic=topic)))


class Flow:
    """Publishes readings at a steady rate until stopped; keeps what it sent, by partition."""

    def __init__(self, setup: Setup, rate: float, series: int = 8) -> None:
        self._setup, self._rate, self._series = setup, rate, series
        self.sent: dict[int, list[tuple[str, float, int]]] = {p: [] for p in range(PARTITIONS)}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        rng = np.random.default_rng(0)
        producer = KafkaProducer(
            bootstrap_servers=self._setup.kafka.bootstrap, linger_ms=5, acks="all"
        )
        begun, count = time.monotonic(), 0
        while not self._stop.is_set():
            due = int((time.monotonic() - begun) * self._rate)
            for _ in range(min(due - count, 500)):
                partition = count % PARTITIONS
                name = f"p{partition}s{(count // PARTITIONS) % self._series}"
                value = 10 + np.sin(count / 300) + 0.1 * rng.normal()
                stamp = time.time_ns() // 1_000_000
                text = json.dumps({"s": name, "v": value, "t": 10**12 + 1000 * count}).encode()
                producer.send(
                    self._setup.kafka.input, text, partition=partition, timestamp_ms=stamp
                )
                self.sent[partition].append((name, value, 10**12 + 1000 * count))
                count += 1
            time.sleep(0.005)
        producer.flush(30)
        producer.close()

    @property
    def count(self) -> int:
        return sum(map(len, self.sent.values()))

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


@dataclass
class Turns:
    """The longest turn of the loop, in seconds of the clock and of its thread's own work."""

    wall: list[float] = field(default_factory=list)
    work: list[float] = field(default_factory=list)
    stages: list[dict[str, float]] = field(default_factory=list)
    """Seconds of the clock by stage, those that took time."""


@contextmanager
def timed_turns() -> Iterator[Turns]:
    turns, plain = Turns(), loop.Loop._turn

    def turn(self: Any) -> None:
        wall, work = time.perf_counter(), time.thread_time()
        stages = dict(self._metrics.seconds)
        plain(self)
        spent = {n: round(s - stages[n], 3) for n, s in self._metrics.seconds.items()}
        turns.stages.append({n: s for n, s in spent.items() if s > 0.01})
        turns.wall.append(time.perf_counter() - wall)
        turns.work.append(time.thread_time() - work)

    loop.Loop._turn = turn  # type: ignore[method-assign]
    try:
        yield turns
    finally:
        loop.Loop._turn = plain  # type: ignore[method-assign]


def prepare(setup: Setup) -> Setup:
    setup.input = {"timestamp": {"field": "t", "unit": "ms"}, "start": "earliest"}  # fmt: skip
    setup.output = {"scores": setup.kafka.scores}
    return setup


def start(
    setup: Setup, first: str, resolve: Any = lambda key: None, steer: Any = None
) -> tuple[Running, SwitchEngine]:
    switch = SwitchEngine(candidate(first, setup.kafka.input), resolve, steer)
    return Running(setup.worker(switch)), switch


def origins(setup: Setup) -> dict[int, tuple[int, Origin]]:
    """Committed offset and what its metadata says, by partition."""
    consumer = KafkaConsumer(
        bootstrap_servers=setup.kafka.bootstrap, group_id=setup.group_id, enable_auto_commit=False
    )
    try:
        found = {}
        for p in range(PARTITIONS):
            one = consumer.committed(TopicPartition(setup.kafka.input, p), metadata=True)
            found[p] = (one.offset, Origin.decode(one.metadata))
        return found
    finally:
        consumer.close()


def published(setup: Setup) -> dict[int, list[tuple[int, str, float, float]]]:
    """Offset, model version, surprise and expected value of every published score, in order."""
    found: dict[int, list[tuple[int, str, float, float]]] = {p: [] for p in range(PARTITIONS)}
    for record in setup.kafka.read(setup.kafka.scores):
        frame = json.loads(record.value)
        version = frame["model"]["version"]
        scores = decode_scores(record.value).scores
        for i in range(len(scores)):
            found[int(scores.partition[i])].append(
                (int(scores.offset[i]), version, float(scores.surprise[i]),
                 float(scores.expected[i]))
            )  # fmt: skip
    return found


def offline(
    setup: Setup, version: str, sent: list[tuple[str, float, int]], partition: int, begin: int
) -> dict[int, tuple[float, float]]:
    """What an engine of a model that begins empty at offset `begin` says, by offset."""
    engine = candidate(version, setup.kafka.input).engine
    rows = sent[begin:]
    n = len(rows)
    scores = engine.process(
        Readings(
            [row[0] for row in rows],
            np.array([row[2] * 1_000_000 for row in rows], np.int64),
            np.array([row[1] for row in rows]),
            np.full(n, partition, np.int32),
            np.arange(begin, begin + n),
        )
    ).scores
    return {
        int(o): (float(s), float(e))
        for o, s, e in zip(scores.offset, scores.surprise, scores.expected, strict=True)
    }


def check(setup: Setup, flow: Flow, places: dict[int, list[tuple[str, int, int]]]) -> None:
    """Every reading has one score, by the model that was in use, bit for bit.

    `places`: by partition the models in turn: version, offset from which it speaks, offset at
    which its state began.
    """
    found = published(setup)
    for partition, sent in flow.sent.items():
        scores = found[partition]
        assert [row[0] for row in scores] == list(range(len(sent))), "none lost, none doubled"
        turns = places[partition]
        for i, (version, first, begin) in enumerate(turns):
            last = turns[i + 1][1] if i + 1 < len(turns) else len(sent)
            expected = offline(setup, version, sent, partition, begin)
            for offset, told, surprise, forecast in scores[first:last]:
                assert told == version, (partition, offset)
                np.testing.assert_equal((surprise, forecast), expected[offset])
