"""The wall clock, where no reading tells the time: partitions of which nothing is heard at all.

What a tick changes in the engine is committed with the alerts that come of it, in the metadata of
the partition's offset (`Origin.silent`), so that a worker that takes over neither alerts again nor
forgets to say that readings are back.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from titans_stream.durations import SECOND
from titans_stream.records import Alert
from titans_stream.stream.assignment import Assignment
from titans_stream.stream.processing import Processor

_TICK_SECONDS = 1.0
_PAUSES = 3.0
"""Messages may come in bursts: a silence is so many times as long as the longest pause of late."""
_ARRIVALS = 20
_UNKNOWN_SECONDS = 600.0
"""How long a partition may be silent of which a worker has not heard _ARRIVALS times."""


class Ticks:
    """Asks the engine about partitions that are read to their end. `clock` counts seconds."""

    def __init__(
        self,
        assignment: Assignment,
        processor: Processor,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._assignment = assignment
        self._processor = processor
        self._clock = clock
        self._next = 0.0

    def look(self) -> list[Alert]:
        """The alerts about silences that begin; cheap if called too often."""
        now = self._clock()
        if now < self._next:
            return []
        self._next = now + _TICK_SECONDS
        found: list[Alert] = []
        for partition, progress in self._assignment.progress.items():
            if progress.replaying or partition in self._assignment.new:
                continue
            if self._assignment.is_read(partition):
                silence = round((now - progress.last_message) * SECOND)
                patience = _PAUSES * progress.pause
                if progress.arrivals < _ARRIVALS:
                    patience = max(patience, _UNKNOWN_SECONDS)
                alerts = self._processor.tick(
                    partition, silence, round(patience * SECOND), progress.position
                )
                progress.ticked = progress.ticked or bool(alerts)
                found += alerts
        return found
