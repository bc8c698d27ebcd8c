"""What a worker counts and times: Prometheus metrics, and the same numbers as a dict."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kafka import TopicPartition
from prometheus_client import CollectorRegistry, Counter, Gauge

STAGES = ("idle", "receive", "decode", "engine", "encode", "commit", "snapshot", "recover")
"""`receive` is polls that gave messages, `idle` polls that gave none."""

COUNTERS = {
    "messages": "Kafka messages taken in",
    "readings": "readings given to the engine",
    "dead_letters": "messages or readings that could not be used, output that was too large",
    "alerts": "alert messages published",
    "forecasts": "forecasts published",
    "commits": "commits that succeeded",
    "aborts": "commits that failed, after which the state was recovered",
    "replayed_messages": "messages read again to rebuild state, without output",
    "lost_messages": "messages that the log no longer held when they were needed",
    "snapshots": "snapshots written",
    "rebalances": "times that partitions were assigned to this worker",
}


class Metrics:
    """Counters, gauges and stage times of one worker, in a registry of their own.

    The counts are kept as plain numbers, which the loop adds to, and copied to Prometheus by
    `publish`, so that counting costs next to nothing.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.counts = dict.fromkeys(COUNTERS, 0)
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.lag: dict[TopicPartition, int] = {}
        self.series = 0
        self.partitions = 0
        self._counters = {
            name: Counter(f"titans_{name}", text, registry=self.registry)
            for name, text in COUNTERS.items()
        }
        self._stages = Counter(
            "titans_stage_seconds", "time spent by stage", ["stage"], registry=self.registry
        )
        self._lag = Gauge(
            "titans_lag_messages",
            "messages not yet taken in",
            ["topic", "partition"],
            registry=self.registry,
        )
        self._series = Gauge("titans_series", "series known", registry=self.registry)
        self._partitions = Gauge(
            "titans_partitions", "partitions assigned to this worker", registry=self.registry
        )
        self._published = dict.fromkeys((*COUNTERS, *STAGES), 0.0)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes to a stage."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - begun

    def publish(self) -> None:
        """Bring the registry up to date."""
        for name, counter in self._counters.items():
            counter.inc(self.counts[name] - self._published[name])
            self._published[name] = self.counts[name]
        for stage, seconds in self.seconds.items():
            self._stages.labels(stage).inc(seconds - self._published[stage])
            self._published[stage] = seconds
        self._lag.clear()
        for partition, lag in self.lag.items():
            self._lag.labels(partition.topic, str(partition.partition)).set(lag)
        self._series.set(self.series)
        self._partitions.set(self.partitions)

    def stats(self) -> dict[str, Any]:
        """All counts, the seconds by stage, and the lag by partition."""
        return {
            **self.counts,
            "seconds": dict(self.seconds),
            "lag": {f"{p.topic}-{p.partition}": lag for p, lag in self.lag.items()},
            "series": self.series,
            "partitions": self.partitions,
        }
