"""The reorder buffer: readings of a series that wait until their order, or their stamp, is known.

A reading waits until its series has been seen `bound` nanoseconds later. `keep-last` and `spread`
look at a stamp as a whole, so they wait for the series' next stamp too, whatever the bound.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from titans_stream.engine.columns import Columns, Row, columns_of, joined
from titans_stream.engine.order import NEVER
from titans_stream.engine.settings import Duplicates
from titans_stream.records import Int64

BUFFER_LIMIT = 10_000
"""Readings of one series that wait for order; beyond it the oldest goes on."""
PAUSE = 5
"""A stamp this many times as far from the next one as from the one before is spread over the
shorter of the two."""

Waiting = dict[str, Any]
"""A series' waiting readings as JSON: newest, released, width, times, values (null: missing),
offsets, groups."""

_Kept = tuple[float, int, int, int]
"""Value, partition, offset and group of a waiting reading."""


@dataclass(slots=True)
class _Waiting:
    newest: int = NEVER
    released: int = NEVER
    """The last stamp that went on."""
    width: int = 0
    """Nanoseconds between the two stamps before; 0: not known."""
    times: list[int] = field(default_factory=list)
    readings: list[_Kept] = field(default_factory=list)


class ReorderBuffer:
    """Holds readings back until their series has been seen `bound` nanoseconds later.

    The buffer is part of a series' state: `export` and `restore` move it.
    """

    def __init__(self, bound: int, duplicates: Duplicates) -> None:
        self._bound = bound
        self._duplicates = duplicates
        self._whole = duplicates in ("keep-last", "spread")
        self._waiting: dict[int, _Waiting] = {}

    def push(self, columns: Columns) -> Columns:
        """Take readings in arrival order; return those released, in order of release."""
        if self._bound == 0 and not self._whole:
            if not self._waiting:
                return columns
            left = self.flush()  # of a snapshot from when readings waited
            self._waiting.clear()
            return joined([left, columns])
        out: list[Row] = []
        readings = zip(
            columns.uid.tolist(),
            columns.timestamp.tolist(),
            columns.value.tolist(),
            columns.partition.tolist(),
            columns.offset.tolist(),
            columns.group.tolist(),
            strict=True,
        )
        for uid, time, value, partition, offset, group in readings:
            waiting = self._waiting.get(uid)
            if waiting is None:
                waiting = self._waiting[uid] = _Waiting()
            gone = waiting.newest - self._bound if not self._whole else waiting.released
            if waiting.newest != NEVER and time <= gone:
                out.append((uid, time, value, partition, offset, 0, group))
                continue
            repeated = self._insert(waiting, time, (value, partition, offset, group))
            if repeated is not None:
                value, partition, offset, group = repeated
                out.append((uid, time, value, partition, offset, 1, group))
            waiting.newest = max(waiting.newest, time)
            self._release(uid, waiting, out)
        return columns_of(out)

    def _insert(self, waiting: _Waiting, time: int, reading: _Kept) -> _Kept | None:
        """Put a reading in its place; the reading that is a duplicate now, if one is."""
        first, last = bisect_left(waiting.times, time), bisect_right(waiting.times, time)
        if first < last:
            if self._duplicates == "keep-last":
                replaced, waiting.readings[first] = waiting.readings[first], reading
                return replaced
            if self._duplicates == "drop" or any(
                _same(value, reading[0]) for value, *_ in waiting.readings[first:last]
            ):
                return reading
        waiting.times.insert(last, time)
        waiting.readings.insert(last, reading)
        return None

    def _release(self, uid: int, waiting: _Waiting, out: list[Row]) -> None:
        count = max(self._due(waiting), len(waiting.times) - BUFFER_LIMIT)
        if count <= 0:
            return
        times = self._spread(waiting, count) if self._duplicates == "spread" else waiting.times
        for time, (value, partition, offset, group) in zip(
            times[:count], waiting.readings[:count], strict=True
        ):
            out.append((uid, time, value, partition, offset, 0, group))
        waiting.released = max(waiting.released, waiting.times[count - 1])
        del waiting.times[:count]
        del waiting.readings[:count]

    def _due(self, waiting: _Waiting) -> int:
        """How many readings wait no longer."""
        horizon = waiting.newest - self._bound
        known = bisect_right(waiting.times, horizon)
        if not self._whole or known == 0:
            return known
        if self._duplicates == "spread":  # up to the last stamp whose next one is known
            horizon = waiting.times[known - 1]
        return bisect_left(waiting.times, horizon)

    def _spread(self, waiting: _Waiting, count: int) -> list[int]:
        """The times of the first `count` readings, those of a stamp spread up to the next one."""
        times, out = waiting.times, list[int]()
        while len(out) < count:
            stamp = times[len(out)]
            last = bisect_right(times, stamp)
            shared = last - len(out)
            width = times[last] - stamp if last < len(times) else waiting.width
            before, waiting.width = waiting.width, width
            if 0 < before * PAUSE < width:
                width = before
            # of a stamp that fills the buffer a part has gone on without its next one
            cut = last > count or waiting.released == stamp
            step = 0 if cut else width // shared
            out += [stamp + k * step for k in range(shared)]
        return out[:count]

    def flush(self) -> Columns:
        """Everything that waits, in order per series; for the end of a finite stream."""
        out: list[Row] = []
        for uid in self._waiting:
            self._flush(uid, out)
        return columns_of(out)

    def take(self, uid: int) -> Columns:
        """Everything of one series that waits; its state is forgotten."""
        out: list[Row] = []
        if uid in self._waiting:
            self._flush(uid, out)
        self.forget(uid)
        return columns_of(out)

    def _flush(self, uid: int, out: list[Row]) -> None:
        waiting = self._waiting[uid]
        count = len(waiting.times)
        times = self._spread(waiting, count) if self._duplicates == "spread" else waiting.times
        out += [
            (uid, time, value, partition, offset, 0, group)
            for time, (value, partition, offset, group) in zip(times, waiting.readings, strict=True)
        ]
        waiting.released = max(waiting.released, waiting.newest)
        waiting.times.clear()
        waiting.readings.clear()

    def waiting(self) -> int:
        """Readings held back."""
        return sum(len(waiting.times) for waiting in self._waiting.values())

    def reach(self, uids: Int64) -> Int64:
        """The series whose waiting readings change where those of `uids` are pushed."""
        if self._waiting and self._bound == 0 and not self._whole:
            return np.concatenate([uids, np.fromiter(self._waiting, np.int64, len(self._waiting))])
        return uids

    def export(
        self, series: Iterable[tuple[str, int]], name: Callable[[int], str]
    ) -> dict[str, Waiting]:
        """The state of series, given by id and uid, as JSON by id; none of which nothing was held.

        `name` gives the id of a group.
        """
        if not self._waiting:
            return {}
        return {
            series_id: {
                "newest": waiting.newest,
                "released": waiting.released,
                "width": waiting.width,
                "times": list(waiting.times),
                "values": [
                    value if math.isfinite(value) else None for value, *_ in waiting.readings
                ],
                "offsets": [offset for _, _, offset, _ in waiting.readings],
                "groups": [None if group < 0 else name(group) for *_, group in waiting.readings],
            }
            for series_id, uid in series
            if (waiting := self._waiting.get(uid)) is not None
        }

    def restore(
        self, uid: int, partition: int, state: Waiting | None, group: Callable[[str], int]
    ) -> None:
        """Put the state of one series in place; `group` gives the uid of a group by its id."""
        self._waiting.pop(uid, None)
        if state is None:
            return
        self._waiting[uid] = _Waiting(
            int(state["newest"]),
            int(state.get("released", NEVER)),
            int(state.get("width", 0)),
            [int(time) for time in state["times"]],
            [
                (
                    math.nan if value is None else float(value),
                    partition,
                    int(offset),
                    -1 if name is None else group(str(name)),
                )
                for value, offset, name in zip(
                    state["values"], state["offsets"], state["groups"], strict=True
                )
            ],
        )

    def forget(self, uid: int) -> None:
        """Drop the state of one series."""
        self._waiting.pop(uid, None)


def _same(one: float, other: float) -> bool:
    """Whether two values are the same, or both missing."""
    return one == other or not (math.isfinite(one) or math.isfinite(other))
