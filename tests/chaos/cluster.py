"""A Kafka cluster of this machine whose nodes can be killed, frozen and brought back one by one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from kafka.errors import KafkaError

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "kafka.py"
OFFSETS, TRANSACTIONS = "__consumer_offsets", "__transaction_state"
INTERNAL_PARTITIONS = 4
"""Of both topics, as scripts/kafka.py sets it."""


def can_run() -> bool:
    """Whether this machine has what scripts/kafka.py needs for single nodes."""
    return bool(shutil.which("java") and shutil.which("mvn"))


class Cluster:
    """Nodes are known by their numbers, from 1. `folder` keeps jars and records."""

    def __init__(self, folder: Path, nodes: int = 3) -> None:
        self.folder = folder
        self._script("start", "--nodes", nodes)
        described = json.loads((folder / "cluster.json").read_text())
        self.ports: dict[int, int] = {node["id"]: node["port"] for node in described["nodes"]}
        self.down: set[int] = set()

    @property
    def bootstrap(self) -> str:
        """The addresses of all nodes, those that are down too."""
        return ",".join(f"127.0.0.1:{port}" for port in self.ports.values())

    def kill(self, node: int) -> None:
        """End a node as a power cut does."""
        self._script("kill", "--node", node)
        self.down.add(node)

    def freeze(self, node: int) -> None:
        """Stop a node: its connections stay open, and nothing answers."""
        self._script("freeze", "--node", node)
        self.down.add(node)

    def thaw(self, node: int) -> None:
        """Let a frozen node go on."""
        self._script("thaw", "--node", node)
        self.down.discard(node)

    def revive(self, node: int) -> None:
        """Start a node that was killed; see `wait_whole`."""
        self._script("revive", "--node", node)
        self.down.discard(node)

    def stop(self) -> None:
        """End all nodes; a frozen one has to be thawed before."""
        for node in self.down:
            subprocess.run(
                [
                    sys.executable,
                    str(SCRIPT),
                    "thaw",
                    "--dir",
                    str(self.folder),
                    "--node",
                    str(node),
                ],
                capture_output=True,
            )
        self._script("stop")

    def _script(self, *arguments: object) -> None:
        command = [sys.executable, str(SCRIPT), *map(str, arguments), "--dir", str(self.folder)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command[1:])}: {done.stderr}")

    def admin(self) -> KafkaAdminClient:
        """An admin client of the nodes that are up."""
        up = [f"127.0.0.1:{port}" for node, port in self.ports.items() if node not in self.down]
        return KafkaAdminClient(bootstrap_servers=up, request_timeout_ms=3_000)

    def create(self, topics: dict[str, tuple[int, dict[str, str]]]) -> None:
        """Make topics: partitions and configuration by name, on all nodes."""
        copies = min(3, len(self.ports))
        with closing(self.admin()) as admin:
            admin.create_topics(
                [
                    NewTopic(name, n, copies, topic_configs=more)
                    for name, (n, more) in topics.items()
                ]
            )
            admin.wait_for_topics(list(topics))

    def described(self, topics: Iterable[str]) -> dict[tuple[str, int], dict[str, Any]]:
        """Leader and in-sync replicas of each partition; nothing where no node answers now."""
        try:
            with closing(self.admin()) as admin:
                found = admin.describe_topics(list(topics))
        except (KafkaError, OSError, ValueError):
            return {}
        return {(t["name"], p["partition_index"]): p for t in found for p in t["partitions"]}

    def able(self, topics: Iterable[str]) -> bool:
        """Whether every partition of the topics, and of Kafka's own, has a leader that is up."""
        found = self.described([*topics, OFFSETS, TRANSACTIONS])
        return bool(found) and all(
            each["leader_id"] >= 0 and each["leader_id"] not in self.down for each in found.values()
        )

    def wait_able(self, topics: Iterable[str], seconds: float = 90.0) -> float:
        """Wait until the cluster can serve; the time (`time.monotonic`) at which it could."""
        return self._wait(lambda: self.able(topics), seconds)

    def wait_whole(self, topics: Iterable[str], seconds: float = 400.0) -> float:
        """Wait until all nodes are in step for every partition."""
        names = list(topics)
        return self._wait(lambda: self.whole(names), seconds)

    def whole(self, topics: Iterable[str]) -> bool:
        """Whether all nodes are in step for every partition."""
        found = self.described([*topics, OFFSETS, TRANSACTIONS])
        return bool(found) and all(
            set(each["isr_nodes"]) == set(each["replica_nodes"]) for each in found.values()
        )

    @staticmethod
    def _wait(condition: Any, seconds: float) -> float:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError("the cluster does not come round")
            time.sleep(0.1)
        return time.monotonic()

    def coordinator(self, name: str, topic: str = OFFSETS) -> int:
        """The node that coordinates a consumer group, or (TRANSACTIONS) a transactional id."""
        partition = _java_hash(name) % INTERNAL_PARTITIONS
        return int(self.described([topic])[topic, partition]["leader_id"])


def _java_hash(text: str) -> int:
    """Java's String.hashCode as Kafka makes it positive (`Utils.abs`)."""
    value = 0
    for character in text:
        value = (31 * value + ord(character)) & 0xFFFFFFFF
    return value & 0x7FFFFFFF
