"""What can be seen of the workers from outside: their lag, their group, their snapshots."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from titans_stream.config import Connector
from titans_stream.ops.storage import Snapshots
from titans_stream.printable import redacted
from titans_stream.stream.inspect import PartitionReport, input_partitions
from titans_stream.stream.kafka.client import KafkaClients
from titans_stream.stream.kafka.errors import ConnectError, FatalError, StoppedError
from titans_stream.stream.kafka.groups import GroupMember, GroupUse
from titans_stream.times import format_timestamp, parse_timestamp

log = logging.getLogger(__name__)

_EVERY = 10.0
"""Seconds between two questions."""


@dataclass
class GroupHistory:
    """Who has which partitions, and how often that was seen to change.

    Looks are seconds apart: rebalances between two of them are one, and one that leaves everything
    as it was is not seen.
    """

    use: GroupUse | None = None
    """As of the last look that saw no rebalance under way."""
    changes: int = 0
    changed: int = 0
    """When the last one was seen, UTC ns; 0: none was."""
    since: int = field(default_factory=time.time_ns)

    def look(self, use: GroupUse) -> None:
        """Take what the broker tells now."""
        if not use.settled:
            return
        if self.use is not None and _shares(use.members) != _shares(self.use.members):
            self.changes += 1
            self.changed = time.time_ns()
        self.use = use

    def view(self) -> dict[str, Any]:
        """For the API."""
        use = self.use
        return {
            "state": "" if use is None else use.state,
            "members": []
            if use is None
            else [
                {"client": one.client, "host": one.host, "partitions": _by_topic(one)}
                for one in sorted(use.members, key=lambda one: one.id)
            ],
            "rebalances": self.changes,
            "last_rebalance": format_timestamp(self.changed) if self.changed else None,
            "watched_since": format_timestamp(self.since),
        }


def _shares(members: tuple[GroupMember, ...]) -> set[tuple[str, Any]]:
    return {(one.id, tuple(sorted(one.partitions))) for one in members}


def _by_topic(member: GroupMember) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for topic, number in sorted(member.partitions):
        found.setdefault(topic, []).append(number)
    return found


class LagWatch:
    """A thread that asks how far the worker's group has come, until `stop` is set."""

    def __init__(self, clients: KafkaClients, connector: Connector, stop: threading.Event) -> None:
        self._clients = clients
        self._input = connector.input
        self._stop = stop
        self._thread = threading.Thread(target=self._run, name="page-lag", daemon=True)
        self.problem = "not asked yet"
        self.partitions: tuple[PartitionReport, ...] = ()
        self.group = GroupHistory()

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
                self.group.look(self._clients.group_use(self._input.group_id))
                self.problem = "" if self.partitions else "the input topic does not exist yet"
            except StoppedError:
                return
            except (ConnectError, FatalError) as error:
                self.problem = redacted(str(error))
            self._stop.wait(_EVERY)


def snapshots(store: Snapshots, connector: Connector) -> list[dict[str, Any]]:
    """The newest snapshot of each partition. OSError where the folder may not be read."""
    now = time.time()
    found = []
    for topic in filter(connector.input.subscription.has, store.topics()):
        for partition, header in sorted(store.newest(topic).items()):
            offset, written = int(header.get("offset", -1)), header.get("written", "")
            try:
                age = now - parse_timestamp(written) / 1e9
                size = int(header.get("bytes", "0"))
            except ValueError:
                continue  # another worker's
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
