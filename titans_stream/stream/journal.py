"""The journal: at which offset of each input partition a control message took effect.

An entry goes with the transaction that commits the partition's offset, and that offset's metadata
names the number of the partition's last entry (`Origin.journal`): a recovery knows which entries
there are, and waits for those that an open transaction of another worker still hides.

A record's key is [topic, partition, id], so that compaction keeps the newest entry of each id: what
is still in force. `min.compaction.lag.ms` of the topic bounds how far back a replay is exact
(docs/control.md).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from kafka import TopicPartition

from titans_stream.records import Order
from titans_stream.stream.kafka.deadline import TURN_ANSWER_MS, Deadline
from titans_stream.stream.kafka.errors import UnansweredError
from titans_stream.stream.kafka.protocols import Consumer
from titans_stream.stream.kafka.translation import translated
from titans_stream.stream.stretch import begin_at

log = logging.getLogger(__name__)

_SECONDS = 3.0
"""A recovery waits so long for entries, then lets the loop turn, and asks again."""
_POLL_MS = 100
_MOST = 5_000


@dataclass(frozen=True, slots=True)
class Entry:
    """The `number`-th control message of an input partition took effect before the offset `at`.

    `control` is its own place: partition and offset in the control topic. `order` None: it could
    not be used.
    """

    partition: TopicPartition
    number: int
    at: int
    control: tuple[int, int]
    id: str
    order: Order | None

    def encode(self) -> tuple[bytes, bytes]:
        """Key and value of the record."""
        order = self.order
        about = self.id if order is not None else list(self.control)
        key = json.dumps([self.partition.topic, self.partition.partition, about])
        value = {"number": self.number, "at": self.at, "control": list(self.control)}
        value |= {"id": self.id} if order is None else {"id": self.id, "order": order.text}
        return key.encode(), json.dumps(value).encode()

    @classmethod
    def decode(cls, key: bytes | None, value: bytes | None) -> Entry:
        """Read a record. ValueError for what `encode` did not write."""
        try:
            topic, partition, _ = json.loads(key or b"")
            told = json.loads(value or b"")
            source = told["control"]
            text = told.get("order")
            return cls(
                TopicPartition(str(topic), int(partition)),
                int(told["number"]),
                int(told["at"]),
                (int(source[0]), int(source[1])),
                str(told["id"]),
                None if text is None else Order(str(told["id"]), str(text)),
            )
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"no journal entry: {error!r}") from error


class Journal:
    """What is committed of a journal topic, as far as it was read."""

    def __init__(self, open_consumer: Callable[[], Consumer], topic: str) -> None:
        self.topic = topic
        self._open = open_consumer
        self._consumer: Consumer | None = None
        self._partitions: list[TopicPartition] = []
        self._entries: dict[TopicPartition, dict[int, Entry]] = {}

    def of(self, partition: TopicPartition) -> list[Entry]:
        """The entries of an input partition, by their numbers."""
        found = self._entries.get(partition, {})
        return [found[number] for number in sorted(found)]

    def newest(self, partition: TopicPartition) -> int:
        """The number of its last entry, 0 where it has none."""
        return max(self._entries.get(partition, {}), default=0)

    def add(self, entries: Iterable[Entry]) -> None:
        """Entries are committed."""
        for entry in entries:
            self._entries.setdefault(entry.partition, {})[entry.number] = entry

    def forget(self, partition: TopicPartition, after: int) -> None:
        """What is numbered beyond `after` went without the offset: it has no effect."""
        for number in [n for n in self._entries.get(partition, ()) if n > after]:
            del self._entries[partition][number]

    def ends(self, topic: str) -> dict[int, int]:
        """Where the partitions of another topic end now."""
        with translated("journal"):
            consumer = self._consumer or self._begin()
            known = consumer.partitions_for_topic(topic) or set()
            names = [TopicPartition(topic, number) for number in sorted(known)]
            found = consumer.end_offsets(names, TURN_ANSWER_MS) if names else {}
            return {name.partition: end for name, end in found.items()}

    def read(self, wanted: Mapping[TopicPartition, int]) -> None:
        """Read up to what is committed; UnansweredError where some of it is not to be seen yet.

        `wanted`: the number of the last entry by input partition. One that is in no journal any
        more is missed loudly.
        """
        with translated("journal"):
            consumer = self._consumer or self._begin()
            deadline = Deadline(_SECONDS)
            while True:
                ends = consumer.end_offsets(self._partitions, TURN_ANSWER_MS)
                while any((consumer.position(p) or 0) < ends[p] for p in self._partitions):
                    self._take(consumer)
                    if deadline.expired:
                        raise UnansweredError(f"the journal {self.topic} takes long to be read")
                missing = {p: n for p, n in wanted.items() if self.newest(p) < n}
                if not missing:
                    return
                self._take(consumer)
                if all(self._is_whole(consumer, p) for p in self._partitions):
                    for partition, number in missing.items():
                        if self.newest(partition) < number:
                            log.error(
                                "%s partition %d: the journal %s lacks entry %d: control messages "
                                "that were in force are lost",
                                *partition,
                                self.topic,
                                number,
                            )
                    return
                if deadline.expired:
                    raise UnansweredError(
                        f"a transaction is open in the journal {self.topic}; waiting for its end"
                    )

    def _begin(self) -> Consumer:
        consumer = self._consumer = self._open()
        consumer.topics()
        known = consumer.partitions_for_topic(self.topic) or {0}
        self._partitions = [TopicPartition(self.topic, number) for number in sorted(known)]
        begin_at(consumer, self._partitions, lambda _, begin, end: begin, TURN_ANSWER_MS)
        return consumer

    def _is_whole(self, consumer: Consumer, partition: TopicPartition) -> bool:
        """Whether nothing of the log is hidden by an open transaction."""
        end = consumer.highwater(partition)
        return end is not None and (consumer.position(partition) or 0) >= end

    def _take(self, consumer: Consumer) -> None:
        for records in consumer.poll(_POLL_MS, _MOST).values():
            for record in records:
                try:
                    self.add([Entry.decode(record.key, record.value)])
                except ValueError as error:
                    log.warning("%s offset %d: %s", self.topic, record.offset, error)

    def close(self) -> None:
        """End."""
        if self._consumer is not None:
            self._consumer.close(False, 1_000)
            self._consumer = None
