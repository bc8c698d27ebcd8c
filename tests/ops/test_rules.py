"""The dashboard and the alert rules speak of metrics that there are, and the rules fire."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import yaml

from tests.ops.test_notify import connector
from titans_stream.config import Connector
from titans_stream.jobs.exposition import JobCollector
from titans_stream.jobs.records import JobRecord, JobRecords
from titans_stream.ops.exposition import WorkerCollector, registry_of
from titans_stream.ops.notify.service import NotifyCollector, couriers
from titans_stream.records import ModelRef
from titans_stream.stream.kafka.client import KafkaClients
from titans_stream.stream.metrics import Metrics

REPO = Path(__file__).resolve().parents[2]
RULES = REPO / "grafana" / "alerts.yaml"
DASHBOARD = json.loads((REPO / "grafana" / "titans-stream.json").read_text())
PROMTOOL = shutil.which("promtool")


def expressions() -> list[str]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    rules = [rule["expr"] for group in groups for rule in group["rules"]]
    return rules + [t["expr"] for panel in DASHBOARD["panels"] for t in panel.get("targets", [])]


def _connector() -> Connector:
    return connector({"webhooks": {"a": {"url": "http://localhost:1"}}})


class _Records(JobRecords):
    def get(self, name: str) -> JobRecord:
        return JobRecord(started="2026-03-01T00:00:00Z", outcome="done")


def known() -> dict[str, set[str]]:
    """The samples that there can be, with their labels."""
    metrics = Metrics()
    metrics.alerts["opened", "warning", "surprise"] += 1
    metrics.dead["invalid-json"] += 1
    metrics.aborted("kafka")
    metrics.reload_ended(taken=True)
    metrics.newest_event = 1
    metrics.models = {ModelRef("base", "1"): 1}
    metrics.lag[("in", 0)] = 1  # type: ignore[index]
    metrics.saved[("in", 0)] = (1.0, 1)  # type: ignore[index]
    notify = NotifyCollector(couriers(_connector(), KafkaClients(_connector().kafka), Event()))
    collectors = [
        notify,
        WorkerCollector(metrics, ModelRef("base", "1")),
        JobCollector(["a"], _Records(REPO)),
    ]
    found: dict[str, set[str]] = {}
    for family in registry_of(collectors).collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_every_metric_that_is_asked_for_is_there() -> None:
    names = known()
    for expression in expressions():
        for name, _, selector in re.findall(r"\b(titans_\w+)(\{([^}]*)\})?", expression):
            assert name in names, expression
            for label in re.findall(r"(\w+)[=!]", selector):
                assert label in names[name] | {"job", "instance"}, expression


def test_every_metric_is_documented() -> None:
    text = (REPO / "docs" / "operations.md").read_text()
    for name in known():
        plain = re.sub(r"_(bucket|count|sum|created)$", "", name)
        if plain.startswith("titans_"):
            assert f"`{plain}`" in text, plain
    for rule in re.findall(r"alert: (\w+)", RULES.read_text()):
        assert f"`{rule}`" in text, rule


def test_panels_do_not_overlap_and_have_words() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not taken & cells, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        assert panel["type"] == "row" or panel["description"], panel["title"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


WORKER = 'job="titans-stream-a", instance="w:1"'
CASES: dict[str, dict[str, str]] = {
    "TitansWorkerDown": {'up{job="titans-stream-a", instance="w:1"}': "0x60"},
    "TitansWorkerStuck": {
        f"titans_lag_messages{{{WORKER}}}": "5x60",
        f"titans_commits_total{{{WORKER}}}": "7x60",
        f"titans_recovering_partitions{{{WORKER}}}": "0x60",
    },
    "TitansFallingBehind": {f"titans_lag_messages{{{WORKER}}}": "9000+500x60"},
    "TitansNoReadings": {f"titans_event_time_lag_seconds{{{WORKER}}}": "0+60x60"},
    "TitansRecoveryTakesLong": {f"titans_recovering_partitions{{{WORKER}}}": "1x60"},
    "TitansOverBudget": {
        f"titans_episodes_opened_total{{{WORKER}}}": "0+1x60",
        f"titans_episodes_due_total{{{WORKER}}}": "0+0.1x60",
    },
    "TitansDeadLetters": {
        f'titans_dead_letters_total{{reason="invalid-json", {WORKER}}}': "0+2x60",
        f"titans_messages_total{{{WORKER}}}": "0+100x60",
    },
    "TitansReadingsDropped": {
        f'titans_readings_total{{status="late", {WORKER}}}': "0+20x60",
        f'titans_readings_total{{status="scored", {WORKER}}}': "0+100x60",
    },
    "TitansMessagesLost": {f"titans_lost_messages_total{{{WORKER}}}": "0x50 3x10"},
    "TitansCommitsFail": {f'titans_aborts_total{{reason="kafka", {WORKER}}}': "0+1x60"},
    "TitansSnapshotsFail": {f"titans_failed_snapshots_total{{{WORKER}}}": "0x50 1x10"},
    "TitansSnapshotOld": {
        f'titans_snapshot_timestamp_seconds{{partition="0", {WORKER}}}': "-3600x60",
        f"titans_messages_total{{{WORKER}}}": "0+100x60",
    },
    "TitansReloadFailed": {f"titans_last_reload_successful{{{WORKER}}}": "0x60"},
    "TitansModelRefused": {f"titans_refused_models_total{{{WORKER}}}": "0x50 1x10"},
    "TitansNotifyFails": {
        f'titans_notify_lag_messages{{receiver="alertmanager", {WORKER}}}': "3x60",
        f'titans_notify_failures_total{{receiver="alertmanager", {WORKER}}}': "0+1x60",
    },
    "TitansJobFailed": {f'titans_job_last_run_successful{{job_name="n", {WORKER}}}': "0x60"},
}
HEALTHY: dict[str, str] = {
    'up{job="titans-stream-a", instance="w:1"}': "1x60",
    f"titans_lag_messages{{{WORKER}}}": "20x60",
    f"titans_commits_total{{{WORKER}}}": "0+120x60",
    f"titans_recovering_partitions{{{WORKER}}}": "0x60",
    f"titans_event_time_lag_seconds{{{WORKER}}}": "2x60",
    f"titans_episodes_opened_total{{{WORKER}}}": "0+0.1x60",
    f"titans_episodes_due_total{{{WORKER}}}": "0+0.1x60",
    f'titans_dead_letters_total{{reason="invalid-json", {WORKER}}}': "0+0.1x60",
    f"titans_messages_total{{{WORKER}}}": "0+100x60",
    f'titans_readings_total{{status="late", {WORKER}}}': "0+1x60",
    f'titans_readings_total{{status="scored", {WORKER}}}': "0+100x60",
    f"titans_lost_messages_total{{{WORKER}}}": "3x60",
    f'titans_aborts_total{{reason="kafka", {WORKER}}}': "2x60",
    f"titans_failed_snapshots_total{{{WORKER}}}": "1x60",
    f'titans_snapshot_timestamp_seconds{{partition="0", {WORKER}}}': "0+60x60",
    f"titans_last_reload_successful{{{WORKER}}}": "1x60",
    f"titans_refused_models_total{{{WORKER}}}": "1x60",
    f'titans_job_last_run_successful{{job_name="n", {WORKER}}}': "1x60",
}


def promtool(folder: Path, *tests: dict[str, Any]) -> None:
    assert PROMTOOL is not None
    document = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": list(tests)}
    path = folder / "tests.yaml"
    path.write_text(yaml.safe_dump(document))
    done = subprocess.run([PROMTOOL, "test", "rules", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not there (Debian: prometheus)")
def test_each_rule_fires_on_what_it_is_for_and_none_on_a_healthy_worker(tmp_path: Path) -> None:
    alerts = re.findall(r"alert: (\w+)", RULES.read_text())
    assert set(alerts) == set(CASES)

    def firing(name: str, series: dict[str, str]) -> dict[str, Any]:
        """Counted by a record of its own: promtool would compare the annotations, too."""
        return {
            "interval": "1m",
            "input_series": [{"series": k, "values": v} for k, v in series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{name}", alertstate="firing"}})',
                    "eval_time": "58m",
                    "exp_samples": [{"labels": "{}", "value": 1}],
                }
            ],
        }

    quiet = {
        "interval": "1m",
        "input_series": [{"series": k, "values": v} for k, v in HEALTHY.items()],
        "promql_expr_test": [
            {"expr": "count(ALERTS)", "eval_time": f"{minute}m", "exp_samples": []}
            for minute in range(1, 60)
        ],
    }
    promtool(tmp_path, quiet, *(firing(name, series) for name, series in CASES.items()))
