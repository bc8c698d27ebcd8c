"""What the watch of a series (watch.py) keeps, and what it finds of a reading."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np

from titans_stream.detection import dwell as dwells
from titans_stream.detection import normal as normals
from titans_stream.detection.dwell import Dwell
from titans_stream.detection.habits import Habits
from titans_stream.detection.normal import Normal, Profile, Reference
from titans_stream.detection.turns import Turn, Turns
from titans_stream.jit import njit
from titans_stream.memory.rows import ArraySpec, Record
from titans_stream.records import Float32, Float64, Records

SIZES = 12
"""Octaves of size in which implausible readings are counted."""
SETTLED = 200.0
"""Readings of a series before which its reference is never held and its one-step errors do not
count: it may be replayed without its episodes and forecasts."""
LEVELS = 4
"""Running means of deviations, see `levels.SPANS`, and the rise (rise.py)."""


class Watch(Record):
    """What is known of a series beside its reference and runs."""

    value: float
    time: float
    """The last reading; nanoseconds."""
    seen: float
    """Readings so far."""
    rises: float
    since_fall: float
    counter: float
    rate: float
    """Of a counter: the last rate, per second."""
    change: float
    change_now: float
    """Usual size of the changes, over long and lately."""
    largest: float
    """Largest plausible deviation so far."""
    base: float
    """Octave of the smallest size that is counted."""
    large: Annotated[Float64, SIZES]
    large_before: Annotated[Float64, SIZES]
    """Implausible readings by size, and those before the last episode."""
    large_run: float
    error_seen: float
    error_usual: float
    error_largest: float
    """Of the one-step forecast's errors: number, mean size, largest plausible one so far."""
    since_gap: float
    hold: float
    """Readings for which the reference is held still yet, and in a row so far."""
    held: float
    standing: float
    """Readings in a row that were rarer than one in 100."""
    habit: float
    """The number of the habit that the last episode is counted for, from 1; 0: none."""
    drift: Annotated[Float64, LEVELS]
    """Running means of the deviations from the reference, the last from the profile; scaled."""
    since: Annotated[Float64, LEVELS]
    """Since when the drifts have been more than small; nanoseconds, 0: they are not."""
    level: float
    off: float
    """Running means of the value, and of its deviation from the profile."""
    filled: float
    top: Annotated[Float64, LEVELS]
    """The block that is being filled: readings, largest drifts."""
    weight: Annotated[Float64, LEVELS]
    total: Annotated[Float64, LEVELS]
    square: Annotated[Float64, LEVELS]
    above: Annotated[Float64, LEVELS]
    """Mean of a block's largest drift, less the population's, and the scale of their tail."""
    scale: Annotated[Float64, LEVELS]
    season_last: float
    season_product: float
    season_power: float
    """Of the level at a time of day: a block's last, and sums of its products and squares."""
    rise_quick: float
    rise_slow: float
    """Running means of the deviation from the profile, from how many readings, and the usual size
    of their difference."""
    rise_seen: float
    rise_usual: float
    rise_bin: float
    """The half hour that is going on, plus 1, its sum of such sizes and their number; 0: none."""
    rise_sum: float
    rise_count: float


def state_layout() -> dict[str, ArraySpec]:
    """The arrays of the state, by name, in the order of `State`; every one starts at zero."""
    return {
        "watch": ArraySpec.of(Watch),
        "normal": ArraySpec.of(Normal),
        "profile": ArraySpec((normals.DAYS, normals.BINS), np.float64),
        "profile_known": ArraySpec((normals.DAYS, normals.BINS, 2), np.float32),
        "dwell": ArraySpec.of(Dwell),
        "dwell_lengths": ArraySpec((dwells.CLASSES, dwells.BINS), np.float32),
        "habits": ArraySpec.of(Habits),
        "rises": ArraySpec((normals.DAYS, normals.BINS, 2), np.float32),
        "turns": ArraySpec.of(Turns),
    }


class State(NamedTuple):
    """The state of all series, [slots, ...]."""

    watch: Records
    normal: Records
    profile: Float64
    profile_known: Float32
    dwell: Records
    dwell_lengths: Float32
    habits: Records
    rises: Float32
    turns: Records


class Series(NamedTuple):
    """The state of one series."""

    watch: Watch
    normal: Normal
    profile: Profile
    dwell: Dwell
    lengths: Float32
    habits: Habits
    rises: Float32
    """By kind of day and half hour: usual size of a rise, and days."""
    turns: Turns


class Found(NamedTuple):
    """What is found of a reading, before anything learns from it."""

    x: float
    """The value; of a counter, its rate."""
    reference: Reference
    """Of x."""
    rarity: float
    """Of run length and level, the share of the budget taken off."""
    what: int
    """What stands out most."""
    first: float
    second: float
    third: float
    """Its numbers; see `explain`."""
    far: float
    """Half widths of the band that the reading is away; above 1 it is outside."""
    big: bool
    """It is beyond anything plausible, ..."""
    leap: bool
    """... or only the step to it is."""
    fresh: bool
    """The reading before was plausible."""
    minor: bool
    """A constant series moved by next to nothing."""
    strange: bool
    """It is strange for the time of day."""
    size: float
    """|x - expected|."""
    error: float
    """That of the one-step forecast, NaN: none."""
    turned: bool
    """The step to it is that to another kind of day."""
    turn: Turn
    side: float
    """How far from normal the series was lately, in usual deviations."""


@njit(inline="always")
def series_of(state: State, slot: int) -> Series:
    """The state of the series in a slot."""
    return Series(
        state.watch[slot], state.normal[slot],
        Profile(state.profile[slot], state.profile_known[slot]),
        state.dwell[slot], state.dwell_lengths[slot], state.habits[slot],
        state.rises[slot], state.turns[slot],
    )  # fmt: skip
