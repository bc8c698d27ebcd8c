"""The engine: readings in, scores, alerts and forecasts out, one state per series; no I/O.

Order of one call: admit series -> event-time order (batching) -> forecasts of many steps, each
after its reading is learned -> detector and one-step forecast, each reading before it is learned
-> second stage and episodes -> those of the groups. Everything is sequential per series and
group, so that the division of readings into calls changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from operator import itemgetter

import numpy as np

from titans_stream.calendar_features import calendar_features
from titans_stream.detection import episodes
from titans_stream.detection.detector import Detector, Scorer
from titans_stream.detection.episodes import Episode, EpisodeTimes, Judgement, Rule
from titans_stream.detection.explain import causes, make_alert
from titans_stream.detection.rules import AlertConfig
from titans_stream.engine.blank import blank, blank_scores, bounded
from titans_stream.engine.clock import LocalTime
from titans_stream.engine.columns import Columns
from titans_stream.engine.forecasts import SeriesForecasts, forecast_state, is_taken
from titans_stream.engine.groups import Groups
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
from titans_stream.engine.reorder import ReorderBuffer
from titans_stream.engine.rows import Rows, Slots
from titans_stream.engine.series import SeriesTable
from titans_stream.engine.settings import EngineConfig
from titans_stream.engine.snapshot import pack, state_schema, unpack
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
from titans_stream.memory.rows import ArraySpec, plain
from titans_stream.records import (
    Alert,
    Float64,
    Forecast,
    GroupScores,
    Int8,
    Int64,
    Readings,
    Records,
    Results,
    Scores,
    Snapshot,
    Source,
    Status,
    concatenate,
)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Readings in order, their slots, what became of them and what is said of them."""

    columns: Columns
    slots: Int64
    judged: Judgements
    scores: Scores
    cause: Int8


class StreamEngine:
    """Implements `records.Engine` for many series.

    `topic` is named in alerts. `calendar` False: timestamps carry no time of day. `forecast`
    None: no forecasts of many steps, nor the state for them. `detector` takes the place of the
    model's own. ValueError for a device that this engine does not have.
    """

    def __init__(
        self,
        config: EngineConfig,
        alerts: AlertConfig,
        model: Model,
        topic: str = "",
        calendar: bool = True,
        forecast: ForecastConfig | None = None,
        detector: Scorer | None = None,
    ) -> None:
        if config.device == "cuda":
            raise ValueError(
                "engine.device: cuda needs the device engine, which this version does not have; "
                "use cpu or auto"
            )
        self._config = config
        self._alerts = alerts
        self._model = model
        self._topic = topic
        self._calendar = calendar
        self._local_time = LocalTime(config.timezone)
        self._settings = alert_settings(alerts)
        self._limits = OrderSettings(
            float(config.expected_interval or 0), config.gap_factor, config.expire_after,
            config.duplicates in ("keep-order", "spread"),
        )  # fmt: skip
        self._detector = detector or Detector(model.weights)
        self._forecaster = OneStepForecaster(model.weights)
        specs = series_state() | ({} if forecast is None else forecast_state())
        self._slots = Slots(specs, config.slots, fresh_series(), later=LATER)
        self._rules = Rows({"rule": ArraySpec.of(Rule)}, {})
        self._series = SeriesTable(self._admit)
        self._order = ReorderBuffer(config.max_out_of_orderness, config.duplicates)
        self._groups = Groups(self._limits, alerts, self._series.name, model.ref, topic)
        self._forecasts: SeriesForecasts | None = None
        if forecast is not None:
            interval = config.expected_interval or 0
            self._forecasts = SeriesForecasts(forecast, interval, model, topic, self._series.name)
        self._schema = state_schema(model, config, calendar, forecast is not None)

    @property
    def model(self) -> Model:
        """The slow weights in use."""
        return self._model

    @property
    def state_schema(self) -> str:
        """Names the layout of the state and what gives it meaning: weights, order, time zone."""
        return self._schema

    @property
    def state_bytes(self) -> int:
        """Bytes of state per series."""
        return self._slots.row_bytes + self._rules.row_bytes

    def series_count(self) -> int:
        """Series known, resident or spilled."""
        return len(self._series)

    def info(self) -> dict[str, int | str]:
        """Figures for people and metrics."""
        return {
            "device": "cpu",
            "series": len(self._series),
            "resident": self._slots.resident,
            "spilled": self._slots.spilled,
            "spills": self._slots.spills,
            "slots": self._slots.limit,
            "waiting_for_order": self._order.waiting(),
            "on_two_partitions": self._series.on_two_partitions,
            "state_bytes_per_series": self.state_bytes,
            **self._groups.info(),
        }

    def process(self, readings: Readings) -> Results:
        """Score readings in arrival order and learn from them."""
        uids = self._series.uids(readings.series, readings.partition)
        columns = Columns(
            uids,
            readings.timestamp,
            readings.value,
            readings.partition,
            readings.offset,
            np.zeros(len(uids), np.int8),
            np.full(len(uids), -1)
            if readings.group is None
            else self._groups.uids(readings.group, readings.partition),
        )
        return self._process(self._order.push(columns))

    def flush(self) -> Results:
        """Score what still waits for order; for the end of a finite stream."""
        return self._process(self._order.flush())

    def _process(self, columns: Columns) -> Results:
        parts = []
        frames: list[GroupScores] = []
        alerts: list[Alert] = []
        forecasts: list[Forecast] = []
        for part in self._fitting(columns):
            scores, events, groups = self._score(part, forecasts)
            parts.append(scores)
            alerts.extend(events)
            frames.extend(groups)
        return Results(
            concatenate(Scores, parts) if parts else blank_scores(), alerts,
            concatenate(GroupScores, frames) if frames else None, forecasts,
        )  # fmt: skip

    def _fitting(self, columns: Columns) -> list[Columns]:
        """Cut a call so that no part touches more series than there are slots."""
        if len(columns) == 0:
            return []
        slots = self._slots.limit
        if len(columns) <= slots or len(np.unique(columns.uid)) <= slots:
            return [columns]
        return [columns.take(slice(i, i + slots)) for i in range(0, len(columns), slots)]

    def _score(
        self, columns: Columns, forecasts: list[Forecast]
    ) -> tuple[Scores, list[Alert], list[GroupScores]]:
        """Judge, score and learn; the forecasts that are due are appended to `forecasts`."""
        n = len(columns)
        slots = self._slots.place(columns.uid)
        judged = Judgements.empty(n)
        arrivals = Arrivals(slots, columns.timestamp, columns.value, columns.duplicate)
        judge(arrivals, clocks_of(self._slots.arrays), self._limits, judged)
        batch = self._batch(columns, slots, judged)
        batch.scores.score[judged.status == Status.WARMING_UP] = 0.0
        alerts: list[tuple[int, Alert]] = []
        for first, last, starting in segments(columns.uid, judged.expired):
            if starting:
                alerts += self._start_anew(batch, np.array(starting), judged, forecasts)
            alerts += self._learn(batch, first, last, forecasts)
        scores = batch.scores
        frames = []
        if columns.group.max(initial=-1) >= 0:
            missing = judged.status == Status.MISSING
            values = np.where(missing, np.nan, bounded(columns.value))
            frame, more = self._groups.run(
                columns, values, scores, judged, batch.cause, self._rules.arrays["rule"]
            )
            frames.append(frame)
            alerts += more
        alerts.sort(key=itemgetter(0))
        return scores, [alert for _, alert in alerts], frames

    def _batch(self, columns: Columns, slots: Int64, judged: Judgements) -> _Batch:
        names = self._series.names(columns.uid)
        return _Batch(
            columns, slots, judged, blank(columns, names, judged.status.copy(), judged.gap),
            np.zeros(len(columns), np.int8),
        )  # fmt: skip

    def _learn(
        self, batch: _Batch, first: int, last: int, forecasts: list[Forecast]
    ) -> list[tuple[int, Alert]]:
        """Forecasts and scores of readings `first` to `last`; their alerts by reading."""
        status = batch.judged.status[first:last]
        believed = batch.judged.expired[first:last] != UNCONFIRMED
        if self._forecasts is not None:
            at = first + np.flatnonzero(is_taken(status) & believed)
            columns = batch.columns.take(at)
            forecasts.extend(
                self._forecasts.run(
                    columns, batch.slots[at], batch.judged.status[at], batch.judged.interval[at],
                    batch.judged.rank[at], self._seconds(columns.timestamp), self._slots.arrays,
                )
            )  # fmt: skip
        at = first + np.flatnonzero((status == Status.SCORED) & believed)
        return self._step(batch, at) if len(at) else []

    def _step(self, batch: _Batch, take: Int64) -> list[tuple[int, Alert]]:
        """Detector, forecaster, second stage and episodes for the readings at `take`."""
        n = len(take)
        columns, slots, scores = batch.columns.take(take), batch.slots[take], batch.scores
        values = bounded(columns.value)
        calendar = calendar_features(self._seconds(columns.timestamp))
        arrays = self._slots.arrays
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
            self._rules.arrays["rule"][columns.uid], (columns.group >= 0).astype(np.int8),
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
        return self._local_time.seconds(times) if self._calendar else np.full(len(times), np.nan)

    def _alerts_of(
        self, columns: Columns, kinds: Int8, states: Records, times: Records
    ) -> list[Alert]:
        """The alerts of events, one for each reading of `columns`."""
        names = self._series.names(columns.uid)
        state, time = states.view(np.recarray), times.view(np.recarray)
        return [
            make_alert(
                int(kinds[i]),
                state[i],
                time[i],
                int(columns.timestamp[i]),
                names[i],
                self._model.ref,
                Source(self._topic, int(columns.partition[i]), int(columns.offset[i])),
            )
            for i in range(len(columns))
        ]

    def _admit(self, uid: int, series_id: str) -> None:
        self._rules.reserve(uid + 1)
        self._rules.arrays["rule"][uid] = rule_of(self._alerts, series_id)[0]
        self._groups.forget_member(uid)

    def _start_anew(
        self, batch: _Batch, at: Int64, judged: Judgements, forecasts: list[Forecast]
    ) -> list[tuple[int, Alert]]:
        """Series that were silent for too long start anew with the readings held for them.

        `at` are the readings that confirm it. Clocks go on; an open episode ends. A series with
        an interval that long keeps its state and takes the held reading in.
        """
        arrays, slots = self._slots.arrays, batch.slots[at]
        anew = judged.expired[at] == ANEW
        open_ = np.flatnonzero(anew & (arrays["episode"]["open"][slots] == 1.0))
        ended = self._alerts_of(
            batch.columns.take(at[open_]), np.full(len(open_), episodes.EXPIRED, np.int8),
            arrays["episode"][slots[open_]], arrays["episode_times"][slots[open_]],
        )  # fmt: skip
        self._slots.reset(slots[anew], keep=clock_state())
        held = batch.columns.take(at)
        held.timestamp, held.value = judged.held_time[at], judged.held_value[at]
        first = Judgements.empty(len(at))
        first.status[:] = np.where(np.isfinite(held.value), Status.SCORED, Status.MISSING)
        default = self._limits.expected_interval or DEFAULT_INTERVAL
        first.interval[:] = np.where(anew, default, judged.interval[at])
        for nothing in (first.gap, first.rank, first.expired):
            nothing[:] = 0
        opened = self._learn(self._batch(held, slots, first), 0, len(at), forecasts)
        return [
            *zip(at[open_].tolist(), ended, strict=True),
            *((int(at[i]), alert) for i, alert in opened),
        ]

    def snapshot(self, partition: int) -> Snapshot:
        """Copy out the state of a partition, reorder buffers included.

        Nothing changes by it: when snapshots are taken must not decide what series remember.
        """
        names, uids = self._series.members(partition)
        arrays = self._slots.export(uids) | self._groups.export(partition, uids)
        waiting = {
            name: self._order.export(int(uid), self._groups.name)
            for name, uid in zip(names, uids, strict=True)
        }
        return pack(self._schema, names, arrays, waiting, self._groups.names(partition))

    def restore(self, partition: int, snapshot: Snapshot) -> None:
        """Put a partition's state in place; ValueError for another schema or a damaged state.

        Forecasts begin anew where the snapshot has none, or those of other weights.
        """
        names, arrays, waiting, groups = unpack(self._schema, snapshot)
        if self._forecasts is not None and snapshot.schema != self._schema:
            arrays |= {n: plain(s.rows(len(names))) for n, s in forecast_state().items()}
        self.release(partition)
        uids = np.array([self._series.add(partition, name) for name in names], np.int64)
        try:
            self._slots.load(uids, arrays)
            self._groups.load(partition, groups, uids, arrays)
        except ValueError:
            self.release(partition)
            raise
        group = partial(self._groups.add, partition)
        for name, uid in zip(names, uids.tolist(), strict=True):
            self._order.restore(uid, partition, waiting.get(name), group)

    def release(self, partition: int) -> None:
        """Forget a partition."""
        names, uids = self._series.members(partition)
        self._slots.drop(uids)
        for uid in uids.tolist():
            self._order.forget(uid)
        self._series.remove(partition, names)
        self._groups.release(partition)
