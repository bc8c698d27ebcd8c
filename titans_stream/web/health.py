"""What can be seen of the worker from outside: its lag, its snapshots."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from titans_stream.config import Connector
from titans_stream.ops.storage import LocalSnapshots
from titans_stream.printable import redacted
from titans_stream.stream.inspect import PartitionReport, input_partitions
from titans_stream.stream.kafka.client import KafkaClients
from titans_stream.stream.kafka.errors import ConnectError, FatalError, StoppedError
from titans_stream.times import parse_timestamp

log = logging.getLogger(__name__)

_EVERY = 10.0
"""Seconds between two questions."""


class LagWatch:
    """A thread that asks how far the worker's group has come, until `stop` is set."""

    def __init__(self, clients: KafkaClients, connector: Connector, stop: threading.Event) -> None:
        self._clients = clients
        self._input = connector.input
        self._stop = stop
        self._thread = threading.Thread(target=self._run, name="page-lag", daemon=True)
        self.problem = "not asked yet"
        self.partitions: tuple[PartitionReport, ...] = ()

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the end, after `stop` was set."""
        self._thread.join(10.0)

    def view(self) -> list[dict[str, Any]]:
        """The answer of last time."""
        return [
            {
                "topic": one.topic,
                "partition": one.partition,
                "end": one.end,
                "committed": one.committed,
                "lag": one.lag,
            }
            for one in self.partitions
        ]

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.partitions = input_partitions(self._clients, self._input)
                self.problem = "" if self.partitions else "the input topic does not exist yet"
            except StoppedError:
                return
            except (ConnectError, FatalError) as error:
                self.problem = redacted(str(error))
            self._stop.wait(_EVERY)


def snapshots(store: LocalSnapshots, connector: Connector) -> list[dict[str, Any]]:
    """The newest snapshot of each partition. OSError where the folder may not be read."""
    now = time.time()
    found = []
    for topic in filter(connector.input.subscription.has, store.topics()):
        for partition, header in sorted(store.newest(topic).items()):
            offset, written = int(header.get("offset", -1)), header.get("written", "")
            try:
                age = now - parse_timestamp(written) / 1e9
                size = store.path(topic, partition, offset).stat().st_size
            except (ValueError, FileNotFoundError):
                continue  # another worker's, or replaced in this moment
            found.append(
                {
                    "topic": topic,
                    "partition": partition,
                    "offset": offset,
                    "written": written,
                    "age_s": age,
                    "bytes": size,
                    "model": " ".join(header.get(n, "?") for n in ("model", "model_version")),
                }
            )
    return found
