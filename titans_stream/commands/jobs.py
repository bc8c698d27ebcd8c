"""A connector's jobs: list them, run one now, or run them when they are due.

Without an option: each job with its next run and what became of the last one. --serve runs them
until SIGTERM or Ctrl-C, beside the worker or on another machine; each run is a process of its own.
Snapshots and looks at the registry (poll) are the worker's own: `titans-stream run` does them when
they are due, and --run asks the worker that has the same state folder.
"""

from __future__ import annotations

import argparse
import threading
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from titans_stream.commands.outputs import say
from titans_stream.commands.serving import add_http_port

if TYPE_CHECKING:
    from titans_stream.config import Connector
    from titans_stream.job_settings import JobConfig
    from titans_stream.jobs.records import JobRecords

_ANSWER_SECONDS = 60.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("connector", metavar="CONNECTOR.yaml", type=Path)
    add_http_port(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--run", metavar="NAME", help="run this job now")
    what.add_argument("--serve", action="store_true", help="run all jobs when they are due")


def run(args: argparse.Namespace) -> int:
    """List, run or serve."""
    from titans_stream.config import load_connector
    from titans_stream.jobs.records import JobRecords

    connector = load_connector(args.connector)
    jobs = connector.all_jobs
    if not jobs:
        raise ValueError(f"{args.connector}: it has no jobs")
    records = JobRecords(Path(connector.state.path))
    if args.run is not None:
        job = jobs.get(args.run)
        if job is None:
            raise ValueError(f"--run {args.run}: no such job; there are: {', '.join(jobs)}")
        if job.in_worker:
            return _ask_worker(connector, records, args.run)
        return _run_one(args.connector, args.run, job)
    if args.serve:
        return _serve(args.connector, connector, records, args.http_port)
    return _list(connector, records)


def _ask_worker(connector: Connector, records: JobRecords, name: str) -> int:
    from titans_stream.jobs.in_worker import ask

    record = ask(records, name, _ANSWER_SECONDS)
    if record is None:
        raise ValueError(
            f"--run {name}: no worker with the state folder {connector.state.path} took it up "
            f"within {_ANSWER_SECONDS:.0f} s; `titans-stream run` does this job"
        )
    say(f"{record.outcome}: {record.detail}" if record.detail else record.outcome)
    return 1 if record.outcome == "failed" else 0


def _run_one(path: Path, name: str, job: JobConfig) -> int:
    from titans_stream.jobs.drift import drift
    from titans_stream.jobs.retrain import retrain
    from titans_stream.jobs.service import SKIPPED
    from titans_stream.lifecycle.lease import LeasedError

    try:
        lines = (retrain if job.kind == "retrain" else drift)(path, name, job)
    except LeasedError as error:
        say(str(error))
        return SKIPPED
    for line in lines:
        say(line)
    return 0


def _list(connector: Connector, records: JobRecords) -> int:
    from titans_stream.jobs.schedule import next_run

    zone = connector.input.timezone
    for name, job in connector.all_jobs.items():
        record = records.get(name)
        when = job.cron if job.cron is not None else f"every {job.model_dump()['interval']}"
        say(f"{name}: {job.kind}, {when}{', by the worker' if job.in_worker else ''}")
        started = datetime.fromisoformat(record.started) if record.started else None
        due = next_run(job, zone, started)
        say(f"  next  {due.isoformat(timespec='seconds')}")
        if record.outcome:
            say(f"  last  {record.started or 'never begun'}  {record.outcome}  {record.detail}")
            say(
                f"  so far {record.runs:,} runs, {record.failures:,} failed, {record.missed:,} "
                f"missed, {record.skipped:,} skipped"
            )
    return 0


def _serve(path: Path, connector: Connector, records: JobRecords, http_port: int | None) -> int:
    from titans_stream.commands.serving import serve
    from titans_stream.commands.signals import stopped_by_signal
    from titans_stream.jobs.exposition import JobCollector
    from titans_stream.jobs.service import JobService, command_of
    from titans_stream.ops.http import Answer, Probes

    jobs = {name: job for name, job in connector.jobs.items() if not job.in_worker}
    if not jobs:
        raise ValueError(
            f"{path}: all of its jobs are the worker's own; `titans-stream run` does them"
        )
    stop = threading.Event()
    service = JobService(jobs, connector.input.timezone, records, command_of(path))
    well = Answer(True, f"{len(jobs)} jobs")
    with ExitStack() as stack:
        stack.enter_context(stopped_by_signal(stop))
        collector = JobCollector(jobs, records)
        serve(stack, connector, http_port, collector, Probes(lambda: well, lambda: well))
        service.serve(stop)
    return 0
