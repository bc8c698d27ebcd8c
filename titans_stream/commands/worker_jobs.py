"""The jobs that `titans-stream run` does itself, out of a connector."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from titans_stream.durations import SECOND
from titans_stream.job_settings import POLL_JOB

if TYPE_CHECKING:
    from titans_stream.commands.swapping import Swapping
    from titans_stream.config import Connector
    from titans_stream.stream.worker import Worker


@contextmanager
def worker_jobs(connector: Connector, worker: Worker, switch: Swapping) -> Iterator[None]:
    """Within the block they run when they are due, and when the registry tells of a change."""
    jobs = {name: job for name, job in connector.all_jobs.items() if job.in_worker}
    if not jobs:
        yield
        return
    work: dict[str, Callable[[], str]] = {
        name: switch.look if job.kind == "poll" else partial(_snapshot, worker, job.timeout)
        for name, job in jobs.items()
    }
    from titans_stream.jobs.in_worker import WorkerJobs
    from titans_stream.jobs.records import JobRecords

    records, webhook = JobRecords(Path(connector.state.path)), connector.swap.webhook
    with ExitStack() as stack:
        running = stack.enter_context(WorkerJobs(jobs, connector.input.timezone, records, work))
        if webhook is not None:
            from titans_stream.ops.registry_webhook import RegistryWebhook

            secret, wake = webhook.secret.get_secret_value(), partial(running.run_now, POLL_JOB)
            stack.enter_context(RegistryWebhook(webhook.host, webhook.port, secret, wake))
        yield


def _snapshot(worker: Worker, timeout: int) -> str:
    written = worker.snapshot(timeout / SECOND)
    return f"{written:,} of {worker.metrics.partitions:,} partitions; the others have one as it is"
