"""What a worker says of its own work: figures, a line a minute, a sign of life, and its group.

A sign of life is work that was done, not a loop that turns: messages came, or Kafka answers and
nothing waits for a commit that is overdue.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from titans_stream.durations import SECOND
from titans_stream.records import Engine
from titans_stream.stream.assignment import Assignment
from titans_stream.stream.kafka.deadline import call_within
from titans_stream.stream.kafka.errors import FatalError
from titans_stream.stream.metrics import Metrics, TellsState
from titans_stream.stream.settings import DeliveryConfig
from titans_stream.stream.switch import SwitchEngine

log = logging.getLogger(__name__)

_REPORT_SECONDS = 0.5
_FIGURES_SECONDS = 10.0
"""Spilled series are gone through for them."""
ALIVE_SECONDS = 5.0
"""So long after the last message or answer, and after a commit was due, there is a sign of life."""
_CHECK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Watched:
    """What is looked at.

    `answered` tells when Kafka answered last, on the clock `time.monotonic`. `heartbeat` takes the
    signs of life, about two a second. `check_group` raises ConnectError where the group that was
    joined is another connector's, too.
    """

    engine: Engine
    assignment: Assignment
    metrics: Metrics
    answered: Callable[[], float]
    heartbeat: Callable[[], None] | None = None
    check_group: Callable[[], None] | None = None


class Watch:
    """Looks now and then. `clock` counts seconds."""

    def __init__(
        self,
        watched: Watched,
        delivery: DeliveryConfig,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = watched.engine
        self._assignment = watched.assignment
        self._metrics = watched.metrics
        self._answered = watched.answered
        self._heartbeat = watched.heartbeat
        self._check_group = watched.check_group
        self._every = delivery.report_every / SECOND
        self._overdue = delivery.commit_interval / SECOND + ALIVE_SECONDS
        self._clock = clock
        self._next = self._next_figures = 0.0
        self._warned_at = 0
        self._reported = clock()
        self._before = dict(watched.metrics.counts)
        self._replaying: set[str] = set()

    def look(self, uncommitted_since: float | None) -> None:
        """Bring the gauges up to date, and say what there is to say; cheap if called too often.

        `uncommitted_since` is when the open transaction began; None: there is none.
        """
        now = self._clock()
        if now < self._next:
            return
        self._next = now + _REPORT_SECONDS
        self._assignment.note_lag()
        self._metrics.series = self._engine.series_count()
        if now >= self._next_figures:
            self._next_figures = now + _FIGURES_SECONDS
            self._note_figures()
        self._warn_of_series()
        if self._heartbeat is not None and self._works(now, uncommitted_since):
            self._heartbeat()
        if 0.0 < self._every <= now - self._reported:
            self._report(now)

    def joined(self) -> None:
        """The group was joined and its partitions are recovered: see that no other shares it.

        Two connectors of one name that start together pass the check before the join.
        """
        check, self._check_group = self._check_group, None
        if check is not None:
            try:
                call_within(_CHECK_SECONDS, "check group", check)
            except FatalError as error:
                log.debug("check group: %s", error)

    def _works(self, now: float, uncommitted_since: float | None) -> bool:
        if uncommitted_since is not None and now - uncommitted_since > self._overdue:
            return False
        last = max(self._metrics.last_message, float(self._answered()))
        return now - last < ALIVE_SECONDS

    def _note_figures(self) -> None:
        self._metrics.note_figures(self._engine.figures())
        if isinstance(self._engine, TellsState):
            self._metrics.note_state(self._engine)
        if isinstance(self._engine, SwitchEngine):
            self._metrics.models = self._engine.in_use()

    def _warn_of_series(self) -> None:
        """Say that the series look like a mistake, and again when they are twice as many."""
        count = self._metrics.series
        if count >= 2 * self._warned_at:
            warning = self._engine.series_warning()
            if warning:
                self._warned_at = count
                log.warning("%s", warning)

    def _report(self, now: float) -> None:
        """One line about the time since the last one."""
        counts, figures = self._metrics.counts, self._engine.figures()
        new = {name: count - self._before[name] for name, count in counts.items()}
        seconds = now - self._reported
        self._reported, self._before = now, dict(counts)
        dropped = ", ".join(
            f"{new[name]:,} {name.removesuffix('_readings').replace('_', ' ')}"
            for name in ("late_readings", "duplicate_readings", "missing_readings", "dead_letters")
        )
        saved = self._metrics.last_snapshot
        log.info(
            "%s readings/s, %s behind, %s series, %s; %s; %s; %s",
            f"{new['readings'] / seconds:,.1f}",
            f"{sum(self._metrics.lag.values()):,} messages",
            f"{self._metrics.series:,}",
            f"{figures.open_episodes:,} open alerts",
            f"{figures.opened:,} opened since the start where {figures.due:,.1f} false are due",
            dropped,
            "no snapshot yet" if saved is None else f"last snapshot {now - saved:.0f} s ago",
        )
        self._report_replays()

    def _report_replays(self) -> None:
        """How far the replays are, and those that have ended."""
        running = set()
        for partition, progress in self._assignment.progress.items():
            if progress.replaying:
                name = f"{partition.topic} partition {partition.partition}"
                running.add(name)
                left = progress.resume - progress.position
                log.info("%s: %s messages of the replay are left", name, f"{left:,}")
        for name in sorted(self._replaying - running):
            log.info("%s: the replay is over", name)
        self._replaying = running
