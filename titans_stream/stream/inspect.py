"""Looks at a connector's topics without changing anything: what would a worker make of them?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from kafka import TopicPartition

from titans_stream.records import DeadLetter, Readings
from titans_stream.stream.codec.choice import codec_for
from titans_stream.stream.group_check import check_group
from titans_stream.stream.kafka.client import KafkaClients, TopicInfo
from titans_stream.stream.kafka.deadline import ANSWER_MS, Deadline
from titans_stream.stream.kafka.protocols import Consumer
from titans_stream.stream.kafka.translation import translated
from titans_stream.stream.messages import RawMessage, raw_messages
from titans_stream.stream.own_times import OwnTimes
from titans_stream.stream.recovery import LogRange
from titans_stream.stream.settings import InputConfig, OutputConfig
from titans_stream.stream.starts import Starts
from titans_stream.stream.worker import check_topics, named_topics, output_limits

_READ_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class PartitionReport:
    """Offsets of a partition of an input topic; `committed`: None where the group has no offset."""

    topic: str
    partition: int
    begin: int
    end: int
    committed: int | None
    warm_up: int = 0
    """Messages before the start from which a group that is new would learn."""

    @property
    def lag(self) -> int | None:
        """Messages that the group has not read."""
        return None if self.committed is None else max(0, self.end - self.committed)


@dataclass(frozen=True, slots=True)
class MessageReport:
    """What one message comes to: readings, and a dead letter for what cannot be used."""

    message: RawMessage
    readings: Readings
    dead: DeadLetter | None


@dataclass(frozen=True, slots=True)
class Inspection:
    """What `inspect_connector` found. `topics` is by the name of the setting."""

    servers: str
    topics: dict[str, str]
    partitions: tuple[PartitionReport, ...]
    messages: tuple[MessageReport, ...]


def inspect_connector(
    clients: KafkaClients, input: InputConfig, output: OutputConfig, count: int = 5
) -> Inspection:
    """Connect, look at all topics, and decode the last `count` messages of the input.

    ConnectError for whatever would keep a worker from running.
    """
    topics = named_topics(input, output)
    found: dict[str, TopicInfo | None] = {**check_topics(clients, topics)}
    output_limits(clients, topics)
    if input.group_id:
        check_group(clients, input.group_id, input.subscription.has)
    if input.topic_pattern is not None:
        found = clients.topics(filter(input.subscription.has, clients.topic_names()))
    codec = codec_for(input)
    consumer = clients.consumer(input.group_id or None)
    try:
        with translated("check"):
            names = [
                TopicPartition(topic, partition)
                for topic, info in found.items()
                if info is not None and input.subscription.has(topic)
                for partition in info.partitions
            ]
            consumer.assign(names)
            partitions = _partitions(consumer, names, bool(input.group_id))
            own_times = OwnTimes(lambda: clients.consumer(None), codec)
            partitions = _with_warm_up(partitions, Starts(consumer, input, own_times))
            messages = _last_messages(consumer, names, partitions, count)
    finally:
        consumer.close(False, 1_000)
    reports = []
    for message in messages:
        decoded = codec.decode([message])
        dead = decoded.dead[0] if decoded.dead else None
        reports.append(MessageReport(message, decoded.readings, dead))
    return Inspection(clients.servers, topics, partitions, tuple(reports))


def input_partitions(clients: KafkaClients, input: InputConfig) -> tuple[PartitionReport, ...]:
    """How far the group has read the partitions of an input that are there; joins no group."""
    topics = input.subscription.names or filter(input.subscription.has, clients.topic_names())
    found = clients.topics(topics)
    names = [
        TopicPartition(topic, partition)
        for topic, info in found.items()
        if info is not None
        for partition in info.partitions
    ]
    if not names:
        return ()
    consumer = clients.consumer(input.group_id or None)
    try:
        with translated("lag"):
            consumer.assign(names)
            return _partitions(consumer, names, bool(input.group_id))
    finally:
        consumer.close(False, 1_000)


def _with_warm_up(
    partitions: tuple[PartitionReport, ...], starts: Starts
) -> tuple[PartitionReport, ...]:
    reports = []
    for one in partitions:
        if one.committed is None:
            name = TopicPartition(one.topic, one.partition)
            plan = starts.plan(name, LogRange(one.begin, one.end))
            one = replace(one, warm_up=plan.resume - plan.seek)
        reports.append(one)
    return tuple(reports)


def _partitions(
    consumer: Consumer, names: list[Any], has_group: bool
) -> tuple[PartitionReport, ...]:
    begins, ends = (
        consumer.beginning_offsets(names, ANSWER_MS),
        consumer.end_offsets(names, ANSWER_MS),
    )
    reports = []
    for name in names:
        committed = None
        if has_group:
            committed = consumer.committed(name, metadata=True, timeout_ms=ANSWER_MS)
        offset = None if committed is None else int(committed.offset)
        reports.append(
            PartitionReport(name.topic, name.partition, begins[name], ends[name], offset)
        )
    return tuple(reports)


def _last_messages(
    consumer: Consumer, names: list[Any], partitions: tuple[PartitionReport, ...], count: int
) -> list[RawMessage]:
    """The newest `count` messages, oldest first; fewer where reading them takes too long."""
    for name, report in zip(names, partitions, strict=True):
        consumer.seek(name, max(report.begin, report.end - count))
    deadline = Deadline(_READ_SECONDS)
    ends = {name: report.end for name, report in zip(names, partitions, strict=True)}
    found: list[RawMessage] = []
    while not deadline.expired and any((consumer.position(n) or 0) < ends[n] for n in names):
        for records in consumer.poll(200, 1_000).values():
            found += raw_messages(records)
    found.sort(key=lambda message: (message.timestamp_ms, message.partition, message.offset))
    return found[-count:]
