"""When jobs are due, by APScheduler; runs that are missed or skipped are logged and recorded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from titans_stream.durations import SECOND
from titans_stream.job_settings import JobConfig, crontab_lines
from titans_stream.jobs.records import JobRecords
from titans_stream.times import load_zone

log = logging.getLogger(__name__)
# it tells the begin and end of every run, and the missed and skipped ones, which are told here
logging.getLogger("apscheduler").setLevel(logging.ERROR)


def trigger_of(job: JobConfig, timezone: str) -> CronTrigger | OrTrigger | IntervalTrigger:
    """APScheduler's trigger of a job; `timezone` where the job names none."""
    zone = load_zone(job.timezone or timezone)
    if job.cron is not None:
        lines = crontab_lines(job.cron)
        due = [CronTrigger.from_crontab(line, timezone=zone) for line in lines]
        return due[0] if len(due) == 1 else OrTrigger(due)
    assert job.interval is not None
    return IntervalTrigger(seconds=max(1, job.interval // SECOND), timezone=zone)


def next_run(job: JobConfig, timezone: str, last: datetime | None = None) -> datetime:
    """When a job is due next; of an interval, counted from its `last` start."""
    trigger = trigger_of(job, timezone)
    now = datetime.now(UTC)
    found: datetime = trigger.get_next_fire_time(last, now)
    return max(found, now) if last is not None else found


class Schedule:
    """Calls `run` with a job's name, in a thread of its own, when the job is due.

    One run of a job at a time: one that is due meanwhile is skipped, several that were slept
    through are one, and one that is later than `misfire_grace` is missed.
    """

    def __init__(
        self,
        jobs: Mapping[str, JobConfig],
        timezone: str,
        records: JobRecords,
        run: Callable[[str], None],
    ) -> None:
        self._records = records
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(max(1, len(jobs)))}, timezone="UTC"
        )
        self._scheduler.add_listener(
            self.not_run, EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES | EVENT_JOB_ERROR
        )
        for name, job in jobs.items():
            self._scheduler.add_job(
                run, trigger_of(job, timezone), args=[name], id=name, name=name,
                coalesce=True, max_instances=1, misfire_grace_time=job.misfire_grace // SECOND,
            )  # fmt: skip

    def start(self) -> None:
        """Begin."""
        self._scheduler.start()
        for job in self._scheduler.get_jobs():
            log.info("job %s: next at %s", job.id, job.next_run_time.isoformat(timespec="seconds"))

    def run_now(self, name: str) -> None:
        """Have a job run at once, whenever else it is due; safe from any thread."""
        self._scheduler.modify_job(name, next_run_time=datetime.now(UTC))

    def pause(self) -> None:
        """Begin no more runs."""
        self._scheduler.pause()

    def stop(self) -> None:
        """End, and wait for the runs that are on."""
        self._scheduler.shutdown(wait=True)

    def not_run(self, event: Any) -> None:
        """Log and record what became of a run that was due."""
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
