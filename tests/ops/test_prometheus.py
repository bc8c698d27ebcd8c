"""A real Prometheus scrapes a real run, asks what the dashboard asks, and evaluates the rules."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from tests.ops.test_alertmanager import free_port
from tests.ops.test_notify import eventually
from tests.ops.test_rules import DASHBOARD, PROMTOOL, RULES
from tests.test_cli import connector
from titans_stream.devbroker.broker import DevBroker

BINARY = shutil.which("prometheus")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BINARY is None, reason="no Prometheus (Debian: prometheus)"),
]
CONFIG = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}"]
scrape_configs:
  - {{job_name: titans-stream-press, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}
  - {{job_name: titans-stream-gone, static_configs: [{{targets: ["127.0.0.1:1"]}}]}}
"""


@pytest.fixture
def worker_port(tmp_path: Path) -> Iterator[int]:
    """A worker that has scored 600 readings, two of them anomalous, and refused some messages."""
    topics = {"sensors": 2, "alerts": 1, "sensors.dead-letter": 1}
    with DevBroker(auto_create=False, topics=topics) as broker:
        path = connector(tmp_path, broker.bootstrap)
        port = free_port()
        command = [sys.executable, "-m", "titans_stream.cli", "run", str(path)]
        with (tmp_path / "run.log").open("w") as log:
            worker = subprocess.Popen([*command, "--http-port", str(port)], stderr=log)
        producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
        for minute in range(600):
            value = 90.0 if minute in (500, 550) else minute % 7
            text = json.dumps({"sensor": "a", "ts": 1_772_323_200 + 60 * minute, "value": value})
            producer.send("sensors", text.encode(), key=b"a")
            if minute % 20 == 0:
                producer.send("sensors", b"junk")
        producer.close()
        try:
            yield port
        finally:
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(60) == 0, (tmp_path / "run.log").read_text()


def scraped(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
            return text
    except OSError:
        return ""


class Server:
    """Prometheus over one worker."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **query: str) -> Any:
        address = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=10) as answer:
            return json.loads(answer.read())["data"]

    def value(self, expression: str) -> float:
        found = self.get("query", query=expression)["result"]
        return float(found[0]["value"][1]) if found else float("nan")


@pytest.fixture
def server(worker_port: int, tmp_path: Path) -> Iterator[Server]:
    assert BINARY is not None
    config = tmp_path / "prometheus.yml"
    # the rules wait for minutes, which a test does not
    rules = re.sub(r"( +)for: \d+m", r"\1for: 2s", RULES.read_text())
    (tmp_path / "alerts.yaml").write_text(rules)
    config.write_text(CONFIG.format(rules=tmp_path / "alerts.yaml", port=worker_port))
    port = free_port()
    with (tmp_path / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [
                BINARY,
                f"--config.file={config}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    found = Server(f"http://127.0.0.1:{port}")

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"{found.url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        eventually(ready)
        yield found
    finally:
        process.terminate()
        process.wait(60)


def test_a_scraped_run(server: Server, worker_port: int) -> None:
    eventually(lambda: 'titans_readings_total{status="scored"}' in scraped(worker_port), 280)
    eventually(lambda: server.value("sum(titans_readings_total)") == 600, 120)
    assert server.value('titans_alerts_total{status="opened", severity="critical"}') >= 1
    assert server.value('titans_dead_letters_total{reason="invalid-json"}') == 30
    eventually(lambda: server.value("sum(titans_lag_messages)") == 0)
    eventually(lambda: server.value("titans_episodes_opened_total") >= 1, 30)
    assert server.value("titans_episodes_due_total") > 0
    assert server.value("histogram_quantile(0.9, titans_engine_duration_seconds_bucket)") > 0
    assert server.value('titans_series{state="resident"}') == 1
    assert server.value('titans_state_bytes{place="slot"}') > 10_000
    assert PROMTOOL is not None, "Debian's prometheus has it"
    lint = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=scraped(worker_port), text=True, capture_output=True
    )
    complaints = [line for line in lint.stderr.splitlines() if line.startswith("titans_")]
    assert complaints == [], lint.stderr

    empty = []
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$__rate_interval", "1m")
            expression = expression.replace("$job", ".*").replace("$instance", ".*")
            if not server.get("query", query=expression)["result"]:
                empty.append(panel["title"])
    assert set(empty) <= {
        "Jobs: failures, last day",
        "Age of the oldest snapshot",
        "Snapshots: size by worker",
        "Aborts, lost and refused messages, last hour",
        "Alerts against the budget, last day",
    }, "what has not happened, or takes a snapshot's minute"

    names = {rule["name"] for group in server.get("rules")["groups"] for rule in group["rules"]}
    assert {"TitansWorkerDown", "titans:alert_budget:ratio1d"} <= names
    healths = {rule["health"] for group in server.get("rules")["groups"] for rule in group["rules"]}
    assert healths == {"ok"}

    def firing() -> set[str]:
        found = server.get("alerts")["alerts"]
        return {one["labels"]["alertname"] for one in found if one["state"] == "firing"}

    eventually(lambda: {"TitansWorkerDown", "TitansNoReadings"} <= firing(), 60)
    assert not firing() & {"TitansWorkerStuck", "TitansCommitsFail", "TitansMessagesLost"}
