"""Rows of young series: the readings that they have had, instead of a slot's memories.

A series needs its slot only while its readings are processed. Until it has `WARM` readings, its
row here is all that is kept of it: what those readings were, and the small part of the state that
is more than a function of them. Whoever needs the slot again replays them, which gives the same
state bit for bit; so it does not matter when a young series loses its slot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from titans_stream.engine.admission import WARM
from titans_stream.engine.rows import checked
from titans_stream.engine.state import clock_state, fresh_series, judged_state
from titans_stream.engine.store import Array, Store
from titans_stream.memory.growing import GrowingRows, reserve_all
from titans_stream.memory.rows import ArraySpec
from titans_stream.records import Float64, Int64

KEPT = WARM - 1
PREFIX = "young_"
_FIRST_CAPACITY = 256


def carried_state() -> dict[str, ArraySpec]:
    """The arrays of a slot that are carried over: a replay of the readings does not give them."""
    judged = judged_state()
    return {**clock_state(), **{name: judged[name] for name in ("episode", "episode_times")}}


def _kept_state() -> dict[str, ArraySpec]:
    return {
        "kept_count": ArraySpec((), np.int64),
        "kept_time": ArraySpec((KEPT,), np.int64),
        "kept_value": ArraySpec((KEPT,), np.float64),
        "kept_pace": ArraySpec((KEPT,), np.float64),
        "kept_rank": ArraySpec((KEPT,), np.int16),
    }


@dataclass(frozen=True, slots=True)
class Kept:
    """N readings of young series in order; `value` is NaN where missing.

    `row` [N] names the place, in what was asked for, of each reading's series; `pace` is the
    interval that its series had, `rank` as in `order.Judgements`.
    """

    row: Int64
    time: Int64
    value: Float64
    pace: Float64
    rank: Int64


class Young:
    """The rows, by uid; a uid is young from `admit` on until it has WARM readings."""

    def __init__(self) -> None:
        self._specs = {**carried_state(), **_kept_state()}
        fresh = fresh_series()
        self._fresh = {name: fresh.get(name, spec.rows(1)) for name, spec in self._specs.items()}
        self._rows = {name: GrowingRows(spec) for name, spec in self._specs.items()}
        self._arrays = {name: rows.rows for name, rows in self._rows.items()}
        self._row = np.full(_FIRST_CAPACITY, -1, np.int64)
        self._free: list[int] = []
        self._capacity = 0

    def __len__(self) -> int:
        return self._capacity - len(self._free)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return sum(spec.nbytes for spec in self._specs.values())

    def has(self, uids: Int64) -> npt.NDArray[np.bool_]:
        """Which of `uids` [N] are young; -1 is not."""
        self._reserve(int(uids.max(initial=-1)) + 1)
        young: npt.NDArray[np.bool_] = (uids >= 0) & (self._row[uids] >= 0)
        return young

    def admit(self, uids: Int64) -> None:
        """Distinct series begin."""
        new = uids[~self.has(uids)]
        short = len(new) - len(self._free)
        if short > 0:
            self._grow(max(_FIRST_CAPACITY, self._capacity + max(short, self._capacity // 2)))
        if len(new):
            self._row[new] = self._free[: -len(new) - 1 : -1]
            del self._free[-len(new) :]
        rows = self._row[uids]
        for name, first in self._fresh.items():
            self._arrays[name][rows] = first

    def forget(self, uids: Int64) -> None:
        """Series are no longer young, or no longer there."""
        young = uids[self.has(uids)]
        self._free.extend(self._row[young].tolist())
        self._row[young] = -1

    def open_episodes(self, slots_of: Callable[[Int64], Int64]) -> int:
        """How many young series outside of slots have an open episode."""
        uids = np.flatnonzero(self._row >= 0)
        outside = uids[slots_of(uids) < 0]
        return int((self._arrays["episode"]["open"][self._row[outside]] == 1.0).sum())

    def counts(self, uids: Int64) -> Int64:
        """Readings kept of young series."""
        counts: Int64 = self._arrays["kept_count"][self._row[uids]]
        return counts

    def keep(self, uids: Int64, readings: Kept) -> None:
        """Take N readings in order, `row` aside; a series that has WARM of them leaves."""
        young = np.flatnonzero(self.has(uids))
        if len(young) == 0:
            return
        order = young[np.argsort(uids[young], kind="stable")]
        series = uids[order]
        first = np.flatnonzero(np.r_[True, series[1:] != series[:-1]])
        number = np.diff(np.r_[first, len(series)])
        rows = self._row[series]
        places = (
            self._arrays["kept_count"][rows] + np.arange(len(series)) - np.repeat(first, number)
        )
        fits = places < KEPT
        for name in ("time", "value", "pace", "rank"):
            column = getattr(readings, name)[order]
            self._arrays[f"kept_{name}"][rows[fits], places[fits]] = column[fits]
        self._arrays["kept_count"][rows[first]] += number
        self.forget(series[first][self._arrays["kept_count"][rows[first]] > KEPT])

    def restart(self, uids: Int64) -> None:
        """Series begin anew: what was kept of their readings goes."""
        self._arrays["kept_count"][self._row[uids[self.has(uids)]]] = 0

    def kept(self, uids: Int64) -> Kept:
        """The readings of young series, one series after another."""
        rows = self._row[uids]
        counts = self._arrays["kept_count"][rows]
        row = np.repeat(np.arange(len(uids)), counts)
        place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        at = rows[row], place
        time, value, pace, rank = (
            self._arrays[f"kept_{name}"][at] for name in ("time", "value", "pace", "rank")
        )
        return Kept(row, time, value, pace, rank.astype(np.int64))

    def carry_in(self, uids: Int64, slots: Int64, store: Store) -> None:
        """Copy what is carried over from the slots of young series."""
        for name in carried_state() if len(uids) else ():
            self._arrays[name][self._row[uids]] = store.read(name, slots)

    def carry_out(self, uids: Int64, slots: Int64, store: Store) -> None:
        """Copy what is carried over into the slots of young series."""
        for name in carried_state() if len(uids) else ():
            store.write(name, slots, self._arrays[name][self._row[uids]])

    def export(self, uids: Int64) -> dict[str, Array]:
        """Copy out the rows of young series: arrays [N, ...]; what is beyond `count` is zero."""
        out = {name: array[self._row[uids]] for name, array in self._arrays.items()}
        beyond = np.arange(KEPT) >= out["kept_count"][:, None]
        for name in ("time", "value", "pace", "rank"):
            out[f"kept_{name}"][beyond] = 0
        return {PREFIX + name: array for name, array in out.items()}

    def load(self, uids: Int64, arrays: Mapping[str, Array]) -> None:
        """Put what `export` gave in place; ValueError for an array missing or of another shape."""
        mine = {
            name.removeprefix(PREFIX): array
            for name, array in arrays.items()
            if name.startswith(PREFIX)
        }
        rows = checked(self._specs, mine, len(uids), ())
        if ((rows["kept_count"] < 0) | (rows["kept_count"] > KEPT)).any():
            raise ValueError(f"state: array '{PREFIX}kept_count' is out of range")
        self.admit(uids[~self.has(uids)])
        for name, array in rows.items():
            self._arrays[name][self._row[uids]] = array

    def _reserve(self, capacity: int) -> None:
        if capacity > len(self._row):
            grown = np.full(max(capacity, 2 * len(self._row)), -1, np.int64)
            grown[: len(self._row)] = self._row
            self._row = grown

    def _grow(self, capacity: int) -> None:
        reserve_all(self._rows, self._arrays, capacity)
        self._free.extend(range(capacity - 1, self._capacity - 1, -1))
        self._capacity = capacity
