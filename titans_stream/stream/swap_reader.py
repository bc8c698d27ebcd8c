"""Reads a stretch of a partition's log in the background, with a consumer of its own."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

from kafka import TopicPartition
from kafka.errors import KafkaError

from titans_stream.stream.kafka.errors import UNREADABLE, FatalError, StoppedError
from titans_stream.stream.kafka.protocols import Consumer
from titans_stream.stream.messages import RawMessage
from titans_stream.stream.recovery import StoredSnapshot
from titans_stream.stream.stretch import offset_at, read_stretch

log = logging.getLogger(__name__)

_ANSWER_MS = 5_000
_MESSAGES = 50
"""In one list."""
FETCH_BYTES = 2**16
"""Of one answer of the broker: taking a larger one apart holds up the loop."""
_LISTS = 50
"""Lists that are kept ready."""


class History:
    """The messages of `partition` from a time on, up to and without the offset `until`.

    `since` is nanoseconds before now, `most` a bound on the number of messages. `load` may give a
    state: where no more than `most` messages follow it, they begin there. `begin` is where they
    really begin and `stored` the state, if any, once it is `found`.
    """

    def __init__(
        self,
        open_consumer: Callable[[], Consumer],
        partition: TopicPartition,
        until: int,
        since: int,
        most: int,
        load: Callable[[], StoredSnapshot | None] = lambda: None,
    ) -> None:
        self._open_consumer = open_consumer
        self._partition = partition
        self._until = until
        self._since = time.time_ns() - since
        self._most = most
        self._load = load
        self._lists: queue.Queue[list[RawMessage]] = queue.Queue(_LISTS)
        self._stop = threading.Event()
        self._read = threading.Event()
        self.begin = until
        self.stored: StoredSnapshot | None = None
        self._found = threading.Event()
        self.error: str | None = None
        self._thread = threading.Thread(target=self._run, name="swap-history", daemon=True)
        self._thread.start()

    @property
    def found(self) -> bool:
        """Whether it is known where the messages begin."""
        return self._found.is_set()

    @property
    def done(self) -> bool:
        """Whether all messages were taken."""
        return self._read.is_set() and self._lists.empty() and self.error is None

    def take(self) -> list[RawMessage]:
        """Some messages, in order; none where there are none for now."""
        try:
            return self._lists.get_nowait()
        except queue.Empty:
            return []

    def close(self) -> None:
        """End the reading; does not wait for it."""
        self._stop.set()

    def _run(self) -> None:
        try:
            consumer = self._open_consumer()
            try:
                self._find(consumer)
                if self.begin < self._until:
                    self._fetch(consumer)
            finally:
                consumer.close(False, 1_000)
        except (KafkaError, FatalError, StoppedError, *UNREADABLE) as error:
            self.error = str(error) or type(error).__name__
        self._read.set()

    def _find(self, consumer: Consumer) -> None:
        partition = self._partition
        first = consumer.beginning_offsets([partition], _ANSWER_MS)[partition]
        first = min(max(first, self._until - self._most), self._until)
        stored = self._load()
        if stored is not None and stored.offset >= first:
            self.stored, self.begin = stored, stored.offset
        else:
            begin = offset_at(consumer, partition, self._since, self._until, _ANSWER_MS)
            self.begin = min(max(first, begin), self._until)
        self._found.set()

    def _fetch(self, consumer: Consumer) -> None:
        partition, until = self._partition, self._until
        for messages in read_stretch(consumer, partition, self.begin, until, _MESSAGES):
            if messages:
                self._put(messages)
            if self._stop.is_set():
                return

    def _put(self, messages: list[RawMessage]) -> None:
        while not self._stop.is_set():
            try:
                self._lists.put(messages, timeout=0.2)
            except queue.Full:
                continue
            return
