"""Series that fall silent: who is due by the time that the others tell, and who is back.

A partition's clock moves with the readings of all its series, and a series counts as silent once
it has not been heard for `limit` of that clock. What is measured are times of arrival on it, so
neither a wrong clock of one series nor data that come in blocks are taken for a silence. Where a
single step of the clock would make most series silent, all of them were: that is one silence, of
the partition, and the clock does not count it. Times are nanoseconds; all of it follows from the
readings and their order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from titans_stream.engine.order import NEVER, UNCONFIRMED
from titans_stream.engine.rows import Rows
from titans_stream.engine.store import Array
from titans_stream.jit import njit
from titans_stream.memory.rows import ArraySpec, Record
from titans_stream.records import Float64, Int8, Int32, Int64, Records

KNOWN = 50.0
"""Times that a series was heard before its own pace tells when it is due."""
SIGMAS = 6.0
"""Mean deviations of the log intervals that a silence lies beyond them, where they vary much."""
PAUSE_FACTOR = 1.5
"""A silence is this many times as long as the longest pause of late."""
PAUSE_FADES = 0.97
"""The longest pause fades so with each pause after it."""
MEMORY = 200.0
"""Intervals over which mean and deviation are taken."""
LEARNED = -1
"""A limit that the series' own pace sets; 0: no silence is told."""


class Heard(Record):
    """When a series was heard last."""

    clock: int
    """Its partition's clock then."""
    time: int
    """The time of its own newest reading."""
    since: int
    """Since when it counts as silent, by its own time; NEVER: it does not."""


class Pace(Record):
    """How often a series is heard: log intervals of its partition's clock."""

    count: float
    mean: float
    variance: float
    pause: float
    """The longest pause of late, in nanoseconds."""


class PartitionClock(Record):
    """What a partition's readings tell of the time."""

    time: int
    """The newest time; NEVER: none yet."""
    clock: int
    """How far the clock has come, silences of the whole partition aside."""
    due: int
    """Nobody is due before the clock comes here."""
    since: int
    """Since when the whole partition counts as silent; NEVER: it does not."""


class Event(NamedTuple):
    """A silence that begins (`back` False) or ends at reading `at` of a call.

    `uid` -1: of the whole partition, of `series` that were heard before. `since` is when the next
    reading was due, `last` the time of the last one.
    """

    at: int
    uid: int
    back: bool
    since: int
    last: int
    interval: float
    """Nanoseconds between readings; NaN: not known."""
    series: int = 1
    heard: Int64 | None = None
    """Their uids."""


class _State(NamedTuple):
    heard: Records
    pace: Records
    given: Int64
    clocks: Records


@njit(inner=True)
def _limit(pace: Pace, given: int, factor: float) -> float:
    """Nanoseconds of silence that are told; infinite where none is."""
    if given >= 0:
        return float(given) if given > 0 and pace.count > 0.0 else math.inf
    if pace.count < KNOWN:
        return math.inf
    spread = math.exp(min(SIGMAS * math.sqrt(pace.variance), 30.0))
    limit = max(math.exp(pace.mean) * max(factor, spread), PAUSE_FACTOR * pace.pause)
    return round(limit / 1e3) * 1e3  # the logarithm costs a nanosecond


@njit(inner=True)
def _learn(pace: Pace, gap: float, factor: float, was_silent: bool) -> None:
    if gap <= 0.0:
        return
    if was_silent or (pace.count > 1.0 and gap > factor * math.exp(pace.mean)):
        pace.pause = max(gap, PAUSE_FADES * pace.pause)
    x = math.log(gap)
    n = pace.count
    pace.count = min(n + 1.0, MEMORY)
    if n <= 1.0:
        pace.mean = x
        return
    distance = x - pace.mean
    if not was_silent:
        pace.mean += min(max(distance, -1.0), 1.0) / n
        pace.variance += (distance * distance - pace.variance) / n


@njit(nogil=True)
def _hear(
    first: int, uids: Int64, rows: Int64, times: Int64, moves: Int8, s: _State, factor: float,
    back: Int64, interval: Float64, gaps: Float64, own: bool,
) -> tuple[int, int]:  # fmt: skip
    """Take readings from `first` on; the first one whose step may make a series due is left.

    Returns its place, or their number, and how many series came back; `back` [N, 3] has the places
    of their readings, since when they were silent, and the times of their last readings before;
    `interval` [N] those between them. `gaps` [N]: how long each reading's series was not heard;
    written where the `own` pace is learned, else taken as the pace.
    """
    count = 0
    for i in range(first, uids.shape[0]):
        if moves[i] == -1:
            continue
        clock, heard, pace = s.clocks[rows[i]], s.heard[uids[i]], s.pace[uids[i]]
        if moves[i] == 1 and times[i] > clock.time:
            step = times[i] - clock.time if clock.time != NEVER else 0
            if clock.clock + step >= clock.due or clock.since != NEVER:
                return i, count
            clock.time = times[i]
            clock.clock += step
        was_silent = heard.since != NEVER
        if was_silent:
            back[count, 0], back[count, 1], back[count, 2] = i, heard.since, heard.time
            interval[count] = math.exp(pace.mean) if pace.count > 1.0 else math.nan
            heard.since = NEVER
            count += 1
        elif pace.count == 0.0:
            pace.count = 1.0
            heard.clock = clock.clock
        gap = float(clock.clock - heard.clock)
        if own:
            gaps[i] = gap
        elif not was_silent:
            gap = gaps[i]
        _learn(pace, gap, factor, was_silent)
        heard.clock = clock.clock
        heard.time = max(heard.time, times[i])
        limit = _limit(pace, s.given[uids[i]], factor)
        if math.isfinite(limit):
            clock.due = min(clock.due, clock.clock + int(limit))
    return uids.shape[0], count


class Silences:
    """The silences of a set of series (or groups), by uid. `factor`: intervals that are a gap."""

    ARRAYS = ("heard", "heard_pace")

    def __init__(self, factor: float) -> None:
        self._factor = factor
        fresh_heard, fresh_clock = ArraySpec.of(Heard).rows(1), ArraySpec.of(PartitionClock).rows(1)
        for name in ("time", "since"):
            fresh_heard[name] = NEVER
            fresh_clock[name] = NEVER
        self._fresh_clock = fresh_clock
        specs = {"heard": ArraySpec.of(Heard), "heard_pace": ArraySpec.of(Pace)}
        self._rows = Rows(specs, {"heard": fresh_heard}, later=tuple(specs))
        self._given = np.zeros(0, np.int64)
        self._clocks = ArraySpec.of(PartitionClock).rows(0)
        self._row_of: dict[int, int] = {}
        self.any = False
        """Whether a silence of any series is told at all."""

    def admit(self, uids: Int64, limits: Int64) -> None:
        """Uids are given out; `limits` in nanoseconds, LEARNED, or 0."""
        most = int(uids.max())
        self._rows.reserve(most + 1)
        self._rows.reset(uids)
        if most >= len(self._given):
            self._given = np.resize(self._given, max(64, 2 * most + 1))
        self._given[uids] = limits
        self.any = self.any or bool(limits.any())

    def set_limits(self, limits: Mapping[int, int]) -> None:
        """Other limits by uid, as in `admit`; the next step of a clock looks who is due."""
        for uid, limit in limits.items():
            self._given[uid] = limit
        self.any = self.any or any(limits.values())
        self._clocks["due"] = 0

    def run(
        self, uids: Int64, partitions: Int32, times: Int64, status: Int8, expired: Int8,
        members: Callable[[int], Int64], is_told: Callable[[int, Int64], bool] | None = None,
        gaps: Float64 | None = None,
    ) -> tuple[list[Event], Float64]:  # fmt: skip
        """Take N readings in order; late and duplicate ones are heard but move no clock.

        `members` gives the uids of a partition; `is_told` whether the silence of one, which begins,
        is told here (the members of its partition are given). `gaps` [N], of the readings' series,
        are learned from in the place of one's own: a group is heard by many. Returns such gaps.
        """
        own = gaps is None
        if gaps is None:
            gaps = np.zeros(len(uids))
        rows = self._partition_rows(partitions)
        moves = ((status == 0) | (status == 4)).astype(np.int8)
        moves[expired == UNCONFIRMED] = -1  # nobody knows yet whether its time is right
        events: list[Event] = []
        back, interval = np.empty((len(uids), 3), np.int64), np.empty(len(uids))
        first = 0
        while first < len(uids):
            arrays = self._rows.arrays
            state = _State(arrays["heard"], arrays["heard_pace"], self._given, self._clocks)
            at, count = _hear(
                first, uids, rows, times, moves, state, self._factor, back, interval, gaps, own
            )
            for (i, since, last), pace in zip(
                back[:count].tolist(), interval[:count].tolist(), strict=True
            ):
                events.append(Event(i, int(uids[i]), True, since, last, pace))
            if at < len(uids):
                found = members(int(partitions[at]))
                events += self._look(at, int(times[at]), int(rows[at]), found, is_told)
            first = at
        return events, gaps

    def tick(self, partition: int, silence: int, members: Int64, patience: int = 0) -> Event | None:
        """What begins where the whole partition has been silent for `silence` by now; or None.

        Where the limit of a series is learned it is `patience` at least.
        """
        row = self._row_of.get(partition)
        if row is None or self._clocks["since"][row] != NEVER or not len(members):
            return None
        clock = self._clocks[row]
        limits = self._limits(members)
        learned = self._given[members] < 0
        limits[learned] = np.maximum(limits[learned], patience)
        judged = np.isfinite(limits) & (self._rows.arrays["heard"]["since"][members] == NEVER)
        due = judged & (self._left(members, limits, int(clock["clock"]), 0) <= silence)
        if not judged.any() or due.sum() * 2 <= judged.sum():
            return None
        wait = int(self._left(members, limits, int(clock["clock"]), 0)[due].min())
        self._clocks["since"][row] = int(clock["time"]) + max(wait, 0)
        return self._whole(0, row, False, members)

    def last_heard(self, uids: Int64) -> Int64:
        """Where the partition's clock was when each was heard last."""
        found: Int64 = self._rows.arrays["heard"]["clock"][uids]
        return found

    def since(self, partition: int) -> int:
        """Since when a partition counts as silent; 0: it does not."""
        row = self._row_of.get(partition)
        found = NEVER if row is None else int(self._clocks["since"][row])
        return 0 if found == NEVER else found

    def set_since(self, partition: int, since: int) -> None:
        """The silence of a partition has begun already, as was committed."""
        row = int(self._partition_rows(np.array([partition], np.int32))[0])
        self._clocks["since"][row] = since

    def _partition_rows(self, partitions: Int32) -> Int64:
        for partition in np.unique(partitions).tolist():
            if partition not in self._row_of:
                self._row_of[partition] = len(self._clocks)
                self._clocks = np.concatenate([self._clocks, self._fresh_clock])
        table = self._row_of
        return np.array([table[partition] for partition in partitions.tolist()], np.int64)

    def _limits(self, members: Int64) -> Float64:
        paces, given = self._rows.arrays["heard_pace"][members], self._given[members]
        return _limits_of(paces, given, self._factor)

    def _left(self, members: Int64, limits: Float64, clock: int, step: int) -> Float64:
        """Nanoseconds until each is due, `step` after `clock`; negative: it is overdue."""
        heard = self._rows.arrays["heard"]["clock"][members]
        left: Float64 = limits - (clock + step - heard)
        return left

    def _look(
        self, at: int, time: int, row: int, members: Int64,
        is_told: Callable[[int, Int64], bool] | None,
    ) -> list[Event]:  # fmt: skip
        """Move a partition's clock to the time of reading `at`; what begins or ends by that."""
        clock = self._clocks[row]
        step = time - int(clock["time"]) if clock["time"] != NEVER else 0
        limits = self._limits(members)
        heard = self._rows.arrays["heard"]
        quiet = heard["since"][members] == NEVER
        judged = np.isfinite(limits) & quiet
        left = self._left(members, limits, int(clock["clock"]), step)
        due = judged & (left <= 0.0)
        events: list[Event] = []
        if clock["since"] != NEVER or (due.sum() > 1 and due.sum() * 2 > judged.sum()):
            if clock["since"] == NEVER:
                first = float((left[due] + step).min())
                self._clocks["since"][row] = int(clock["time"]) + max(int(first), 0)
                events.append(self._whole(at, row, False, members))
            events.append(self._whole(at, row, True, members))
            self._clocks["since"][row] = NEVER
            step = 0
        else:
            for uid, limit in zip(members[due].tolist(), limits[due].tolist(), strict=True):
                if is_told is not None and not is_told(uid, members):
                    continue
                last = int(heard["time"][uid])
                heard["since"][uid] = last + int(limit)
                interval = self.interval(uid)
                events.append(Event(at, uid, False, last + int(limit), last, interval))
            judged &= ~due
        self._clocks["time"][row] = time
        self._clocks["clock"][row] += step
        left = self._left(members, limits, int(self._clocks["clock"][row]), 0)[judged]
        nearest = float(left.min(initial=math.inf))
        due_at = int(self._clocks["clock"][row]) + int(min(max(nearest, 1.0), 2.0**61))
        self._clocks["due"][row] = due_at
        return events

    def _whole(self, at: int, row: int, back: bool, members: Int64) -> Event:
        heard = members[self._rows.arrays["heard_pace"]["count"][members] > 0.0]
        alone = int(heard[0]) if len(heard) == 1 else -1
        interval = math.nan if alone < 0 else self.interval(alone)
        clock = self._clocks[row]
        return Event(
            at, alone, back, int(clock["since"]), int(clock["time"]), interval, len(heard), heard
        )

    def interval(self, uid: int) -> float:
        """Nanoseconds between readings of one; NaN: not known."""
        pace = self._rows.arrays["heard_pace"][uid]
        return math.exp(pace["mean"]) if pace["count"] > 1.0 else math.nan

    # --- state

    def export(self, partition: int, uids: Int64) -> tuple[dict[str, Array], list[int]]:
        """Arrays by series, and the partition's clock as JSON."""
        row = self._row_of.get(partition)
        if row is None:
            return self._rows.export(uids), []
        time, clock, _, since = (int(number) for number in self._clocks[row].tolist())
        return self._rows.export(uids), [time, clock, since]

    def load(self, partition: int, uids: Int64, arrays: dict[str, Array], clock: list[int]) -> None:
        """Put what `export` gave in place; states without it begin to listen."""
        self._rows.reserve(int(uids.max(initial=-1)) + 1)
        self._rows.load(uids, arrays)
        row = int(self._partition_rows(np.array([partition], np.int32))[0])
        if len(clock) == len(PartitionClock.__annotations__) - 1:
            self._clocks[row] = (clock[0], clock[1], 0, clock[2])  # the next step looks who is due

    def release(self, partition: int) -> None:
        """Forget a partition."""
        row = self._row_of.get(partition)
        if row is not None:
            self._clocks[row] = self._fresh_clock[0]


@njit(nogil=True)
def _limits_of(paces: Records, given: Int64, factor: float) -> Float64:
    out = np.empty(given.shape[0])
    for i in range(given.shape[0]):
        out[i] = _limit(paces[i], given[i], factor)
    return out
