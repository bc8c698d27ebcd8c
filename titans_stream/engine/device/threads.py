"""What one thread of a device does: all readings that a series has in a call, one after another.

Thread k takes the series whose first reading is `heads[k]`; `following` leads from each reading to
the next one of its series, -1 after the last. So a series' readings are taken in order by the same
instructions, whatever else is in the call.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from titans_stream.calendar_features import COLUMNS, features_at
from titans_stream.calendar_features import FEATURES as TIME_FEATURES
from titans_stream.detection import arrays as detector
from titans_stream.detection import judging, kernels, layout, tail, watch_state
from titans_stream.detection.episodes import Settings, Tables, judged_of
from titans_stream.engine import rhythm
from titans_stream.engine.order import Arrivals, Clocks, Judgements, OrderSettings, judge_one
from titans_stream.forecasting.multi import kernels as forecaster
from titans_stream.forecasting.multi import state as multi
from titans_stream.forecasting.one_step import kernels as one_step
from titans_stream.jit import njit, scratch
from titans_stream.records import Float64, Int8, Int64, Records

_calendar = scratch(COLUMNS)
_channels = scratch(layout.CHANNELS)
_joint = scratch(2)
_band = scratch(3)


class Chain(NamedTuple):
    """The order of N readings: see above."""

    heads: Int64
    following: Int64
    slots: Int64


class Inputs(NamedTuple):
    """Local time and values, by reading."""

    seconds: Float64
    value: Float64


class Again(NamedTuple):
    """Readings of young series, by reading."""

    time: Int64
    seconds: Float64
    value: Float64
    interval: Float64


class Paced(NamedTuple):
    """Readings as `rhythm.take_turns` has them."""

    time: Int64
    value: Float64
    pace: Float64


class Due(NamedTuple):
    """Interval, and steps of the forecast that follows, by reading."""

    interval: Float64
    steps: Int64


class Places(NamedTuple):
    """How many forecasts are made before each reading, and how many steps they have."""

    made: Int64
    filled: Int64


class Looks(NamedTuple):
    """Space for the finder of periods, by thread, and the readings at which threads stopped."""

    spaces: Records
    stopped: Int64


class Move(NamedTuple):
    """Rows of an array as words [slots, width], some of them by their slots, and their words."""

    words: Any
    slots: Int64
    moved: Any


class Found(NamedTuple):
    """What the detector says, by reading."""

    statistic: Float64
    joint: Float64
    cause: Int8
    band: Float64
    """[N, 3]: the forecast of each reading, by the one-step forecaster."""


@njit(nogil=True)
def chain(slots: Int64, last: Int64, heads: Int64, following: Int64) -> int:
    """Order N readings by series; returns the number of series.

    `last` [capacity] is -1 everywhere before and after; it holds nothing in between calls.
    """
    count = 0
    for i in range(slots.shape[0]):
        following[i] = -1
        before = last[slots[i]]
        if before < 0:
            heads[count] = i
            count += 1
        else:
            following[before] = i
        last[slots[i]] = i
    for i in range(slots.shape[0]):
        last[slots[i]] = -1
    return count


@njit()
def judge(
    k: int, order: Chain, arrivals: Arrivals, clocks: Clocks, settings: OrderSettings,
    written: Judgements,
) -> None:  # fmt: skip
    """Event time; a reading that confirms a silence is judged as the CPU does."""
    i = order.heads[k]
    while i >= 0:
        judge_one(i, arrivals, clocks, settings, written)
        i = order.following[i]


@njit()
def detect(
    k: int, order: Chain, inputs: Inputs, state: detector.State, weights: detector.Weights,
    found: Found,
) -> None:  # fmt: skip
    """The detector."""
    space = detector.new_space()
    calendar, channels = _calendar(), _channels()
    i = order.heads[k]
    series = detector.series_of(state, order.slots[i])
    while i >= 0:
        features_at(inputs.seconds[i], calendar)
        found.statistic[i] = kernels.score(
            series, weights, space, inputs.value[i], calendar, channels, found.joint[i]
        )
        found.cause[i] = kernels.cause_of(channels)
        i = order.following[i]


@njit()
def forecast(
    k: int, order: Chain, inputs: Inputs, states: one_step.State, weights: one_step.Weights,
    found: Found,
) -> None:  # fmt: skip
    """The forecast of each reading, from before it is learned."""
    work = one_step.new_work()
    calendar = _calendar()
    times = calendar[:TIME_FEATURES]
    i = order.heads[k]
    state = one_step.state_of(states, order.slots[i])
    while i >= 0:
        features_at(inputs.seconds[i], calendar)
        one_step.step(state, weights, inputs.value[i], times, work, found.band[i])
        i = order.following[i]


@njit()
def second_stage(
    k: int, order: Chain, readings: judging.Readings, tables: Tables, watches: watch_state.State,
    settings: Settings, written: judging.Events,
) -> None:  # fmt: skip
    """What is normal, second stage and episode; states of events lie at their readings."""
    space = tail.new_space()
    i = order.heads[k]
    series = watch_state.series_of(watches, order.slots[i])
    while i >= 0:
        judged = judged_of(tables, order.slots[i], readings.rule[i])
        event = judging.step(judged, settings, series, readings, i, space, written)
        if event != 0:
            written.episode[i] = judged.episode
            written.times[i] = judged.times
        i = order.following[i]


@njit()
def learn_again(k: int, order: Chain, inputs: Again, watches: watch_state.State) -> None:
    """What a young series knows of what is normal, from its readings."""
    band = _band()
    for j in range(3):
        band[j] = math.nan
    i = order.heads[k]
    series = watch_state.series_of(watches, order.slots[i])
    while i >= 0:
        judging.learn_again(
            series,
            float(inputs.time[i]),
            inputs.seconds[i],
            inputs.value[i],
            inputs.interval[i],
            band,
        )
        i = order.following[i]


@njit()
def take_turns(
    k: int, order: Chain, readings: Paced, turns: rhythm.Turns, schedule: rhythm.Schedule,
    due: Due,
) -> None:  # fmt: skip
    """Which readings a forecast follows."""
    i = order.heads[k]
    while i >= 0:
        rhythm.take_turn(
            i, order.slots, readings.time, readings.value, readings.pace, turns, schedule,
            due.interval, due.steps,
        )  # fmt: skip
        i = order.following[i]


@njit()
def learn(
    k: int, order: Chain, batch: multi.Batch, states: multi.State, blank: multi.State,
    model: multi.Model, written: multi.Written, places: Places, looks: Looks, allowed: bool,
) -> None:  # fmt: skip
    """Learn readings and make the forecasts that are due.

    `allowed`: thread k has space of its own for the finder of periods. Without, it stops at a
    reading that may need it; `stopped[k]` is that, -1 where all are done.
    """
    work = multi.new_work()
    i = order.heads[k]
    while i >= 0 and (allowed or not forecaster.may_look(batch, i, states, model)):
        forecaster.take_one(
            batch, i, states, blank, model, looks.spaces[k : k + 1], work, written, places.made[i],
            places.filled[i],
        )  # fmt: skip
        i = order.following[i]
    looks.stopped[k] = i


@njit()
def gather(k: int, move: Move, first: int, width: int) -> None:
    """Word k of rows copied out: `width` words of each, from word `first` on."""
    row = k // width
    move.moved[k] = move.words[move.slots[row], first + k - row * width]


@njit()
def scatter(k: int, move: Move, width: int) -> None:
    """Word k of rows put in place."""
    row = k // width
    move.words[move.slots[row], k - row * width] = move.moved[k]


@njit()
def fill(k: int, move: Move, width: int) -> None:
    """Word k of rows that become copies of one, whose words `moved` holds."""
    row = k // width
    move.words[move.slots[row], k - row * width] = move.moved[k - row * width]


def new_last(capacity: int) -> Int64:
    """What `chain` needs for so many slots."""
    return np.full(capacity, -1, np.int64)
