"""Partitions that are added while a group exists are read from their beginning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import InvalidPartitionsError, UnknownTopicOrPartitionError
from kafka.structs import OffsetAndMetadata

from tests.stream_harness import ExactEngine, Kafka, Message, Running, Setup, stream
from titans_stream.devbroker.broker import DevBroker
from titans_stream.ops.storage import Snapshots
from titans_stream.stream.assignment import Assignment, Offsets
from titans_stream.stream.kafka.deadline import Deadline
from titans_stream.stream.metrics import Metrics
from titans_stream.stream.recovery import Origin
from titans_stream.stream.settings import InputConfig


@pytest.fixture(params=["development broker", pytest.param("kafka", marks=pytest.mark.kafka)])
def setup(request: pytest.FixtureRequest, broker: DevBroker, tmp_path: Path) -> Setup:
    real = request.param == "kafka"
    servers = request.getfixturevalue("kafka_bootstrap") if real else broker.bootstrap
    return Setup(
        Kafka(servers).create(),
        tmp_path,
        input={"start": "latest"},
        client={"consumer": {"metadata_max_age_ms": 1_000}},
    )


def add_partitions(setup: Setup, count: int) -> None:
    admin = KafkaAdminClient(bootstrap_servers=setup.kafka.bootstrap)
    admin.create_partitions({setup.kafka.input: count})
    admin.close()


def readings(series: str, partition: int, count: int) -> list[Message]:
    return [Message(series, float(i), partition, 1_000 + i) for i in range(count)]


def test_what_came_before_the_worker_saw_the_partition_is_read(setup: Setup) -> None:
    setup.kafka.produce(stream(40))
    engine = ExactEngine(setup.kafka.input)
    running = Running(setup.worker(engine))
    running.wait(running.worker.ready.is_set)
    setup.kafka.produce(readings("old", 0, 30))
    running.wait_for("messages", 30)
    add_partitions(setup, 4)
    setup.kafka.produce([*readings("new", 2, 100), *readings("newer", 3, 50)])
    running.wait_for("messages", 180)
    taken = {name: state.count for each in engine.states.values() for name, state in each.items()}
    assert taken == {"old": 30, "new": 100, "newer": 50}
    running.stop()


def test_partitions_that_were_added_while_no_worker_ran(setup: Setup) -> None:
    running = Running(setup.worker())
    running.wait(running.worker.ready.is_set)
    running.stop()
    add_partitions(setup, 3)
    setup.kafka.produce(readings("new", 2, 100))
    running = Running(setup.worker())
    running.wait_for("messages", 100)
    running.stop()
    assert setup.kafka.committed(setup.group_id, 3) == {0: 0, 1: 0, 2: 100}


def test_the_development_broker_adds_partitions_as_kafka_does(setup: Setup) -> None:
    admin = KafkaAdminClient(bootstrap_servers=setup.kafka.bootstrap)
    with pytest.raises(InvalidPartitionsError):
        admin.create_partitions({setup.kafka.input: 2})
    with pytest.raises(UnknownTopicOrPartitionError):
        admin.create_partitions({"nobody.s": 2})
    admin.close()


class SeveralPartitions:
    """A consumer of a topic whose partitions hold 1,000 messages each."""

    def __init__(self, partitions: int) -> None:
        self.numbers = set(range(partitions))
        self.offsets: dict[TopicPartition, OffsetAndMetadata] = {}
        self.positions: dict[int, int] = {}

    def partitions_for_topic(self, topic: str) -> set[int]:
        return self.numbers

    def pause(self, *names: Any) -> None: ...

    def resume(self, *names: Any) -> None: ...

    def seek(self, name: TopicPartition, offset: int) -> None:
        self.positions[name.partition] = offset

    def beginning_offsets(self, names: list[Any], timeout_ms: float) -> dict[Any, int]:
        return dict.fromkeys(names, 10)

    def end_offsets(self, names: list[Any], timeout_ms: float) -> dict[Any, int]:
        return dict.fromkeys(names, 1_000)

    def committed(self, name: Any, metadata: bool, timeout_ms: float) -> Any:
        return self.offsets.get(name)

    def commit(self, offsets: Offsets) -> None:
        self.offsets |= offsets


def assign(consumer: SeveralPartitions, folder: Path, *numbers: int) -> dict[int, int]:
    """Where a new worker begins to read its partitions."""
    config = InputConfig(topic="in", series="{s}", value="v", start="latest", group_id="g")
    store = Snapshots(folder, "g")
    assignment = Assignment(consumer, ExactEngine("in"), store, config, 0.0, Metrics())  # type: ignore[arg-type]
    assignment.assign([TopicPartition("in", number) for number in numbers])
    assignment.recover(consumer.commit)
    return {number: consumer.positions[number] for number in numbers}


def test_workers_that_start_a_group_together_all_start_at_the_latest(tmp_path: Path) -> None:
    consumer = SeveralPartitions(4)
    assert assign(consumer, tmp_path, 0, 1) == {0: 1_000, 1: 1_000}
    assert assign(consumer, tmp_path, 2, 3) == {2: 1_000, 3: 1_000}
    consumer.numbers = set(range(6))
    assert assign(consumer, tmp_path, 3, 5) == {3: 1_000, 5: 10}
    assert assign(consumer, tmp_path, 4) == {4: 10}


def test_a_group_that_does_not_tell_its_beginning(tmp_path: Path) -> None:
    """One of an earlier version, or one whose offsets were set by hand."""
    consumer = SeveralPartitions(3)
    consumer.offsets = {TopicPartition("in", 1): OffsetAndMetadata(500, "", -1)}
    assert assign(consumer, tmp_path, 0, 1, 2) == {0: 10, 1: 500, 2: 10}


def test_the_beginning_is_told_as_long_as_the_group_commits(tmp_path: Path) -> None:
    consumer = SeveralPartitions(2)
    assign(consumer, tmp_path, 0, 1)
    name = TopicPartition("in", 0)
    assert Origin.decode(consumer.offsets[name].metadata).partitions == 2
    config = InputConfig(topic="in", series="{s}", value="v", start="latest", group_id="g")
    store = Snapshots(tmp_path, "g")
    assignment = Assignment(consumer, ExactEngine("in"), store, config, 0.0, Metrics())  # type: ignore[arg-type]
    assignment.assign([name])
    assignment.recover(consumer.commit)
    assignment.progress[name].position = assignment.progress[name].committed = 1_001
    assignment.snapshot_all(Deadline(9))
    assignment.progress[name].position = 1_002
    found = Origin.decode(assignment.offsets()[name].metadata)
    assert (found.snapshot, found.partitions) == (1_001, 2)
