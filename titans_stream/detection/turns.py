"""Where a series turns, and how long it takes from turn to turn.

What fills and empties, heats and cools between two limits shows a failure by its turns long before
a value is unusual: a tank that turns at 80 instead of 85 passes 80 twice an hour. A turn is an
extreme that the series has left again by more than noise explains (REVERSAL usual changes). Four
kinds of numbers are kept, of upper and lower turns and of the rises and falls that lead to them:
mean, usual deviation and the largest one. Only a series that turns at about the same values each
time is judged, as one that wanders turns anywhere. Two strange ones in a row are the new normal.
"""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple

from titans_stream.jit import njit
from titans_stream.memory.rows import Record
from titans_stream.records import Float64

KINDS = 4
"""Upper and lower turns, logarithms of the durations of rises and of falls."""
UPPER, LOWER, RISE, FALL = range(KINDS)

REVERSAL = 10.0
"""Usual changes by which the value has come back when a turn is sure."""
KNOWN = 12.0
"""Turns of a kind before which none is strange."""
KEPT = 60.0
"""Turns that the mean counts, ..."""
COUNTED = 200.0
"""... and that a record is held against."""
REGULAR = 0.2
"""Of the way from turn to turn: what deviates more than that turns anywhere, ..."""
EVEN = 0.15
"""... and a duration that usually deviates by more than this part takes any time."""
SPREAD_AT_LEAST = 0.03
CHANGE_AT_LEAST = 0.25
"""Standard deviation of durations, and of turns in usual changes, at least."""
DEVIATION = 1.25
"""Standard deviations in a usual one."""
BOUND = 4.0
"""A turn enters by at most so many deviations; one beyond is odd."""
FADES = 0.995
LARGEST_AT_LEAST = 2.0
FREEDOM = 12.0
"""At most, of the t distribution whose tail a turn's has; it is no rarer than its record says:"""
RECORD = 4.0
"""Beyond the largest so far, which came once, by the ratio to this power."""


class Turns(Record):
    """The turns of a series; arrays by kind."""

    direction: float
    """1: it rises, -1: it falls, 0: not known yet."""
    extreme: float
    extreme_time: float
    """The farthest value on the way, and its time in nanoseconds."""
    turned: float
    """Time of the last turn, 0: not known."""
    readings: float
    all: float
    """Readings and turns so far."""
    count: Annotated[Float64, KINDS]
    mean: Annotated[Float64, KINDS]
    usual: Annotated[Float64, KINDS]
    """Mean deviation."""
    largest: Annotated[Float64, KINDS]
    """Deviation so far, in standard ones; it fades."""
    odd: Annotated[Float64, KINDS]
    """Odd ones in a row."""


class Turn(NamedTuple):
    """What a reading says of the turns."""

    kind: int
    """That of the turn it makes sure, UPPER or LOWER; -1: none."""
    rarity: float
    """-log10 of how often, per 100 readings, one this strange is due."""
    strangest: int
    """The kind of what is strangest about it, ..."""
    was: float
    """... its number, ..."""
    usual: float
    """... and the usual one; durations in nanoseconds."""


@njit(inner=True)
def _is_turn(turns: Turns, value: float, change: float) -> int:
    """The kind of turn that a value makes sure, -1: none."""
    if turns.direction > 0.0 and turns.extreme - value > REVERSAL * change:
        return UPPER
    if turns.direction < 0.0 and value - turns.extreme > REVERSAL * change:
        return LOWER
    return -1


@njit(inner=True)
def _number(turns: Turns, kind: int) -> float:
    """Of the turn that the extreme is; NaN where nobody knows how long it took."""
    if kind < RISE:
        value: float = turns.extreme
        return value
    if turns.turned == 0.0 or turns.extreme_time <= turns.turned:
        return math.nan
    return math.log(turns.extreme_time - turns.turned)


@njit(inner=True)
def _deviation(turns: Turns, kind: int, change: float) -> float:
    """The standard deviation of a kind."""
    least = CHANGE_AT_LEAST * change if kind < RISE else SPREAD_AT_LEAST
    deviation: float = max(DEVIATION * turns.usual[kind], least)
    return deviation


@njit(inner=True)
def _is_regular(turns: Turns) -> bool:
    """Whether the series turns at about the same values each time."""
    for kind in range(KINDS):
        if turns.count[kind] < KNOWN:
            return False
    way = turns.mean[UPPER] - turns.mean[LOWER]
    return bool(max(turns.usual[UPPER], turns.usual[LOWER]) < REGULAR * way)


@njit(inner=True)
def _rarity(turns: Turns, kind: int, far: float) -> float:
    """-log10 of the share of turns that are so many deviations off."""
    count = turns.count[kind]
    freedom = min(count - 1.0, FREEDOM)
    by_spread: float = 0.5 * freedom * math.log10(1.0 + far * far / freedom)
    beyond = far / max(turns.largest[kind], LARGEST_AT_LEAST)
    by_record: float = math.log10(count) + RECORD * math.log10(max(beyond, 1e-9))
    return min(by_spread, by_record)


@njit(inner=True)
def look(turns: Turns, value: float, change: float) -> Turn:
    """What a reading says; `change` is the usual one."""
    turned = _is_turn(turns, value, change)
    found = Turn(turned, -9.0, turned, math.nan, math.nan)
    if turned < 0 or not _is_regular(turns):
        return found
    # of upper, or of lower ones, in 100 readings
    often = math.log10(50.0 * turns.all / turns.readings)
    for step in range(2):
        kind = turned + 2 * step
        number = _number(turns, kind)
        if math.isnan(number) or (kind >= RISE and turns.usual[kind] >= EVEN):
            continue
        far = abs(number - turns.mean[kind]) / _deviation(turns, kind, change)
        rarity = _rarity(turns, kind, far) - often
        if rarity > found.rarity:
            was, usual = number, turns.mean[kind]
            if kind >= RISE:
                was, usual = math.exp(was), math.exp(usual)
            found = Turn(turned, rarity, kind, was, usual)
    return found


@njit(inner=True)
def _take(turns: Turns, kind: int, change: float, regular: bool) -> None:
    """A turn's number enters what is known of its kind."""
    number = _number(turns, kind)
    if math.isnan(number):
        return
    count = turns.count[kind]
    off = number - turns.mean[kind]
    if count == 0.0:
        turns.count[kind], turns.mean[kind] = 1.0, number
        return
    size, deviation = abs(off), _deviation(turns, kind, change)
    if count >= 5.0:
        if regular:
            turns.largest[kind] = max(turns.largest[kind], size / deviation)
        turns.odd[kind] = turns.odd[kind] + 1.0 if size > BOUND * deviation else 0.0
        if turns.odd[kind] >= 2.0:
            turns.count[kind], turns.mean[kind], turns.odd[kind] = 1.0, number, 0.0
            return
        size = min(size, BOUND * deviation)
        turns.largest[kind] = max(FADES * turns.largest[kind], size / deviation)
    turns.count[kind] = min(count + 1.0, COUNTED)
    count = min(count + 1.0, KEPT)
    turns.mean[kind] += (size if off > 0.0 else -size) / count
    turns.usual[kind] += (size - turns.usual[kind]) / (count - 1.0)


@njit(inner=True)
def learn(turns: Turns, turn: Turn, value: float, time: float, change: float, gap: bool) -> None:
    """Take the reading in of which `turn` was found; after a gap nobody knows what was missed."""
    turns.readings += 1.0
    if gap or turns.extreme_time == 0.0:
        turns.direction = 0.0
        turns.turned = 0.0
        turns.extreme = value
        turns.extreme_time = time
        return
    if turn.kind >= 0:
        turns.all += 1.0
        regular = _is_regular(turns)
        _take(turns, turn.kind, change, regular)
        _take(turns, turn.kind + 2, change, regular)
        turns.turned = turns.extreme_time
        turns.direction = 1.0 if turn.kind == LOWER else -1.0
        turns.extreme = value
        turns.extreme_time = time
        return
    if turns.direction == 0.0:
        if abs(value - turns.extreme) > REVERSAL * change:
            turns.direction = 1.0 if value > turns.extreme else -1.0
            turns.extreme = value
            turns.extreme_time = time
    elif (value - turns.extreme) * turns.direction > 0.0:
        turns.extreme = value
        turns.extreme_time = time


@njit(inner=True)
def forget(turns: Turns) -> None:
    """Begin anew."""
    turns.direction = 0.0
    turns.turned = 0.0
    turns.extreme_time = 0.0
    turns.readings = 0.0
    turns.all = 0.0
    for kind in range(KINDS):
        turns.count[kind] = 0.0
        turns.usual[kind] = 0.0
        turns.largest[kind] = 0.0
        turns.odd[kind] = 0.0
