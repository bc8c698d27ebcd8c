"""When a series' next forecast is due, and the interval at which its readings are to come.

The interval is the one that most of a series' readings keep: a majority vote (Boyer and Moore,
1991) in which neither gaps nor missing readings have a say, so that the timestamps of forecasts
are exact where a series is regular. A series without such an interval has its pace, the running
mean of order.py. Times are nanoseconds.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from titans_stream.jit import njit
from titans_stream.memory.rows import ArraySpec, Record
from titans_stream.records import Float64, Int64, Records

FIRST_FORECAST = 50
"""Values of a series before its first forecast; from then on there are intervals."""
_MOST_VOTES = 20.0
_MAJORITY = 3.0
_ALIKE = 0.25
"""Intervals that differ by less than this share are votes for the same one."""
_LATEST = 2.0**63 - 2048.0
"""The last time that int64 nanoseconds hold, and float64 with them."""


class Turn(Record):
    """Where a series is between two forecasts."""

    last: int
    """Time of the last reading."""
    taken: int
    """Readings, missing ones too, and those with a value."""
    seen: int
    since: int
    """Readings since the last forecast."""


class Rhythm(Record):
    """The vote on the interval, in nanoseconds."""

    interval: float
    votes: float


class Shared(Record):
    """How many readings have had the time of the last one."""

    count: int


class Schedule(NamedTuple):
    """When to forecast and how far; `steps_ahead` 0: as many as `horizon` holds.

    An expected interval of 0 is learned. Times are nanoseconds.
    """

    expected_interval: float
    every: int
    steps_ahead: int
    horizon: float
    most_steps: int


class Turns(NamedTuple):
    """State by slot."""

    turn: Records
    rhythm: Records
    shared: Records


def state_layout() -> dict[str, ArraySpec]:
    """The arrays by name, all of them zero at first; in the order of `Turns`."""
    return {
        "forecast_turn": ArraySpec.of(Turn),
        "forecast_rhythm": ArraySpec.of(Rhythm),
        "forecast_shared": ArraySpec.of(Shared),
    }


@njit(inner=True)
def _vote(rhythm: Rhythm, step: float) -> None:
    """Take one interval between two readings."""
    candidate = rhythm.interval
    if candidate > 0.0 and abs(step / candidate - 1.0) < _ALIKE:
        rhythm.votes = min(rhythm.votes + 1.0, _MOST_VOTES)
        rhythm.interval += (step - candidate) / rhythm.votes
    elif rhythm.votes > 0.0:
        rhythm.votes -= 1.0
    else:
        rhythm.interval = step
        rhythm.votes = 1.0


@njit(nogil=True)
def take_turns(
    slots: Int64, times: Int64, values: Float64, paces: Float64, turns: Turns, schedule: Schedule,
    interval: Float64, steps: Int64,
) -> None:  # fmt: skip
    """Take N readings in order; NaN values are missing ones, which count but are not followed.

    slots [N] names each reading's slot of turns, paces [N] its learned interval. Where readings
    share a time, the step to the next one is divided by their number. Writes the
    interval to reckon with, NaN where there is none yet, and the steps of the forecast that
    follows each reading, 0: none.
    """
    for i in range(slots.shape[0]):
        take_turn(i, slots, times, values, paces, turns, schedule, interval, steps)


@njit()
def take_turn(
    i: int, slots: Int64, times: Int64, values: Float64, paces: Float64, turns: Turns,
    schedule: Schedule, interval: Float64, steps: Int64,
) -> None:  # fmt: skip
    """Take reading i, as `take_turns` does."""
    turn = turns.turn[slots[i]]
    rhythm = turns.rhythm[slots[i]]
    shared = turns.shared[slots[i]]
    if turn.taken > 0 and times[i] > turn.last:
        _vote(rhythm, float(times[i] - turn.last) / max(shared.count, 1))
    shared.count = shared.count + 1 if turn.taken > 0 and times[i] == turn.last else 1
    turn.last = times[i]
    turn.taken += 1
    turn.since += 1
    if schedule.expected_interval > 0.0:
        interval[i] = schedule.expected_interval
    else:
        interval[i] = rhythm.interval if rhythm.votes >= _MAJORITY else paces[i]
        if turn.taken == 1:
            interval[i] = math.nan
    steps[i] = 0
    if math.isnan(values[i]):
        return
    turn.seen += 1
    if turn.seen < FIRST_FORECAST or turn.since < schedule.every:
        return
    turn.since = 0
    wanted = float(schedule.steps_ahead)
    if schedule.steps_ahead == 0:
        wanted = max(1.0, round(schedule.horizon / interval[i]))
    room = max(0.0, math.floor((_LATEST - float(times[i])) / interval[i]))
    steps[i] = int(min(wanted, float(schedule.most_steps), room))
