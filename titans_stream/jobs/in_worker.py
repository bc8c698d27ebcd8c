"""The jobs that a worker does itself, when they are due: snapshots, and its look at the registry.

They run in threads of their own and touch nothing of the engine: a snapshot is asked of the loop,
which takes it between two turns, and a new model is offered to it. What became of a run is recorded
as that of any other job. `titans-stream jobs --run NAME` asks for one by a file, `ask`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from titans_stream.job_settings import JobConfig
from titans_stream.jobs.records import JobRecord, JobRecords
from titans_stream.jobs.schedule import Schedule

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_POLL_SECONDS = 0.2


class WorkerJobs:
    """Runs `work`, by the name of the job, when `jobs` say it is due; starts and ends with a block.

    What `work` returns is the record's detail. OSError, TimeoutError and ValueError are the run's
    failure, and no more.
    """

    def __init__(
        self,
        jobs: Mapping[str, JobConfig],
        timezone: str,
        records: JobRecords,
        work: Mapping[str, Callable[[], str]],
    ) -> None:
        self._work = work
        self._records = records
        self._quiet = {name for name, job in jobs.items() if job.kind == "poll"}
        """Jobs that log what there is to log themselves."""
        self._schedule = Schedule(jobs, timezone, records, self._run)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="job-requests", daemon=True)

    def __enter__(self) -> WorkerJobs:
        for name in self._work:
            self._records.request(name).unlink(missing_ok=True)
            if self._records.get(name).outcome == "running":
                self._records.ended(name, "stopped", "the worker ended in it")
        self._schedule.start()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._schedule.pause()
        self._schedule.stop()

    def run_now(self, name: str) -> None:
        """Have a job run at once; safe from any thread."""
        self._schedule.run_now(name)

    def _look(self) -> None:
        """Start what is asked for by a file."""
        while not self._stop.wait(_LOOK_SECONDS):
            for name in self._work:
                request = self._records.request(name)
                if request.exists():
                    request.unlink(missing_ok=True)
                    self.run_now(name)

    def _run(self, name: str) -> None:
        self._records.started(name)
        outcome, detail = "failed", "an error of the program, see the log"

        def work() -> None:
            nonlocal outcome, detail
            try:
                outcome, detail = "done", self._work[name]()
            except (OSError, TimeoutError, ValueError) as error:
                outcome, detail = "failed", str(error) or type(error).__name__

        # one that the end of the worker does not wait for: a registry may answer late
        thread = threading.Thread(target=work, name=f"job-{name}", daemon=True)
        thread.start()
        while thread.is_alive() and not self._stop.is_set():
            thread.join(_POLL_SECONDS)
        if thread.is_alive():
            outcome, detail = "stopped", ""
        self._records.ended(name, outcome, detail)
        level = logging.ERROR if outcome == "failed" else logging.INFO
        log.log(logging.DEBUG if name in self._quiet else level, "job %s %s: %s", name, outcome,
                detail)  # fmt: skip


def ask(records: JobRecords, name: str, seconds: float) -> JobRecord | None:
    """Have the worker of this state folder run a job now: what became of it.

    None where no worker takes it up within `seconds`.
    """
    before, request = records.get(name).runs, records.request(name)
    request.parent.mkdir(parents=True, exist_ok=True)
    request.touch()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        record = records.get(name)
        if record.runs > before and record.outcome != "running":
            return record
        time.sleep(_POLL_SECONDS)
    try:
        request.unlink()
    except FileNotFoundError:  # it was taken up, and takes long
        return records.get(name)
    return None
