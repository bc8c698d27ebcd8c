"""Forecasts of many steps: when one is due, what the forecaster says, and the record of it.

Only where forecasts are published is there anything of this: no state, no time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from titans_stream.engine import rhythm
from titans_stream.engine.blank import bounded
from titans_stream.engine.columns import MISSING, SCORED, Columns
from titans_stream.engine.model import Model
from titans_stream.engine.store import HostStore, Store
from titans_stream.forecasting.multi import forecaster as multi_step
from titans_stream.forecasting.multi.forecaster import (
    ForecastOptions,
    Forecasts,
    LocalSeconds,
    MultiStepForecaster,
)
from titans_stream.forecasting.settings import ForecastConfig
from titans_stream.memory.rows import ArraySpec
from titans_stream.records import Float64, Forecast, Int8, Int64, Source
from titans_stream.times import format_timestamp, format_timestamps


def is_taken(status: Int8) -> npt.NDArray[np.bool_]:
    """Which readings a series' forecasts take in: those with a value, and missing ones."""
    taken: npt.NDArray[np.bool_] = (status == SCORED) | (status == MISSING)
    return taken


def forecast_state() -> dict[str, ArraySpec]:
    """The arrays of a series by name; every one starts at zero."""
    return {**rhythm.state_layout(), **multi_step.state_layout()}


class Learner(Protocol):
    """Takes turns and learns where the state of forecasts lies; slots [N] repeat."""

    @property
    def store(self) -> Store:
        """The state, by slot."""

    def take_turns(
        self, slots: Int64, times: Int64, values: Float64, paces: Float64,
        schedule: rhythm.Schedule,
    ) -> tuple[Float64, Int64]:  # fmt: skip
        """Interval and steps of the forecast that is due after each of N readings, as
        `rhythm.take_turns` has them."""

    def learn(
        self, slots: Int64, values: Float64, seconds: Float64, interval: Float64, times: Int64,
        steps: Int64, local: LocalSeconds | None,
    ) -> Forecasts:  # fmt: skip
        """Learn N readings in order and make the forecasts, as `MultiStepForecaster.run`."""


class HostLearner:
    """Implements `Learner` over arrays in this process' memory."""

    def __init__(self, forecaster: MultiStepForecaster) -> None:
        self.store = HostStore(forecast_state())
        self._forecaster = forecaster

    def take_turns(
        self, slots: Int64, times: Int64, values: Float64, paces: Float64,
        schedule: rhythm.Schedule,
    ) -> tuple[Float64, Int64]:  # fmt: skip
        """As `Learner.take_turns`."""
        interval, steps = np.empty(len(slots)), np.empty(len(slots), np.int64)
        turns = turns_of(self.store.arrays)
        rhythm.take_turns(slots, times, values, paces, turns, schedule, interval, steps)
        return interval, steps

    def learn(
        self, slots: Int64, values: Float64, seconds: Float64, interval: Float64, times: Int64,
        steps: Int64, local: LocalSeconds | None,
    ) -> Forecasts:  # fmt: skip
        """As `Learner.learn`."""
        arrays = self.store.arrays
        return self._forecaster.run(arrays, slots, values, seconds, interval, times, steps, local)


def turns_of(arrays: Mapping[str, Any]) -> rhythm.Turns:
    """The turns out of a state's arrays."""
    return rhythm.Turns(*(arrays[name] for name in rhythm.state_layout()))


class SeriesForecasts:
    """Learns from every reading and makes the forecasts that are due.

    `expected_interval` is the configured one in nanoseconds, 0 where it is learned; `topic` and
    `name` (of a series by its uid) are for the records; `local` turns times into local seconds;
    `special_days` [days from 1970 on] are holidays and the like; `learner` makes what holds the
    state.
    """

    def __init__(
        self,
        config: ForecastConfig,
        expected_interval: int,
        model: Model,
        topic: str,
        name: Callable[[int], str],
        local: LocalSeconds | None,
        special_days: npt.NDArray[np.bool_],
        learner: Callable[[MultiStepForecaster], Learner],
    ) -> None:
        self._schedule = rhythm.Schedule(
            expected_interval=float(expected_interval),
            every=config.every,
            steps_ahead=config.steps or 0,
            horizon=float(config.horizon or 0),
            most_steps=config.most_steps,
        )
        self._model = model
        self._topic = topic
        self._name = name
        self._local = local
        self._levels = [str(level) for level in config.quantiles]
        self._learner = learner(
            MultiStepForecaster(
                model.weights,
                config.quantiles,
                options=ForecastOptions(
                    mal=config.mal,
                    counters=config.counters,
                    bounds=config.bounds,
                    learn_bounds=config.learn_bounds,
                ),
                special_days=special_days,
            )
        )

    @property
    def store(self) -> Store:
        """The state, by slot."""
        return self._learner.store

    def run(
        self,
        columns: Columns,
        slots: Int64,
        status: Int8,
        paces: Float64,
        ranks: Int64,
        seconds: Float64,
    ) -> list[Forecast]:
        """Take N readings in order, all of them `is_taken`, of the series in slots [N].

        paces [N] are the learned intervals in nanoseconds, ranks [N] number the readings of a
        timestamp, which follow one another by such an interval; seconds [N] local time, NaN where
        there is none. The state is updated in place.
        """
        values = np.where(status == MISSING, np.nan, bounded(columns.value))
        interval, steps = self._learner.take_turns(
            slots, columns.timestamp, values, paces, self._schedule
        )
        times: Int64 = columns.timestamp + np.rint(ranks * paces).astype(np.int64)
        made = self._learner.learn(slots, values, seconds, interval, times, steps, self._local)
        return [self._record(columns, times, interval, made, i) for i in range(len(made.at))]

    def _record(
        self, columns: Columns, times: Int64, interval: Float64, made: Forecasts, i: int
    ) -> Forecast:
        """The record of forecast i; `times` [N] are those at which readings count as made."""
        at = int(made.at[i])
        inside = slice(int(made.first[i]), int(made.first[i + 1]))
        ahead = np.arange(1, 1 + inside.stop - inside.start) * interval[at]
        targets: Int64 = times[at] + np.rint(ahead).astype(np.int64)
        quantiles = made.quantiles[:, inside].tolist()
        periods = [float(one) for one in (made.period[i], made.longer[i]) if np.isfinite(one)]
        return Forecast(
            series_id=self._name(int(columns.uid[at])),
            origin=format_timestamp(int(columns.timestamp[at])),
            timestamps=format_timestamps(targets),
            median=made.median[inside].tolist(),
            quantiles=dict(zip(self._levels, quantiles, strict=True)),
            period=periods[0] if periods else None,
            periods=periods,
            model=self._model.ref,
            source=Source(self._topic, int(columns.partition[at]), int(columns.offset[at])),
        )
