"""Which series are taken in, where a partition has room for so many only.

Where it is full, a new series may take the place of one that never warmed up and has been idle
while the partition took in many readings. All of this follows from the partition's readings and
their order, so that a replay admits and refuses the same ones. Ages are counted in readings of the
partition, refused ones included: the clock of no series can make another one leave.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from titans_stream.engine.rows import Rows
from titans_stream.engine.series import SeriesTable
from titans_stream.engine.settings import WhenFull
from titans_stream.engine.store import Array
from titans_stream.memory.rows import ArraySpec, Record
from titans_stream.records import Int32, Int64

WARM = 50
"""Readings from which a series stays."""
FEW = 5
MANY_SERIES = 1_000
"""So many series, most of them with fewer than FEW readings, are worth a warning."""
_IDLE_READINGS = 50
"""A full partition takes in so many readings for each of its series before an idle one leaves."""
_CANDIDATES = 1_024
_FOR_EVER = 2**62
_LATER = ("arrivals",)


class Arrivals(Record):
    """What a series' partition knows of it."""

    count: int
    seen: int
    """Number of its last reading in the partition."""


class Admission:
    """Counts readings and picks the series that make room.

    `limit` is of a partition; `may_go` tells whether a series (uid) can be forgotten at all, which
    must not change while it is idle.
    """

    def __init__(
        self,
        table: SeriesTable,
        limit: int,
        when_full: WhenFull,
        may_go: Callable[[int], bool],
    ) -> None:
        self._table = table
        self._limit = limit
        self._patience = 0 if when_full == "replace-idle" else _IDLE_READINGS * limit
        self._may_go = may_go
        self._rows = Rows({"arrivals": ArraySpec.of(Arrivals)}, {}, later=_LATER)
        self._taken: dict[int, int] = {}
        self._idle: dict[int, deque[tuple[int, int]]] = {}
        """By partition: (seen, uid) of the series that were idle longest, in that order."""
        self._not_before: dict[int, int] = {}
        self.refused = 0

    def has_room(self, partitions: Int32) -> bool:
        """Whether N readings cannot fill a partition, whatever series they are of."""
        counts = np.bincount(partitions)
        return all(
            self._table.count(partition) + int(counts[partition]) <= self._limit
            for partition in counts.nonzero()[0].tolist()
        )

    def note(self, uids: Int64, partitions: Int32) -> None:
        """Count N readings, all of them admitted."""
        self._rows.reserve(int(uids.max(initial=-1)) + 1)
        arrivals = self._rows.arrays["arrivals"]
        for partition in np.bincount(partitions).nonzero()[0].tolist():
            mine = uids[partitions == partition]
            before = self._taken.get(partition, 0)
            arrivals["seen"][mine] = before + 1 + np.arange(len(mine))
            np.add.at(arrivals["count"], mine, 1)
            self._taken[partition] = before + len(mine)

    def pass_over(self, partition: int) -> None:
        """Count a reading that is refused."""
        self._taken[partition] = self._taken.get(partition, 0) + 1
        self.refused += 1

    def is_full(self, partition: int) -> bool:
        """Whether a partition has no room for another series."""
        return self._table.count(partition) >= self._limit

    def victim(self, partition: int) -> int | None:
        """The series that makes room for a new one; None where none does.

        All readings before the new one's are processed. A series that may not go counts as warm
        from then on.
        """
        now = self._taken.get(partition, 0)
        if now < self._not_before.get(partition, 0):
            return None
        arrivals = self._rows.arrays["arrivals"]
        idle = self._idle.setdefault(partition, deque())
        while True:
            while idle:
                seen, uid = idle[0]
                if now - seen < self._patience:
                    self._not_before[partition] = seen + self._patience
                    return None
                if arrivals["seen"][uid] != seen or arrivals["count"][uid] >= WARM:
                    idle.popleft()
                elif self._may_go(uid):
                    return uid
                else:
                    arrivals["count"][uid] = WARM
            idle.extend(self._longest_idle(partition))
            if not idle:
                self._not_before[partition] = _FOR_EVER  # none of a full partition gets young
                return None

    def _longest_idle(self, partition: int) -> list[tuple[int, int]]:
        _, uids = self._table.members(partition)
        rows = self._rows.arrays["arrivals"][uids]
        young = np.flatnonzero(rows["count"] < WARM)
        order = young[np.argsort(rows["seen"][young], kind="stable")][:_CANDIDATES]
        return list(zip(rows["seen"][order].tolist(), uids[order].tolist(), strict=True))

    def admit(self, uids: Int64) -> None:
        """Uids are given out to new series."""
        self._rows.reserve(int(uids.max()) + 1)
        self._rows.reset(uids)

    def few(self, uids: Int64) -> Int64:
        """Those of `uids` that have fewer than FEW readings."""
        return uids[self._rows.arrays["arrivals"]["count"][uids] < FEW]

    # --- state

    def export(self, partition: int, uids: Int64) -> tuple[dict[str, Array], dict[str, Any]]:
        """Arrays by series, and what else is known of a partition, as JSON."""
        return self._rows.export(uids), {"taken": self._taken.get(partition, 0)}

    def load(self, partition: int, uids: Int64, arrays: dict[str, Array], meta: Any) -> None:
        """Put what `export` gave in place; series of states without it count as warm."""
        self._rows.reserve(int(uids.max(initial=-1)) + 1)
        self._rows.arrays["arrivals"]["count"][uids] = WARM
        self._rows.load(uids, arrays)
        self._taken[partition] = int(meta.get("taken", 0))

    def release(self, partition: int) -> None:
        """Forget a partition."""
        for of in (self._taken, self._idle, self._not_before):
            of.pop(partition, None)


def series_warning(total: int, few: Sequence[str]) -> str:
    """A line for people where most of `total` series have few readings; else nothing.

    `few` names those series.
    """
    if total < MANY_SERIES or len(few) <= total // 2:
        return ""
    examples = ", ".join(repr(name) for name in few[-3:])
    return (
        f"{len(few):,} of {total:,} series have fewer than {FEW} readings, such as {examples}: "
        "does the series' name (input.series; --series of a file) hold an id that is new with "
        "every message? A series needs "
        f"{WARM} readings and more; see engine.max_series"
    )
