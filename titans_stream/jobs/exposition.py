"""Shows what became of a connector's jobs to Prometheus, from their records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from titans_stream.jobs.records import JobRecords


class JobCollector(Collector):
    """The records of jobs as they are at the time of a scrape; the label `job_name` names one.

    (Prometheus keeps the label `job` for itself.)
    """

    def __init__(self, names: Iterable[str], records: JobRecords) -> None:
        self._names = list(names)
        self._records = records

    def collect(self) -> Iterator[Metric]:
        """All records; called by the registry, from any thread."""
        label = ["job_name"]
        runs = CounterMetricFamily("titans_job_runs", "runs that began", labels=label)
        failures = CounterMetricFamily("titans_job_failures", "runs that failed", labels=label)
        not_run = CounterMetricFamily(
            "titans_job_not_run",
            "runs that were due and did not begin",
            labels=[*label, "outcome"],
        )
        running = GaugeMetricFamily("titans_job_running", "whether it runs now", labels=label)
        started = GaugeMetricFamily(
            "titans_job_last_start_timestamp_seconds", "when it began last", labels=label
        )
        succeeded = GaugeMetricFamily(
            "titans_job_last_run_successful", "whether its last run was done", labels=label
        )
        for name in self._names:
            record = self._records.get(name)
            runs.add_metric([name], record.runs)
            failures.add_metric([name], record.failures)
            not_run.add_metric([name, "missed"], record.missed)
            not_run.add_metric([name, "skipped"], record.skipped)
            running.add_metric([name], record.outcome == "running")
            if record.started:
                started.add_metric([name], datetime.fromisoformat(record.started).timestamp())
            if record.outcome in ("done", "failed", "stopped"):
                succeeded.add_metric([name], record.outcome == "done")
        yield from (runs, failures, not_run, running, started, succeeded)
