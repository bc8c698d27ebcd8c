"""The control messages that are in force, by partition, and what they come to for each series.

They are part of a partition's state: they go into its snapshot, and leave with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from titans_stream.control.messages import (
    Freeze,
    Mark,
    Message,
    SetBudget,
    SetRule,
    Silence,
    parse,
)
from titans_stream.detection.rules import AlertConfig
from titans_stream.records import Alert, Int32, Int64, Order
from titans_stream.times import MAX_TIMESTAMP, MIN_TIMESTAMP, parse_timestamp

Mask = npt.NDArray[np.bool_]


class Window(NamedTuple):
    """A time range, nanoseconds, in which a series is silenced, or learns nothing."""

    begin: int
    end: int
    silent: bool
    learns: bool


class Held(NamedTuple):
    """Which of N readings open no episode, and which are not learned."""

    silent: Mask
    frozen: Mask


def matches(message: Message, name: str) -> bool:
    """Whether a message is about a series or group."""
    if isinstance(message, Mark):
        return message.series == name
    return fnmatchcase(name, message.series)


class Orders:
    """What is in force; `alerts` are the rules and budgets of the configuration."""

    def __init__(self, alerts: AlertConfig) -> None:
        self._alerts = alerts
        self._standing: dict[int, dict[str, str]] = {}
        self._muted: dict[int, dict[str, None]] = {}
        """Episodes of silence that nobody was told of, by partition."""
        self._rules: dict[int, AlertConfig] = {}
        self._windows: dict[int, dict[str, tuple[Window, ...]]] = {}
        """By partition that has any: those of each series, as far as they were asked for."""

    def change_alerts(self, alerts: AlertConfig) -> None:
        """The configuration's own rules and budgets are others."""
        self._alerts = alerts
        self._rules.clear()

    def get(self, partition: int, name: str) -> Message | None:
        """The message in force of an id."""
        text = self._standing.get(partition, {}).get(name)
        return None if text is None else parse(text)

    def put(self, partition: int, order: Order) -> None:
        """A message is in force from now on, after all others; without text none of its id is."""
        standing = self._standing.setdefault(partition, {})
        standing.pop(order.id, None)
        if order.text:
            standing[order.id] = order.text
        if not standing:
            del self._standing[partition]
        self._forget_sums(partition)

    def _forget_sums(self, partition: int) -> None:
        self._rules.pop(partition, None)
        self._windows.pop(partition, None)
        if any(map(_has_window, self._messages(partition))):
            self._windows[partition] = {}

    def _messages(self, partition: int) -> list[Message]:
        return [parse(text) for text in self._standing.get(partition, {}).values()]

    # --- rules

    def alerts(self, partition: int) -> AlertConfig:
        """The configuration's rules and budgets, and after them those of control messages."""
        if partition not in self._standing:
            return self._alerts
        found = self._rules.get(partition)
        if found is None:
            more = [m.rule for m in self._messages(partition) if isinstance(m, SetRule | SetBudget)]
            found = self._alerts.model_copy(update={"rules": (*self._alerts.rules, *more)})
            self._rules[partition] = found
        return found

    # --- windows

    def _windows_of(self, partition: int, name: str) -> tuple[Window, ...]:
        known = self._windows[partition]
        found = known.get(name)
        if found is None:
            found = known[name] = tuple(
                _window(message)
                for message in self._messages(partition)
                if _has_window(message) and matches(message, name)
            )
        return found

    def held(
        self, uids: Int64, partitions: Int32, times: Int64, name: Callable[[int], str]
    ) -> Held | None:
        """What windows say of N readings of series or groups; None where they say nothing.

        A uid below 0 has none.
        """
        if not self._windows:
            return None
        here = np.flatnonzero(np.isin(partitions, list(self._windows)) & (uids >= 0))
        if not len(here):
            return None
        silent, frozen = np.zeros(len(uids), bool), np.zeros(len(uids), bool)
        for uid in np.unique(uids[here]).tolist():
            mine = here[uids[here] == uid]
            for window in self._windows_of(int(partitions[mine[0]]), name(uid)):
                inside = mine[(times[mine] >= window.begin) & (times[mine] < window.end)]
                silent[inside] |= window.silent
                frozen[inside] |= not window.learns
        return Held(silent, frozen) if silent.any() or frozen.any() else None

    # --- alerts

    def tell(self, alerts: Sequence[Alert]) -> list[Alert]:
        """Alerts as they are told: with what bears on them, none of silences in a window."""
        if not self._standing and not self._muted:
            return list(alerts)
        return [told for told in map(self._told, alerts) if told is not None]

    def _told(self, alert: Alert) -> Alert | None:
        partition = alert.source.partition
        muted = self._muted.get(partition, {})
        if alert.alert_id in muted:
            if alert.status == "resolved":
                del muted[alert.alert_id]
            return None
        if alert.reason == "no_data" and alert.status == "opened" and partition in self._windows:
            time = parse_timestamp(alert.timestamp)
            windows = self._windows_of(partition, alert.series_id)
            if any(one.silent and one.begin <= time < one.end for one in windows):
                self._muted.setdefault(partition, {})[alert.alert_id] = None
                return None
        found = self._standing.get(partition, {})
        names = [one for one, text in found.items() if matches(parse(text), alert.series_id)]
        return replace(alert, adjusted_by=names) if names else alert

    # --- state

    def export(self, partition: int) -> dict[str, Any]:
        """What is in force in a partition, as JSON; nothing where nothing is."""
        standing = [list(each) for each in self._standing.get(partition, {}).items()]
        muted = list(self._muted.get(partition, {}))
        return {"orders": standing, "muted": muted} if standing or muted else {}

    def load(self, partition: int, told: Any) -> None:
        """Put what `export` gave in place; ValueError for what no message can be."""
        self.release(partition)
        if not isinstance(told, dict):
            raise ValueError("state: control is no object")
        for name, text in told.get("orders", ()):
            parse(text)
            self._standing.setdefault(partition, {})[str(name)] = text
        if told.get("muted"):
            self._muted[partition] = dict.fromkeys(map(str, told["muted"]))
        self._forget_sums(partition)

    def release(self, partition: int) -> None:
        """Forget a partition."""
        for of in (self._standing, self._muted, self._rules, self._windows):
            of.pop(partition, None)


def _has_window(message: Message) -> bool:
    """Whether a message is about a time range to come, too."""
    if isinstance(message, Mark):
        return message.action == "expected" and message.alert_id is None
    return isinstance(message, Silence | Freeze)


def _window(message: Message) -> Window:
    if isinstance(message, Freeze):
        return Window(MIN_TIMESTAMP, MAX_TIMESTAMP, silent=False, learns=False)
    if isinstance(message, Mark):
        assert message.begin is not None and message.end is not None
        return Window(message.begin, message.end, silent=True, learns=True)
    assert isinstance(message, Silence)
    begin = MIN_TIMESTAMP if message.begin is None else message.begin
    end = MAX_TIMESTAMP if message.until is None else message.until
    return Window(begin, end, silent=True, learns=message.learn)
