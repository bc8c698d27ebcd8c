"""A real Kafka with TLS, SCRAM and ACLs: a worker that may do what it needs, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType
from kafka.admin import ACLResourcePatternType as PatternType

REPO = Path(__file__).resolve().parents[2]
SCRIPT = REPO / "scripts" / "kafka.py"
pytestmark = [pytest.mark.slow, pytest.mark.kafka]
CONNECTOR = """\
name: plant
kafka: {kafka}
input: {{topic: sensors, series: "{{s}}", value: v, timestamp: ts, start: earliest}}
output: {{alerts: alerts}}
state: {{path: "{folder}/state"}}
http: {{port: 0}}
"""
SECURE = """
  bootstrap_servers: "{servers}"
  security_protocol: SASL_SSL
  ssl_cafile: "{cafile}"
  sasl_mechanism: SCRAM-SHA-512
  sasl_plain_username: {user}
  sasl_plain_password: ${{WORKER_PASSWORD}}
"""


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl, which makes the certificates")
    folder = tmp_path_factory.mktemp("kafka")
    for jars in (REPO / ".kafka").glob("jars-*"):
        (folder / jars.name).symlink_to(jars)
    command = [sys.executable, str(SCRIPT)]
    started = subprocess.run(
        [*command, "start", "--secure", "--via", "maven", "--dir", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if started.returncode == 3:
        pytest.skip(f"no Kafka from Maven artefacts: {started.stderr}")
    assert started.returncode == 0, started.stderr
    admin = started.stdout.strip().partition("=")[2]
    try:
        yield {**json.loads((folder / "secure.json").read_text()), "admin": admin}
    finally:
        subprocess.run([*command, "stop", "--dir", str(folder)], check=False)


def connector(folder: Path, secured: dict[str, Any], **changes: str) -> Path:
    kafka = SECURE.format(
        **{
            "servers": secured["bootstrap_servers"],
            "user": secured["user"],
            "cafile": secured["cafile"],
            **changes,
        }
    )
    path = folder / "plant.yaml"
    path.write_text(CONNECTOR.format(kafka=kafka, folder=folder))
    return path


def command(path: Path, name: str, *arguments: str, password: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "titans_stream.cli", name, str(path), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "WORKER_PASSWORD": password},
        timeout=250,
        check=False,
    )
    assert password not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def allow(servers: str, user: str) -> None:
    """What docs/operations.md lists, and nothing more."""
    topic, group, transaction = (
        ResourceType.TOPIC,
        ResourceType.GROUP,
        ResourceType.TRANSACTIONAL_ID,
    )
    wanted = [
        (topic, "sensors", PatternType.LITERAL, "READ"),
        (topic, "alerts", PatternType.LITERAL, "WRITE"),
        (topic, "alerts", PatternType.LITERAL, "READ"),
        (topic, "sensors.dead-letter", PatternType.LITERAL, "WRITE"),
        (group, "titans-stream.plant", PatternType.PREFIXED, "READ"),
        (transaction, "titans-stream.plant", PatternType.PREFIXED, "WRITE"),
    ]
    admin = KafkaAdminClient(bootstrap_servers=servers)
    admin.create_acls(
        [
            ACL(
                f"User:{user}",
                "*",
                ACLOperation[operation],
                ACLPermissionType.ALLOW,
                ResourcePattern(kind, name, pattern),
            )
            for kind, name, pattern, operation in wanted
        ]
    )
    admin.close()


def test_what_is_wrong_is_named(secured: dict[str, Any], tmp_path: Path) -> None:
    path = connector(tmp_path, secured)
    code, said = command(path, "check", password="not-it-at-all")
    assert code == 2
    assert "Kafka refuses kafka.sasl_plain_username and its password" in said
    other = tmp_path / "other.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other",
         "-keyout", str(tmp_path / "other.key"), "-out", str(other)], check=True,
        capture_output=True,
    )  # fmt: skip
    untrusted = connector(tmp_path, secured, cafile=str(other))
    code, said = command(untrusted, "check", password=secured["password"])
    assert code == 2
    assert "certificate verify failed" in said


def test_a_worker_with_the_listed_acls_alerts_end_to_end(
    secured: dict[str, Any], tmp_path: Path
) -> None:
    path, password = connector(tmp_path, secured), secured["password"]
    plain = tmp_path / "admin.yaml"
    kafka = f"{{bootstrap_servers: '{secured['admin']}'}}"
    plain.write_text(CONNECTOR.format(kafka=kafka, folder=tmp_path))
    assert command(plain, "topics", "--create", "--partitions", "2", password="unused-here")[0] == 0
    code, said = command(path, "run", password=password)
    assert code == 2
    assert "topic" in said.splitlines()[-1], "nothing is allowed yet"

    allow(secured["admin"], secured["user"])
    producer = KafkaProducer(bootstrap_servers=secured["admin"])
    for second in range(400):
        value = 90.0 if second == 390 else second % 7
        text = json.dumps({"s": "a", "ts": 1_772_323_200 + 60 * second, "v": value})
        producer.send("sensors", text.encode(), key=b"a")
    producer.close()
    code, said = command(path, "check", password=password)
    assert code == 0, said
    with (tmp_path / "run.log").open("w") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "titans_stream.cli", "run", str(path)],
            stderr=log,
            env={**os.environ, "WORKER_PASSWORD": password},
        )
    try:
        deadline = time.monotonic() + 240
        while True:
            code, said = command(path, "alerts", "--json", password=password)
            if '"status":"opened"' in said:
                break
            assert worker.poll() is None, (tmp_path / "run.log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "run.log").read_text()
            time.sleep(1.0)
        alert = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
        assert (alert["series_id"], alert["value"]) == ("a", 90.0)
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
    assert password not in (tmp_path / "run.log").read_text()
