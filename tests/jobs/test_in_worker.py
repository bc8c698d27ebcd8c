"""The jobs that a worker does itself, and how they reach its loop."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.stream_harness import Kafka, Message, Running, Setup, eventually
from titans_stream.cli import main
from titans_stream.commands import jobs as command
from titans_stream.config import ConfigError, load_connector
from titans_stream.devbroker.broker import DevBroker
from titans_stream.job_settings import POLL_JOB, JobConfig, poll_job
from titans_stream.jobs.in_worker import WorkerJobs, ask
from titans_stream.jobs.records import JobRecords
from titans_stream.ops.storage import Snapshots
from titans_stream.stream.recovery import Saved

HOURLY = JobConfig.model_validate({"kind": "snapshot", "interval": "1h"})


def test_the_loop_takes_the_snapshots_that_a_job_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DevBroker(auto_create=False) as broker:
        setup = Setup(Kafka(broker.bootstrap).create(), tmp_path)
        threads: list[str] = []
        plain = Snapshots.save

        def save(*arguments: object) -> Saved:
            threads.append(threading.current_thread().name)
            return plain(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(Snapshots, "save", save)
        running = Running(setup.worker())
        setup.kafka.produce([Message("a", 1.0, 0, i) for i in range(5)])
        running.wait_for("messages", 5)
        assert running.worker.snapshot(90) == 2
        stored = setup.snapshots().load(setup.kafka.input, 0, 10**9, "exact-1")
        assert stored is not None
        assert stored.offset == 5
        assert running.worker.snapshot(90) == 0, "they are as they were"
        assert set(threads) == {"snapshots"}, "a write of a file must not hold up the loop"

        def full(*_: object) -> None:
            raise OSError("the disk is full")

        monkeypatch.setattr(Snapshots, "save", full)
        setup.kafka.produce([Message("a", 1.0, 0, 9)])
        running.wait_for("messages", 6)
        with pytest.raises(OSError, match="1 could not be written"):
            running.worker.snapshot(90)
        running.stop()
    with pytest.raises(TimeoutError, match="not done within 0 s"):
        running.worker.snapshot(0.01)


def test_runs_are_recorded_and_one_can_be_asked_for(tmp_path: Path) -> None:
    records, failing = JobRecords(tmp_path), threading.Event()

    def save() -> str:
        if failing.is_set():
            raise OSError("the disk is full")
        return "2 partitions"

    jobs = {"save": HOURLY, POLL_JOB: poll_job(10**9)}
    with WorkerJobs(jobs, "UTC", records, {"save": save, POLL_JOB: lambda: "version 3"}):
        done = ask(records, "save", 90)
        assert done is not None
        assert (done.outcome, done.detail, done.runs) == ("done", "2 partitions", 1)
        failing.set()
        failed = ask(records, "save", 90)
        assert failed is not None
        assert (failed.outcome, failed.detail, failed.failures) == ("failed", "the disk is full", 1)
        eventually(lambda: records.get(POLL_JOB).runs >= 2)
        eventually(lambda: records.get(POLL_JOB).detail == "version 3")  # "" while it runs
    assert not list(tmp_path.rglob("*.run"))
    assert ask(records, "save", 0.5) is None, "nobody is there"
    assert not list(tmp_path.rglob("*.run"))


def test_what_a_crash_of_the_worker_left_running_is_stopped(tmp_path: Path) -> None:
    records = JobRecords(tmp_path)
    records.started("save")
    with WorkerJobs({"save": HOURLY}, "UTC", records, {"save": lambda: ""}):
        record = records.get("save")
        assert (record.outcome, record.runs, record.failures) == ("stopped", 1, 0)


def test_a_disk_that_is_full_keeps_no_job_from_running(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("titans_stream.jobs.records.write_whole", full)
    looks: list[int] = []

    def look() -> str:
        looks.append(1)
        return ""

    with WorkerJobs({POLL_JOB: poll_job(10**9)}, "UTC", JobRecords(tmp_path), {POLL_JOB: look}):
        eventually(lambda: len(looks) >= 2)
    assert "job registry-poll: no record: the disk is full" in caplog.text


def test_the_end_of_the_worker_waits_for_no_answer_of_a_registry(tmp_path: Path) -> None:
    records, answer = JobRecords(tmp_path), threading.Event()

    def look() -> str:
        answer.wait(300)
        return "late"

    begun = time.monotonic()
    with WorkerJobs({POLL_JOB: poll_job(10**9)}, "UTC", records, {POLL_JOB: look}):
        eventually(lambda: records.get(POLL_JOB).outcome == "running")
    assert time.monotonic() - begun < 200
    assert records.get(POLL_JOB).outcome == "stopped"
    answer.set()


def connector(folder: Path, more: str) -> Path:
    path = folder / "pumps.yaml"
    path.write_text(
        "name: pumps\nkafka: {bootstrap_servers: 'localhost:1'}\n"
        "input: {topic: in, series: '{s}', value: v}\noutput: {alerts: out}\n"
        f"state: {{path: {folder}/state}}\n{more}"
    )
    return path


def test_the_list_has_them_and_a_worker_has_to_be_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_ANSWER_SECONDS", 0.5)
    jobs = "jobs:\n  nightly: {kind: snapshot, cron: '0 3 * * *'}\n"
    path = connector(tmp_path, "model: models:/pumps@champion\n" + jobs)
    assert main(["jobs", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "nightly: snapshot, 0 3 * * *, by the worker" in shown
    assert "registry-poll: poll, every 30s, by the worker" in shown
    assert main(["jobs", str(path), "--run", "nightly"]) == 2
    assert "`titans-stream run` does this job" in capsys.readouterr().err
    assert main(["jobs", str(path), "--serve"]) == 2
    assert "all of its jobs are the worker's own" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="poll needs model: models:/NAME@ALIAS"):
        load_connector(connector(tmp_path, "jobs: {look: {kind: poll, interval: 5m}}\n"))
    with pytest.raises(ConfigError, match="this name is the worker's own"):
        load_connector(connector(tmp_path, jobs.replace("nightly", "registry-poll")))
