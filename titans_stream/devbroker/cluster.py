"""All that the development broker keeps, in memory: topics, groups, offsets, transactions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from kafka import errors

from titans_stream.devbroker.groups import GroupCoordinator
from titans_stream.devbroker.log import PartitionLog
from titans_stream.devbroker.offsets import OffsetStore, Partition
from titans_stream.devbroker.transactions import TransactionCoordinator

TOPIC_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")
MAX_PARTITIONS = 1000


@dataclass(eq=False, slots=True)
class Topic:
    """A topic's partitions and the settings it was made with."""

    name: str
    partitions: list[PartitionLog]
    settings: dict[str, str] = field(default_factory=dict)


class Cluster:
    """The broker's state, on one event loop."""

    def __init__(self, *, max_message_bytes: int, retention_bytes: int | None) -> None:
        self.max_message_bytes = max_message_bytes
        self.retention_bytes = retention_bytes
        self.topics: dict[str, Topic] = {}
        self.offsets = OffsetStore()
        self.groups = GroupCoordinator()
        self.transactions = TransactionCoordinator(self.find_log, self.offsets)

    def find_log(self, partition: Partition) -> PartitionLog | None:
        """The log of a partition, or None if there is no such partition."""
        name, number = partition
        topic = self.topics.get(name)
        if topic is None or not 0 <= number < len(topic.partitions):
            return None
        return topic.partitions[number]

    def log_of(self, topic: str, number: int) -> PartitionLog:
        """The log of a partition; UnknownTopicOrPartitionError if there is no such partition."""
        found = self.find_log((topic, number))
        if found is None:
            raise errors.UnknownTopicOrPartitionError(f"{topic}-{number}")
        return found

    def check_new_topic(self, name: str, partitions: int) -> None:
        """Whether a topic can be made: InvalidTopicError, InvalidPartitionsError or
        TopicAlreadyExistsError if not.
        """
        if not TOPIC_NAME.fullmatch(name) or name in (".", ".."):
            raise errors.InvalidTopicError(f"topic name {name!r}")
        if not 1 <= partitions <= MAX_PARTITIONS:
            raise errors.InvalidPartitionsError(f"{partitions} partitions")
        if name in self.topics:
            raise errors.TopicAlreadyExistsError(f"topic {name!r} already exists")

    def create_topic(
        self, name: str, partitions: int, settings: dict[str, str] | None = None
    ) -> Topic:
        """Make a topic; the errors are those of check_new_topic."""
        self.check_new_topic(name, partitions)
        settings = settings or {}
        topic = self.topics[name] = Topic(name, self._logs(partitions, settings), settings)
        return topic

    def add_partitions(self, name: str, partitions: int) -> None:
        """Let a topic have so many partitions.

        UnknownTopicOrPartitionError where there is none, InvalidPartitionsError where it does not
        have fewer now.
        """
        topic = self.topics.get(name)
        if topic is None:
            raise errors.UnknownTopicOrPartitionError(name)
        more = partitions - len(topic.partitions)
        if more < 1 or partitions > MAX_PARTITIONS:
            raise errors.InvalidPartitionsError(f"{len(topic.partitions)} partitions already")
        topic.partitions += self._logs(more, topic.settings)

    def _logs(self, count: int, settings: dict[str, str]) -> list[PartitionLog]:
        limit = int(settings.get("max.message.bytes", self.max_message_bytes))
        return [
            PartitionLog(max_message_bytes=limit, retention_bytes=self.retention_bytes)
            for _ in range(count)
        ]

    def delete_topic(self, name: str) -> None:
        """Remove a topic with its records and the positions in it."""
        if self.topics.pop(name, None) is None:
            raise errors.UnknownTopicOrPartitionError(name)
        self.offsets.delete_topic(name)
