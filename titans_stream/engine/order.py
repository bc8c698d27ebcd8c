"""Event-time order, duplicates, late readings and gaps: which readings are scored, in which order.

All decisions are per series and depend on its own readings alone, so that neither the grouping
into calls nor another series' clock can change them. Times are nanoseconds.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from titans_stream.jit import njit
from titans_stream.memory.rows import Record
from titans_stream.records import Float64, Int8, Int32, Int64, Records, Status

NEVER = np.iinfo(np.int64).min
CLOCK_STEP = 20
"""Late readings in a row, each newer than the one before, that mean a clock set back."""
BUFFER_LIMIT = 10_000
"""Readings of one series that wait for order; beyond it the oldest goes on."""
DEFAULT_INTERVAL = 60e9
UNCONFIRMED, ANEW = 1, 2
"""Values of `expired`: a time that is not believed yet; the reading that confirms it, with which
the series starts anew."""


class Clock(Record):
    """A series' time."""

    last: int
    """Time of the last reading that was not late."""
    late_last: int
    late_run: int
    """Late readings in a row, each newer than the one before, and the time of the newest."""


class Jump(Record):
    """What a series' clock may have to take back."""

    ahead: int
    """A time so far ahead that only the next reading tells a silence from a wrong clock."""
    before: int
    """The time that was believed before the clock was set back."""


class Pace(Record):
    """The interval between a series' readings, in nanoseconds, and from how many it is known."""

    interval: float
    count: float


class Clocks(NamedTuple):
    """State by slot."""

    clock: Records
    jump: Records
    held: Float64
    """[slots, 1]: the value of the reading at `jump.ahead`."""
    pace: Records


class OrderSettings(NamedTuple):
    """Nanoseconds; an expected interval of 0 is learned."""

    expected_interval: float
    gap_factor: float
    expire_after: int


class Arrivals(NamedTuple):
    """N readings in order; `slot` names the slot of each reading's series."""

    slot: Int64
    time: Int64
    value: Float64
    duplicate: Int8


class Judgements(NamedTuple):
    """What became of N readings: status (scored, duplicate, late or missing), gap, interval.

    `expired` is UNCONFIRMED where a series seems to have been silent for longer than
    `expire_after`: the reading has no score and waits. It is ANEW for the next one where that
    confirms it; `held_time` and `held_value` then tell the reading that waited, with which the
    series starts anew.
    """

    status: Int8
    gap: Int8
    interval: Float64
    expired: Int8
    held_time: Int64
    held_value: Float64

    @classmethod
    def empty(cls, count: int) -> Judgements:
        """Room for the judgements of `count` readings."""
        status, gap, expired = (np.empty(count, np.int8) for _ in range(3))
        held_time = np.empty(count, np.int64)
        return cls(status, gap, np.empty(count), expired, held_time, np.empty(count))


@dataclass(slots=True)
class Columns:
    """N readings as columns; `uid` is the series', `group` its group's (-1: none)."""

    uid: Int64
    timestamp: Int64
    value: Float64
    partition: Int32
    offset: Int64
    duplicate: Int8
    group: Int64

    def __len__(self) -> int:
        return len(self.uid)

    def take(self, index: Int64 | slice) -> Columns:
        """The readings at `index`, in that order."""
        return Columns(
            self.uid[index],
            self.timestamp[index],
            self.value[index],
            self.partition[index],
            self.offset[index],
            self.duplicate[index],
            self.group[index],
        )


@njit(nogil=True)
def judge(arrivals: Arrivals, clocks: Clocks, settings: OrderSettings, written: Judgements) -> None:
    """Judge N readings in order.

    A step of more than `expire_after` is a silence only when the next reading confirms it: one
    wild time does not cost a series its memory. Nor does a clock that was set back and is set
    right again.
    """
    expected = settings.expected_interval
    for i in range(arrivals.slot.shape[0]):
        slot, time = arrivals.slot[i], arrivals.time[i]
        clock, jump, pace = clocks.clock[slot], clocks.jump[slot], clocks.pace[slot]
        last = clock.last
        written.gap[i] = 0
        written.expired[i] = 0
        written.interval[i] = interval_of(pace, expected)
        if arrivals.duplicate[i] == 1 or time == last or time == jump.ahead:
            written.status[i] = 2
            continue
        present = math.isfinite(arrivals.value[i])
        stepped = False
        if time < last:
            run = clock.late_run + 1 if time > clock.late_last else 1
            clock.late_last = time
            clock.late_run = run
            if run < CLOCK_STEP:
                written.status[i] = 3
                continue
            stepped = True
            jump.before = max(jump.before, last)
        silent = last != NEVER and not stepped and time - last > settings.expire_after
        if silent and jump.before != NEVER and _near(time, jump.before, settings.expire_after):
            silent = False
            stepped = True
        if silent and (jump.ahead == NEVER or time < jump.ahead):
            jump.ahead = time
            clocks.held[slot, 0] = arrivals.value[i]
            written.expired[i] = UNCONFIRMED
            written.status[i] = 1 if present else 4
            continue
        clock.late_run = 0
        clock.late_last = NEVER
        clock.last = time
        if silent or time >= jump.before:
            jump.before = NEVER
        if silent:
            written.expired[i] = ANEW
            written.held_time[i] = jump.ahead
            written.held_value[i] = clocks.held[slot, 0]
            pace.count = 0.0
            last = jump.ahead
        jump.ahead = NEVER
        if last != NEVER and not stepped:
            step = time - last
            if pace.count >= 10.0 or expected > 0.0:
                written.gap[i] = 1 if step > settings.gap_factor * written.interval[i] else 0
            learn_interval(pace, float(step))
            written.interval[i] = interval_of(pace, expected)
        written.status[i] = 0 if present else 4


def segments(uids: Int64, expired: Int8) -> list[tuple[int, int, list[int]]]:
    """Cut N readings so that the series which start anew in a part all do so at its beginning.

    Each part is (first, last, the readings with which a series starts anew). Only a series that
    has been seen in a part makes another one necessary.
    """
    anew = np.flatnonzero(expired == ANEW)
    if len(anew) == 0:
        return [(0, len(uids), [])]
    order = np.argsort(uids, kind="stable")
    before = np.full(len(uids), -1)
    same = uids[order[1:]] == uids[order[:-1]]
    before[order[1:][same]] = order[:-1][same]
    parts: list[tuple[int, int, list[int]]] = []
    first = 0
    starting: list[int] = []
    for at in anew.tolist():
        if before[at] >= first:
            parts.append((first, at, starting))
            first, starting = at, []
        starting.append(at)
    return [*parts, (first, len(uids), starting)]


@njit(inline="always")
def _near(time: int, other: int, reach: int) -> bool:
    """Whether two times are at most `reach` apart."""
    return bool(time - other <= reach and other - time <= reach)


@njit()
def interval_of(pace: Pace, expected_interval: float) -> float:
    """The interval to reckon with: the expected one, the learned one, or a first guess."""
    if expected_interval > 0.0:
        return expected_interval
    return pace.interval if pace.count > 0.0 else DEFAULT_INTERVAL


@njit()
def learn_interval(pace: Pace, step: float) -> None:
    """A robust running mean of log intervals: one gap moves it little."""
    n = pace.count
    if n == 0.0:
        pace.interval = step
    else:
        ratio = min(0.7, max(-0.7, math.log(step / pace.interval)))
        pace.interval *= math.exp(ratio / min(n + 1.0, 50.0))
    pace.count = min(n + 1.0, 1e6)


Waiting = dict[str, Any]
"""A series' waiting readings as JSON: newest, times, values (null: missing), offsets, groups."""

_Reading = tuple[int, int, float, int, int, int, int]
"""One reading, in the order of `Columns`."""


@dataclass(slots=True)
class _Waiting:
    newest: int = NEVER
    times: list[int] = field(default_factory=list)
    readings: list[tuple[float, int, int, int]] = field(default_factory=list)


class ReorderBuffer:
    """Holds readings back until their series has been seen `bound` nanoseconds later.

    The buffer is part of a series' state: `export` and `restore` move it.
    """

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._waiting: dict[int, _Waiting] = {}

    def push(self, columns: Columns) -> Columns:
        """Take readings in arrival order; return those released, in order of release."""
        if self._bound == 0:
            return columns
        out: list[_Reading] = []
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
            if waiting.newest != NEVER and time <= waiting.newest - self._bound:
                out.append((uid, time, value, partition, offset, 0, group))
                continue
            at = bisect_left(waiting.times, time)
            if at < len(waiting.times) and waiting.times[at] == time:
                out.append((uid, time, value, partition, offset, 1, group))
                continue
            waiting.times.insert(at, time)
            waiting.readings.insert(at, (value, partition, offset, group))
            waiting.newest = max(waiting.newest, time)
            self._release(uid, waiting, out)
        return _columns(out)

    def _release(self, uid: int, waiting: _Waiting, out: list[_Reading]) -> None:
        horizon = waiting.newest - self._bound
        count = bisect_left(waiting.times, horizon + 1)
        count = max(count, len(waiting.times) - BUFFER_LIMIT)
        for time, (value, partition, offset, group) in zip(
            waiting.times[:count], waiting.readings[:count], strict=True
        ):
            out.append((uid, time, value, partition, offset, 0, group))
        del waiting.times[:count]
        del waiting.readings[:count]

    def flush(self) -> Columns:
        """Everything that waits, in order per series; for the end of a finite stream."""
        out = [
            (uid, time, value, partition, offset, 0, group)
            for uid, waiting in self._waiting.items()
            for time, (value, partition, offset, group) in zip(
                waiting.times, waiting.readings, strict=True
            )
        ]
        for waiting in self._waiting.values():
            waiting.times.clear()
            waiting.readings.clear()
        return _columns(out)

    def waiting(self) -> int:
        """Readings held back."""
        return sum(len(waiting.times) for waiting in self._waiting.values())

    def export(self, uid: int, name: Callable[[int], str]) -> Waiting | None:
        """The state of one series as JSON; None where nothing was ever held.

        `name` gives the id of a group.
        """
        waiting = self._waiting.get(uid)
        if waiting is None:
            return None
        return {
            "newest": waiting.newest,
            "times": list(waiting.times),
            "values": [value if math.isfinite(value) else None for value, *_ in waiting.readings],
            "offsets": [offset for _, _, offset, _ in waiting.readings],
            "groups": [None if group < 0 else name(group) for *_, group in waiting.readings],
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


def no_columns() -> Columns:
    """No readings."""
    return _columns([])


def _columns(readings: Sequence[_Reading]) -> Columns:
    uid, time, value, partition, offset, duplicate, group = (
        zip(*readings, strict=True) if readings else ((),) * 7
    )
    return Columns(
        np.array(uid, np.int64),
        np.array(time, np.int64),
        np.array(value, np.float64),
        np.array(partition, np.int32),
        np.array(offset, np.int64),
        np.array(duplicate, np.int8),
        np.array(group, np.int64),
    )


assert (Status.SCORED, Status.DUPLICATE, Status.LATE, Status.MISSING) == (0, 2, 3, 4)
