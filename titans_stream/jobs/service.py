"""Runs a connector's jobs when they are due, with APScheduler.

Every run is a process of its own (`titans-stream jobs CONNECTOR --run NAME`): it shares neither
the worker's state nor, where the service runs elsewhere, its cores; what goes wrong in it ends with
it; and at the service's end it is interrupted, as by Ctrl-C, so that a training goes on next time.

One run of a job at a time: a run that is due meanwhile is skipped, several that were slept through
are one, and one that is later than `misfire_grace` is missed. All of it is logged and recorded.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from titans_stream.durations import SECOND
from titans_stream.job_settings import JobConfig
from titans_stream.jobs.records import JobRecords
from titans_stream.times import load_zone

log = logging.getLogger(__name__)

SKIPPED = 75
"""Exit code of a run that another replica does already (EX_TEMPFAIL)."""
_GRACE_SECONDS = 20.0
"""For a run to end after it was interrupted."""
_LONGEST_DETAIL = 500


def trigger_of(job: JobConfig, timezone: str) -> CronTrigger | IntervalTrigger:
    """APScheduler's trigger of a job; `timezone` where the job names none."""
    zone = load_zone(job.timezone or timezone)
    if job.cron is not None:
        return CronTrigger.from_crontab(job.cron, timezone=zone)
    assert job.interval is not None
    return IntervalTrigger(seconds=max(1, job.interval // SECOND), timezone=zone)


def next_run(job: JobConfig, timezone: str, last: datetime | None = None) -> datetime:
    """When a job is due next; of an interval, counted from its `last` start."""
    trigger = trigger_of(job, timezone)
    now = datetime.now(UTC)
    found: datetime = trigger.get_next_fire_time(last, now)
    return max(found, now) if last is not None else found


class JobService:
    """The scheduler of one connector's jobs; `command` is what a job's name is appended to."""

    def __init__(
        self,
        jobs: Mapping[str, JobConfig],
        timezone: str,
        records: JobRecords,
        command: Sequence[str],
    ) -> None:
        self._jobs = jobs
        self._records = records
        self._command = list(command)
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(max(1, len(jobs)))}, timezone="UTC"
        )
        self._scheduler.add_listener(
            self._not_run, EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES | EVENT_JOB_ERROR
        )
        for name, job in jobs.items():
            self._scheduler.add_job(
                self.run_once, trigger_of(job, timezone), args=[name], id=name, name=name,
                coalesce=True, max_instances=1, misfire_grace_time=job.misfire_grace // SECOND,
            )  # fmt: skip

    def serve(self, stop: threading.Event) -> None:
        """Run jobs until `stop`; then interrupt what runs, and wait for it."""
        self._scheduler.start()
        for job in self._scheduler.get_jobs():
            log.info("job %s: next at %s", job.id, job.next_run_time.isoformat())
        try:
            stop.wait()
        finally:
            self._stopping.set()
            self._scheduler.pause()
            with self._lock:
                for process in self._running.values():
                    process.send_signal(signal.SIGINT)
            self._scheduler.shutdown(wait=True)

    def run_once(self, name: str) -> None:
        """Run a job now, in a process of its own."""
        if self._stopping.is_set():
            return
        self._records.started(name)
        log.info("job %s begins", name)
        with self._lock:
            process = subprocess.Popen(  # noqa: S603 - the program itself, with the job's name
                [*self._command, name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            self._running[name] = process
        outcome, detail = self._wait(name, process)
        with self._lock:
            del self._running[name]
        self._records.ended(name, outcome, detail)
        level = logging.ERROR if outcome == "failed" else logging.INFO
        log.log(level, "job %s %s: %s", name, outcome, detail)

    def _wait(self, name: str, process: subprocess.Popen[str]) -> tuple[str, str]:
        try:
            said, _ = process.communicate(timeout=self._jobs[name].timeout / SECOND)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
            return "failed", "ended: it took longer than its timeout"
        last = (said.strip().splitlines() or [""])[-1][-_LONGEST_DETAIL:]
        if self._stopping.is_set():
            return "stopped", last
        if process.returncode == SKIPPED:
            return "skipped", last
        return ("done" if process.returncode == 0 else "failed"), last

    def _not_run(self, event: Any) -> None:
        if event.code == EVENT_JOB_MISSED:
            told = f"due at {event.scheduled_run_time.isoformat()}, too late by now"
            log.warning("job %s is missed: %s", event.job_id, told)
            self._records.not_run(event.job_id, "missed", told)
        elif event.code == EVENT_JOB_MAX_INSTANCES:
            log.warning("job %s is skipped: the run before is not over", event.job_id)
            self._records.not_run(event.job_id, "skipped", "the run before was not over")
        else:
            log.error("job %s: %r", event.job_id, event.exception)
            self._records.ended(event.job_id, "failed", repr(event.exception))


def command_of(connector: Path) -> list[str]:
    """The command that runs one job of a connector, but for the job's name."""
    return [sys.executable, "-m", "titans_stream.cli", "jobs", str(connector), "--run"]
