"""Event-time order, duplicates, late readings and gaps: which readings are scored, in which order.

All decisions are per series and depend on its own readings alone, so that neither the grouping
into calls nor another series' clock can change them. Times are nanoseconds.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from titans_stream.jit import njit
from titans_stream.records import Float64, Int8, Int32, Int64, Status

NEVER = np.iinfo(np.int64).min
CLOCK_STEP = 20
"""Late readings in a row, each newer than the one before, that mean a clock set back."""
BUFFER_LIMIT = 10_000
"""Readings of one series that wait for order; beyond it the oldest goes on."""
DEFAULT_INTERVAL = 60e9

# Columns of the clock (int64) and of the pace (float64) of a series
LAST = 0
LATE_LAST = 1
LATE_RUN = 2
CLOCK = 3
INTERVAL = 0
COUNT = 1
PACE = 2


@dataclass(slots=True)
class Columns:
    """N readings as columns; `row` is the series' uid, `group` its group's (-1: none)."""

    row: Int64
    timestamp: Int64
    value: Float64
    partition: Int32
    offset: Int64
    duplicate: Int8
    group: Int64

    def __len__(self) -> int:
        return len(self.row)

    def take(self, index: Int64 | slice) -> Columns:
        """The readings at `index`, in that order."""
        return Columns(
            self.row[index],
            self.timestamp[index],
            self.value[index],
            self.partition[index],
            self.offset[index],
            self.duplicate[index],
            self.group[index],
        )


@njit(nogil=True)
def judge(
    rows: Int64,
    times: Int64,
    values: Float64,
    duplicate: Int8,
    clocks: Int64,
    paces: Float64,
    expected_interval: float,
    gap_factor: float,
    expire_after: int,
    status: Int8,
    gap: Int8,
    interval: Float64,
    expired: Int8,
) -> None:
    """Mark N readings in order; rows [N] names each reading's row of clocks and paces.

    Writes status (scored, duplicate, late or missing), gap, the series' interval and `expired`,
    which is 1 where the series was silent for longer than `expire_after`. An expected interval
    of 0 is learned.
    """
    for i in range(rows.shape[0]):
        r = rows[i]
        time = times[i]
        last = clocks[r, LAST]
        pace = paces[r]
        gap[i] = 0
        expired[i] = 0
        interval[i] = interval_of(pace, expected_interval)
        if duplicate[i] == 1 or time == last:
            status[i] = 2
            continue
        stepped = False
        if time < last:
            run = clocks[r, LATE_RUN] + 1 if time > clocks[r, LATE_LAST] else 1
            clocks[r, LATE_LAST] = time
            clocks[r, LATE_RUN] = run
            if run < CLOCK_STEP:
                status[i] = 3
                continue
            stepped = True
        clocks[r, LATE_RUN] = 0
        clocks[r, LATE_LAST] = NEVER
        clocks[r, LAST] = time
        if last != NEVER and not stepped:
            step = time - last
            if step > expire_after:
                expired[i] = 1
                pace[COUNT] = 0.0
            else:
                if pace[COUNT] >= 10.0 or expected_interval > 0.0:
                    gap[i] = 1 if step > gap_factor * interval[i] else 0
                learn_interval(pace, float(step))
                interval[i] = interval_of(pace, expected_interval)
        status[i] = 0 if math.isfinite(values[i]) else 4


@njit()
def interval_of(pace: Float64, expected_interval: float) -> float:
    """The interval to reckon with: the expected one, the learned one, or a first guess."""
    if expected_interval > 0.0:
        return expected_interval
    return pace[INTERVAL] if pace[COUNT] > 0.0 else DEFAULT_INTERVAL


@njit()
def learn_interval(pace: Float64, step: float) -> None:
    """A robust running mean of log intervals: one gap moves it little."""
    n = pace[COUNT]
    if n == 0.0:
        pace[INTERVAL] = step
    else:
        ratio = min(0.7, max(-0.7, math.log(step / pace[INTERVAL])))
        pace[INTERVAL] *= math.exp(ratio / min(n + 1.0, 50.0))
    pace[COUNT] = min(n + 1.0, 1e6)


Waiting = dict[str, Any]
"""A series' waiting readings as JSON: newest, times, values (null: missing), offsets, groups."""

_Cells = tuple[int, int, float, int, int, int, int]
"""The cells of one reading, in the order of `Columns`."""


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
        out: list[_Cells] = []
        cells = zip(
            columns.row.tolist(),
            columns.timestamp.tolist(),
            columns.value.tolist(),
            columns.partition.tolist(),
            columns.offset.tolist(),
            columns.group.tolist(),
            strict=True,
        )
        for row, time, value, partition, offset, group in cells:
            waiting = self._waiting.get(row)
            if waiting is None:
                waiting = self._waiting[row] = _Waiting()
            if waiting.newest != NEVER and time <= waiting.newest - self._bound:
                out.append((row, time, value, partition, offset, 0, group))
                continue
            at = bisect_left(waiting.times, time)
            if at < len(waiting.times) and waiting.times[at] == time:
                out.append((row, time, value, partition, offset, 1, group))
                continue
            waiting.times.insert(at, time)
            waiting.readings.insert(at, (value, partition, offset, group))
            waiting.newest = max(waiting.newest, time)
            self._release(row, waiting, out)
        return _columns(out)

    def _release(self, row: int, waiting: _Waiting, out: list[_Cells]) -> None:
        horizon = waiting.newest - self._bound
        count = bisect_left(waiting.times, horizon + 1)
        count = max(count, len(waiting.times) - BUFFER_LIMIT)
        for time, (value, partition, offset, group) in zip(
            waiting.times[:count], waiting.readings[:count], strict=True
        ):
            out.append((row, time, value, partition, offset, 0, group))
        del waiting.times[:count]
        del waiting.readings[:count]

    def flush(self) -> Columns:
        """Everything that waits, in order per series; for the end of a finite stream."""
        out = [
            (row, time, value, partition, offset, 0, group)
            for row, waiting in self._waiting.items()
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

    def export(self, row: int, name: Callable[[int], str]) -> Waiting | None:
        """The state of one series as JSON; None where nothing was ever held.

        `name` gives the id of a group.
        """
        waiting = self._waiting.get(row)
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
        self, row: int, partition: int, state: Waiting | None, group: Callable[[str], int]
    ) -> None:
        """Put the state of one series in place; `group` gives the row of a group by its id."""
        self._waiting.pop(row, None)
        if state is None:
            return
        self._waiting[row] = _Waiting(
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

    def forget(self, row: int) -> None:
        """Drop the state of one series."""
        self._waiting.pop(row, None)


def no_columns() -> Columns:
    """No readings."""
    return _columns([])


def _columns(cells: Sequence[_Cells]) -> Columns:
    row, time, value, partition, offset, duplicate, group = (
        zip(*cells, strict=True) if cells else ((),) * 7
    )
    return Columns(
        np.array(row, np.int64),
        np.array(time, np.int64),
        np.array(value, np.float64),
        np.array(partition, np.int32),
        np.array(offset, np.int64),
        np.array(duplicate, np.int8),
        np.array(group, np.int64),
    )


assert (Status.SCORED, Status.DUPLICATE, Status.LATE, Status.MISSING) == (0, 2, 3, 4)
