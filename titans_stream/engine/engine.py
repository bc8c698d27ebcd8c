"""The engine: readings in, scores, alerts and forecasts out, one state per series; no I/O.

Order of one call: admit series -> event-time order (batching) -> forecasts of many steps, each
after its reading is learned -> detector and one-step forecast, each reading before it is learned
-> second stage and episodes -> those of the groups. Everything is sequential per series and
group, so that the division of readings into calls changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

import numpy as np

from titans_stream.detection.detector import Scorer
from titans_stream.detection.rules import AlertConfig, resolve_rules
from titans_stream.engine.admission import Admission, series_warning
from titans_stream.engine.blank import blank_scores, bounded
from titans_stream.engine.capture import Touched
from titans_stream.engine.columns import MISSING, Columns
from titans_stream.engine.control import Control
from titans_stream.engine.device.api import Device
from titans_stream.engine.device.choice import Choice, choose
from titans_stream.engine.device.compute import DeviceCompute
from titans_stream.engine.groups import Groups
from titans_stream.engine.model import Model
from titans_stream.engine.no_data import NoData
from titans_stream.engine.orders import Orders
from titans_stream.engine.partition_states import PartitionStates
from titans_stream.engine.reorder import ReorderBuffer
from titans_stream.engine.scoring import Context, Scoring
from titans_stream.engine.series import SeriesTable
from titans_stream.engine.settings import EngineConfig
from titans_stream.engine.snapshot import state_schema
from titans_stream.engine.young_home import YOUNG_RESIDENT
from titans_stream.forecasting.settings import ForecastConfig
from titans_stream.records import (
    Alert,
    Capture,
    EngineFigures,
    Forecast,
    GroupScores,
    Int64,
    Order,
    Readings,
    Results,
    Scores,
    Snapshot,
    concatenate,
)


class StreamEngine:
    """Implements `records.Engine` for many series.

    `topic` is named in alerts. `calendar` False: timestamps carry no time of day. `forecast`
    None: no forecasts of many steps, nor the state for them. `detector` takes the place of the
    model's own, on the CPU; `device` that of `config.device`. ValueError for a device that this
    machine does not have.
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
        device: Device | None = None,
    ) -> None:
        self._config = config
        given = device is not None or detector is not None
        choice = Choice(device, "given") if given else choose(config, forecast is not None)
        self.device_choice = choice.why
        """Why the state lies where it does, for people."""
        self._model = model
        self._series = SeriesTable(self._admit)
        self._orders = Orders(alerts)
        context = Context(model, topic, calendar, self._series, self._orders)
        compute = None if choice.device is None else DeviceCompute(choice.device, model.weights)
        self._scoring = Scoring(config, alerts, context, forecast, detector, compute)
        self._slots = self._scoring.slots
        self._admission = Admission(self._series, config.max_series, config.when_full, self._may_go)
        self._order = ReorderBuffer(config.max_out_of_orderness, config.duplicates)
        limits = self._scoring.limits
        self._groups = Groups(limits, alerts, self._orders, self._series.name, model.ref, topic)
        self._no_data = NoData(
            config.gap_factor, self._orders, (self._series, self._groups), model.ref, topic
        )
        self._control = Control(
            self._orders, self._series, self._scoring, self._groups, self._no_data
        )
        self._opened = 0
        self._touched = Touched()
        self._schema = state_schema(model, config, calendar, forecast is not None)
        self._states = PartitionStates(
            self._schema,
            self._series,
            self._scoring,
            self._order,
            self._admission,
            self._groups,
            self._no_data,
            self._orders,
            self._touched,
        )

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
        return self._slots.row_bytes + self._scoring.rules.row_bytes

    def change_alerts(self, alerts: AlertConfig) -> None:
        """Go on with other rules and budgets; what is remembered stays."""
        self._orders.change_alerts(alerts)
        self._scoring.change_settings(alerts)
        self._groups.change_settings(alerts)
        for partition in self._series.partitions():
            self._control.refresh_rules(partition)

    def control(self, partition: int, order: Order, offset: int) -> list[Alert]:
        """As `records.Engine.control`."""
        self._touched.touch(self._control.reach(partition, order))
        return self._orders.tell(self._control.apply(partition, order, offset))

    def series_count(self) -> int:
        """Series known, resident or spilled."""
        return len(self._series)

    def series_warning(self) -> str:
        """A line for people where most series have a handful of readings, else nothing."""
        uids = self._series.all()
        return series_warning(len(uids), self._series.names(self._admission.few(uids)))

    def figures(self) -> EngineFigures:
        """What the engine has come to since it was built."""
        return EngineFigures(
            self._scoring.open_episodes() + self._groups.open_episodes(),
            self._opened,
            self._scoring.due + self._groups.due,
            self._scoring.expired,
        )

    def info(self) -> dict[str, int | str]:
        """Figures for people and metrics."""
        return {
            "device": self._scoring.compute.device,
            "series": len(self._series),
            "young": len(self._scoring.young),
            "resident": self._slots.resident,
            "spilled": self._slots.spilled,
            "spills": self._slots.spills,
            "slots": self._slots.limit,
            "waiting_for_order": self._order.waiting(),
            "refused_readings": self._admission.refused,
            "on_two_partitions": self._series.on_two_partitions,
            "state_bytes_per_series": self.state_bytes,
            "slot_bytes": self._slots.store.nbytes,
            "young_bytes": len(self._scoring.young) * self._scoring.young.row_bytes,
            "spilled_bytes": self._slots.spilled * self._slots.row_bytes,
            **self._groups.info(),
        }

    def process(self, readings: Readings) -> Results:
        """Score readings in arrival order and learn from them."""
        if not self._admission.has_room(readings.partition):
            return self._admit_singly(readings)
        return self._take(readings, self._series.uids(readings.series, readings.partition))

    def _take(self, readings: Readings, uids: Int64) -> Results:
        """Process readings of admitted series."""
        self._touched.touch(self._order.reach(uids))
        self._admission.note(uids, readings.partition)
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

    def _admit_singly(self, readings: Readings) -> Results:
        """Process readings where new series may have to be refused, or to replace others."""
        done: list[Results] = []
        taken: list[int] = []
        uids: list[int] = []
        refused: list[int] = []

        def go_on() -> None:
            if taken:
                part = readings.take(np.array(taken))
                done.append(self._take(part, np.array(uids, np.int64)))
            taken.clear()
            uids.clear()

        for i, (name, partition) in enumerate(
            zip(readings.series, readings.partition.tolist(), strict=True)
        ):
            uid = self._series.find(partition, name)
            if uid is None and self._admission.is_full(partition):
                go_on()
                victim = self._admission.victim(partition)
                if victim is None:
                    self._admission.pass_over(partition)
                    refused.append(i)
                    continue
                self._touched.touch(np.array([victim]))
                done.append(self._process(self._order.take(victim)))
                self._forget(partition, victim)
            taken.append(i)
            uids.append(self._series.add(partition, name) if uid is None else uid)
        go_on()
        return _joined(done, np.array(refused, np.int64))

    def tick(self, partition: int, silence: int, patience: int, offset: int) -> list[Alert]:
        """The alerts of a partition of which nothing was heard for `silence` ns by a wall clock.

        Limits that are learned are `patience` at least; `offset` is that of the next message. It
        changes the state: whoever calls it has to see that a replay does so at the same place, or
        `set_silent_since`.
        """
        return self._orders.tell(self._no_data.tick(partition, silence, patience, offset))

    def silent_since(self, partition: int) -> list[int]:
        """Since when all series, and all groups, of a partition count as silent; 0: they do not."""
        return self._no_data.since(partition)

    def set_silent_since(self, partition: int, since: list[int]) -> None:
        """Take over what `silent_since` gave."""
        self._no_data.set_since(partition, since)

    def _may_go(self, uid: int) -> bool:
        """Whether a series can be forgotten: no group counts on it, no episode of it is open."""
        return not (self._groups.has_member(uid) or self._scoring.has_open_episode(uid))

    def _forget(self, partition: int, uid: int) -> None:
        self._scoring.forget(np.array([uid]))
        self._order.forget(uid)
        self._series.remove(partition, [self._series.name(uid)])

    def flush(self) -> Results:
        """Score what still waits for order; for the end of a finite stream."""
        self._touched.touch(self._series.all())
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
        """Cut a call so that no part touches more series than may be in slots at once."""
        if len(columns) == 0:
            return []
        young = int(np.count_nonzero(self._scoring.young.has(columns.uid)))
        slots = self._slots.limit
        if young > YOUNG_RESIDENT:
            slots = min(slots, YOUNG_RESIDENT)
        if len(columns) <= slots or len(np.unique(columns.uid)) <= slots:
            return [columns]
        return [columns.take(slice(i, i + slots)) for i in range(0, len(columns), slots)]

    def _score(
        self, columns: Columns, forecasts: list[Forecast]
    ) -> tuple[Scores, list[Alert], list[GroupScores]]:
        """Judge, score and learn; the forecasts that are due are appended to `forecasts`."""
        batch, alerts = self._scoring.run(columns, forecasts)
        scores, judged = batch.scores, batch.judged
        frames = []
        if columns.group.max(initial=-1) >= 0:
            missing = judged.status == MISSING
            values = np.where(missing, np.nan, bounded(columns.value))
            rules = self._scoring.rules.arrays["rule"]
            frame, more = self._groups.run(
                columns,
                values,
                scores,
                judged,
                batch.joint,
                batch.cause,
                batch.normal,
                rules,
                batch.held,
            )
            frames.append(frame)
            alerts += more
        alerts = [*self._no_data.run(columns, judged), *alerts]
        alerts.sort(key=itemgetter(0))
        told = self._orders.tell([alert for _, alert in alerts])
        self._opened += sum(alert.status == "opened" for alert in told)
        return scores, told, frames

    def _admit(self, partition: int, uids: Int64, names: list[str]) -> None:
        """Uids are given out to new series."""
        self._touched.touch(uids)
        rules = resolve_rules(self._orders.alerts(partition), names)
        self._scoring.admit(uids, rules)
        self._admission.admit(uids)
        self._no_data.admit(uids, rules)
        self._groups.forget_members(uids)

    # --- state

    def snapshot(self, partition: int) -> Snapshot:
        """As `PartitionStates.snapshot`."""
        return self._states.snapshot(partition)

    def capture(self, partition: int, since: int | None) -> Capture:
        """As `records.Engine.capture`; all series are in it where most of them were touched."""
        return self._states.capture(partition, since)

    def mark(self, partition: int) -> int:
        """As `records.Engine.mark`."""
        del partition
        return self._touched.mark()

    def restore(self, partition: int, snapshot: Snapshot) -> None:
        """As `PartitionStates.restore`."""
        self._states.restore(partition, snapshot)

    def release(self, partition: int) -> None:
        """Forget a partition."""
        self._states.release(partition)


def _joined(parts: Sequence[Results], refused: Int64) -> Results:
    """One result from those of parts; `refused` are places in the whole."""
    groups = [part.groups for part in parts if part.groups is not None]
    return Results(
        concatenate(Scores, [blank_scores(), *(part.scores for part in parts)]),
        [alert for part in parts for alert in part.alerts],
        concatenate(GroupScores, groups) if groups else None,
        [forecast for part in parts for forecast in part.forecasts],
        refused if len(refused) else None,
    )
