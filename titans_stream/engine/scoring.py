"""From readings in order to scores, alerts and forecasts; the state of the series in its slots.

Forecasts of many steps come first, each after its reading is learned, then detector and one-step
forecast, each reading before it is learned, then the second stage and the episodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from titans_stream.detection import episodes
from titans_stream.detection.detector import Detector, Scorer
from titans_stream.detection.episodes import Rule
from titans_stream.detection.explain import make_alert
from titans_stream.detection.rules import AlertConfig, ResolvedRule, resolve_rules
from titans_stream.engine.blank import blank, bounded
from titans_stream.engine.clock import LocalTime
from titans_stream.engine.columns import MISSING, SCORED, WARMING_UP, Columns
from titans_stream.engine.compute import Compute, HostCompute, Taken
from titans_stream.engine.familiar import Familiar
from titans_stream.engine.forecasts import SeriesForecasts, forecast_state, is_taken
from titans_stream.engine.frozen import Learned, rounds, settled
from titans_stream.engine.model import Model
from titans_stream.engine.order import (
    ANEW,
    DEFAULT_INTERVAL,
    UNCONFIRMED,
    Arrivals,
    Judgements,
    segments,
)
from titans_stream.engine.orders import Held, Orders
from titans_stream.engine.recall import is_silent, recall, record
from titans_stream.engine.rows import Rows, Slots
from titans_stream.engine.series import SeriesTable
from titans_stream.engine.settings import EngineConfig
from titans_stream.engine.state import (
    alert_settings,
    clock_state,
    due,
    fresh_series,
    order_settings,
    rule_rows,
    series_state,
)
from titans_stream.engine.store import Array, HostStore, SplitStore
from titans_stream.engine.young import Kept, Young
from titans_stream.engine.young_home import YoungHome
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
)
from titans_stream.special_days import NO_SPECIAL_DAYS, as_sundays


@dataclass(frozen=True, slots=True)
class Context:
    """What scores and alerts are made with, and what they name.

    `series` gives ids by uid. `calendar` False: timestamps carry no time of day. `orders` are the
    control messages in force, and the rules.
    """

    model: Model
    topic: str
    calendar: bool
    series: SeriesTable
    orders: Orders


@dataclass(frozen=True, slots=True)
class Batch:
    """Readings in order, their slots, what became of them and what is said of them."""

    columns: Columns
    slots: Int64
    judged: Judgements
    scores: Scores
    cause: Int8
    joint: Float64
    """[N, 2], as `Scored` has it."""
    normal: Float64
    """[N, 3]: what would have been normal for the series, with its band."""
    held: Held | None
    """What control messages say of the readings."""


class Scoring:
    """Scores the series of an engine.

    `forecast` None: no forecasts of many steps, nor the state for them. `detector` takes the place
    of the model's own; `compute` that of the CPU, over the state of series.
    """

    def __init__(
        self,
        config: EngineConfig,
        alerts: AlertConfig,
        context: Context,
        forecast: ForecastConfig | None,
        detector: Scorer | None,
        compute: Compute | None = None,
    ) -> None:
        model = context.model
        self._context = context
        self._orders = context.orders
        self._local_time = LocalTime(config.timezone)
        self._special_days = config.calendar.table() if config.calendar else NO_SPECIAL_DAYS
        self._settings = alert_settings(alerts)
        self.limits = order_settings(config)
        self.compute: Compute = compute or HostCompute(
            HostStore(series_state()), detector or Detector(model.weights),
            OneStepForecaster(model.weights),
        )  # fmt: skip
        self.young = Young()
        # a replay is shown to be exact for the model's own detector
        self._keeps_young = detector is None
        self.due = 0.0
        """False episodes that the budgets allow for the time that was scored."""
        self.expired = 0
        """How often a series was silent for too long and began anew."""
        self.familiar = Familiar()
        self.rules = Rows({"rule": ArraySpec.of(Rule)}, {})
        self.forecasts: SeriesForecasts | None = None
        if forecast is not None:
            interval = config.expected_interval or 0
            self.forecasts = SeriesForecasts(
                forecast, interval, model, context.topic, context.series.name,
                self._local_time.seconds if context.calendar else None, self._special_days,
                self.compute.learner,
            )  # fmt: skip
        self.slots = self._slots(config.slots)
        self.home = self.slots.home = YoungHome(
            self.slots, self.young, self.compute, self.forecasts, self.seconds, self.as_judged
        )

    def _slots(self, limit: int) -> Slots:
        if self.forecasts is None:
            return Slots(series_state(), limit, fresh_series(), self.compute.store)
        specs = forecast_state()
        store = SplitStore(self.compute.store, self.forecasts.store, specs)
        return Slots(series_state() | specs, limit, fresh_series(), store)

    def change_settings(self, alerts: AlertConfig) -> None:
        """Go on with other settings that all series share."""
        self._settings = alert_settings(alerts)

    def set_rules(self, uids: Int64, alerts: AlertConfig) -> None:
        """Judge series by other rules from the next reading on."""
        if len(uids):
            names = self._context.series.names(uids)
            self.rules.arrays["rule"][uids] = rule_rows(resolve_rules(alerts, names))

    def admit(self, uids: Int64, rules: Sequence[ResolvedRule]) -> None:
        """Uids are given out to new series, with what the rules come to for each."""
        self.rules.reserve(int(uids.max()) + 1)
        self.rules.arrays["rule"][uids] = rule_rows(rules)
        if self._keeps_young:
            self.young.admit(uids)

    def run(
        self, columns: Columns, forecasts: list[Forecast]
    ) -> tuple[Batch, list[tuple[int, Alert]]]:
        """Judge, score and learn N readings of at most as many series as there are slots.

        Alerts come with the index of their reading; forecasts that are due are appended.
        """
        slots = self.slots.place(columns.uid)
        arrivals = Arrivals(slots, columns.timestamp, columns.value, columns.duplicate)
        judged = self.compute.judge(arrivals, self.limits)
        batch = self._batch(columns, slots, judged)
        batch.scores.score[judged.status == WARMING_UP] = 0.0
        alerts: list[tuple[int, Alert]] = []
        for first, last, starting in segments(columns.uid, judged.expired):
            if starting:
                alerts += self._start_anew(batch, np.array(starting), judged, forecasts)
            alerts += self._learn(batch, first, last, forecasts)
        self.home.vacate()
        return batch, alerts

    def forget(self, uids: Int64) -> None:
        """Forget series."""
        self.slots.drop(uids)
        self.young.forget(uids)
        self.familiar.forget(uids)

    def has_open_episode(self, uid: int) -> bool:
        """Whether an episode of a series is open."""
        one = np.array([uid])
        if self.young.has(one)[0]:
            self.home.bring_home(one)
            episode = self.young.export(one)["young_episode"]
        else:
            episode = self.slots.export(one, ["episode"])["episode"]
        return bool(episode["open"][0] == 1.0)

    def open_episodes(self) -> int:
        """How many episodes of series are open."""
        return self.slots.count("episode", "open") + self.young.open_episodes(self.slots.slots_of)

    def export(self, uids: Int64) -> dict[str, Array]:
        """Copy out the state of series; `young` has the places of those that have a row only."""
        young = self.young.has(uids)
        self.home.bring_home(uids[young])
        return {
            "young": np.flatnonzero(young),
            **self.young.export(uids[young]),
            **self.slots.export(uids[~young]),
        }

    def load(self, uids: Int64, arrays: Mapping[str, Array]) -> None:
        """Put what `export` gave in place; states of earlier releases have no young series."""
        places = np.asarray(arrays.get("young", np.empty(0, np.int64)))
        if ((places < 0) | (places >= len(uids))).any() or len(np.unique(places)) < len(places):
            raise ValueError("state: array 'young' names what is not there")
        warm = np.delete(uids, places)
        self.slots.load(warm, arrays)
        self.young.forget(warm)
        if len(places):
            self.young.load(uids[places], arrays)

    def _batch(self, columns: Columns, slots: Int64, judged: Judgements) -> Batch:
        names = self._context.series.column(columns.uid)
        return Batch(
            columns, slots, judged, blank(columns, names, judged.status.copy(), judged.gap),
            np.zeros(len(columns), np.int8), np.full((len(columns), 2), np.nan),
            np.full((len(columns), 3), np.nan),
            self._orders.held(
                columns.uid, columns.partition, columns.timestamp, self._context.series.name
            ),
        )  # fmt: skip

    def _learn(
        self, batch: Batch, first: int, last: int, forecasts: list[Forecast]
    ) -> list[tuple[int, Alert]]:
        """Forecasts and scores of readings `first` to `last`; their alerts by reading."""
        status = batch.judged.status[first:last]
        believed = batch.judged.expired[first:last] != UNCONFIRMED
        at = first + np.flatnonzero(is_taken(status) & believed)
        frozen = self._frozen(batch, at)
        self._keep(batch, at)
        if self.forecasts is not None:
            columns = batch.columns.take(at)
            # to a forecast, a reading that may not be learned is missing
            known = np.where(frozen, np.int8(MISSING), batch.judged.status[at])
            forecasts.extend(
                self.forecasts.run(
                    columns, batch.slots[at], known, batch.judged.interval[at],
                    batch.judged.rank[at], self.seconds(columns.timestamp),
                )
            )  # fmt: skip
        scored = batch.judged.status[at] == SCORED
        at, frozen = at[scored], frozen[scored]
        uids = batch.columns.uid[at]
        apart = self.familiar.marked(uids)
        if frozen.any():
            apart |= np.isin(uids, uids[frozen])
        alerts = self._step(batch, at[~apart]) if not apart.all() else []
        at, frozen = at[apart], frozen[apart]
        for part in rounds(uids[apart]):
            learned = Learned(self.slots.store, batch.slots[at[part[frozen[part]]]])
            alerts += self._step(batch, at[part], singly=True)
            learned.put_back()
        return alerts

    def _frozen(self, batch: Batch, at: Int64) -> npt.NDArray[np.bool_]:
        """Which of the readings at `at` are not to be learned."""
        if batch.held is None or not batch.held.frozen[at].any():
            return np.zeros(len(at), bool)
        scored = batch.judged.status[at] == SCORED
        seen = self.slots.store.field("core", "t", batch.slots[at]).astype(np.int64)
        return settled(batch.columns.uid[at], seen, batch.held.frozen[at], scored)

    def _keep(self, batch: Batch, at: Int64) -> None:
        """Keep the readings at `at` of young series."""
        columns, judged = batch.columns, batch.judged
        value = np.where(judged.status[at] == MISSING, np.nan, columns.value[at])
        kept = Kept(at, columns.timestamp[at], value, judged.interval[at], judged.rank[at])
        self.young.keep(columns.uid[at], kept)

    def _step(self, batch: Batch, take: Int64, singly: bool = False) -> list[tuple[int, Alert]]:
        """Detector, forecaster, second stage and episodes for the readings at `take`.

        `singly`: they are of distinct series, any of which may have familiar patterns.
        """
        n = len(take)
        columns, slots, scores = batch.columns.take(take), batch.slots[take], batch.scores
        values = bounded(columns.value)
        seconds = self.as_judged(self.seconds(columns.timestamp))
        rules = self.rules.arrays["rule"][columns.uid]
        if batch.held is not None:
            rules["enabled"][batch.held.silent[take]] = 0.0
        taken = Taken(
            columns.timestamp, seconds, values, batch.judged.interval[take],
            batch.judged.gap[take], rules, (columns.group >= 0).astype(np.int8),
        )  # fmt: skip
        statistic, joint, band, cause, written, count = self.compute.step(
            slots, taken, self._settings
        )
        batch.cause[take], batch.joint[take] = cause, joint
        states, times = written.episode[:count], written.times[:count]
        silent = np.zeros(n, bool)
        if singly:
            now = recall(self.familiar, columns, slots, values, written, self.slots.store)
            at = np.flatnonzero(written.event)
            states, times = now[at], self.slots.store.read("episode_times", slots[at])
            silent = is_silent(now)
        record(self.familiar, columns, values, written, states, times, silent)
        batch.normal[take] = written.normal
        judged = (columns.group < 0) & ~np.isnan(statistic)
        self.due += due(rules[judged], taken.interval[judged])
        scores.status[take[np.isnan(statistic)]] = WARMING_UP
        scores.surprise[take] = statistic
        scores.expected[take], scores.lower[take], scores.upper[take] = band.T
        scores.rarity[take] = written.judgement["rarity"]
        scores.p_value[take] = written.judgement["p_value"]
        scores.score[take] = written.judgement["score"]
        scores.alert[take] = written.alert
        scores.onset[take] = written.event == episodes.OPENED
        at = np.flatnonzero(written.event)
        if len(at) == 0:
            return []
        found = self.alerts_of(columns.take(at), written.event[at], states, times)
        return list(zip(take[at].tolist(), found, strict=True))

    def as_judged(self, seconds: Float64) -> Float64:
        """Local times by which readings are judged: a special day is taken for a Sunday."""
        return as_sundays(seconds, self._special_days)

    def seconds(self, times: Int64) -> Float64:
        """Local time, NaN where timestamps carry no time of day."""
        return (
            self._local_time.seconds(times)
            if self._context.calendar
            else np.full(len(times), np.nan)
        )

    def alerts_of(
        self, columns: Columns, kinds: Int8, states: Records, times: Records
    ) -> list[Alert]:
        """The alerts of events, one for each reading of `columns`."""
        names = self._context.series.names(columns.uid)
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
        store, slots = self.slots.store, batch.slots[at]
        anew = judged.expired[at] == ANEW
        open_ = np.flatnonzero(anew & (store.field("episode", "open", slots) == 1.0))
        ended = self.alerts_of(
            batch.columns.take(at[open_]), np.full(len(open_), episodes.EXPIRED, np.int8),
            store.read("episode", slots[open_]), store.read("episode_times", slots[open_]),
        )  # fmt: skip
        self.expired += int(anew.sum())
        self.slots.reset(slots[anew], keep=clock_state())
        self.young.restart(batch.columns.uid[at[anew]])
        held = batch.columns.take(at)
        held.timestamp, held.value = judged.held_time[at], judged.held_value[at]
        first = Judgements.empty(len(at))
        first.status[:] = np.where(np.isfinite(held.value), SCORED, MISSING)
        default = self.limits.expected_interval or DEFAULT_INTERVAL
        first.interval[:] = np.where(anew, default, judged.interval[at])
        for nothing in (first.gap, first.rank, first.expired):
            nothing[:] = 0
        opened = self._learn(self._batch(held, slots, first), 0, len(at), forecasts)
        return [
            *zip(at[open_].tolist(), ended, strict=True),
            *((int(at[i]), alert) for i, alert in opened),
        ]
