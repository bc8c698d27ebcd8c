"""One connector that reads several topics: states apart, each message by its own name."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from tests.stream_harness import ExactEngine, Kafka, Running, Setup
from titans_stream.devbroker.broker import DevBroker
from titans_stream.stream.encoding import decode_scores
from titans_stream.stream.inspect import inspect_connector
from titans_stream.stream.kafka.errors import ConnectError
from titans_stream.stream.processing import PartitionNumbers
from titans_stream.stream.settings import InputConfig, OutputConfig, Subscription


class Several:
    """Topics `<prefix>.in.a` and `.b`, and a connector that reads both."""

    def __init__(self, servers: str, folder: Path, by_pattern: bool) -> None:
        self.kafka = Kafka(servers).create()
        self.prefix = f"{self.kafka.prefix}.in"
        self.names = [f"{self.prefix}.a", f"{self.prefix}.b"]
        for name in self.names:
            self.create(name)
        which: dict[str, Any] = {"topics": self.names}
        if by_pattern:
            which = {"topic_pattern": rf"{self.prefix}\.[a-z]"}
        self.setup = Setup(
            self.kafka,
            folder,
            input={"topic": "", **which, "series": "{topic}/{s}"},
            output={"scores": self.kafka.scores, "dead_letter": self.kafka.dead},
            client={"consumer": {"metadata_max_age_ms": 1_000}},
        )

    def create(self, name: str) -> None:
        admin = KafkaAdminClient(bootstrap_servers=self.kafka.bootstrap)
        admin.create_topics([NewTopic(name, 2, 1, topic_configs={"retention.ms": "-1"})])
        admin.wait_for_topics([name])
        admin.close()

    def produce(
        self, topic: str, values: list[float], partition: int = 0, first_ms: int = 1_000
    ) -> None:
        producer = KafkaProducer(bootstrap_servers=self.kafka.bootstrap)
        for i, value in enumerate(values):
            content = json.dumps({"s": "s", "v": value}).encode()
            producer.send(topic, content, partition=partition, timestamp_ms=first_ms + i)
        producer.flush(10)
        producer.close()

    def alerts(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for record in self.kafka.read(self.kafka.alerts):
            alert = json.loads(record.value)
            told = (alert["status"], alert["readings"], alert["surprise"], alert["source"])
            found.setdefault(alert["series_id"], []).append(told)
        return found

    def committed(self, topic: str) -> dict[int, int | None]:
        consumer = KafkaConsumer(
            bootstrap_servers=self.kafka.bootstrap,
            group_id=self.setup.group_id,
            enable_auto_commit=False,
        )
        try:
            return {p: consumer.committed(TopicPartition(topic, p)) for p in (0, 1)}
        finally:
            consumer.close()


@pytest.fixture(params=["development broker", pytest.param("kafka", marks=pytest.mark.kafka)])
def servers(request: pytest.FixtureRequest, broker: DevBroker) -> str:
    real = request.param == "kafka"
    return request.getfixturevalue("kafka_bootstrap") if real else broker.bootstrap


@pytest.mark.parametrize("by_pattern", [False, True])
def test_the_same_partition_of_two_topics_has_two_states(
    servers: str, tmp_path: Path, by_pattern: bool
) -> None:
    world = Several(servers, tmp_path, by_pattern)
    a, b = world.names
    for values in ([1.0, 2.0], [4.0, 200.0], [8.0]):
        world.produce(a, values)
        world.produce(b, [10 * value for value in values])
        running = Running(world.setup.worker(ExactEngine("?", threshold=100.0)))
        running.wait_for("messages", 2 * len(values))
        running.stop()
        assert running.worker.metrics.counts["replayed_messages"] == 0
    assert world.alerts() == {
        f"{a}/s": [
            ("opened", 4, 207.0, {"topic": a, "partition": 0, "offset": 3}),
            ("resolved", 5, 215.0, {"topic": a, "partition": 0, "offset": 4}),
        ],
        f"{b}/s": [
            ("opened", 4, 2070.0, {"topic": b, "partition": 0, "offset": 3}),
            ("resolved", 5, 2150.0, {"topic": b, "partition": 0, "offset": 4}),
        ],
    }
    assert (world.committed(a), world.committed(b)) == ({0: 5, 1: 0}, {0: 5, 1: 0})
    rows: dict[str, list[tuple[int, int, float]]] = {a: [], b: []}
    for record in world.kafka.read(world.kafka.scores):
        frame = decode_scores(record.value)
        assert set(frame.scores.series) == {f"{frame.topic}/s"}
        columns = (frame.scores.partition, frame.scores.offset, frame.scores.value)
        rows[frame.topic] += zip(*(column.tolist() for column in columns), strict=True)
    assert rows[a] == [(0, i, v) for i, v in enumerate([1.0, 2.0, 4.0, 200.0, 8.0])]
    assert rows[b] == [(0, i, 10 * v) for i, v in enumerate([1.0, 2.0, 4.0, 200.0, 8.0])]


def test_a_crash_replays_each_topic_from_its_own_offset(servers: str, tmp_path: Path) -> None:
    world = Several(servers, tmp_path, False)
    a, b = world.names
    world.setup.delivery = {"max_poll_records": 5, "commit_interval": "10ms"}
    world.produce(a, [1.0] * 60)
    world.produce(b, [2.0] * 60, partition=1)
    crashing = Running(world.setup.worker(ExactEngine("?", crash_at=70, pause=0.004)))
    crashing.join()
    assert isinstance(crashing.error, RuntimeError)
    engine = ExactEngine("?")
    running = Running(world.setup.worker(engine))
    running.wait(lambda: engine.taken() == 120)
    totals = {name: s.total for each in engine.states.values() for name, s in each.items()}
    running.stop()
    assert totals == {f"{a}/s": 60.0, f"{b}/s": 120.0}


def test_a_topic_that_comes_later_is_read_from_its_beginning(servers: str, tmp_path: Path) -> None:
    world = Several(servers, tmp_path, True)
    world.setup.input["start"] = "latest"
    world.produce(world.names[0], [7.0] * 3)
    engine = ExactEngine("?")
    running = Running(world.setup.worker(engine))
    running.wait(running.worker.ready.is_set)
    late = f"{world.prefix}.c"
    world.create(late)
    world.create(f"{world.prefix}.no1")
    world.produce(late, [5.0] * 20, first_ms=round(time.time() * 1_000))
    running.wait_for("messages", 20)
    totals = {name: s.total for each in engine.states.values() for name, s in each.items()}
    running.stop()
    assert totals == {f"{late}/s": 100.0}


@pytest.mark.parametrize("by_pattern", [False, True])
def test_check_looks_at_all_topics(servers: str, tmp_path: Path, by_pattern: bool) -> None:
    world = Several(servers, tmp_path, by_pattern)
    world.produce(world.names[0], [1.0] * 3)
    world.produce(world.names[1], [2.0] * 4, partition=1)
    settings = world.setup.input | {"min_timestamp": "1970-01-01"}
    config = InputConfig(value="v", **settings)
    output = OutputConfig(alerts=world.kafka.alerts, dead_letter=world.kafka.dead)
    found = inspect_connector(world.setup.clients(), config, output, 10)
    ends = {(one.topic, one.partition): one.end for one in found.partitions}
    a, b = world.names
    assert ends == {(a, 0): 3, (a, 1): 0, (b, 0): 0, (b, 1): 4}
    series = sorted(name for one in found.messages for name in one.readings.series)
    assert series == [f"{a}/s"] * 3 + [f"{b}/s"] * 4


def test_a_missing_topic_of_several_is_named(servers: str, tmp_path: Path) -> None:
    world = Several(servers, tmp_path, False)
    world.setup.input["topics"] = [world.names[0], "nobody.s"]
    running = Running(world.setup.worker())
    running.join(30)
    with pytest.raises(ConnectError, match=r"input.topics\[1\]: topic nobody.s does not exist"):
        running.stop()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "exactly one of topic, topics and topic_pattern"),
        ({"topic": "a", "topics": ["b"]}, "exactly one of topic, topics and topic_pattern"),
        ({"topics": ["a", "a"]}, "topics: a topic is named twice"),
        ({"topic_pattern": "("}, "no regular expression"),
        ({"topic_pattern": ""}, "a regular expression is needed"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        InputConfig(series="x", value="v", **settings)


def test_a_pattern_is_for_the_whole_name() -> None:
    pattern = Subscription(pattern="plant|site-[0-9]+")
    assert [pattern.has(x) for x in ("plant", "site-12", "plant2", "a.plant", "site-1.alerts")] == [
        True, True, False, False, False,
    ]  # fmt: skip


def test_numbers_of_partitions_are_the_same_everywhere_and_never_shared() -> None:
    several, again = PartitionNumbers(None), PartitionNumbers(None)
    names = [TopicPartition(f"t{i}", p) for i in range(200) for p in range(50)]
    numbers = [several.number(name) for name in names]
    assert len(set(numbers)) == len(names)
    assert [several.name(number) for number in numbers[:50]] == names[:50]
    assert again.number(names[77]) == several.number(names[77])
    assert 0 <= min(numbers) <= max(numbers) < 2**31
    single = PartitionNumbers("t")
    assert (single.number(TopicPartition("t", 3)), single.name(3)) == (3, TopicPartition("t", 3))
