"""Tells a device whose clock was set back from old data that come again.

Both are late. But readings of a clock that was set back keep pace with the Kafka timestamps of
their messages, whatever the distance; what a gateway or a file sends again comes as fast as it can.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from kafka import TopicPartition

from titans_stream.durations import MILLISECOND, SECOND
from titans_stream.records import Scores, Status
from titans_stream.stream.messages import RawMessage
from titans_stream.times import format_timestamp

log = logging.getLogger(__name__)

LEAST = 20
"""Late readings in a row that tell."""
_ALIKE = 0.2
"""Share by which reading times and Kafka's may differ in their course."""
_LEAST_SPAN = 5 * SECOND
_MOST_SERIES = 1_000
_QUIET_SECONDS = 600.0


@dataclass(slots=True)
class _Run:
    """Late readings of a series in a row, each newer than the one before: times in ns."""

    first: int
    first_sent: int
    last: int
    count: int = 1


class LateClocks:
    """Warns of clocks that seem to have been set back, at most once in ten minutes.

    `clock` counts seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._quiet_until = clock()
        self._runs: dict[tuple[int, str], _Run] = {}

    def take(
        self,
        messages: Sequence[RawMessage],
        scores: Scores,
        number: Callable[[TopicPartition], int],
    ) -> None:
        """Look at what became of the readings of some messages.

        `number` gives the engine's number of a partition, which `scores` name it by.
        """
        late = scores.status == Status.LATE
        if not self._runs and not late.any():
            return
        sent = {
            (number(TopicPartition(one.topic, one.partition)), one.offset): one.timestamp_ms
            for one in messages
        }
        partitions, offsets = scores.partition.tolist(), scores.offset.tolist()
        times = scores.timestamp.tolist()
        for i in np.flatnonzero(late | (scores.status != Status.DUPLICATE)).tolist():
            key = (partitions[i], scores.series[i])
            if not late[i]:
                self._runs.pop(key, None)
                continue
            moment = sent.get((partitions[i], offsets[i]))
            if moment is not None and moment >= 0:
                self._follow(key, times[i], moment * MILLISECOND)

    def _follow(self, key: tuple[int, str], reading: int, sent: int) -> None:
        run = self._runs.get(key)
        if run is None or reading <= run.last:
            if run is not None or len(self._runs) < _MOST_SERIES:
                self._runs[key] = _Run(reading, sent, reading)
            return
        run.count, run.last = run.count + 1, reading
        span, course = sent - run.first_sent, reading - run.first
        if run.count < LEAST or span < _LEAST_SPAN or abs(course - span) > _ALIKE * span:
            return
        if self._clock() >= self._quiet_until:
            self._quiet_until = self._clock() + _QUIET_SECONDS
            log.warning(
                "series %r: its readings are late, but keep pace with their messages (the last "
                "one, of %s, was sent at %s): was its clock set back? input.clock_reset: after "
                "%d follows such a clock; with never they stay late until the old time is reached",
                key[1],
                format_timestamp(reading),
                format_timestamp(sent),
                LEAST,
            )
