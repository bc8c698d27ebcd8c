"""How many messages a poll takes: few where they come one by one, many where they lie in wait.

A call of the engine costs a millisecond whatever it holds, so that a backlog is read faster in
large polls. A turn of the loop must stay short all the same: commits, rebalances and the page wait
for its end.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

LEAST = 2_000
MOST = 20_000
_SHORT, _LONG = 0.2, 0.5
"""Seconds of a turn up to which the next poll takes more, and from which it takes fewer."""


class PollSize:
    """`most` messages at the next poll; `fixed`: always so many."""

    def __init__(self, fixed: int | None) -> None:
        self._fixed = fixed
        self.most = LEAST if fixed is None else fixed

    def took(self, records: Mapping[Any, Sequence[Any]], since: float) -> None:
        """A poll's records, by partition, were processed from `since` (monotonic) to now."""
        messages, seconds = sum(map(len, records.values())), time.monotonic() - since
        if self._fixed is not None:
            return
        if seconds > _LONG:
            self.most = max(LEAST // 4, self.most // 2)
        elif messages < self.most:
            self.most = max(LEAST, self.most // 2)
        elif seconds <= _SHORT:
            self.most = min(MOST, 2 * self.most)
