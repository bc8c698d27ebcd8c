"""Reads the demo's output topics back, as any consumer would."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import orjson
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from titans_stream.commands.demo_state import DemoState
from titans_stream.config import Connector
from titans_stream.stream.encoding import decode_scores

_POLL_MS = 100


class OutputReader(threading.Thread):
    """Reads alerts and scores of the connectors, committed ones only, into a state."""

    def __init__(self, servers: str, connectors: Mapping[str, Connector], state: DemoState) -> None:
        super().__init__(name="demo-reader", daemon=True)
        self._state = state
        self._alerts = {one.output.alerts for one in connectors.values()}
        self._scores = {one.output.scores for one in connectors.values()}
        self._stopping = threading.Event()
        self.problem = ""
        self._consumer = KafkaConsumer(
            bootstrap_servers=servers,
            isolation_level="read_committed",
            fetch_max_wait_ms=_POLL_MS,
            metrics_enabled=False,
        )

    def run(self) -> None:
        """Read until `stop`."""
        topics = [topic for topic in (*self._alerts, *self._scores) if topic]
        partitions = [TopicPartition(topic, 0) for topic in topics]
        try:
            self._consumer.assign(partitions)
            self._consumer.seek_to_beginning(*partitions)
            while not self._stopping.is_set():
                for partition, messages in self._consumer.poll(_POLL_MS).items():
                    for message in messages:
                        self._take(partition.topic, message.value)
            self._consumer.close()
        except KafkaError as error:
            self.problem = str(error)

    def _take(self, topic: str, value: bytes) -> None:
        if topic in self._alerts:
            message: dict[str, Any] = orjson.loads(value)
            self._state.add_alert(message)
        else:
            frame = decode_scores(value)
            self._state.add_scores(frame.topic, frame.scores)

    def stop(self) -> None:
        """End soon."""
        self._stopping.set()
