"""Runs a connector's jobs when they are due, with APScheduler.

Every run is a process of its own (`titans-stream jobs CONNECTOR --run NAME`): it shares neither
the worker's state nor, where the service runs elsewhere, its cores; what goes wrong in it ends with
it; and at the service's end it is interrupted, as by Ctrl-C, so that a training goes on next time.

All of it is logged and recorded.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from titans_stream.durations import SECOND
from titans_stream.job_settings import JobConfig
from titans_stream.jobs.records import JobRecords
from titans_stream.jobs.schedule import Schedule

log = logging.getLogger(__name__)

SKIPPED = 75
"""Exit code of a run that another replica does already (EX_TEMPFAIL)."""
_GRACE_SECONDS = 20.0
"""For a run to end after it was interrupted."""
_LONGEST_DETAIL = 500


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
        self._schedule = Schedule(jobs, timezone, records, self.run_once)

    def serve(self, stop: threading.Event) -> None:
        """Run jobs until `stop`; then interrupt what runs, and wait for it."""
        self._schedule.start()
        try:
            stop.wait()
        finally:
            self._stopping.set()
            self._schedule.pause()
            with self._lock:
                for process in self._running.values():
                    process.send_signal(signal.SIGINT)
            self._schedule.stop()

    def run_once(self, name: str) -> None:
        """Run a job now, in a process of its own."""
        if self._stopping.is_set():
            return
        self._records.started(name)
        log.info("job %s begins", name)
        with self._lock:
            if self._stopping.is_set():  # meanwhile: nobody would interrupt it
                self._records.ended(name, "stopped", "")
                return
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


def command_of(connector: Path) -> list[str]:
    """The command that runs one job of a connector, but for the job's name."""
    return [sys.executable, "-m", "titans_stream.cli", "jobs", str(connector), "--run"]
