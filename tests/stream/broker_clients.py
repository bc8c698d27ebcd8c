"""Clients for tests against a broker, and a raw connection that sends single requests."""

from __future__ import annotations

import socket
import struct
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaError
from kafka.record.memory_records import MemoryRecordsBuilder


class Clients:
    """Makes kafka-python clients of one broker with default settings, and closes them all."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._stack = ExitStack()

    def close(self) -> None:
        self._stack.close()

    def member(self, topic: str, *, commit: bool = False, **settings: Any) -> Member:
        """A member of a group, polling."""
        settings = {"heartbeat_interval_ms": 200, "enable_auto_commit": False} | settings
        made = Member(self.consumer(topic, **settings), commit=commit)
        self._stack.callback(made.stop)
        return made

    def topic(self, partitions: int = 1) -> str:
        """A new topic, ready for use."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        admin = self.admin()
        admin.create_topics([NewTopic(name, partitions, -1)])
        admin.wait_for_topics([name])
        everywhere = [only(name, number) for number in range(partitions)]
        self.consumer().end_offsets(everywhere)  # waits for the partitions' leaders
        return name

    def admin(self) -> KafkaAdminClient:
        made = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        return self._stack.enter_context(closing(made))

    def producer(self, **settings: Any) -> KafkaProducer:
        made = KafkaProducer(bootstrap_servers=self.bootstrap, **settings)
        self._stack.callback(made.close, timeout=0 if "transactional_id" in settings else 5)
        return made

    def transactional(self, transactional_id: str | None = None, **settings: Any) -> KafkaProducer:
        name = transactional_id or f"tx-{uuid.uuid4().hex[:12]}"
        made = self.producer(transactional_id=name, **settings)
        made.init_transactions()
        return made

    def consumer(self, *topics: str, group: str | None = None, **settings: Any) -> KafkaConsumer:
        """A consumer from the earliest record on; without a group, of all partitions."""
        settings = {"auto_offset_reset": "earliest", "enable_auto_commit": group is not None} | (
            settings
        )
        made = KafkaConsumer(bootstrap_servers=self.bootstrap, group_id=group, **settings)
        self._stack.callback(made.close, autocommit=False)
        if group is None:
            made.assign([only(t, p) for t in topics for p in made.partitions_for_topic(t) or ()])
        elif topics:
            made.subscribe(topics)
            made.topics()  # a join before the metadata is there is repeated, and can then hang
        return made

    def committed_reader(self, topic: str, **settings: Any) -> KafkaConsumer:
        """A consumer of committed records only, outside of any group."""
        return self.consumer(topic, isolation_level="read_committed", **settings)

    def request(self, message: Any) -> Any:
        """Send one request (a versioned message class's instance); its response, decoded."""
        host, port = self.bootstrap.split(",")[0].rsplit(":", 1)
        message.with_header(correlation_id=7, client_id="test")
        with socket.create_connection((host, int(port)), timeout=10) as sock:
            sock.sendall(message.encode(header=True, framed=True))
            file = sock.makefile("rb")
            (length,) = struct.unpack(">i", file.read(4))
            answer = file.read(length)
        response_class = message.header.get_response_class()
        return response_class.decode(answer, header=True)


def take(consumer: KafkaConsumer, count: int, seconds: float = 10.0) -> list[Any]:
    """The next records, at least `count`; fewer only when time runs out."""
    records: list[Any] = []
    deadline = time.monotonic() + seconds
    while len(records) < count and time.monotonic() < deadline:
        for part in consumer.poll(timeout_ms=100).values():
            records.extend(part)
    return records


def values(records: list[Any]) -> list[bytes]:
    return [record.value for record in records]


def nothing_more(consumer: KafkaConsumer, seconds: float = 0.6) -> bool:
    """Whether no record comes for a while."""
    return take(consumer, 1, seconds) == []


def eventually(check: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether a check comes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.02)
    return False


class Member:
    """A consumer that polls in a thread of its own, as a worker does."""

    def __init__(self, consumer: KafkaConsumer, *, commit: bool = False) -> None:
        self.consumer = consumer
        self._commit = commit
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.assigned: set[int] = set()
        self.values: list[bytes] = []
        self.error: Exception | None = None
        self._thread.start()

    def stop(self) -> None:
        """Poll no more; the consumer stays in its group until its session ends."""
        self._ends.set()
        self._thread.join(10)

    def leave(self) -> None:
        """Stop and leave the group."""
        self.stop()
        self.consumer.close(autocommit=False)

    def _run(self) -> None:
        try:
            while not self._ends.is_set():
                for part in self.consumer.poll(timeout_ms=200).values():
                    self.values.extend(record.value for record in part)
                    if self._commit:
                        self.consumer.commit()
                self.assigned = {p.partition for p in self.consumer.assignment()}
        except KafkaError as error:
            self.error = error


def batch(
    values: list[bytes],
    *,
    producer_id: int = -1,
    epoch: int = -1,
    sequence: int = -1,
    transactional: bool = False,
    timestamp: int = 1_700_000_000_000,
) -> bytes:
    """A record batch as a producer would send it."""
    builder = MemoryRecordsBuilder(
        magic=2,
        compression_type=0,
        batch_size=2**20,
        transactional=transactional,
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=sequence,
    )
    for value in values:
        builder.append(timestamp, None, value)
    builder.close()
    return bytes(builder.buffer())


def only(topic: str, number: int = 0) -> TopicPartition:
    """One partition."""
    return TopicPartition(topic, number)
