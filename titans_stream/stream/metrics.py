"""What a worker counts and times: Prometheus metrics, and the same numbers as a dict."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kafka import TopicPartition
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

STAGES = ("idle", "receive", "decode", "engine", "encode", "commit", "snapshot", "recover")
"""`receive` is polls that gave messages, `idle` polls that gave none."""

COUNTERS = {
    "messages": "Kafka messages taken in",
    "readings": "readings given to the engine",
    "late_readings": "readings that came after a later one of their series and were not scored",
    "duplicate_readings": "readings of a time that their series had already, not scored",
    "missing_readings": "readings without a value",
    "expired_series": "times that a series was silent for too long and began anew",
    "dead_letters": "messages or readings that could not be used, output that was too large",
    "alerts": "alert messages published",
    "forecasts": "forecasts published",
    "commits": "commits that succeeded",
    "aborts": "commits that failed, after which the state was recovered",
    "replayed_messages": "messages read again to rebuild state, without output",
    "lost_messages": "messages that the log no longer held when they were needed",
    "refused_messages": "messages with an offset that cannot be theirs, passed over",
    "snapshots": "snapshots written",
    "failed_snapshots": "snapshots that could not be written",
    "swaps": "times that a partition changed to another model while running",
    "refused_models": "models that were offered and refused, after which the old one went on",
    "reloads": "times that rules and budgets changed while running",
    "failed_reloads": "changed files of a connector that were refused",
    "rebalances": "times that partitions were assigned to this worker",
}


class Metrics(Collector):
    """Counters, gauges and stage times of one worker, in a registry of their own.

    They are plain numbers, which cost next to nothing to count; Prometheus asks for them.
    """

    def __init__(self) -> None:
        self.counts = dict.fromkeys(COUNTERS, 0)
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.lag: dict[TopicPartition, int] = {}
        self.series = 0
        self.partitions = 0
        self.last_message = 0.0
        """When messages came last, on the clock `time.monotonic`."""
        self.last_snapshot: float | None = None
        """When a snapshot was saved last, on that clock."""
        self.registry = CollectorRegistry()
        self.registry.register(self)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes to a stage."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - begun

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """All numbers as they are now; called by the registry, from any thread."""
        for name, text in COUNTERS.items():
            yield CounterMetricFamily(f"titans_{name}", text, self.counts[name])
        stages = CounterMetricFamily(
            "titans_stage_seconds", "time spent by stage", labels=["stage"]
        )
        for stage, seconds in self.seconds.items():
            stages.add_metric([stage], seconds)
        lag = GaugeMetricFamily(
            "titans_lag_messages", "messages not yet taken in", labels=["topic", "partition"]
        )
        for partition, messages in list(self.lag.items()):
            lag.add_metric([partition.topic, str(partition.partition)], messages)
        yield stages
        yield lag
        yield GaugeMetricFamily("titans_series", "series known", self.series)
        yield GaugeMetricFamily(
            "titans_partitions", "partitions assigned to this worker", self.partitions
        )

    def stats(self) -> dict[str, Any]:
        """All counts, the seconds by stage, and the lag by partition."""
        return {
            **self.counts,
            "seconds": dict(self.seconds),
            "lag": {f"{p.topic}-{p.partition}": lag for p, lag in self.lag.items()},
            "series": self.series,
            "partitions": self.partitions,
        }
