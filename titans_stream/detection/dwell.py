"""How long a series stays at one value, against how long it has stayed so far.

A run is readings that stay within a tenth of the usual change of its first one; for a state such
as open or closed that is the state itself. Runs are counted by length in a few classes: one for
each of the STATES values that lasted longest and came most often, one for all others. A class's
tail is fitted to its longest tenth: the excess of sqrt(length) over the class's threshold is
exponential, which is heavier than a constant hazard. From it comes how rare a run of this length
is, in runs per 100 readings; no class is judged before it has a history of its own.
"""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple

from titans_stream.jit import njit
from titans_stream.memory.rows import Record
from titans_stream.records import Float32, Float64

STATES = 3
CLASSES = STATES + 1
OTHER = STATES
BINS = 48
BINS_PER_OCTAVE = 3.0
NEAR = 0.1
"""Of the usual change: how near the values of a run are."""
SHORTEST = 8.0
"""Readings of a run that is worth an alert."""
LASTING = 4.0
"""Readings of a run that makes its value a state."""
STATE_RUNS = 12.0
OTHER_RUNS = 30.0
"""Runs after which a state has a tail of its own, and the class of all others is judged."""
LONGER = 1.1
"""Times the longest run so far, before any run is too long."""
AGAIN = 1.5
"""A state with fewer runs is judged by its longest one, beyond this many times its length."""
LENGTH_POWER = 2.0
RUNS_A_POWER = 32.0
"""Series begin to last where, or as long as, they never did: a run that many times as long as the
longest comes at most once in the readings so far, times this power of the ratio, and one power more
for so many runs of its state."""
DECAY = 0.999
"""Of a class's counts per run."""
TAIL = 0.1
TAIL_RUNS = 6.0
"""The tail is the longest tenth of the runs, and at least so many."""
PRIOR_RUNS = 1.0
PRIOR_EXCESS = 0.3
LEAST_EXCESS = 0.08
"""Mean excess before any run was seen, and the least one, in square roots of the threshold."""
REFIT = 64.0
"""Short runs between two fits."""
NO_RARITY = -9.0
_HALF_BIN = 2.0 ** (0.25 / BINS_PER_OCTAVE)
"""The factor of a root over half a bin."""


class Dwell(Record):
    """The run that goes on, and what is known of earlier ones by class."""

    anchor: float
    """First value of the run."""
    reach: float
    run: float
    """Readings of the run; 0: none yet."""
    started: float
    """Nanoseconds."""
    state: float
    before: float
    """Class of the run, and of the one before it."""
    single: float
    """Short runs since the last fit."""
    value: Annotated[Float64, STATES]
    runs: Annotated[Float64, CLASSES]
    """Decayed number of runs."""
    total: Annotated[Float64, CLASSES]
    born: Annotated[Float64, CLASSES]
    """All runs of the class, and the readings of the series before it."""
    longest: Annotated[Float64, CLASSES]
    longest_time: Annotated[Float64, CLASSES]
    """Readings and nanoseconds of the longest run."""
    second: Annotated[Float64, CLASSES]
    """Readings of the second longest: one long run alone makes no long tail."""
    share: Annotated[Float64, CLASSES]
    root: Annotated[Float64, CLASSES]
    scale: Annotated[Float64, CLASSES]
    """The tail's share of the runs, its threshold as a root, and the mean excess of roots."""


class Run(NamedTuple):
    """What is said of the run that goes on."""

    rarity: float
    """-log10 of how many runs this long there are per 100 readings."""
    time: float
    longest: float
    """Nanoseconds of it, and of the longest of its class before it."""


@njit(inner=True)
def _bin(length: float) -> int:
    return min(BINS - 1, int(math.log2(length) * BINS_PER_OCTAVE + 1e-9))


@njit(inner=True)
def _fit(dwell: Dwell, lengths: Float32, state: int) -> None:
    """The tail of a class from its histogram [BINS]."""
    wanted = max(TAIL_RUNS, TAIL * dwell.runs[state])
    count = 0.0
    at = BINS - 1
    while at > 0:
        count += float(lengths[at])
        if count >= wanted:
            break
        at -= 1
    if at == 0:
        count += float(lengths[0])
    root = math.sqrt(2.0 ** (at / BINS_PER_OCTAVE))
    excess = 0.0
    middle = root * _HALF_BIN
    for j in range(at, BINS):
        if j > 0:
            excess += float(lengths[j]) * (middle - root)
        middle *= _HALF_BIN * _HALF_BIN
    dwell.share[state] = min(1.0, count / max(dwell.runs[state], 1e-9))
    dwell.root[state] = root
    mean = (excess + PRIOR_RUNS * PRIOR_EXCESS * root) / (count + PRIOR_RUNS)
    seen = (math.sqrt(dwell.second[state]) - root) / math.log(2.0 + count)
    dwell.scale[state] = max(mean, LEAST_EXCESS * root, seen)


@njit(inner=True)
def _class_of(dwell: Dwell, value: float, reach: float) -> int:
    for k in range(STATES):
        if dwell.runs[k] > 0.0 and abs(value - dwell.value[k]) <= reach:
            return k
    return OTHER


@njit(inner=True)
def _note_longest(dwell: Dwell, state: int, run: float, time: float) -> None:
    dwell.second[state] = max(dwell.second[state], min(dwell.longest[state], run))
    dwell.longest[state] = max(dwell.longest[state], run)
    dwell.longest_time[state] = max(dwell.longest_time[state], time)


@njit(inner=True)
def _end(dwell: Dwell, lengths: Float32, time: float, readings: float) -> None:
    """The run is over: it enters its class; a value that lasted becomes a state."""
    run = dwell.run
    state = int(dwell.state)
    if state == OTHER and run >= LASTING:
        state = 0
        for k in range(1, STATES):
            if dwell.runs[k] < dwell.runs[state]:
                state = k
        for k in range(STATES):
            dwell.runs[k] *= DECAY
        if dwell.runs[state] > 1.5 and run < SHORTEST:
            state = OTHER
        else:
            if dwell.second[state] < LASTING:  # it lasted once, and was one of all others
                _note_longest(dwell, OTHER, dwell.longest[state], dwell.longest_time[state])
            dwell.value[state] = dwell.anchor
            dwell.runs[state] = 0.0
            dwell.total[state] = 0.0
            dwell.born[state] = readings - run
            dwell.longest[state] = 0.0
            dwell.second[state] = 0.0
            dwell.longest_time[state] = 0.0
            for j in range(BINS):
                lengths[state, j] = 0.0
    dwell.before = state
    dwell.runs[state] = DECAY * dwell.runs[state] + 1.0
    dwell.total[state] += 1.0
    _note_longest(dwell, state, run, time - dwell.started)
    if run < LASTING and state == OTHER and dwell.single < REFIT:
        # most runs are short: decay and fit wait
        dwell.single += 1.0
        lengths[state, _bin(run)] += 1.0
        return
    decay = DECAY
    if state == OTHER:
        decay = DECAY ** (1.0 + dwell.single)
        dwell.single = 0.0
    for j in range(BINS):
        lengths[state, j] *= decay
    lengths[state, _bin(run)] += 1.0
    _fit(dwell, lengths[state], state)


@njit(inner=True)
def step(
    dwell: Dwell,
    lengths: Float32,
    value: float,
    time: float,
    readings: float,
    change: float,
    anew: bool,
) -> None:
    """Take a reading in, after `readings` others.

    `change` is the series' usual one, `anew`: a gap ended what was.
    """
    if dwell.run > 0.0 and not anew and abs(value - dwell.anchor) <= dwell.reach:
        dwell.run += 1.0
        return
    if dwell.run > 0.0 and not anew:
        _end(dwell, lengths, time, readings)
    dwell.anchor = value
    dwell.reach = NEAR * change
    dwell.run = 1.0
    dwell.started = time
    dwell.state = _class_of(dwell, value, dwell.reach)


@njit(inner=True)
def among_states(dwell: Dwell, value: float) -> bool:
    """Whether a reading is in, or next after, a known state to which another one led."""
    stays = abs(value - dwell.anchor) <= dwell.reach
    return dwell.state != OTHER and not (stays and dwell.before == OTHER)


@njit(inner=True)
def _longest(dwell: Dwell, state: int) -> int:
    """The class of the longest run that a run is held against; a value that lasted once is no
    state yet, but one of all others."""
    longest = state
    if state == OTHER:
        for k in range(STATES):
            if dwell.second[k] < LASTING and dwell.longest[k] > dwell.longest[longest]:
                longest = k
    return longest


@njit(inner=True)
def look(dwell: Dwell, value: float, time: float, readings: float) -> Run:
    """How rare the run is that goes on with a reading, after `readings` others of the series."""
    none = Run(NO_RARITY, 0.0, 0.0)
    if dwell.run < SHORTEST or abs(value - dwell.anchor) > dwell.reach:
        return none
    state = int(dwell.state)
    at = _longest(dwell, state)
    longest, longest_time = dwell.longest[at], dwell.longest_time[at]
    so_far = time - dwell.started
    if dwell.run < LONGER * longest or so_far < LONGER * longest_time:
        return none
    root, scale, share = dwell.root[state], dwell.scale[state], dwell.share[state]
    if state != OTHER and dwell.runs[state] < STATE_RUNS:
        if dwell.run <= AGAIN * longest:
            return none
        root = math.sqrt(max(1.0, longest))
        scale, share = PRIOR_EXCESS * root, 1.0
    elif (state == OTHER and dwell.runs[state] < OTHER_RUNS) or scale == 0.0:
        return none
    per_reading = dwell.total[state] / max(readings - dwell.born[state], 1.0) * share
    log_rate = math.log(100.0 * per_reading) - max(0.0, math.sqrt(dwell.run) - root) / scale
    rarity = -log_rate / math.log(10.0)
    power = LENGTH_POWER
    if state != OTHER:
        power += dwell.runs[state] / RUNS_A_POWER
    rarest = math.log10(0.01 * readings) + power * math.log10(dwell.run / max(1.0, longest))
    return Run(min(rarity, rarest), so_far, longest_time)
