"""Reads the control topic in the background, all of it, outside of any group."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from kafka import TopicPartition
from kafka.errors import KafkaError

from titans_stream.control.announcements import is_announcement
from titans_stream.control.messages import understood
from titans_stream.durations import DAY, MILLISECOND
from titans_stream.records import Order
from titans_stream.stream.kafka.client import KafkaClients
from titans_stream.stream.kafka.deadline import ANSWER_MS
from titans_stream.stream.kafka.errors import (
    UNREADABLE,
    ConnectError,
    FatalError,
    StoppedError,
)
from titans_stream.stream.kafka.protocols import Consumer
from titans_stream.stream.kafka.translation import translated
from titans_stream.stream.settings import ControlConfig
from titans_stream.stream.stretch import begin_at

log = logging.getLogger(__name__)

_POLL_MS = 200
_MOST = 1_000
_PAUSE = 2.0
JOURNAL_LAG = 7 * DAY
"""For so long compaction leaves the journal whole: as long as Kafka keeps messages by default."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message of the control topic; `order` None, and `problem` why, where it cannot be used."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    order: Order | None
    problem: str = ""


def control_topics(config: ControlConfig) -> dict[str, dict[str, str]]:
    """The topics of control messages, with the settings that they are made with."""
    compacted = {"cleanup.policy": "compact"}
    lag = {"min.compaction.lag.ms": str(JOURNAL_LAG // MILLISECOND)}
    return {config.topic: compacted, config.journal: compacted | lag}


def make_control_topics(clients: KafkaClients, config: ControlConfig) -> None:
    """Make those that are missing. ConnectError where that is not allowed."""
    wanted = control_topics(config)
    found = clients.topics(wanted)
    for topic, settings in wanted.items():
        if found[topic] is None:
            told = ", ".join(map("=".join, settings.items()))
            try:
                clients.create_topic(topic, 1, settings)
            except ConnectError as error:
                raise ConnectError(f"{error}; make it with one partition and {told}") from error
            log.info("topic %s is made (%s)", topic, told)


class ControlTopic:
    """The messages of a control topic in the order in which they came; grows in a thread."""

    def __init__(self, open_consumer: Callable[[], Consumer], topic: str) -> None:
        self.topic = topic
        self._open = open_consumer
        self._stop = threading.Event()
        self.messages: list[Received] = []
        self.read = threading.Event()
        """Set once all is read that was there at first."""
        self._positions: dict[TopicPartition, int] = {}
        self._thread = threading.Thread(target=self._run, name="control-topic", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the reading; does not wait for it."""
        self._stop.set()

    def _run(self) -> None:
        told = ""
        while not self._stop.is_set():
            try:
                self._read()
            except (KafkaError, FatalError, *UNREADABLE) as error:
                why = str(error) or type(error).__name__
                if why != told:
                    log.warning("control topic %s: %s; trying again", self.topic, why)
                told = why
                self._stop.wait(_PAUSE)
            except StoppedError:
                return

    def _read(self) -> None:
        consumer = self._open()
        try:
            with translated("control topic"):
                ends = self._find(consumer)
                while not self._stop.is_set():
                    if all((consumer.position(p) or 0) >= end for p, end in ends.items()):
                        self.read.set()
                    for found in consumer.poll(_POLL_MS, _MOST).values():
                        for record in found:
                            self._take(record)
        finally:
            consumer.close(False, 1_000)

    def _find(self, consumer: Consumer) -> dict[TopicPartition, int]:
        """Go to where the reading stopped; the ends of the partitions."""
        consumer.topics()
        known = consumer.partitions_for_topic(self.topic)
        if not known:
            raise ConnectError(f"topic {self.topic} does not exist")
        partitions = [TopicPartition(self.topic, number) for number in sorted(known)]

        def start(partition: TopicPartition, begin: int, end: int) -> int:
            at = max(self._positions.get(partition, 0), begin)
            return begin if at > end else at

        return begin_at(consumer, partitions, start, ANSWER_MS)

    def _take(self, record: object) -> None:
        partition, offset = int(record.partition), int(record.offset)  # type: ignore[attr-defined]
        key, value = record.key, record.value  # type: ignore[attr-defined]
        if not is_announcement(key):
            order, problem = understood(key, value)
            self.messages.append(Received(partition, offset, key, value, order, problem))
        self._positions[TopicPartition(self.topic, partition)] = offset + 1
