"""What a worker counts and times, as plain numbers that cost next to nothing to count.

`ops/exposition.py` shows them to Prometheus; docs/operations.md lists them.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import numpy as np
from kafka import TopicPartition

from titans_stream.records import Alert, EngineFigures, ModelRef, Scores, Status

_HISTOGRAMS = {"snapshot": "snapshot_stall"}
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
    "control_messages": "control messages that took effect, by partition",
    "failed_reloads": "changed files of a connector that were refused",
    "rebalances": "times that partitions were assigned to this worker",
}

FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Seconds: bounds for what happens many times a second."""
SLOW = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Seconds: bounds for what waits for others, or goes through much."""


@runtime_checkable
class TellsState(Protocol):
    """An engine that tells of its memory, in figures by name: `young`, `slot_bytes`, ..."""

    def info(self) -> dict[str, int | str]:
        """The figures."""


class Histogram:
    """Counts of seconds by bounds: the count at place i holds what is at most `bounds[i]`."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds


class Metrics:
    """Counters, gauges and durations of one worker; written by its loop, read by any thread."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(COUNTERS, 0)
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.durations = {
            "engine": Histogram(FAST),
            "commit": Histogram(SLOW),
            "snapshot": Histogram(SLOW),
            "snapshot_stall": Histogram(FAST),
        }
        """Of single calls. A snapshot's is from its begin until it is stored, beside the loop, and
        `snapshot_stall` what each part of it took of the loop."""
        self.recoveries = Histogram(SLOW)
        """From a partition's assignment to the end of its replay."""
        self.statuses = np.zeros(len(Status), np.int64)
        """Live readings by what became of them."""
        self.alerts: Counter[tuple[str, str, str]] = Counter()
        """Published messages by status, severity and reason."""
        self.dead: Counter[str] = Counter()
        """Dead letters by reason."""
        self.aborts: Counter[str] = Counter()
        self.lag: dict[TopicPartition, int] = {}
        self.newest_event = 0
        """The newest time of a live reading, ns; 0: none yet."""
        self.saved: dict[TopicPartition, tuple[float, int]] = {}
        """When a snapshot of a partition was saved last, by the wall clock, and its bytes."""
        self.models: dict[ModelRef, int] = {}
        """Partitions by the model that they are on."""
        self.reloaded: tuple[float, bool] | None = None
        """When the connector's rules were read last, by the wall clock, and whether they were
        taken."""
        self.figures = EngineFigures(0, 0, 0.0, 0)
        self.state: dict[str, int] = {}
        """Figures of the engine's memory; none where it does not tell."""
        self.opened, self.due = 0, 0.0
        """Episodes opened, and false ones that the budgets allow, of all engines that were."""
        self.joined = False
        """Whether the group has given this worker its partitions, if only none."""
        self.series = 0
        self.partitions = 0
        self.last_message = 0.0
        """When messages came last, on the clock `time.monotonic`."""
        self.last_snapshot: float | None = None
        """When a snapshot was saved last, on that clock."""
        self._recovering: dict[TopicPartition, float] = {}

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes to a stage."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - begun
            self.seconds[stage] += seconds
            name = _HISTOGRAMS.get(stage, stage)
            if name in self.durations:
                self.durations[name].observe(seconds)

    def polled(self, begun: float, messages: int) -> None:
        """A poll that began at `begun`, on the clock `time.perf_counter`, gave so many messages."""
        self.seconds["receive" if messages else "idle"] += time.perf_counter() - begun

    def took(self, scores: Scores) -> None:
        """Count live readings by status, and note the newest of their times."""
        if len(scores):
            self.statuses += np.bincount(scores.status, minlength=len(Status))
            self.newest_event = max(self.newest_event, int(scores.timestamp.max()))

    def alerted(self, alert: Alert) -> None:
        """An alert was published."""
        self.counts["alerts"] += 1
        self.alerts[alert.status, alert.severity, alert.reason] += 1

    def aborted(self, reason: str) -> None:
        """A commit failed."""
        self.counts["aborts"] += 1
        self.aborts[reason] += 1

    def snapshot_saved(self, partition: TopicPartition, size: int, seconds: float) -> None:
        """A snapshot of `size` bytes was saved, `seconds` after it was begun."""
        self.counts["snapshots"] += 1
        self.last_snapshot = time.monotonic()
        self.saved[partition] = (time.time(), size)
        self.durations["snapshot"].observe(seconds)

    def recovery_begun(self, partitions: Iterable[TopicPartition]) -> None:
        """The state of partitions is to be rebuilt."""
        now = time.monotonic()
        for partition in partitions:
            self._recovering.setdefault(partition, now)

    def recovery_ended(self, partition: TopicPartition) -> None:
        """A partition's replay is over."""
        begun = self._recovering.pop(partition, None)
        if begun is not None:
            self.recoveries.observe(time.monotonic() - begun)

    @property
    def recovering(self) -> int:
        """Partitions whose replay is not over."""
        return len(self._recovering)

    def released(self, partition: TopicPartition) -> None:
        """A partition is this worker's no longer."""
        for held in (self.lag, self.saved, self._recovering):
            held.pop(partition, None)

    def note_figures(self, figures: EngineFigures) -> None:
        """Take an engine's figures; what an engine that is gone had come to stays counted."""
        before, self.figures = self.figures, figures
        self.opened += max(0, figures.opened - before.opened)
        self.due += max(0.0, figures.due - before.due)
        self.counts["expired_series"] += max(0, figures.expired - before.expired)

    def note_state(self, engine: TellsState) -> None:
        """Take the figures of an engine's memory."""
        self.state = {name: n for name, n in engine.info().items() if isinstance(n, int)}

    def reload_ended(self, taken: bool) -> None:
        """The connector's rules were read again, and taken or refused."""
        self.reloaded = (time.time(), taken)
        self.counts["reloads" if taken else "failed_reloads"] += 1

    def stats(self) -> dict[str, Any]:
        """All counts, the seconds by stage, and the lag by partition."""
        return {
            **self.counts,
            "seconds": dict(self.seconds),
            "lag": {f"{p.topic}-{p.partition}": lag for p, lag in self.lag.items()},
            "series": self.series,
            "partitions": self.partitions,
        }
