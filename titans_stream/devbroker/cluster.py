"""All that the development broker keeps: topics, groups, offsets, transactions; its folder."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kafka import errors

from titans_stream.devbroker.groups import GroupCoordinator
from titans_stream.devbroker.journal import Journal
from titans_stream.devbroker.log import PartitionLog
from titans_stream.devbroker.offsets import OffsetStore, Partition
from titans_stream.devbroker.transactions import TransactionCoordinator

log = logging.getLogger(__name__)

TOPIC_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")
MAX_PARTITIONS = 1000
JOURNAL_BYTES = 16 * 2**20
"""A larger journal is written anew, in short."""


@dataclass(eq=False, slots=True)
class Topic:
    """A topic's partitions and the settings it was made with."""

    name: str
    partitions: list[PartitionLog]
    settings: dict[str, str] = field(default_factory=dict)


class Cluster:
    """The broker's state, on one event loop. With a folder, it goes on from what lies there."""

    def __init__(
        self, data_dir: Path | None, *, max_message_bytes: int, retention_bytes: int | None
    ) -> None:
        self._data_dir = data_dir
        self.max_message_bytes = max_message_bytes
        self.retention_bytes = retention_bytes
        self.topics: dict[str, Topic] = {}
        if data_dir:
            (data_dir / "topics").mkdir(parents=True, exist_ok=True)
        self.journal = Journal(data_dir / "journal.jsonl" if data_dir else None)
        self.offsets = OffsetStore(self.journal)
        self.groups = GroupCoordinator()
        self.transactions = TransactionCoordinator(self.find_log, self.offsets, self.journal)
        self._replay(self.journal.read())
        self.transactions.resume()
        self.journal.replace(self._entries())

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
        self.journal.append("topic", name=name, partitions=partitions, settings=settings)
        topic = self._open_topic(name, partitions, settings, {})
        self.topics[name] = topic
        return topic

    def delete_topic(self, name: str) -> None:
        """Remove a topic with its records and the positions in it."""
        topic = self.topics.pop(name, None)
        if topic is None:
            raise errors.UnknownTopicOrPartitionError(name)
        self.journal.append("topic_deleted", name=name)
        self.offsets.delete_topic(name)
        for partition_log in topic.partitions:
            partition_log.delete()

    def delete_records(self, topic: str, number: int, before: int) -> int:
        """Remove a partition's records before an offset (-1: all); the log's new start."""
        found = self.log_of(topic, number)
        found.delete_before(found.end_offset if before == -1 else before)
        self.journal.append("start", topic=topic, partition=number, offset=found.start_offset)
        return found.start_offset

    def compact_journal(self) -> None:
        """Write the journal anew if it has grown large."""
        if self.journal.size > JOURNAL_BYTES:
            self.journal.replace(self._entries())

    def close(self) -> None:
        """Close all files."""
        for topic in self.topics.values():
            for partition_log in topic.partitions:
                partition_log.close()
        self.journal.close()

    def _open_topic(
        self, name: str, partitions: int, settings: dict[str, str], starts: dict[Partition, int]
    ) -> Topic:
        folder = self._data_dir / "topics" if self._data_dir else None
        limit = int(settings.get("max.message.bytes", self.max_message_bytes))
        logs = [
            PartitionLog(
                folder / f"{name}-{number}.log" if folder else None,
                max_message_bytes=limit,
                retention_bytes=self.retention_bytes,
                start_offset=starts.get((name, number), 0),
            )
            for number in range(partitions)
        ]
        return Topic(name, logs, settings)

    def _replay(self, entries: list[dict[str, Any]]) -> None:
        known: dict[str, dict[str, Any]] = {}
        starts: dict[Partition, int] = {}
        for entry in entries:
            kind = entry["kind"]
            if kind == "topic":
                known[entry["name"]] = entry
            elif kind == "topic_deleted":
                known.pop(entry["name"], None)
                starts = {at: offset for at, offset in starts.items() if at[0] != entry["name"]}
                self.offsets.delete_topic(entry["name"])
            elif kind == "start":
                starts[entry["topic"], entry["partition"]] = entry["offset"]
            elif kind in ("producer_id", "transaction"):
                self.transactions.replay(entry)
            else:
                self.offsets.replay(entry)
        for name, entry in known.items():
            self.topics[name] = self._open_topic(
                name, entry["partitions"], entry["settings"], starts
            )

    def _entries(self) -> Iterator[dict[str, Any]]:
        for topic in self.topics.values():
            yield {
                "kind": "topic",
                "name": topic.name,
                "partitions": len(topic.partitions),
                "settings": topic.settings,
            }
            for number, partition_log in enumerate(topic.partitions):
                if partition_log.start_offset:
                    yield {
                        "kind": "start",
                        "topic": topic.name,
                        "partition": number,
                        "offset": partition_log.start_offset,
                    }
        yield from self.offsets.entries()
        yield from self.transactions.entries()
