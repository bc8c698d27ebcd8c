"""The table of series: what is known of each, found by name, sorted and paged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from titans_stream.records import Int64, Records, Status
from titans_stream.web.history import READING

Sort = Literal["name", "state", "value", "score", "rarity", "time", "readings"]
STATES = ("normal", "learning", "silent", "warning", "critical")
"""States of a series, the gravest last: `silent` has an open alert of `reason: no_data`."""
NORMAL, LEARNING, SILENT, WARNING, CRITICAL = range(len(STATES))


class Catalogue:
    """Numbers series by name in the order in which they are heard of."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}
        self.last: Records = np.zeros(0, READING)
        """The newest reading of each series; its time is 0 where there is none."""
        self.readings = np.zeros(0, np.int64)
        self._open = np.zeros(0, np.int8)
        """The gravest state that open episodes give a series, NORMAL: there is none."""
        self._by_name: Int64 = np.zeros(0, np.int64)
        self._folded: list[str] = []

    def __len__(self) -> int:
        return len(self.names)

    def number(self, name: str) -> int | None:
        """The number of a series; None for one that was not heard of."""
        return self._numbers.get(name)

    def numbers(self, names: Sequence[str]) -> Int64:
        """The numbers of series; new ones get the next."""
        get = self._numbers.get
        found = [get(name) for name in names]
        if None in found:
            for i, name in enumerate(names):
                if found[i] is None:
                    found[i] = self._numbers.setdefault(name, len(self.names))
                    if found[i] == len(self.names):
                        self.names.append(name)
                        self._folded.append(name.casefold())
            self._reserve(len(self.names))
        return np.array(found, np.int64)

    def take(self, series: Int64, readings: Records) -> None:
        """Note the newest readings; `series` [N] ascends, equal numbers stand together."""
        if not len(series):
            return
        names, first, count = np.unique(series, return_index=True, return_counts=True)
        self.last[names] = readings[first + count - 1]
        self.readings[names] += count

    def set_open(self, states: dict[int, int]) -> None:
        """Which series have an open episode, and the state that it gives them."""
        self._open[:] = NORMAL
        for series, state in states.items():
            self._open[series] = state

    def states(self, series: Int64 | slice = slice(None)) -> Int64:
        """The state of series, as an index of `STATES`."""
        last = self.last[: len(self)][series]
        state = np.where(last["status"] == Status.WARMING_UP, LEARNING, NORMAL)
        state = np.where(last["alert"] == 1, WARNING, state)
        opened = self._open[: len(self)][series].astype(np.int64)
        return np.where(opened > NORMAL, opened, state)

    def find(
        self, text: str = "", states: Sequence[int] = (), sort: Sort = "state", down: bool = True
    ) -> Int64:
        """The numbers of the series whose name holds all words of `text`, sorted.

        `states` empty: whatever their state. Equal ones, and those without a reading, by name.
        """
        order = self._sorted_by_name()
        words = text.casefold().split()
        if words:
            folded = self._folded
            hit = np.fromiter(
                (all(word in name for word in words) for name in folded), bool, len(folded)
            )
            order = order[hit[order]]
        if states:
            order = order[np.isin(self.states(order), states)]
        if sort == "name":
            return order[::-1] if down else order
        key = self._key(sort, order)
        return order[np.argsort(-key if down else key, kind="stable")]

    def counts(self) -> dict[str, int]:
        """How many series there are in each state."""
        found = np.bincount(self.states(), minlength=len(STATES))
        return dict(zip(STATES, found.tolist(), strict=True))

    def _key(self, sort: Sort, order: Int64) -> Any:
        if sort == "state":
            return self.states(order)
        if sort == "readings":
            return self.readings[order]
        column = self.last[sort][order].astype(np.float64)
        # NaN stands behind all others in either direction
        return np.where(self.last["time"][order] == 0, np.nan, column)

    def _sorted_by_name(self) -> Int64:
        if len(self._by_name) != len(self.names):
            self._by_name = np.array(
                sorted(range(len(self.names)), key=self.names.__getitem__), np.int64
            )
        return self._by_name

    def _reserve(self, count: int) -> None:
        lacking = count - len(self.last)
        if lacking > 0:
            more = max(lacking, len(self.last), 1024)
            self.last = np.concatenate((self.last, np.zeros(more, READING)))
            self.readings = np.concatenate((self.readings, np.zeros(more, np.int64)))
            self._open = np.concatenate((self._open, np.zeros(more, np.int8)))
