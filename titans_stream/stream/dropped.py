"""Readings that came to nothing: counted, and told in the log where they are many."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import numpy as np

from titans_stream.records import Scores, Status
from titans_stream.stream.metrics import Metrics

log = logging.getLogger(__name__)

_SHARE = 0.1
_LEAST = 200
"""Readings that a share is told of."""
_WINDOW_SECONDS = 60.0

_KINDS = {
    Status.LATE: (
        "late",
        "a later reading of their series came before; raise engine.max_out_of_orderness, or tell "
        "the sensors apart in input.series",
    ),
    Status.DUPLICATE: (
        "duplicate",
        "their series had that time already; tell the sensors apart in input.series, or send "
        "finer times",
    ),
    Status.MISSING: (
        "missing",
        "their messages hold no value (null, NaN, or one of input.missing_values)",
    ),
}


class DropWatch:
    """Counts late, duplicate and missing readings in a worker's metrics.

    Warns where they are more than a tenth of at least 200 readings, at most once a minute for each
    kind. `clock` counts seconds.
    """

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._clock = clock
        self._quiet_until = dict.fromkeys(_KINDS, clock())
        self._begin_window()

    def _begin_window(self) -> None:
        self._since = self._clock()
        self._readings = 0
        self._dropped = dict.fromkeys(_KINDS, 0)

    def take(self, scores: Scores) -> None:
        """Count what became of some readings."""
        if self._clock() - self._since >= _WINDOW_SECONDS:
            self._begin_window()
        self._readings += len(scores)
        for status, (name, remedy) in _KINDS.items():
            count = int(np.count_nonzero(scores.status == status))
            if not count:
                continue
            self._metrics.counts[f"{name}_readings"] += count
            self._dropped[status] += count
            many = self._readings >= _LEAST and self._dropped[status] > _SHARE * self._readings
            if many and self._clock() >= self._quiet_until[status]:
                self._quiet_until[status] = self._clock() + _WINDOW_SECONDS
                log.warning(
                    "%d of the last %d readings are %s and were not scored: %s",
                    self._dropped[status],
                    self._readings,
                    name,
                    remedy,
                )
