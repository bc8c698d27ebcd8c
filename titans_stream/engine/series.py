"""Which series are known: (partition, series id) to uid, a small integer that names its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np

from titans_stream.ids import Ids
from titans_stream.records import Int32, Int64

_FIRST = 1_024
Admit = Callable[[int, Int64, list[str]], None]
"""Told of the new series of a partition: their uids and ids."""


class SeriesTable:
    """Uids of series per partition; a freed uid is given out again."""

    def __init__(self, admit: Admit) -> None:
        self._by_partition: dict[int, dict[str, int]] = {}
        self._names: list[str] = []
        self._lent = False
        """Whether columns of ids read `_names`, which then no longer change in it."""
        self._partitions = np.full(_FIRST, -1, np.int32)
        """By uid; -1: it is free."""
        self._table: list[str] = []
        self._coded = np.empty(0, np.int64)
        """Uids by the codes of `_table`, as they were last; -1: not known."""
        self._free: list[int] = []
        self._admit = admit
        self._partitions_of: dict[str, int] = {}
        self.on_two_partitions = 0
        """Series ids that came by more than one partition; each has a state per partition."""

    def __len__(self) -> int:
        return sum(len(names) for names in self._by_partition.values())

    def name(self, uid: int) -> str:
        """The series id."""
        return self._names[uid]

    def partition(self, uid: int) -> int:
        """The partition that the series comes by."""
        return int(self._partitions[uid])

    def names(self, uids: Int64) -> list[str]:
        """The series ids, in order."""
        table = self._names
        return [table[uid] for uid in uids.tolist()]

    def column(self, uids: Int64) -> Ids:
        """The series ids, in order, looked up where they are asked for."""
        self._lent = True
        return Ids(uids, self._names)

    def uids(self, series: Sequence[str], partitions: Int32) -> Int64:
        """The uid of each reading's series; new series are admitted."""
        if not isinstance(series, Ids):
            return self._find(series, partitions)
        if series.table is not self._table:
            self._table, self._coded = series.table, np.empty(0, np.int64)
        more = len(self._table) - len(self._coded)
        if more:
            self._coded = np.concatenate([self._coded, np.full(more, -1)])
        uids = self._coded[series.codes]
        other = np.flatnonzero((uids < 0) | (self._partitions[uids] != partitions))
        if len(other):
            missing = series.take(other)
            uids[other] = self._find(list(missing), partitions[other])
            self._coded[missing.codes] = uids[other]
        return uids

    def _find(self, series: Sequence[str], partitions: Int32) -> Int64:
        if len(series) and (partitions == partitions[0]).all():
            return self.add_all(int(partitions[0]), series)
        out = np.empty(len(series), np.int64)
        for partition in np.unique(partitions).tolist():
            at = np.flatnonzero(partitions == partition)
            out[at] = self.add_all(partition, [series[i] for i in at.tolist()])
        return out

    def add(self, partition: int, name: str) -> int:
        """The uid of a series, admitted if it is new."""
        return int(self.add_all(partition, [name])[0])

    def add_all(self, partition: int, series: Sequence[str]) -> Int64:
        """The uids of series of a partition, repeats allowed; new ones are admitted at once."""
        if not series:
            return np.empty(0, np.int64)
        known = self._by_partition.setdefault(partition, {})
        get = known.get
        out = np.array([get(name, -1) for name in series], np.int64)
        missing = np.flatnonzero(out < 0)
        if len(missing) == 0:
            return out
        new: dict[str, int] = {}
        for i in missing.tolist():
            name = series[i]
            uid = new.get(name)
            if uid is None:
                uid = new[name] = self._take(partition, name)
            out[i] = uid
        known.update(new)
        self._admit(partition, np.fromiter(new.values(), np.int64, len(new)), list(new))
        return out

    def _take(self, partition: int, name: str) -> int:
        """A uid for a new series."""
        if self._free:
            uid = self._free.pop()
            self._names[uid] = name
        else:
            uid = len(self._names)
            self._names.append(name)
            if uid == len(self._partitions):
                self._partitions = np.concatenate([self._partitions, np.full(uid, -1, np.int32)])
        self._partitions[uid] = partition
        if self._partitions_of.setdefault(name, partition) != partition:
            self.on_two_partitions += 1
        return uid

    def all(self) -> Int64:
        """The uids of all series, in order of admission by partition."""
        found = chain.from_iterable(known.values() for known in self._by_partition.values())
        return np.fromiter(found, np.int64, len(self))

    def partitions(self) -> list[int]:
        """The partitions that have series."""
        return list(self._by_partition)

    def count(self, partition: int) -> int:
        """Series of a partition."""
        return len(self._by_partition.get(partition, ()))

    def find(self, partition: int, name: str) -> int | None:
        """The uid of a series; None where it is not known."""
        return self._by_partition.get(partition, {}).get(name)

    def members(self, partition: int) -> tuple[list[str], Int64]:
        """Series ids and uids of a partition."""
        known = self._by_partition.get(partition, {})
        return list(known), np.fromiter(known.values(), np.int64, len(known))

    def remove(self, partition: int, names: list[str]) -> None:
        """Forget series of a partition."""
        known = self._by_partition.get(partition, {})
        if self._lent and names:
            self._names, self._lent = self._names.copy(), False
        self._coded[:] = -1  # a uid that is given out again is another series'
        for name in names:
            uid = known.pop(name)
            self._names[uid], self._partitions[uid] = "", -1
            self._free.append(uid)
            if self._partitions_of.get(name) == partition:
                del self._partitions_of[name]
        if not known:
            self._by_partition.pop(partition, None)
