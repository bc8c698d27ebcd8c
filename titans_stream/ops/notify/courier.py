"""Carries the messages of the alerts topic to one receiver, in a consumer group of its own.

Kafka is the queue: at most one poll is held in memory, offsets are committed after delivery, and a
receiver that cannot be reached holds up nobody but itself. So a message is delivered at least once,
or dropped with a log line once it is older than `give_up_after`, or the receiver refuses it for
what it holds. A turn:

1. Poll; a rebalance begins with what is committed, and reads `history` before that anew for what
   is open.
2. Decode. What lies before the committed offset is recalled, the rest waits to be delivered.
3. Deliver the first few, if no pause after a failure is left; commit their offsets.
4. Nothing waits: send again what is open, where the receiver needs it.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from kafka import AsyncConsumerRebalanceListener, TopicPartition
from kafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from kafka.structs import OffsetAndMetadata

from titans_stream.durations import MILLISECOND, SECOND
from titans_stream.ops.health import Pulse
from titans_stream.ops.notify.post import DeliveryError
from titans_stream.ops.notify.receiver import Entry, Receiver
from titans_stream.records import Alert
from titans_stream.stream.kafka.client import KafkaClients
from titans_stream.stream.kafka.deadline import TURN_ANSWER_MS
from titans_stream.stream.kafka.errors import FatalError, UnansweredError
from titans_stream.stream.kafka.protocols import Consumer
from titans_stream.stream.kafka.translation import translated, user_error

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
_MOST_RECORDS = 500
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 60.0
_RESTART_SECONDS = 5.0
_CLOSE_MS = 3_000


class Numbers:
    """What a courier has come to."""

    def __init__(self) -> None:
        self.delivered = 0
        self.dropped = 0
        self.failures = 0
        self.waiting = 0
        self.lag = 0
        self.last_success = 0.0
        """By the wall clock; 0: none yet."""
        self.joined = False


class _Waiting(NamedTuple):
    partition: TopicPartition
    offset: int
    written: float
    """Seconds since 1970, by Kafka's timestamp."""
    entry: Entry


class Courier:
    """Delivers to one receiver until `stop`; `run` is for a thread of its own.

    `history` and `give_up_after` in nanoseconds.
    """

    def __init__(
        self,
        name: str,
        receiver: Receiver,
        clients: KafkaClients,
        topic: str,
        group_id: str,
        history: int,
        give_up_after: int,
        stop: threading.Event,
    ) -> None:
        self.name = name
        self.receiver = receiver
        self.numbers = Numbers()
        self.pulse = Pulse()
        self._clients = clients
        self._topic = topic
        self._group_id = group_id
        self._history = history
        self._give_up_after = give_up_after / SECOND
        self._stop = stop
        self._decoder = msgspec.json.Decoder(Alert)
        self._consumer: Consumer
        self._assigned: frozenset[TopicPartition] = frozenset()
        self._changed = False
        self._starts: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._waiting: deque[_Waiting] = deque()
        self._critical: set[str] = set()
        self._failed = 0
        self._not_before = 0.0

    def run(self) -> None:
        """Deliver; ConnectError for what the user has to mend."""
        while not self._stop.is_set():
            self._consumer = self._clients.consumer(self._group_id)
            try:
                self._consumer.subscribe([self._topic], pattern=None, listener=_Listener(self))
                self._consumer.topics()
                while not self._stop.is_set():
                    self._turn()
            except FatalError as error:
                log.warning("%s: %s; beginning anew", self.name, error)
                self._stop.wait(_RESTART_SECONDS)
            except KafkaError as error:
                if user_error(error) is not None:
                    raise user_error(error) or error from error
                log.warning("%s: %s; beginning anew", self.name, error)
                self._stop.wait(_RESTART_SECONDS)
            finally:
                self._consumer.close(False, _CLOSE_MS)

    def reassigned(self, partitions: frozenset[TopicPartition]) -> None:
        """The group has given these; called by kafka-python during a poll."""
        self._assigned, self._changed = partitions, True

    def _turn(self) -> None:
        now = time.monotonic()
        wait = _POLL_SECONDS
        if self._waiting:
            wait = min(wait, max(0.0, self._not_before - now))
        try:
            records = self._poll(wait)
            if self._changed:
                self._take_over()
                return
        except UnansweredError as error:
            log.warning("%s: waiting for Kafka: %s", self.name, error)
            self._stop.wait(_POLL_SECONDS)
            return
        self.pulse()
        self._decode(records)
        if time.monotonic() >= self._not_before:
            self._tried(self._deliver if self._waiting else self._refresh)
        self._pace()

    def _poll(self, wait: float) -> dict[TopicPartition, list[Any]]:
        try:
            with translated("poll"):
                return self._consumer.poll(int(wait * 1_000), _MOST_RECORDS)
        except FatalError as error:
            if isinstance(error.__cause__, NoOffsetForPartitionError):
                return {}  # new partitions: `_take_over` gives them a position
            if isinstance(error.__cause__, OffsetOutOfRangeError):
                self._changed = True
                return {}
            raise

    def _take_over(self) -> None:
        """Begin with what is committed; a group that is new with what comes from now on."""
        self._changed = False
        self._waiting.clear()
        self._critical.clear()
        self._starts.clear()
        self._ends.clear()
        self.receiver.forget()
        names = sorted(self._assigned)
        try:
            with translated("offsets"):
                self._seek(names)
        except UnansweredError:
            self._changed = True
            raise
        self.numbers.joined = True

    def _seek(self, names: list[TopicPartition]) -> None:
        consumer = self._consumer
        if not names:
            return
        begins = consumer.beginning_offsets(names, TURN_ANSWER_MS)
        ends = consumer.end_offsets(names, TURN_ANSWER_MS)
        since = (time.time_ns() - self._history) // MILLISECOND
        told = consumer.offsets_for_times(dict.fromkeys(names, since), TURN_ANSWER_MS)
        for name in names:
            found = consumer.committed(name, metadata=True, timeout_ms=TURN_ANSWER_MS)
            start = ends[name] if found is None else int(found.offset)
            if start < begins[name]:
                log.error("%s: %d alerts were deleted before they were read", self.name,
                          begins[name] - start)  # fmt: skip
                start = begins[name]
            if found is None:
                consumer.commit({name: OffsetAndMetadata(start, "", -1)}, TURN_ANSWER_MS)
            old = told.get(name)
            self._starts[name] = start
            consumer.seek(name, start if old is None else min(start, int(old.offset)))
        consumer.resume(*names)

    def _decode(self, records: dict[TopicPartition, list[Any]]) -> None:
        past: list[Entry] = []
        for partition, found in records.items():
            start = self._starts.get(partition)
            for record in found if start is not None else ():
                try:
                    alert = self._decoder.decode(record.value or b"")
                except ValueError as error:
                    log.warning("%s partition %d offset %d is no alert: %s", self._topic,
                                record.partition, record.offset, error)  # fmt: skip
                    continue
                entry = self._entry(alert)
                if start is not None and record.offset < start:
                    past.append(entry)
                else:
                    written = record.timestamp / 1_000
                    self._waiting.append(_Waiting(partition, record.offset, written, entry))
        if past:
            self.receiver.recall(past)

    def _entry(self, alert: Alert) -> Entry:
        if alert.severity == "critical":
            self._critical.add(alert.alert_id)
        critical = alert.alert_id in self._critical
        if alert.status == "resolved":
            self._critical.discard(alert.alert_id)
        return Entry(alert, critical)

    def _deliver(self) -> None:
        count = self.receiver.deliver([waiting.entry for waiting in self._waiting])
        self.numbers.delivered += count
        self._done(count)

    def _refresh(self) -> None:
        due = self.receiver.due()
        if due is not None and time.monotonic() >= due:
            self.receiver.refresh()

    def _tried(self, attempt: Callable[[], None]) -> None:
        try:
            attempt()
        except DeliveryError as error:
            self._note_failure(error)
            return
        if self._failed:
            log.info("%s: takes alerts again", self.name)
        self._failed, self._not_before = 0, 0.0
        self.numbers.last_success = time.time()

    def _note_failure(self, error: DeliveryError) -> None:
        self.numbers.failures += 1
        if error.hopeless and self._waiting:
            self._drop(min(error.done, len(self._waiting)), str(error))
            return
        oldest = time.time() - self._give_up_after
        late = sum(waiting.written < oldest for waiting in self._waiting)
        if late:
            self._drop(late, f"not delivered in time: {error}")
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._failed, 10))
        pause = max(error.pause, pause * random.uniform(0.5, 1.0))
        self._failed += 1
        self._not_before = time.monotonic() + pause
        log.warning("%s: %s; trying again in %.1f s", self.name, error, pause)
        self._hear_ends()

    def _hear_ends(self) -> None:
        """Of partitions that are not read for now nobody tells the end."""
        try:
            with translated("offsets"):
                ends = self._consumer.end_offsets(sorted(self._assigned), TURN_ANSWER_MS)
        except UnansweredError as unanswered:
            log.debug("%s: %s", self.name, unanswered)
        else:
            self._ends = ends

    def _drop(self, count: int, why: str) -> None:
        log.error("%s: %d message(s) are dropped: %s", self.name, count, why)
        self.numbers.dropped += count
        self._done(count)

    def _done(self, count: int) -> None:
        """Forget the first messages, and commit what comes after them."""
        offsets = {}
        for _ in range(count):
            done = self._waiting.popleft()
            offsets[done.partition] = OffsetAndMetadata(done.offset + 1, "", -1)
        try:
            self._consumer.commit(offsets, TURN_ANSWER_MS)
        except KafkaError as error:
            # whoever has the partition next delivers them once more
            log.warning("%s: offsets are not committed: %s", self.name, error)

    def _pace(self) -> None:
        """Read on only where nothing waits; polls go on, for the sake of the group."""
        numbers = self.numbers
        numbers.waiting = len(self._waiting)
        numbers.lag = len(self._waiting)
        for name in self._assigned:
            end = max(self._consumer.highwater(name) or 0, self._ends.get(name, 0))
            numbers.lag += max(0, end - (self._consumer.position(name) or end))
        if self._assigned and not self._changed:
            (self._consumer.pause if self._waiting else self._consumer.resume)(*self._assigned)


class _Listener(AsyncConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, courier: Courier) -> None:
        self._courier = courier

    async def on_partitions_revoked(self, revoked: Any) -> None:
        del revoked

    async def on_partitions_assigned(self, assigned: Any) -> None:
        self._courier.reassigned(frozenset(assigned))

    async def on_partitions_lost(self, lost: Any) -> None:
        del lost
        self._courier.reassigned(frozenset())
