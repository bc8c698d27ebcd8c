"""The reorder buffer: readings of a series that wait until their order, or their stamp, is known.

A reading waits until its series has been seen `bound` nanoseconds later. `keep-last` and `spread`
look at a stamp as a whole, so they wait for the series' next stamp too, whatever the bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from titans_stream.engine import reorder_kernels as kernels
from titans_stream.engine.columns import Columns, joined, no_columns
from titans_stream.engine.order import NEVER
from titans_stream.engine.reorder_kernels import BUFFER_LIMIT as BUFFER_LIMIT
from titans_stream.engine.reorder_kernels import NONE, Given, Lists, Nodes, Released, Settings
from titans_stream.engine.settings import Duplicates
from titans_stream.records import Int64

Waiting = dict[str, Any]
"""A series' waiting readings as JSON: newest, released, width, times, values (null: missing),
offsets, groups."""

_MODES: dict[Duplicates, int] = {
    "drop": kernels.DROP,
    "keep-order": kernels.KEEP_ORDER,
    "keep-last": kernels.KEEP_LAST,
    "spread": kernels.SPREAD,
}
_FIRST = 1_024
_KEPT, _SPARE = 65_536, 8
"""A pool of more nodes than this is given back where fewer than one in so many is in use."""


class ReorderBuffer:
    """Holds readings back until their series has been seen `bound` nanoseconds later.

    The buffer is part of a series' state: `export` and `restore` move it.
    """

    def __init__(self, bound: int, duplicates: Duplicates) -> None:
        self._bound = bound
        self._whole = duplicates in ("keep-last", "spread")
        self._settings = Settings(bound, _MODES[duplicates], np.full(1, NONE, np.int64))
        self._lists = Lists(*(np.empty(0, np.int64) for _ in Lists._fields))
        self._since = np.empty(0, np.int64)
        """By uid: the number of the call in which it was seen first, 0: it was not."""
        self._calls = self._waiting = 0
        self._nodes = _nodes(0)

    def push(self, columns: Columns) -> Columns:
        """Take readings in arrival order; return those released, in order of release."""
        if self._bound == 0 and not self._whole:
            if not self._known().size:
                return columns
            left = self.flush()  # of a snapshot from when readings waited
            for uid in self._known().tolist():
                self.forget(uid)
            return joined([left, columns])
        self._note(columns.uid)
        given = Given(
            columns.uid, columns.timestamp, columns.value, columns.partition.astype(np.int64),
            columns.offset, columns.group,
        )  # fmt: skip
        self._make_room(len(columns))
        out = _released(len(columns) + self._waiting)
        kernels.push(given, self._lists, self._nodes, self._settings, out)
        self._waiting += len(columns) - int(out.filled[0])
        return _columns(out)

    def flush(self) -> Columns:
        """Everything that waits, in order per series; for the end of a finite stream."""
        return self._flush(self._known())

    def take(self, uid: int) -> Columns:
        """Everything of one series that waits; its state is forgotten."""
        if not self._has(uid):
            return no_columns()
        taken = self._flush(np.array([uid]))
        self.forget(uid)
        return taken

    def _flush(self, uids: Int64) -> Columns:
        if not uids.size:
            return no_columns()  # without compiling anything
        out = _released(int(self._lists.held[uids].sum()))
        kernels.flush(uids, self._lists, self._nodes, self._settings, out)
        self._waiting -= int(out.filled[0])
        self._give_back(self._waiting)
        return _columns(out)

    def waiting(self) -> int:
        """Readings held back."""
        return self._waiting

    def reach(self, uids: Int64) -> Int64:
        """The series whose waiting readings change where those of `uids` are pushed."""
        if self._bound == 0 and not self._whole:
            known = self._known()
            return np.concatenate([uids, known]) if known.size else uids
        return uids

    def export(
        self, series: Iterable[tuple[str, int]], name: Callable[[int], str]
    ) -> dict[str, Waiting]:
        """The state of series, given by id and uid, as JSON by id; none of which nothing was held.

        `name` gives the id of a group.
        """
        if not self._known().size:
            return {}
        return {series_id: self._export(uid, name) for series_id, uid in series if self._has(uid)}

    def _export(self, uid: int, name: Callable[[int], str]) -> Waiting:
        nodes, at = self._nodes, list[int]()
        node = int(self._lists.head[uid])
        while node != NONE:
            at.append(node)
            node = int(nodes.following[node])
        values, groups = nodes.value[at].tolist(), nodes.group[at].tolist()
        return {
            "newest": int(self._lists.newest[uid]),
            "released": int(self._lists.released[uid]),
            "width": int(self._lists.width[uid]),
            "times": nodes.time[at].tolist(),
            "values": [value if math.isfinite(value) else None for value in values],
            "offsets": nodes.offset[at].tolist(),
            "groups": [None if group < 0 else name(group) for group in groups],
        }

    def restore(
        self, uid: int, partition: int, state: Waiting | None, group: Callable[[str], int]
    ) -> None:
        """Put the state of one series in place; `group` gives the uid of a group by its id."""
        self.forget(uid)
        if state is None:
            return
        readings = [
            (int(time), math.nan if value is None else float(value), int(offset),
             -1 if name is None else group(str(name)))
            for time, value, offset, name in zip(
                state["times"], state["values"], state["offsets"], state["groups"], strict=True
            )
        ]  # fmt: skip
        self._note(np.array([uid]))
        self._make_room(len(readings))
        lists, nodes, free = self._lists, self._nodes, self._settings.free
        lists.newest[uid] = int(state["newest"])
        lists.released[uid] = int(state.get("released", NEVER))
        lists.width[uid] = int(state.get("width", 0))
        for time, value, offset, of in readings:
            node, last = int(free[0]), int(lists.tail[uid])
            free[0] = nodes.following[node]
            nodes.time[node], nodes.value[node] = time, value
            nodes.partition[node], nodes.offset[node], nodes.group[node] = partition, offset, of
            nodes.before[node], nodes.following[node] = last, NONE
            if last == NONE:
                lists.head[uid] = node
            else:
                nodes.following[last] = node
            lists.tail[uid] = node
        lists.held[uid] = len(readings)
        self._waiting += len(readings)

    def forget(self, uid: int) -> None:
        """Drop the state of one series."""
        if not self._has(uid):
            return
        lists, following, free = self._lists, self._nodes.following, self._settings.free
        if lists.tail[uid] != NONE:
            following[lists.tail[uid]] = free[0]
            free[0] = lists.head[uid]
        self._since[uid] = 0
        self._waiting -= int(lists.held[uid])
        self._begin(np.array([uid]))
        self._give_back(self._waiting)

    def _has(self, uid: int) -> bool:
        return uid < len(self._since) and bool(self._since[uid])

    def _known(self) -> Int64:
        """The series that have a state, in the order in which they got it."""
        uids = np.flatnonzero(self._since)
        return uids[np.argsort(self._since[uids], kind="stable")] if uids.size else uids

    def _note(self, uids: Int64) -> None:
        """Series have a state from now on; repeats allowed."""
        most, have = int(uids.max(initial=-1)) + 1, len(self._since)
        if most > have:
            more = max(most, 2 * have, _FIRST) - have
            self._since = np.concatenate([self._since, np.zeros(more, np.int64)])
            self._lists = Lists(
                *(np.concatenate([one, np.empty(more, np.int64)]) for one in self._lists)
            )
            self._begin(np.arange(have, have + more))
        new = uids[self._since[uids] == 0]
        if new.size:
            _, first = np.unique(new, return_index=True)
            new = new[np.sort(first)]
            self._since[new] = self._calls + 1 + np.arange(len(new))
            self._calls += len(new)

    def _begin(self, uids: Int64) -> None:
        lists = self._lists
        lists.newest[uids] = lists.released[uids] = NEVER
        lists.width[uids] = lists.held[uids] = 0
        lists.head[uids] = lists.tail[uids] = lists.between[uids] = NONE

    def _make_room(self, readings: int) -> None:
        """Have so many free nodes."""
        self._give_back(self._waiting + readings)
        have = len(self._nodes.time)
        if have - self._waiting >= readings:
            return
        more = max(readings, have, _FIRST)
        self._nodes = Nodes(
            *(np.concatenate([one, np.empty(more, one.dtype)]) for one in self._nodes)
        )
        self._make_free(have, self._settings.free[0])

    def _make_free(self, first: int, then: int) -> None:
        """All nodes from the first on are free, and those from `then` on."""
        following = self._nodes.following
        following[first:] = np.arange(first + 1, len(following) + 1)
        following[-1:] = then
        self._settings.free[0] = first

    def _give_back(self, needed: int) -> None:
        """Go on with fewer nodes where there are many more than are needed."""
        if len(self._nodes.time) <= max(_KEPT, _SPARE * needed):
            return
        old, most = self._nodes, max(2 * needed, _FIRST)
        self._nodes = _nodes(most)
        kernels.move(self._lists, old, self._nodes)
        self._make_free(self._waiting, NONE)


def _nodes(most: int) -> Nodes:
    """Room for readings that wait."""
    whole = (np.empty(most, np.int64) for _ in range(5))
    return Nodes(np.empty(most, np.int64), np.empty(most), *whole)


def _released(most: int) -> Released:
    """Room for readings that go on."""
    uid, time, partition, offset, group, duplicate = (np.empty(most, np.int64) for _ in range(6))
    count = np.zeros(1, np.int64)
    return Released(uid, time, np.empty(most), partition, offset, group, duplicate, count)


def _columns(out: Released) -> Columns:
    n = int(out.filled[0])
    return Columns(
        out.uid[:n], out.time[:n], out.value[:n], out.partition[:n].astype(np.int32),
        out.offset[:n], out.duplicate[:n].astype(np.int8), out.group[:n],
    )  # fmt: skip
