"""What is done with readings, reading by reading, where the state lies: on the CPU here.

The order of the calls and what becomes of the results is `scoring.py`'s; a device has its own
`Compute` over the same kernels (titans_stream/device).
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from titans_stream.calendar_features import calendar_features
from titans_stream.detection import judging
from titans_stream.detection.detector import Scorer
from titans_stream.detection.episodes import Episode, EpisodeTimes, Judgement, Settings
from titans_stream.detection.kernels import causes
from titans_stream.engine.forecasts import HostLearner, Learner
from titans_stream.engine.order import Arrivals, Judgements, OrderSettings, judge
from titans_stream.engine.state import clocks_of, judged_tables, watches_of
from titans_stream.engine.store import HostStore, Store
from titans_stream.forecasting.multi.forecaster import MultiStepForecaster
from titans_stream.forecasting.one_step.forecaster import OneStepForecaster
from titans_stream.memory.rows import ArraySpec
from titans_stream.records import Float64, Int8, Int64, Records


class Taken(NamedTuple):
    """N readings to score, in order, as columns.

    `seconds` is local time by which readings are judged, NaN without; `value` finite; `grouped` 1
    where no episode opens because a group's does.
    """

    time: Int64
    seconds: Float64
    value: Float64
    interval: Float64
    gap: Int8
    rule: Records
    grouped: Int8


class Stepped(NamedTuple):
    """What detector, forecast and second stage say of N readings.

    `band` [N, 3] is the one-step forecast; `events` of them have their states in `written`.
    """

    statistic: Float64
    joint: Float64
    band: Float64
    cause: Int8
    written: judging.Events
    events: int


class Compute(Protocol):
    """Judges, scores and learns readings of series that are in slots; slots [N] repeat."""

    @property
    def store(self) -> Store:
        """The state."""

    @property
    def device(self) -> str:
        """What people are told of where that is."""

    def judge(self, arrivals: Arrivals, settings: OrderSettings) -> Judgements:
        """What event time makes of N readings in order."""

    def step(self, slots: Int64, taken: Taken, settings: Settings) -> Stepped:
        """Score N readings in order; then learn."""

    def replay(
        self, slots: Int64, times: Int64, seconds: Float64, values: Float64, intervals: Float64
    ) -> None:
        """Let series learn N readings of their youth again."""

    def learner(self, forecaster: MultiStepForecaster) -> Learner:
        """What learns forecasts of many steps, and has the state for them, in the same place."""


def events_of(n: int, states: int) -> judging.Events:
    """Room for what is said of N readings, and for the states of so many events."""
    return judging.Events(
        ArraySpec.of(Judgement).rows(n), np.empty((n, 3)), np.empty(n, np.int8),
        np.empty(n, np.int8), ArraySpec.of(Episode).rows(states),
        ArraySpec.of(EpisodeTimes).rows(states),
    )  # fmt: skip


class HostCompute:
    """Implements `Compute` over arrays in this process' memory."""

    device = "cpu"

    def __init__(self, store: HostStore, detector: Scorer, forecaster: OneStepForecaster) -> None:
        self.store = store
        self._detector = detector
        self._forecaster = forecaster

    def judge(self, arrivals: Arrivals, settings: OrderSettings) -> Judgements:
        """As `Compute.judge`."""
        judged = Judgements.empty(len(arrivals.slot))
        judge(arrivals, clocks_of(self.store.arrays), settings, judged)
        return judged

    def step(self, slots: Int64, taken: Taken, settings: Settings) -> Stepped:
        """As `Compute.step`."""
        arrays = self.store.arrays
        calendar = calendar_features(taken.seconds)
        statistic, channels, joint = self._detector.run(arrays, slots, taken.value, calendar)
        band = self._forecaster.run(arrays, slots, taken.value, calendar)
        cause = causes(channels)
        written = events_of(len(slots), len(slots))
        readings = judging.Readings(
            taken.time, taken.seconds, taken.value, statistic, band, cause, taken.interval,
            taken.gap, taken.rule, taken.grouped,
        )  # fmt: skip
        count = judging.run(
            slots, readings, judged_tables(arrays), watches_of(arrays), settings, written
        )
        return Stepped(statistic, joint, band, cause, written, count)

    def replay(
        self, slots: Int64, times: Int64, seconds: Float64, values: Float64, intervals: Float64
    ) -> None:
        """As `Compute.replay`."""
        arrays = self.store.arrays
        calendar = calendar_features(seconds)
        self._detector.run(arrays, slots, values, calendar)
        self._forecaster.run(arrays, slots, values, calendar)
        judging.replay(slots, times, seconds, values, intervals, watches_of(arrays))

    def learner(self, forecaster: MultiStepForecaster) -> Learner:
        """As `Compute.learner`."""
        return HostLearner(forecaster)
