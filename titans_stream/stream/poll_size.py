"""How many messages a poll takes: few where they come one by one, many where they lie in wait.

A call of the engine costs a millisecond whatever it holds, so that a backlog is read faster in
large polls. A turn of the loop must stay short all the same: commits, rebalances and the page wait
for its end. What cannot be committed in time is tried again with fewer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

LEAST, FIRST, MOST = 500, 2_000, 20_000
_SHORT, _LONG = 0.2, 0.5
"""Seconds of a turn up to which the next poll takes more, and from which it takes fewer."""


class PollSize:
    """`most` messages at the next poll; `fixed`: always so many."""

    def __init__(self, fixed: int | None) -> None:
        self._fixed = fixed
        self.most = FIRST if fixed is None else fixed
        self._limit = MOST
        """Lower after failures, until commits have succeeded again."""

    def took(self, records: Mapping[Any, Sequence[Any]], since: float) -> None:
        """A poll's records, by partition, were processed from `since` (monotonic) to now."""
        messages, seconds = sum(map(len, records.values())), time.monotonic() - since
        if self._fixed is not None:
            return
        if seconds > _LONG:
            self.most = max(LEAST, self.most // 2)
        elif messages < self.most:
            self.most = min(self.most, max(FIRST, self.most // 2))
        elif seconds <= _SHORT:
            self.most = min(self._limit, 2 * self.most)

    def failed(self) -> None:
        """What was read was not committed: it comes again, fewer at a time."""
        if self._fixed is None:
            self.most = self._limit = max(LEAST, self.most // 2)

    def committed(self) -> None:
        """What was read since the commit before is committed."""
        self._limit = min(MOST, 2 * self._limit)
