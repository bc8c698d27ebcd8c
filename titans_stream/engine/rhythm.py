"""When a series' next forecast is due, and the interval at which its readings are to come.

The interval is the one that most of a series' readings keep: a majority vote (Boyer and Moore,
1991) in which neither gaps nor missing readings have a say, so that the timestamps of forecasts
are exact where a series is regular. A series without such an interval has its pace, the running
mean of batching.py. Times are nanoseconds.
"""

from __future__ import annotations

import math

import numpy as np

from titans_stream.jit import njit
from titans_stream.memory.rows import ArraySpec
from titans_stream.records import Float64, Int64

FIRST_FORECAST = 50
"""Values of a series before its first forecast; from then on there are intervals."""
_MOST_VOTES = 20.0
_MAJORITY = 3.0
_ALIKE = 0.25
"""Intervals that differ by less than this share are votes for the same one."""
_LATEST = 2.0**63 - 2048.0
"""The last time that int64 nanoseconds hold, and float64 with them."""

# Columns of `forecast_turn` (int64) and `forecast_rhythm` (float64)
LAST = 0
TAKEN = 1
SEEN = 2
SINCE = 3
TURN = 4
INTERVAL = 0
VOTES = 1
RHYTHM = 2


def state_layout() -> dict[str, ArraySpec]:
    """The arrays by name, all of them zero at first."""
    return {
        "forecast_turn": ArraySpec((TURN,), np.int64),
        "forecast_rhythm": ArraySpec((RHYTHM,), np.float64),
    }


@njit()
def _vote(rhythm: Float64, step: float) -> None:
    """Take one interval between two readings."""
    candidate = rhythm[INTERVAL]
    if candidate > 0.0 and abs(step / candidate - 1.0) < _ALIKE:
        rhythm[VOTES] = min(rhythm[VOTES] + 1.0, _MOST_VOTES)
        rhythm[INTERVAL] += (step - candidate) / rhythm[VOTES]
    elif rhythm[VOTES] > 0.0:
        rhythm[VOTES] -= 1.0
    else:
        rhythm[INTERVAL] = step
        rhythm[VOTES] = 1.0


@njit(nogil=True)
def take_turns(
    rows: Int64,
    times: Int64,
    values: Float64,
    paces: Float64,
    turns: Int64,
    rhythms: Float64,
    expected_interval: float,
    every: int,
    steps_ahead: int,
    horizon: float,
    most_steps: int,
    interval: Float64,
    steps: Int64,
) -> None:
    """Take N readings in order; NaN values are missing ones, which count but are not followed.

    rows [N] names each reading's row of turns and rhythms, paces [N] its learned interval.
    Writes the interval to reckon with, NaN where there is none yet, and the steps of the forecast
    that follows each reading, 0: none. `steps_ahead` 0: as many as `horizon` holds.
    """
    for i in range(rows.shape[0]):
        turn = turns[rows[i]]
        rhythm = rhythms[rows[i]]
        if turn[TAKEN] > 0 and times[i] > turn[LAST]:
            _vote(rhythm, float(times[i] - turn[LAST]))
        turn[LAST] = times[i]
        turn[TAKEN] += 1
        turn[SINCE] += 1
        if expected_interval > 0.0:
            interval[i] = expected_interval
        else:
            interval[i] = rhythm[INTERVAL] if rhythm[VOTES] >= _MAJORITY else paces[i]
            if turn[TAKEN] == 1:
                interval[i] = math.nan
        steps[i] = 0
        if math.isnan(values[i]):
            continue
        turn[SEEN] += 1
        if turn[SEEN] < FIRST_FORECAST or turn[SINCE] < every:
            continue
        turn[SINCE] = 0
        wanted = float(steps_ahead) if steps_ahead > 0 else max(1.0, round(horizon / interval[i]))
        room = max(0.0, math.floor((_LATEST - float(times[i])) / interval[i]))
        steps[i] = int(min(wanted, float(most_steps), room))
