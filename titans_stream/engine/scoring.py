"""From readings in order to scores, alerts and forecasts; the state of the series in its slots.

Forecasts of many steps come first, each after its reading is learned, then detector and one-step
forecast, each reading before it is learned, then the second stage and the episodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from titans_stream.calendar_features import calendar_features
from titans_stream.detection import episodes
from titans_stream.detection.detector import Detector, Scorer
from titans_stream.detection.episodes import Episode, EpisodeTimes, Judgement, Rule
from titans_stream.detection.explain import causes, make_alert
from titans_stream.detection.rules import AlertConfig
from titans_stream.engine.blank import blank, bounded
from titans_stream.engine.clock import LocalTime
from titans_stream.engine.columns import Columns
from titans_stream.engine.forecasts import SeriesForecasts, forecast_state, is_taken
from titans_stream.engine.model import Model
from titans_stream.engine.order import (
    ANEW,
    DEFAULT_INTERVAL,
    UNCONFIRMED,
    Arrivals,
    Judgements,
    OrderSettings,
    judge,
    segments,
)
from titans_stream.engine.rows import Rows, Slots
from titans_stream.engine.settings import EngineConfig
from titans_stream.engine.state import (
    LATER,
    alert_settings,
    clock_state,
    clocks_of,
    fresh_series,
    judged_tables,
    rule_of,
    series_state,
)
from titans_stream.forecasting.one_step.forecaster import OneStepForecaster
from titans_stream.forecasting.settings import ForecastConfig
from titans_stream.memory.rows import ArraySpec
from titans_stream.records import (
    Alert,
    Float64,
    Forecast,
    Int8,
    Int64,
    Records,
    Scores,
    Source,
    Status,
)


@dataclass(frozen=True, slots=True)
class Context:
    """What scores and alerts are made with, and what they name.

    `name` gives the id of a series by its uid. `calendar` False: timestamps carry no time of day.
    """

    model: Model
    topic: str
    calendar: bool
    name: Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Batch:
    """Readings in order, their slots, what became of them and what is said of them."""

    columns: Columns
    slots: Int64
    judged: Judgements
    scores: Scores
    cause: Int8


class Scoring:
    """Scores the series of an engine.

    `forecast` None: no forecasts of many steps, nor the state for them. `detector` takes the place
    of the model's own.
    """

    def __init__(
        self,
        config: EngineConfig,
        alerts: AlertConfig,
        context: Context,
        forecast: ForecastConfig | None,
        detector: Scorer | None,
    ) -> None:
        model = context.model
        self._context = context
        self._alerts = alerts
        self._local_time = LocalTime(config.timezone)
        self._settings = alert_settings(alerts)
        self.limits = OrderSettings(
            float(config.expected_interval or 0), config.gap_factor, config.expire_after,
            config.duplicates in ("keep-order", "spread"),
        )  # fmt: skip
        self._detector = detector or Detector(model.weights)
        self._forecaster = OneStepForecaster(model.weights)
        specs = series_state() | ({} if forecast is None else forecast_state())
        self.slots = Slots(specs, config.slots, fresh_series(), later=LATER)
        self.rules = Rows({"rule": ArraySpec.of(Rule)}, {})
        self.forecasts: SeriesForecasts | None = None
        if forecast is not None:
            interval = config.expected_interval or 0
            self.forecasts = SeriesForecasts(forecast, interval, model, context.topic, context.name)

    def admit(self, uid: int, series_id: str) -> None:
        """A uid is given out to a new series."""
        self.rules.reserve(uid + 1)
        self.rules.arrays["rule"][uid] = rule_of(self._alerts, series_id)[0]

    def run(
        self, columns: Columns, forecasts: list[Forecast]
    ) -> tuple[Batch, list[tuple[int, Alert]]]:
        """Judge, score and learn N readings of at most as many series as there are slots.

        Alerts come with the index of their reading; forecasts that are due are appended.
        """
        n = len(columns)
        slots = self.slots.place(columns.uid)
        judged = Judgements.empty(n)
        arrivals = Arrivals(slots, columns.timestamp, columns.value, columns.duplicate)
        judge(arrivals, clocks_of(self.slots.arrays), self.limits, judged)
        batch = self._batch(columns, slots, judged)
        batch.scores.score[judged.status == Status.WARMING_UP] = 0.0
        alerts: list[tuple[int, Alert]] = []
        for first, last, starting in segments(columns.uid, judged.expired):
            if starting:
                alerts += self._start_anew(batch, np.array(starting), judged, forecasts)
            alerts += self._learn(batch, first, last, forecasts)
        return batch, alerts

    def _batch(self, columns: Columns, slots: Int64, judged: Judgements) -> Batch:
        names = [self._context.name(uid) for uid in columns.uid.tolist()]
        return Batch(
            columns, slots, judged, blank(columns, names, judged.status.copy(), judged.gap),
            np.zeros(len(columns), np.int8),
        )  # fmt: skip

    def _learn(
        self, batch: Batch, first: int, last: int, forecasts: list[Forecast]
    ) -> list[tuple[int, Alert]]:
        """Forecasts and scores of readings `first` to `last`; their alerts by reading."""
        status = batch.judged.status[first:last]
        believed = batch.judged.expired[first:last] != UNCONFIRMED
        if self.forecasts is not None:
            at = first + np.flatnonzero(is_taken(status) & believed)
            columns = batch.columns.take(at)
            forecasts.extend(
                self.forecasts.run(
                    columns, batch.slots[at], batch.judged.status[at], batch.judged.interval[at],
                    batch.judged.rank[at], self._seconds(columns.timestamp), self.slots.arrays,
                )
            )  # fmt: skip
        at = first + np.flatnonzero((status == Status.SCORED) & believed)
        return self._step(batch, at) if len(at) else []

    def _step(self, batch: Batch, take: Int64) -> list[tuple[int, Alert]]:
        """Detector, forecaster, second stage and episodes for the readings at `take`."""
        n = len(take)
        columns, slots, scores = batch.columns.take(take), batch.slots[take], batch.scores
        values = bounded(columns.value)
        calendar = calendar_features(self._seconds(columns.timestamp))
        arrays = self.slots.arrays
        statistic, channels = self._detector.run(arrays, slots, values, calendar)
        band = self._forecaster.run(arrays, slots, values, calendar)
        cause = causes(channels)
        batch.cause[take] = cause
        written = episodes.Events(
            ArraySpec.of(Judgement).rows(n), np.empty(n, np.int8), np.empty(n, np.int8),
            ArraySpec.of(Episode).rows(n), ArraySpec.of(EpisodeTimes).rows(n),
        )  # fmt: skip
        readings = episodes.Readings(
            columns.timestamp, values, statistic, band, cause, batch.judged.interval[take],
            self.rules.arrays["rule"][columns.uid], (columns.group >= 0).astype(np.int8),
        )  # fmt: skip
        count = episodes.run(slots, readings, judged_tables(arrays), self._settings, written)
        scores.status[take[np.isnan(statistic)]] = Status.WARMING_UP
        scores.surprise[take] = statistic
        scores.expected[take], scores.lower[take], scores.upper[take] = band.T
        scores.rarity[take] = written.judgement["rarity"]
        scores.p_value[take] = written.judgement["p_value"]
        scores.score[take] = written.judgement["score"]
        scores.alert[take] = written.alert
        scores.onset[take] = written.event == episodes.OPENED
        at = np.flatnonzero(written.event)
        found = self._alerts_of(
            columns.take(at), written.event[at], written.episode[:count], written.times[:count]
        )
        return list(zip(take[at].tolist(), found, strict=True))

    def _seconds(self, times: Int64) -> Float64:
        """Local time, NaN where timestamps carry no time of day."""
        return (
            self._local_time.seconds(times)
            if self._context.calendar
            else np.full(len(times), np.nan)
        )

    def _alerts_of(
        self, columns: Columns, kinds: Int8, states: Records, times: Records
    ) -> list[Alert]:
        """The alerts of events, one for each reading of `columns`."""
        names = [self._context.name(uid) for uid in columns.uid.tolist()]
        state, time = states.view(np.recarray), times.view(np.recarray)
        return [
            make_alert(
                int(kinds[i]),
                state[i],
                time[i],
                int(columns.timestamp[i]),
                names[i],
                self._context.model.ref,
                Source(self._context.topic, int(columns.partition[i]), int(columns.offset[i])),
            )
            for i in range(len(columns))
        ]

    def _start_anew(
        self, batch: Batch, at: Int64, judged: Judgements, forecasts: list[Forecast]
    ) -> list[tuple[int, Alert]]:
        """Series that were silent for too long start anew with the readings held for them.

        `at` are the readings that confirm it. Clocks go on; an open episode ends. A series with
        an interval that long keeps its state and takes the held reading in.
        """
        arrays, slots = self.slots.arrays, batch.slots[at]
        anew = judged.expired[at] == ANEW
        open_ = np.flatnonzero(anew & (arrays["episode"]["open"][slots] == 1.0))
        ended = self._alerts_of(
            batch.columns.take(at[open_]), np.full(len(open_), episodes.EXPIRED, np.int8),
            arrays["episode"][slots[open_]], arrays["episode_times"][slots[open_]],
        )  # fmt: skip
        self.slots.reset(slots[anew], keep=clock_state())
        held = batch.columns.take(at)
        held.timestamp, held.value = judged.held_time[at], judged.held_value[at]
        first = Judgements.empty(len(at))
        first.status[:] = np.where(np.isfinite(held.value), Status.SCORED, Status.MISSING)
        default = self.limits.expected_interval or DEFAULT_INTERVAL
        first.interval[:] = np.where(anew, default, judged.interval[at])
        for nothing in (first.gap, first.rank, first.expired):
            nothing[:] = 0
        opened = self._learn(self._batch(held, slots, first), 0, len(at), forecasts)
        return [
            *zip(at[open_].tolist(), ended, strict=True),
            *((int(at[i]), alert) for i, alert in opened),
        ]
