"""Reads a connector's output topics into a store, as any independent consumer would."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec
from kafka import TopicPartition
from kafka.errors import KafkaError

from titans_stream.durations import DAY
from titans_stream.printable import redacted
from titans_stream.records import Alert
from titans_stream.stream.encoding import decode_scores
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
from titans_stream.stream.settings import OutputConfig
from titans_stream.stream.stretch import begin_at, offset_at
from titans_stream.web.store import Store

log = logging.getLogger(__name__)

_POLL_MS = 250
_MOST_RECORDS = 500
_PAUSE = 3.0
"""Seconds before Kafka is tried again."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far back the topics are read at the start, ns before now."""

    alerts: int = 30 * DAY
    scores: int = DAY


@dataclass
class Progress:
    """What the reader is at, for people. `behind`: messages that are not read yet, by topic."""

    problem: str = "not connected yet"
    behind: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    """Messages that could not be read."""

    @property
    def caught_up(self) -> bool:
        """Whether all that was there has been read."""
        return not self.problem and not any(self.behind.values())


class Reader:
    """A thread that reads alerts first, then scores and forecasts, until `stop` is set.

    A topic that does not exist yet and a broker that does not answer are waited for.
    """

    def __init__(
        self,
        clients: KafkaClients,
        output: OutputConfig,
        store: Store,
        reach: Reach,
        stop: threading.Event,
    ) -> None:
        self._clients = clients
        self._output = output
        self._store = store
        self._reach = reach
        self._stop = stop
        self._thread = threading.Thread(target=self._run, name="page-reader", daemon=True)
        self._alerts = msgspec.json.Decoder(Alert)
        self._positions: dict[TopicPartition, int] = {}
        self.progress = Progress()

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the end, after `stop` was set."""
        self._thread.join(10.0)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._read()
            except StoppedError:
                return
            except (KafkaError, FatalError, *UNREADABLE) as error:
                self.progress.problem = redacted(str(error)) or type(error).__name__
                log.warning("%s; trying again in %g s", self.progress.problem, _PAUSE)
            self._stop.wait(_PAUSE)

    def _read(self) -> None:
        consumer = self._clients.consumer(None)
        try:
            while not self._stop.is_set():
                names = self._partitions()
                with translated("read"):
                    self._begin(consumer, names)
                    self.progress.problem = ""
                    if self._follow(consumer, names):
                        return
        finally:
            consumer.close(False, 1_000)

    def _partitions(self) -> list[TopicPartition]:
        topics = [
            t for t in (self._output.alerts, self._output.scores, self._output.forecasts) if t
        ]
        found = self._clients.topics(topics)
        missing = [name for name, info in found.items() if info is None]
        if missing:
            raise ConnectError(f"topic {missing[0]} does not exist yet (has the worker run?)")
        return [
            TopicPartition(topic, partition)
            for topic, info in found.items()
            if info is not None
            for partition in info.partitions
        ]

    def _begin(self, consumer: Consumer, names: list[TopicPartition]) -> None:
        """Assign all partitions; those that were read before go on where they were."""
        now = time.time_ns()
        behind: dict[str, int] = {}

        def start(name: TopicPartition, begin: int, end: int) -> int:
            at = self._positions.get(name)
            if at is None or not begin <= at <= end:
                alerts = name.topic == self._output.alerts
                since = now - (self._reach.alerts if alerts else self._reach.scores)
                at = max(begin, offset_at(consumer, name, since, end, ANSWER_MS))
            behind[name.topic] = behind.get(name.topic, 0) + end - at
            return at

        begin_at(consumer, names, start, ANSWER_MS)
        self.progress.behind = behind

    def _follow(self, consumer: Consumer, names: list[TopicPartition]) -> bool:
        """Read on until the end of the thread (True) or until topics have new partitions."""
        others = [name for name in names if name.topic != self._output.alerts]
        ends = consumer.end_offsets(names, ANSWER_MS)
        if others:
            consumer.pause(*others)
        looked = time.monotonic()
        while not self._stop.is_set():
            for name, records in consumer.poll(_POLL_MS, _MOST_RECORDS).items():
                for record in records:
                    self._take(name.topic, record)
                self._positions[name] = records[-1].offset + 1
            behind: dict[str, int] = {}
            for name in names:
                position = consumer.position(name) or 0
                end = max(ends[name], consumer.highwater(name) or 0)
                behind[name.topic] = behind.get(name.topic, 0) + max(0, end - position)
            self.progress.behind = behind
            if others and not behind[self._output.alerts]:
                consumer.resume(*others)
                others = []
            if time.monotonic() - looked > 60.0:
                looked = time.monotonic()
                if set(self._partitions()) != set(names):
                    return False
        return True

    def _take(self, topic: str, record: Any) -> None:
        value = record.value or b""
        try:
            if topic == self._output.alerts:
                self._store.take_alert(self._alerts.decode(value))
            elif topic == self._output.scores:
                frame = decode_scores(value)
                self._store.take_scores(frame.scores, frame.model)
            else:
                self._store.take_forecast((record.key or b"").decode(), value)
        except Exception as error:  # noqa: BLE001 no message may end the reading of all others
            self.progress.refused += 1
            if self.progress.refused <= 10:
                log.warning(
                    "%s partition %d offset %d cannot be read: %s",
                    topic, record.partition, record.offset, str(error) or type(error).__name__,
                )  # fmt: skip
