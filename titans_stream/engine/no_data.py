"""Alerts about series that sent nothing for too long: one when it is noticed, one when it is over.

A silence has no reading of its own. Its alert names the reading that told the time, of another
series or, where there is none, the one with which the series is back.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from titans_stream.detection.normal import BAND_LEVEL
from titans_stream.detection.rules import ResolvedRule, resolve_rule
from titans_stream.durations import spoken
from titans_stream.engine.columns import Columns
from titans_stream.engine.groups import Groups
from titans_stream.engine.order import Judgements
from titans_stream.engine.orders import Orders
from titans_stream.engine.series import SeriesTable
from titans_stream.engine.silence import Event, Silences
from titans_stream.engine.store import Array
from titans_stream.records import Alert, Float64, Int64, ModelRef, Source
from titans_stream.times import format_timestamp

WHOLE = "*"
"""The series id of an alert about all series of a partition."""
_GROUPS = "group_"


def _limits(rules: Sequence[ResolvedRule]) -> Int64:
    """After how long a silence is told, nanoseconds; 0: never."""
    return np.array([rule.no_data_after if rule.enabled else 0 for rule in rules], np.int64)


@dataclass(frozen=True, slots=True)
class _Unit:
    """What falls silent: series, or groups as a whole."""

    silences: Silences
    name: Callable[[int], str]
    partition: Callable[[int], int]
    members: Callable[[int], Int64]
    all: Callable[[], Int64]
    what: str


class NoData:
    """The silences of series, and of groups as a whole, as alerts.

    A channel that is silent while others of its group are heard is told by its own id.
    """

    def __init__(
        self,
        factor: float,
        orders: Orders,
        tables: tuple[SeriesTable, Groups],
        model: ModelRef,
        topic: str,
    ) -> None:
        series, groups = tables
        self._orders = orders
        self._model = model
        self._topic = topic
        self._series = _Unit(
            Silences(factor), series.name, series.partition,
            lambda number: series.members(number)[1], series.all, "series",
        )  # fmt: skip
        self._groups = _Unit(
            Silences(factor), groups.name, groups.partition, groups.members, groups.all, "groups"
        )
        groups.on_admit = self._admit_groups
        self._table = groups

    def admit(self, uids: Int64, rules: Sequence[ResolvedRule]) -> None:
        """Uids are given out to new series, with what the rules come to for each."""
        self._series.silences.admit(uids, _limits(rules))

    def _admit_groups(self, uids: Int64, rules: Sequence[ResolvedRule]) -> None:
        self._groups.silences.admit(uids, _limits(rules))

    def _limit(self, partition: int, name: str) -> int:
        rule = resolve_rule(self._orders.alerts(partition), name)
        return rule.no_data_after if rule.enabled else 0

    def set_limits(self) -> None:
        """Rules have changed: go on with their limits; who has been heard when stays."""
        for unit in (self._series, self._groups):
            unit.silences.set_limits(
                {
                    uid: self._limit(unit.partition(uid), unit.name(uid))
                    for uid in unit.all().tolist()
                }
            )

    def run(self, columns: Columns, judged: Judgements) -> list[tuple[int, Alert]]:
        """The alerts by the reading at which they come."""
        found: list[tuple[int, Alert]] = []
        gaps: Float64 | None = None
        for unit, uids, at in (
            (self._series, columns.uid, np.arange(len(columns))),
            (self._groups, columns.group, np.flatnonzero(columns.group >= 0)),
        ):
            if not len(at) or not (unit.silences.any or self._groups.silences.any):
                continue
            events, gaps = unit.silences.run(
                uids[at], columns.partition[at], columns.timestamp[at], judged.status[at],
                judged.expired[at], unit.members, self._is_told if gaps is None else None,
                None if gaps is None else gaps[at],
            )  # fmt: skip
            for event in events:
                i = int(at[event.at])
                partition = int(columns.partition[i])
                if self._is_ours(unit, event):
                    source = Source(self._topic, partition, int(columns.offset[i]))
                    found.append((i, self._alert(unit, event, int(columns.timestamp[i]), source)))
        return found

    def _is_told(self, uid: int, members: Int64) -> bool:
        """Whether the silence of a series is its own, not that of its whole group."""
        group = int(self._table.groups_of(np.array([uid]))[0])
        if group < 0:
            return True
        mates = members[self._table.groups_of(members) == group]
        silences = self._series.silences
        heard = silences.last_heard(np.array([uid]))[0]
        return bool(silences.last_heard(mates).max() - heard > silences.interval(uid))

    def _is_ours(self, unit: _Unit, event: Event) -> bool:
        """A partition of a single group is told as that; one of several as all its series."""
        if event.uid >= 0:
            return True
        if unit is self._groups:
            return not self._series.silences.any
        assert event.heard is not None
        groups = self._table.groups_of(event.heard)
        alone = len(groups) > 0 and groups[0] >= 0 and bool((groups == groups[0]).all())
        return not (alone and self._groups.silences.any)

    def tick(self, partition: int, silence: int, patience: int, offset: int) -> list[Alert]:
        """What begins where a whole partition has been silent for `silence` ns by now.

        `offset` is that of the partition's next message; learned limits are `patience` at least.
        """
        found = []
        for unit in (self._series, self._groups):
            event = unit.silences.tick(partition, silence, unit.members(partition), patience)
            if event is not None and self._is_ours(unit, event):
                source = Source(self._topic, partition, offset)
                found.append(self._alert(unit, event, event.last + silence, source))
        return found

    def since(self, partition: int) -> list[int]:
        """Since when all series, and all groups, of a partition count as silent; 0: they do not."""
        return [unit.silences.since(partition) for unit in (self._series, self._groups)]

    def set_since(self, partition: int, since: list[int]) -> None:
        """These silences have begun already, as was committed."""
        for unit, time in zip((self._series, self._groups), since, strict=True):
            if time:
                unit.silences.set_since(partition, time)

    def _alert(self, unit: _Unit, event: Event, time: int, source: Source) -> Alert:
        name, who = (
            WHOLE,
            f"no reading of any of the {event.series:,} {unit.what} of this partition",
        )
        if event.uid >= 0:
            name, who = unit.name(event.uid), "no reading"
        silence = max(time - event.last, 0) / 1e9
        text = f"{who} for {spoken(silence, 3)}"
        if math.isfinite(event.interval):
            times = silence * 1e9 / event.interval
            text += f", {times:.3g} times the interval of {spoken(event.interval / 1e9, 3)}"
        text += f"; the last one was of {format_timestamp(event.last)}"
        if event.back:
            text += "; readings come again"
        key = f"{unit.what}\0{name}\0{source.partition}\0{event.since}"
        digest = hashlib.blake2b(
            key.encode("utf-8", "surrogatepass"), digest_size=10, person=b"no-data"
        )
        return Alert(
            alert_id=digest.hexdigest(),
            status="resolved" if event.back else "opened",
            series_id=name,
            severity="warning",
            reason="no_data",
            onset=format_timestamp(event.since),
            timestamp=format_timestamp(time),
            peak_timestamp=format_timestamp(event.since),
            value=None,
            expected=None,
            lower=None,
            upper=None,
            band_level=BAND_LEVEL,
            direction="pattern",
            score=None,
            p_value=None,
            surprise=None,
            rate_per_day=None,
            extrapolated=False,
            explanation=text,
            duration_s=max(time - event.since, 0) / 1e9,
            readings=0,
            model=self._model,
            source=source,
        )

    # --- state

    def export(
        self, partition: int, series: Int64, groups: Int64
    ) -> tuple[dict[str, Array], list[list[int]]]:
        """Arrays by series, those by group with a name of their own, and the clocks as JSON."""
        arrays: dict[str, Array] = {}
        clocks: list[list[int]] = []
        for unit, uids, prefix in ((self._series, series, ""), (self._groups, groups, _GROUPS)):
            if not (unit.silences.any or self._groups.silences.any):
                clocks.append([])
                continue
            found, clock = unit.silences.export(partition, uids)
            arrays |= {prefix + name: array for name, array in found.items()}
            clocks.append(clock)
        return arrays, clocks

    def load(
        self, partition: int, tables: tuple[Int64, Int64], arrays: dict[str, Array],
        clocks: list[list[int]],
    ) -> None:  # fmt: skip
        """Put what `export` gave in place; `tables` are the uids of series and groups."""
        clocks = clocks if len(clocks) == len(tables) else [[], []]
        for unit, uids, prefix, clock in zip(
            (self._series, self._groups), tables, ("", _GROUPS), clocks, strict=True
        ):
            if unit.silences.any or self._groups.silences.any:
                mine = {n: arrays[prefix + n] for n in Silences.ARRAYS if prefix + n in arrays}
                unit.silences.load(partition, uids, mine, clock)

    def release(self, partition: int) -> None:
        """Forget a partition."""
        for unit in (self._series, self._groups):
            unit.silences.release(partition)
