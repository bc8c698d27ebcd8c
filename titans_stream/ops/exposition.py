"""Shows a worker's numbers to Prometheus; docs/operations.md lists and explains them.

Labels have few values: topics, partitions, models, jobs and fixed words. No series is a label.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

import titans_stream
from titans_stream.durations import SECOND
from titans_stream.records import ModelRef, Status
from titans_stream.stream.metrics import COUNTERS, Histogram, Metrics

_BY_LABEL = frozenset(
    {
        "readings",
        "late_readings",
        "duplicate_readings",
        "missing_readings",
        "dead_letters",
        "alerts",
        "aborts",
    }
)
"""Counts that are shown by status or reason."""
_DURATIONS = {
    "engine": "seconds of single calls of the engine: what a poll gave of a topic, or 2 MiB",
    "commit": "seconds that commits took",
    "snapshot_stall": "seconds for which copying a part of a snapshot held up the loop",
    "snapshot": "seconds from the begin of a partition's snapshot until it was stored",
}


class WorkerCollector(Collector):
    """A worker's numbers as they are at the time of a scrape; `model` is what it began with."""

    def __init__(
        self, metrics: Metrics, model: ModelRef, clock: Callable[[], float] = time.time
    ) -> None:
        self._metrics = metrics
        self._model = model
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """All numbers; called by the registry, from any thread."""
        metrics = self._metrics
        for name, text in COUNTERS.items():
            if name not in _BY_LABEL:
                yield CounterMetricFamily(f"titans_{name}", text, metrics.counts[name])
        yield from self._by_label()
        yield from self._promise()
        yield from self._places()
        yield from self._durations()
        yield from self._state()

    def _by_label(self) -> Iterator[Metric]:
        metrics = self._metrics
        statuses = {(s.label,): float(metrics.statuses[s]) for s in Status}
        yield _counter("readings", "live readings by what became of them", ["status"], statuses)
        alerts = dict(metrics.alerts)
        labels = ["status", "severity", "reason"]
        yield _counter("alerts", "alert messages published", labels, alerts)
        dead = {(reason,): count for reason, count in dict(metrics.dead).items()}
        yield _counter("dead_letters", COUNTERS["dead_letters"], ["reason"], dead)
        aborts = {(reason,): count for reason, count in dict(metrics.aborts).items()}
        yield _counter("aborts", COUNTERS["aborts"], ["reason"], aborts)
        stages = {(stage,): spent for stage, spent in metrics.seconds.items()}
        yield _counter("stage_seconds", "seconds spent by stage of the loop", ["stage"], stages)

    def _promise(self) -> Iterator[Metric]:
        """The alert budget, and what came of it."""
        metrics = self._metrics
        yield CounterMetricFamily(
            "titans_episodes_opened", "episodes opened, replays included", metrics.opened
        )
        yield CounterMetricFamily(
            "titans_episodes_due",
            "false episodes that the alert budgets allow for the time that the readings cover",
            metrics.due,
        )
        yield GaugeMetricFamily(
            "titans_open_episodes", "episodes open now", metrics.figures.open_episodes
        )

    def _places(self) -> Iterator[Metric]:
        """Where the work is: lags and partitions."""
        metrics, now = self._metrics, self._clock()
        lag = {_place(p): float(count) for p, count in list(metrics.lag.items())}
        yield _gauge("lag_messages", "messages not yet taken in", _PLACE, lag)
        event = metrics.newest_event
        yield _gauge(
            "event_time_lag_seconds",
            "age of the newest live reading by its own time; none before the first",
            [],
            {(): now - event / SECOND} if event else {},
        )
        yield GaugeMetricFamily(
            "titans_partitions", "partitions assigned to this worker", metrics.partitions
        )
        yield GaugeMetricFamily(
            "titans_recovering_partitions",
            "partitions whose state is being rebuilt",
            metrics.recovering,
        )

    def _durations(self) -> Iterator[Metric]:
        for stage, text in _DURATIONS.items():
            yield _histogram(
                f"titans_{stage}_duration_seconds", text, self._metrics.durations[stage]
            )
        yield _histogram(
            "titans_recovery_duration_seconds",
            "seconds from a partition's assignment to the end of its replay",
            self._metrics.recoveries,
        )

    def _state(self) -> Iterator[Metric]:
        """Series, memory, snapshots, models."""
        metrics, state = self._metrics, self._metrics.state
        young, spilled = state.get("young", 0), state.get("spilled", 0)
        settled = max(0, metrics.series - young - spilled)
        states = {("resident",): settled, ("young",): young, ("spilled",): spilled}
        yield _gauge("series", "series known, by where their state is", ["state"], states)
        places = {(p,): state.get(f"{p}_bytes", 0) for p in ("slot", "young", "spilled")}
        yield _gauge("state_bytes", "memory taken for the state of series", ["place"], places)
        saved = list(metrics.saved.items())
        times = {_place(p): when for p, (when, _) in saved}
        yield _gauge(
            "snapshot_timestamp_seconds", "when a snapshot was written last", _PLACE, times
        )
        sizes = {_place(p): float(size) for p, (_, size) in saved}
        yield _gauge("snapshot_bytes", "bytes that the last snapshot wrote", _PLACE, sizes)
        models = metrics.models or {self._model: metrics.partitions}
        yield _gauge(
            "model_partitions",
            "partitions by the model that they are on",
            ["name", "version"],
            {(ref.name, ref.version): count for ref, count in models.items()},
        )
        if metrics.reloaded is not None:
            when, taken = metrics.reloaded
            yield _gauge(
                "last_reload_timestamp_seconds", "when the rules were read last", [], {(): when}
            )
            yield _gauge(
                "last_reload_successful", "whether they were taken", [], {(): float(taken)}
            )


_PLACE = ["topic", "partition"]


def _place(partition: tuple[str, int]) -> tuple[str, str]:
    return partition[0], str(partition[1])


def _counter(name: str, text: str, labels: list[str], values: Mapping[Any, float]) -> Metric:
    family = CounterMetricFamily(f"titans_{name}", text, labels=labels)
    for each, value in values.items():
        family.add_metric(each, value)
    return family


def _gauge(name: str, text: str, labels: list[str], values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(f"titans_{name}", text, labels=labels)
    for each, value in values.items():
        family.add_metric(each, value)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    bounds = [*map(str, histogram.bounds), "+Inf"]
    # the sum is read first: an observation between the two reads may not make a mean too large
    total = histogram.sum
    below = list(accumulate(histogram.counts))
    return HistogramMetricFamily(name, text, list(zip(bounds, below, strict=True)), total)


def registry_of(collectors: Iterable[Collector]) -> CollectorRegistry:
    """A registry of these, of the process (memory, CPU, open files) and of the build."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(_Build())
    for each in collectors:
        registry.register(each)
    return registry


class _Build(Collector):
    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily(
            "titans_build", "the version that runs", {"version": titans_stream.__version__}
        )
