"""When jobs run, what becomes of their runs, and the jobs themselves."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from apscheduler.events import EVENT_JOB_MISSED
from kafka import KafkaProducer

from tests.lifecycle.conftest import mlflow_server  # noqa: F401
from tests.stream_harness import Kafka, eventually
from titans_stream.cli import main
from titans_stream.detection.rules import AlertConfig
from titans_stream.devbroker.broker import DevBroker
from titans_stream.job_settings import JobConfig
from titans_stream.jobs.drift import Held
from titans_stream.jobs.records import JobRecords
from titans_stream.jobs.schedule import next_run, trigger_of
from titans_stream.jobs.service import SKIPPED, JobService
from titans_stream.lifecycle.lease import LeasedError, lease
from titans_stream.lifecycle.mlflow_library import MlflowClient
from titans_stream.lifecycle.tracking import connect
from titans_stream.records import ModelRef, Scores
from titans_stream.stream.encoding import encode_scores
from titans_stream.stream.membership import Membership
from titans_stream.stream.settings import InputConfig


def job(**settings: object) -> JobConfig:
    return JobConfig.model_validate({"kind": "drift", **settings})


# --- settings and times


def test_cron_is_in_the_jobs_zone() -> None:
    night = job(cron="30 3 * * *", timezone="Europe/Vienna")
    after = datetime(2026, 7, 1, 0, 0, tzinfo=UTC)
    found = trigger_of(night, "UTC").get_next_fire_time(None, after)
    assert found.astimezone(UTC) == datetime(2026, 7, 1, 1, 30, tzinfo=UTC)
    found = trigger_of(job(cron="30 3 * * *"), "UTC").get_next_fire_time(None, after)
    assert found.astimezone(UTC) == datetime(2026, 7, 1, 3, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("field", "days"),
    [
        ("0", "Su"), ("7", "Su"), ("1", "Mo"), ("sun", "Su"), ("1-5", "Mo Tu We Th Fr"),
        ("5-7", "Fr Sa Su"), ("*/2", "Su Tu Th Sa"), ("1-5/2", "Mo We Fr"),
        ("0,mon-tue", "Su Mo Tu"), ("sun-tue", "Su Mo Tu"), ("FRI-SUN", "Fr Sa Su"),
        ("mon-fri/2", "Mo We Fr"), ("sun-sun", "Su"), ("fri-7", "Fr Sa Su"),
    ],
)  # fmt: skip
def test_days_of_the_week_are_those_of_crontab(field: str, days: str) -> None:
    sunday = datetime(2026, 11, 29, 0, 0, tzinfo=UTC)
    trigger = trigger_of(job(cron=f"0 3 * * {field}"), "UTC")
    found, at = [], trigger.get_next_fire_time(None, sunday)
    while at < sunday + timedelta(days=7):
        found.append(f"{at:%a}"[:2])
        at = trigger.get_next_fire_time(at, at + timedelta(seconds=1))
    assert sorted(found) == sorted(days.split())


@pytest.mark.parametrize(
    ("line", "days"),
    [("0 3 1 * 1", [1, 7, 14]), ("0 3 1 * *", [1]), ("0 3 */2 * mon", [7, 21])],
)
def test_either_day_is_due_where_month_and_week_name_one(line: str, days: list[int]) -> None:
    trigger = trigger_of(job(cron=line), "UTC")
    at, found = datetime(2026, 12, 1, tzinfo=UTC), []
    for _ in days:
        at = trigger.get_next_fire_time(None, at)
        found.append(at.day)
        at += timedelta(seconds=1)
    assert found == days


def test_an_interval_counts_from_the_last_start() -> None:
    last = datetime.now(UTC) - timedelta(minutes=10)
    due = next_run(job(interval="1h"), "UTC", last)
    assert abs((due - last) - timedelta(hours=1)) < timedelta(seconds=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "drift"}, "exactly one of cron and interval"),
        ({"kind": "drift", "cron": "0 3 * * *", "interval": "1h"}, "exactly one of cron"),
        ({"kind": "drift", "cron": "0 25 * * *"}, "no crontab line"),
        ({"kind": "drift", "cron": "daily"}, "no crontab line"),
        ({"kind": "drift", "cron": "0 3 * * 8"}, "no crontab line"),
        ({"kind": "drift", "cron": "0 3 * * 5-1"}, "no crontab line"),
        ({"kind": "retrain", "interval": "1h"}, "retrain needs both"),
        ({"kind": "drift", "interval": "1h", "promote": True}, "belong to retrain"),
        ({"kind": "snapshot", "interval": "1h", "recipe": "r.yaml"}, "belong to retrain"),
        ({"kind": "snapshot", "interval": "1h", "since": "1d"}, "a snapshot reads no history"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JobConfig.model_validate(settings)


# --- runs


class Service:
    """A service whose runs are small programs."""

    def __init__(self, folder: Path, program: str, **settings: object) -> None:
        self.records = JobRecords(folder)
        jobs = {"one": job(**{"interval": "1h", **settings})}
        command = [sys.executable, "-c", program]
        self.service = JobService(jobs, "UTC", self.records, command)
        self.stop = threading.Event()

    def serve(self) -> threading.Thread:
        thread = threading.Thread(target=self.service.serve, args=(self.stop,), daemon=True)
        thread.start()
        return thread

    @property
    def last(self) -> tuple[str, str]:
        record = self.records.get("one")
        return record.outcome, record.detail


@pytest.mark.parametrize(
    ("program", "outcome", "detail"),
    [
        ("print('first'); print('all well')", "done", "all well"),
        ("raise ValueError('no data')", "failed", "ValueError: no data"),
        (f"import sys; print('taken'); sys.exit({SKIPPED})", "skipped", "taken"),
    ],
)
def test_what_a_run_comes_to(tmp_path: Path, program: str, outcome: str, detail: str) -> None:
    service = Service(tmp_path, program)
    service.service.run_once("one")
    assert service.last == (outcome, detail)
    record = service.records.get("one")
    assert (record.runs, record.failures) == (1, int(outcome == "failed"))
    assert record.started <= record.ended


def test_a_run_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    service = Service(tmp_path, "import time; time.sleep(60)", timeout="1s")
    begun = time.monotonic()
    service.service.run_once("one")
    assert time.monotonic() - begun < 15
    assert service.last == ("failed", "ended: it took longer than its timeout")


def test_runs_do_not_overlap(tmp_path: Path) -> None:
    mark = tmp_path / "runs"
    program = f"import time; open({str(mark)!r}, 'a').write('x'); time.sleep(4)"
    service = Service(tmp_path, program, interval="1s")
    thread = service.serve()
    eventually(lambda: service.records.get("one").skipped >= 1, 20)
    assert mark.read_text() == "x"
    assert service.records.get("one").outcome == "running", (
        "the run that is on is not lost sight of"
    )
    service.stop.set()
    thread.join(20)
    assert not thread.is_alive()


def test_the_end_of_the_service_interrupts_a_run_and_waits_for_it(tmp_path: Path) -> None:
    mark = tmp_path / "tidied"
    program = (
        "import time, sys\ntry:\n    print('working', flush=True); time.sleep(60)\n"
        f"except KeyboardInterrupt:\n    open({str(mark)!r}, 'w').write('x'); print('put away')\n"
    )
    service = Service(tmp_path, program, interval="1s")
    thread = service.serve()
    eventually(lambda: service.records.get("one").outcome == "running", 20)
    time.sleep(1.0)
    service.stop.set()
    thread.join(20)
    assert not thread.is_alive()
    assert mark.exists()
    assert service.last == ("stopped", "put away")


def test_no_run_begins_behind_the_end_of_the_service(tmp_path: Path) -> None:
    """One that is due in that very moment would be waited for, and interrupted by nobody."""
    mark = tmp_path / "ran"
    service = Service(tmp_path, f"open({str(mark)!r}, 'w')")
    plain = service.records.started

    def late(name: str) -> None:
        plain(name)
        service.stop.set()
        service.serve().join(20)

    service.records.started = late  # type: ignore[method-assign]
    service.service.run_once("one")
    assert not mark.exists()
    assert service.last == ("stopped", "")


def test_a_missed_run_is_recorded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    service = Service(tmp_path, "")
    event = SimpleNamespace(
        code=EVENT_JOB_MISSED, job_id="one", scheduled_run_time=datetime(2026, 1, 1, tzinfo=UTC)
    )
    service.service._schedule.not_run(event)
    assert service.records.get("one").missed == 1
    assert service.last[0] == "missed"
    assert "job one is missed: due at 2026-01-01" in caplog.text


# --- the jobs


def test_one_replica_has_the_lease(mlflow_server: str) -> None:  # noqa: F811
    server = connect(mlflow_server)
    with lease(server, "leased", "nightly", 60 * 10**9):
        with (
            pytest.raises(LeasedError, match=r"has the lease for \d+ s"),
            lease(server, "leased", "nightly", 60 * 10**9),
        ):
            pytest.fail("two have it")
        with lease(server, "leased", "weekly", 60 * 10**9):
            pass
    assert "lease.nightly" not in server.client.get_registered_model("leased").tags
    server.client.set_registered_model_tag("leased", "lease.nightly", "dead-1 1000")
    with lease(server, "leased", "nightly", 60 * 10**9):
        held = server.client.get_registered_model("leased").tags["lease.nightly"]
        assert not held.startswith("dead"), "one that ran out is taken"


@pytest.fixture(scope="module")
def broker() -> Iterator[DevBroker]:
    running = DevBroker(auto_create=False).start()
    yield running
    running.stop()


def connector(kafka: Kafka, folder: Path, jobs: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(
        f"name: c\nkafka: {{bootstrap_servers: '{kafka.bootstrap}'}}\n"
        f"input: {{topic: {kafka.input}, series: '{{s}}', value: v, timestamp: t}}\n"
        f"output: {{alerts: {kafka.alerts}, scores: {kafka.scores}}}\n"
        f"state: {{path: {folder}/state}}\njobs:\n{jobs}"
    )
    return path


def frame(series: str, count: int, inside: int, p_value: float, onsets: int) -> Scores:
    def column(kind: type, value: object) -> np.ndarray:
        return np.full(count, value, kind)

    value = np.where(np.arange(count) < inside, 0.0, 5.0)
    onset = (np.arange(count) < onsets).astype(np.int8)
    hours = np.arange(count) * 3600 * 10**9 + 1_700_000_000 * 10**9
    nothing = column(float, np.nan)
    return Scores(
        [series] * count, hours, value, column(np.int8, 0), nothing, nothing,
        column(float, p_value), nothing, column(float, 0.0), column(float, -1.0),
        column(float, 1.0), onset, onset, column(np.int8, 0), column(np.int32, 0),
        np.arange(count),
    )  # fmt: skip


def test_what_is_due_goes_by_the_rules_of_each_series() -> None:
    held = Held()
    for name in ("vienna/a", "vienna/b", "graz/c"):
        held.take(frame(name, 241, 241, 0.5, 0), range(241))
    alerts = AlertConfig.model_validate(
        {
            "false_alarms_per_series_per_day": 0.1,
            "rules": [
                {"series": "vienna/*", "false_alarms_per_series_per_day": 2.0},
                {"series": "vienna/b", "enabled": False},
            ],
        }
    )
    days = 240 / 24
    single = InputConfig.model_validate({"topic": "in", "series": "{s}", "value": "v"})
    due = held.measures(alerts, Membership(single))["alerts_due"]
    assert due == pytest.approx((2.0 + 0.1) * days)


def test_what_is_due_of_a_group_is_due_once() -> None:
    """Its channels open one episode together, by the group's rule."""
    held = Held()
    for name in ("v/p1/flow", "v/p1/pressure", "v/p2/flow"):
        held.take(frame(name, 241, 241, 0.5, 0), range(241))
    grouped = {"topic": "in", "series": "{site}/{pump}/{value_name}", "group": "{site}/{pump}",
               "values": ["flow", "pressure"], "timestamp": "ts"}  # fmt: skip
    members = Membership(InputConfig.model_validate(grouped))
    alerts = AlertConfig.model_validate(
        {
            "false_alarms_per_series_per_day": 0.1,
            "rules": [{"series": "v/p1", "false_alarms_per_series_per_day": 2.0}],
        }
    )
    found = held.measures(alerts, members)
    assert found["series"] == 3.0
    assert found["alerts_due"] == pytest.approx((2.0 + 0.1) * 240 / 24)


def test_drift_counts_what_was_published(
    broker: DevBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    kafka = Kafka(broker.bootstrap).create()
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap)
    for scores in (frame("vienna/a", 241, 200, 0.02, 3), frame("graz/b", 241, 241, 0.5, 0)):
        for record in encode_scores(scores, ModelRef("m", "1"), kafka.input):
            producer.send(kafka.scores, record.value, record.key)
    producer.flush(10)
    producer.close()
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    path = connector(kafka, tmp_path, "  daily: {kind: drift, cron: '0 6 * * *'}\n")
    assert main(["jobs", str(path), "--run", "daily"]) == 0
    said = capsys.readouterr().out.strip().splitlines()[-1]
    assert "482 readings of 2 series in 2 groups: 3 alerts opened, 2.0 due" in said
    assert "91.5% of 95%" in said
    client = MlflowClient(uri, uri)
    experiment = client.get_experiment_by_name("titans-stream-drift")
    [run] = client.search_runs([experiment.experiment_id])
    assert run.data.metrics["band_coverage"] == pytest.approx(441 / 482)
    assert run.data.metrics["p_below_0.03"] == pytest.approx(0.5)
    local = client.download_artifacts(run.info.run_id, "groups.json", str(tmp_path))
    groups = json.loads(Path(local).read_text())
    assert groups["vienna"]["alerts_opened"] == 3
    assert groups["graz"]["band_coverage"] == 1.0
    assert {a.path for a in client.list_artifacts(run.info.run_id)} == {"groups.json", "drift.png"}
    assert main(["jobs", str(path), "--run", "weekly"]) == 2
    assert "no such job; there are: daily" in capsys.readouterr().err
    JobRecords(tmp_path / "state").not_run("daily", "missed", "too late")
    assert main(["jobs", str(path)]) == 0
    listed = capsys.readouterr().out
    assert "daily: drift, 0 6 * * *" in listed
    assert "0 runs, 0 failed, 1 missed, 0 skipped" in listed


def test_retrain_registers_a_challenger_and_holds_it_against_the_gates(
    broker: DevBroker, mlflow_server: str, tmp_path: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    kafka = Kafka(broker.bootstrap).create()
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap)
    now, rng = time.time_ns() // 1_000_000, np.random.default_rng(0)
    for i in range(600):
        stamp = now - (600 - i) * 3_600_000
        value = 10 + np.sin(i / 4) + 0.1 * rng.normal()
        text = json.dumps({"s": "a", "v": value, "t": stamp}).encode()
        producer.send(kafka.input, text, partition=0, timestamp_ms=stamp)
    producer.flush(10)
    producer.close()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(
        "name: nightly\nkind: forecaster\ndata: {synthetic: {series: 13, length: 192}}\n"
        "training: {epochs: 1, unroll: 96, heads: false, learning_rate: 0.05}\n"
    )
    jobs = (
        "  nightly: {kind: retrain, cron: '0 3 * * *', recipe: recipe.yaml, register: retrained, "
        "promote: true}\n"
    )
    path = connector(kafka, tmp_path, jobs)
    assert main(["jobs", str(path), "--run", "nightly"]) == 0
    said = capsys.readouterr().out
    client = MlflowClient(mlflow_server, mlflow_server)
    version = client.get_model_version("retrained", "1")
    decision = version.tags["promotion.decision"]
    promoted = "champion" in client.get_registered_model("retrained").aliases
    assert (decision, promoted) in (("promoted", True), ("refused", False))
    assert f"models:/retrained/1 is {'champion now' if promoted else 'refused'}" in said
    assert "quantile_loss" in version.tags["promotion.gates"]
    sources = {
        one.dataset.source_type for one in client.get_run(version.run_id).inputs.dataset_inputs
    }
    assert sources == {"kafka"}
    with lease(connect(mlflow_server), "retrained", "nightly", 60 * 10**9):
        assert main(["jobs", str(path), "--run", "nightly"]) == SKIPPED
