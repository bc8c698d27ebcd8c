"""scripts/kafka.py: an Apache Kafka of three nodes that starts, loses one, stops and goes on."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "kafka.py"
ADDRESS = re.compile(r"KAFKA_BOOTSTRAP_SERVERS=(127\.0\.0\.1:\d+(?:,127\.0\.0\.1:\d+)*)\n")


def script(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script as make does: with no terminal, in a session that ends with it."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | environment,
        start_new_session=True,
    )


def start(folder: Path, nodes: int) -> str:
    """Start a cluster; its addresses, the only thing on stdout."""
    done = script("start", "--nodes", nodes, "--dir", folder)
    assert done.returncode == 0, done.stderr
    found = ADDRESS.fullmatch(done.stdout)
    assert found, done.stdout
    return found.group(1)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    if not (shutil.which("java") and shutil.which("mvn")):
        pytest.skip("needs Java 17 and Maven")
    path = tmp_path / "kafka"
    yield path
    script("clean", "--dir", path)


def append(bootstrap: str, value: bytes) -> None:
    settings = {"transactional_id": "test", "acks": "all"}
    with closing(KafkaProducer(bootstrap_servers=bootstrap, **settings)) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send("replicated", value).get(30)
        producer.commit_transaction()


def read(bootstrap: str, count: int) -> list[bytes]:
    settings = {"isolation_level": "read_committed", "auto_offset_reset": "earliest"}
    with closing(KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, **settings)) as consumer:
        consumer.assign([TopicPartition("replicated", 0)])
        values: list[bytes] = []
        for _ in range(60):
            for records in consumer.poll(timeout_ms=500).values():
                values += [record.value for record in records]
            if len(values) >= count:
                break
        return values


@pytest.mark.kafka
@pytest.mark.slow
def test_three_nodes_lose_one_and_go_on(folder: Path) -> None:
    bootstrap = start(folder, 3)
    assert len(bootstrap.split(",")) == 3
    assert start(folder, 3) == bootstrap, "a second start finds it running"
    assert script("status", "--dir", folder).stdout == f"KAFKA_BOOTSTRAP_SERVERS={bootstrap}\n"
    assert script("start", "--nodes", 1, "--dir", folder).returncode == 1

    with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
        admin.create_topics([NewTopic("replicated", 1, 3)])
        admin.wait_for_topics(["replicated"])
        partition = admin.describe_topics(["replicated"])[0]["partitions"][0]
        assert sorted(partition["replica_nodes"]) == [1, 2, 3]
    append(bootstrap, b"three nodes")
    nodes = {n["id"]: n for n in json.loads((folder / "cluster.json").read_text())["nodes"]}
    os.kill(nodes[partition["leader_id"]]["pid"], signal.SIGKILL)
    append(bootstrap, b"two nodes")
    assert read(bootstrap, 2) == [b"three nodes", b"two nodes"]
    assert script("status", "--dir", folder).returncode == 1, "not all nodes run"

    again = start(folder, 3)
    assert read(again, 2) == [b"three nodes", b"two nodes"], "the data survives a restart"
    assert script("stop", "--dir", folder).returncode == 0
    assert script("status", "--dir", folder).returncode == 1
    assert script("clean", "--dir", folder).returncode == 0
    assert not folder.exists()


def test_without_java_and_docker_it_says_what_to_install(tmp_path: Path) -> None:
    done = script("start", "--dir", tmp_path / "kafka", PATH=str(tmp_path), JAVA_HOME="")
    assert (done.returncode, done.stdout) == (3, "")
    assert "Java 17" in done.stderr
    assert "Maven" in done.stderr
    assert "Docker" in done.stderr
