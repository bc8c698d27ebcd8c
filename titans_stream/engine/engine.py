"""The engine: readings in, scores, alerts and forecasts out, one state per series; no I/O.

Order of one call: admit series -> event-time order (batching) -> forecasts of many steps, each
after its reading is learned -> detector and one-step forecast, each reading before it is learned
-> second stage and episodes -> those of the groups. Everything is sequential per series and
group, so that the division of readings into calls changes nothing.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from operator import itemgetter

import numpy as np
import torch

from titans_stream.calendar_features import calendar_features
from titans_stream.detection import episodes as E
from titans_stream.detection.detector import Detector
from titans_stream.detection.explain import causes, make_alert
from titans_stream.detection.layout import fresh_core
from titans_stream.detection.layout import state_layout as detection_state
from titans_stream.detection.rules import AlertConfig
from titans_stream.engine import order as B
from titans_stream.engine.blank import blank, blank_scores, bounded
from titans_stream.engine.clock import LocalTime
from titans_stream.engine.forecasts import SeriesForecasts, forecast_state, is_taken
from titans_stream.engine.groups import Groups
from titans_stream.engine.host_state import fresh_host, host_state, rule_row, settings_vector
from titans_stream.engine.model import Model
from titans_stream.engine.rows import DeviceRows, HostRows, fresh_rows
from titans_stream.engine.series import SeriesTable
from titans_stream.engine.settings import EngineConfig
from titans_stream.engine.snapshot import pack, state_schema, unpack
from titans_stream.forecasting.one_step.forecaster import OneStepForecaster
from titans_stream.forecasting.one_step.layout import state_layout as one_step_state
from titans_stream.forecasting.settings import ForecastConfig
from titans_stream.records import (
    Alert,
    Float64,
    Forecast,
    GroupScores,
    Int8,
    Int64,
    Readings,
    Results,
    Scores,
    Snapshot,
    Source,
    Status,
    concatenate,
)


def choose_device(name: str) -> torch.device:
    """The device of a configured name; ValueError where cuda is asked for and missing."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("engine.device: cuda was asked for, but this machine has none")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


class StreamEngine:
    """Implements `records.Engine` for many series on one device.

    `topic` is named in alerts. `calendar` False: timestamps carry no time of day. `compiled`
    False: the torch path on the CPU too, which is the reference and much slower. `forecast`
    None: no forecasts of many steps, nor the state for them.
    """

    def __init__(
        self,
        config: EngineConfig,
        alerts: AlertConfig,
        model: Model,
        topic: str = "",
        calendar: bool = True,
        compiled: bool = True,
        forecast: ForecastConfig | None = None,
    ) -> None:
        self._config = config
        self._alerts = alerts
        self._model = model
        self._topic = topic
        self._calendar = calendar
        self._device = choose_device(config.device)
        self._local_time = LocalTime(config.timezone)
        self._settings = settings_vector(alerts)
        self._detector = Detector(model.weights, self._device, compiled)
        self._forecaster = OneStepForecaster(model.weights, self._device, compiled)
        specs = {**detection_state(), **one_step_state()}
        self._rows = DeviceRows(specs, config.slots, self._device, {"core": fresh_core()})
        forecasting = {} if forecast is None else forecast_state()
        self._host = HostRows({**host_state(), **forecasting}, fresh_host())
        self._series = SeriesTable(self._admit)
        self._order = B.ReorderBuffer(config.max_out_of_orderness)
        self._groups = Groups(config, alerts, self._series.name, model.ref, topic)
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
        """Bytes of state per series, device and host together."""
        return self._rows.row_bytes + self._host.row_bytes

    def series_count(self) -> int:
        """Series known, resident or spilled."""
        return len(self._series)

    def info(self) -> dict[str, int | str]:
        """Figures for people and metrics."""
        return {
            "device": str(self._device),
            "series": len(self._series),
            "resident": self._rows.resident,
            "spilled": self._rows.spilled,
            "spills": self._rows.spills,
            "slots": self._rows.slots,
            "waiting_for_order": self._order.waiting(),
            "on_two_partitions": self._series.on_two_partitions,
            "state_bytes_per_series": self.state_bytes,
            **self._groups.info(),
        }

    def process(self, readings: Readings) -> Results:
        """Score readings in arrival order and learn from them."""
        uids = self._series.uids(readings.series, readings.partition)
        columns = B.Columns(
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

    def _process(self, columns: B.Columns) -> Results:
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

    def _fitting(self, columns: B.Columns) -> list[B.Columns]:
        """Cut a call so that no part touches more series than the device has slots."""
        if len(columns) == 0:
            return []
        slots = self._rows.slots
        if len(columns) <= slots or len(np.unique(columns.row)) <= slots:
            return [columns]
        return [columns.take(slice(i, i + slots)) for i in range(0, len(columns), slots)]

    def _score(
        self, columns: B.Columns, forecasts: list[Forecast]
    ) -> tuple[Scores, list[Alert], list[GroupScores]]:
        """Judge, score and learn; the forecasts that are due are appended to `forecasts`."""
        n = len(columns)
        status, gap, expired = (np.empty(n, np.int8) for _ in range(3))
        interval = np.empty(n)
        host = self._host.arrays
        B.judge(
            columns.row,
            columns.timestamp,
            columns.value,
            columns.duplicate,
            host["clock"],
            host["pace"],
            float(self._config.expected_interval or 0),
            self._config.gap_factor,
            self._config.expire_after,
            status,
            gap,
            interval,
            expired,
        )
        scores = blank(columns, self._series.names(columns.row), status, gap)
        cause = np.zeros(n, np.int8)
        alerts: list[tuple[int, Alert]] = []
        cuts = [0, *np.flatnonzero(expired).tolist(), n]
        for first, last in pairwise(cuts):
            if expired[first:last].any():
                self._restart(int(columns.row[first]))
            take = first + np.flatnonzero(status[first:last] == Status.SCORED)
            if self._forecasts is not None:
                taken = first + np.flatnonzero(is_taken(status[first:last]))
                forecasts.extend(
                    self._forecasts.run(
                        columns.take(taken), status[taken], interval[taken],
                        self._seconds(columns.timestamp[taken]), host,
                    )
                )  # fmt: skip
            if len(take):
                alerts.extend(self._step(columns, take, interval, scores, cause))
        frames = []
        if columns.group.max(initial=-1) >= 0:
            values = np.where(status == Status.MISSING, np.nan, bounded(columns.value))
            judged, more = self._groups.run(columns, values, scores, expired, cause, host["rule"])
            frames.append(judged)
            alerts = sorted(alerts + more, key=itemgetter(0))
        return scores, [alert for _, alert in alerts], frames

    def _step(
        self,
        columns: B.Columns,
        take: Int64,
        interval: Float64,
        scores: Scores,
        cause: Int8,
    ) -> list[tuple[int, Alert]]:
        """Detector, forecaster, second stage and episodes for the readings at `take`."""
        uids = columns.row[take]
        times = columns.timestamp[take]
        values = bounded(columns.value[take])
        grouped = columns.group[take] >= 0
        distinct, inverse = np.unique(uids, return_inverse=True)
        rows = self._rows.place(distinct)[inverse]
        calendar = calendar_features(self._seconds(times))
        statistic, channels = self._detector.run(self._rows.arrays, rows, values, calendar)
        band = self._forecaster.run(self._rows.arrays, rows, values, calendar)
        out = np.empty((len(take), 3))
        alert, event = np.empty(len(take), np.int8), np.empty(len(take), np.int8)
        states = np.empty((len(take), E.EPISODE))
        state_times = np.empty((len(take), E.TIMES), np.int64)
        host = self._host.arrays
        cause[take] = causes(channels)
        count = E.run(
            uids, times, values, statistic, band, cause[take], interval[take], host["rule"],
            self._settings, host["tail"], host["histogram"], host["episode"],
            host["episode_times"], out, alert, event, states, state_times,
            *([grouped.astype(np.int8)] if grouped.any() else []),
        )  # fmt: skip
        scores.status[take[np.isnan(statistic)]] = Status.WARMING_UP
        scores.surprise[take] = statistic
        scores.expected[take], scores.lower[take], scores.upper[take] = band.T
        scores.rarity[take] = out[:, E.RARITY]
        scores.p_value[take] = out[:, E.P_VALUE]
        scores.score[take] = out[:, E.SCORE]
        scores.alert[take] = alert
        scores.onset[take] = event == E.OPENED
        return self._alerts_of(columns, take[event != 0], event, states[:count], state_times)

    def _seconds(self, times: Int64) -> Float64:
        """Local time, NaN where timestamps carry no time of day."""
        return self._local_time.seconds(times) if self._calendar else np.full(len(times), np.nan)

    def _alerts_of(
        self, columns: B.Columns, at: Int64, event: Int8, states: Float64, times: Int64
    ) -> list[tuple[int, Alert]]:
        """The alerts, each with the index of its reading."""
        kinds = event[event != 0]
        names = self._series.names(columns.row[at])
        return [
            (
                int(at[i]),
                make_alert(
                    int(kinds[i]),
                    states[i],
                    times[i],
                    int(columns.timestamp[at[i]]),
                    names[i],
                    self._model.ref,
                    Source(self._topic, int(columns.partition[at[i]]), int(columns.offset[at[i]])),
                ),
            )
            for i in range(len(at))
        ]

    def _admit(self, uid: int, series_id: str) -> None:
        self._host.reserve(uid + 1)
        self._host.reset(np.array([uid]))
        self._host.arrays["rule"][uid] = rule_row(self._alerts, series_id)
        self._rows.reset(uid)
        self._order.forget(uid)
        self._groups.forget_member(uid)

    def _restart(self, uid: int) -> None:
        """A series that was silent for too long starts anew; its clock goes on."""
        self._rows.reset(uid)
        keep = {name: self._host.arrays[name][uid].copy() for name in ("clock", "pace", "rule")}
        self._host.reset(np.array([uid]))
        for name, row in keep.items():
            self._host.arrays[name][uid] = row

    def snapshot(self, partition: int) -> Snapshot:
        """Copy out the state of a partition, reorder buffers included."""
        self._collect(partition)
        names, uids = self._series.members(partition)
        arrays = {**self._rows.export(uids), **self._host.export(uids)}
        arrays |= self._groups.export(partition, uids)
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
            arrays |= fresh_rows(forecast_state(), len(names))
        self.release(partition)
        uids = np.array([self._series.add(partition, name) for name in names], np.int64)
        try:
            self._rows.load(uids, arrays)
            self._host.load(uids, arrays)
            self._groups.load(partition, groups, uids, arrays)
        except ValueError:
            self.release(partition)
            raise
        group = partial(self._groups.add, partition)
        for name, uid in zip(names, uids.tolist(), strict=True):
            self._host.arrays["rule"][uid] = rule_row(self._alerts, name)
            self._order.restore(uid, partition, waiting.get(name), group)

    def release(self, partition: int) -> None:
        """Forget a partition."""
        names, _ = self._series.members(partition)
        self._remove(partition, names)
        self._groups.release(partition)

    def _remove(self, partition: int, names: list[str]) -> None:
        known = dict(zip(*self._series.members(partition), strict=True))
        uids = np.array([known[name] for name in names], np.int64)
        self._rows.drop(uids)
        for uid in uids.tolist():
            self._order.forget(uid)
        self._series.remove(partition, names)

    def _collect(self, partition: int) -> None:
        """Free series that have expired by the partition's own median clock.

        They would start anew at their next reading in any case, so no output changes.
        """
        names, uids = self._series.members(partition)
        if len(uids) < 2:
            return
        last = self._host.arrays["clock"][uids, B.LAST]
        seen = last != B.NEVER
        if not seen.any():
            return
        limit = int(np.median(last[seen])) - self._config.expire_after
        self._groups.collect(partition, limit)
        kept = np.isin(uids, self._groups.in_use(partition))
        old = [names[i] for i in np.flatnonzero(seen & (last < limit) & ~kept).tolist()]
        if old:
            self._remove(partition, old)
