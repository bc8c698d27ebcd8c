"""Does as control messages say, for the series of one partition at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from titans_stream.control.messages import Mark, Message, Reset, SetBudget, SetRule, parse
from titans_stream.detection import episodes, habits
from titans_stream.detection.explain import alert_id
from titans_stream.engine.columns import Columns
from titans_stream.engine.course import Course
from titans_stream.engine.familiar import SILENT, Known
from titans_stream.engine.groups import Groups
from titans_stream.engine.no_data import NoData
from titans_stream.engine.orders import Orders, matches
from titans_stream.engine.recall import is_silent
from titans_stream.engine.scoring import Scoring
from titans_stream.engine.series import SeriesTable
from titans_stream.engine.state import clock_state
from titans_stream.engine.young_home import YOUNG_RESIDENT
from titans_stream.records import Alert, Int64, Order


@dataclass(frozen=True, slots=True)
class Control:
    """What messages may change of an engine."""

    orders: Orders
    series: SeriesTable
    scoring: Scoring
    groups: Groups
    no_data: NoData

    def apply(self, partition: int, order: Order, offset: int) -> list[Alert]:
        """As `Engine.control`; the alerts do not tell yet what bears on them."""
        before = self.orders.get(partition, order.id)
        after = parse(order.text) if order.text else None
        self.orders.put(partition, order)
        alerts: list[Alert] = []
        if isinstance(before, Mark):
            alerts += self._unmark(partition, before, order.id, offset)
        if isinstance(after, Mark):
            alerts += self._mark(partition, after, order.id, offset)
        if isinstance(after, Reset):
            alerts += self._restart(self._uids(partition, after), partition, offset)
        if isinstance(before, SetRule | SetBudget) or isinstance(after, SetRule | SetBudget):
            self.refresh_rules(partition)
        return alerts

    def reach(self, partition: int, order: Order) -> Int64:
        """The series whose memories a message may change."""
        before = self.orders.get(partition, order.id)
        after = parse(order.text) if order.text else None
        found = [self._uids(partition, x) for x in (before, after) if isinstance(x, Mark | Reset)]
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def refresh_rules(self, partition: int) -> None:
        """Rules and budgets of a partition have changed."""
        alerts = self.orders.alerts(partition)
        self.scoring.set_rules(self.series.members(partition)[1], alerts)
        self.groups.set_rules(self.groups.members(partition), alerts)
        self.no_data.set_limits()

    def _mark(self, partition: int, message: Mark, name: str, offset: int) -> list[Alert]:
        """Episodes of a series are familiar, or were rightly told."""
        uid = self.series.find(partition, message.series)
        known = None if uid is None else self.scoring.familiar.find(uid)
        if uid is None or known is None:
            return []
        alerts: list[Alert] = []
        for course in _meant(known, message, partition):
            if message.action == "true_alarm":
                self._forget_habit(uid, course.onset)
                continue
            self.scoring.familiar.mark(uid, course, name, message.until or 0)
            if course is known.open:
                alerts += self._silence(uid, partition, offset)
        return alerts

    def _unmark(self, partition: int, message: Mark, name: str, offset: int) -> list[Alert]:
        uid = self.series.find(partition, message.series)
        if uid is None or message.action == "true_alarm":
            return []
        self.scoring.familiar.unmark(uid, name)
        return self._tell(uid, partition, offset)

    def _restart(self, uids: Int64, partition: int, offset: int) -> list[Alert]:
        """Let series begin anew; the alerts that end open episodes. Their clocks go on."""
        scoring = self.scoring
        ended: list[Alert] = []
        most = min(scoring.slots.limit, YOUNG_RESIDENT)
        for first in range(0, len(uids), most):
            part = uids[first : first + most]
            ended += self._event(episodes.EXPIRED, part, partition, offset)
            scoring.slots.reset(scoring.slots.place(part), keep=clock_state())
            scoring.young.restart(part)
            scoring.home.vacate()
        scoring.familiar.forget(uids)
        return ended

    def _silence(self, uid: int, partition: int, offset: int) -> list[Alert]:
        """The open episode of a series is familiar: the alert that ends it for its readers."""
        ended = self._event(episodes.EXPIRED, np.array([uid]), partition, offset)
        if ended:
            slot = self.scoring.slots.place(np.array([uid]))
            state = self.scoring.slots.store.read("episode", slot)
            state["known"], state["known_far"] = 1.0, SILENT
            self.scoring.slots.store.write("episode", slot, state)
        return ended

    def _tell(self, uid: int, partition: int, offset: int) -> list[Alert]:
        """What was familiar is no longer: the alert of an episode that was silent for it."""
        slot = self.scoring.slots.place(np.array([uid]))
        state = self.scoring.slots.store.read("episode", slot)
        if not is_silent(state[0]):
            return []
        state["known"] = 0.0
        self.scoring.slots.store.write("episode", slot, state)
        return self._event(episodes.OPENED, np.array([uid]), partition, offset)

    def _event(self, event: int, uids: Int64, partition: int, offset: int) -> list[Alert]:
        """The alerts of an event of the open episodes of series that are told."""
        slots, store = self.scoring.slots.place(uids), self.scoring.slots.store
        state = store.read("episode", slots)
        told = np.flatnonzero((state["open"] == 1.0) & (state["known"] == 0.0))
        n = len(told)
        columns = Columns(
            uids[told], store.read("clock", slots[told])["last"], np.full(n, np.nan),
            np.full(n, partition, np.int32), np.full(n, offset), np.zeros(n, np.int8),
            np.full(n, -1),
        )  # fmt: skip
        return self.scoring.alerts_of(
            columns,
            np.full(n, event, np.int8),
            state[told],
            store.read("episode_times", slots[told]),
        )

    def _forget_habit(self, uid: int, onset: int) -> None:
        """An episode was rightly told: that others began at its time of the week is no habit."""
        slot = self.scoring.slots.place(np.array([uid]))
        rows = self.scoring.slots.store.read("habits", slot)
        time = float(self.scoring.seconds(np.array([onset]))[0]) % habits.WEEK
        apart = np.abs(rows["time"] - time)
        near = np.minimum(apart, habits.WEEK - apart) <= habits.NEAR
        rows["count"] = np.where(near, 0.0, rows["count"])
        self.scoring.slots.store.write("habits", slot, rows)

    def _uids(self, partition: int, message: Message) -> Int64:
        names, uids = self.series.members(partition)
        mine = [matches(message, name) for name in names]
        found: Int64 = uids[np.array(mine, bool)]
        return found


def _meant(known: Known, message: Mark, partition: int) -> list[Course]:
    """The episodes of a series that a message marks."""
    courses = [*known.courses, *(pattern.course for pattern in known.patterns)]
    distinct = list({id(course): course for course in courses}.values())
    if message.alert_id is not None:
        for course in distinct:
            if alert_id(message.series, partition, course.onset) == message.alert_id:
                return [course]
    if message.begin is None or message.end is None:
        return []
    begin, end = message.begin, message.end
    return [course for course in distinct if course.onset < end and course.last >= begin]
