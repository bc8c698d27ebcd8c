"""All that the page knows, taken from messages by one thread and read by others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from titans_stream.config import Connector
from titans_stream.records import Alert, Int64, ModelRef, Records, Scores, Status
from titans_stream.stream.membership import Membership
from titans_stream.web.catalogue import CRITICAL, SILENT, WARNING, Catalogue
from titans_stream.web.episodes import Episodes, Verdict
from titans_stream.web.forecasts import Forecasts
from titans_stream.web.history import READING, History

_TAKEN = np.array([Status.SCORED, Status.WARMING_UP, Status.MISSING], np.int8)
"""What became of a reading that is part of its series; late and repeated ones are not."""
_RATE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept in memory."""

    readings: int = 8_000_000
    """In all, `READING.itemsize` (64) bytes each."""
    readings_of_series: int = 4_096
    episodes: int = 20_000
    forecast_bytes: int = 64_000_000


@dataclass(frozen=True, slots=True)
class Versions:
    """Numbers that rise when something changes."""

    alerts: int
    scores: int
    forecasts: int


class Rate:
    """Events a second over the last ten seconds or so."""

    def __init__(self) -> None:
        self._total = 0
        self._marks: list[tuple[float, int]] = []

    def count(self, events: int) -> None:
        """Count events now."""
        self._total += events

    def a_second(self) -> float:
        """How many came, a second; call it now and then."""
        now = time.monotonic()
        self._marks.append((now, self._total))
        while len(self._marks) > 2 and now - self._marks[1][0] >= _RATE_SECONDS:
            del self._marks[0]
        (begun, before), (ended, after) = self._marks[0], self._marks[-1]
        return (after - before) / (ended - begun) if ended > begun else 0.0


class Store:
    """Series, their history, episodes and forecasts of one connector.

    `reading` gives it to one thread at a time; every method and part is to be used inside.
    """

    def __init__(self, connector: Connector, limits: Limits | None = None) -> None:
        limits = limits or Limits()
        self.connector = connector
        self.catalogue = Catalogue()
        self.history = History(limits.readings, limits.readings_of_series)
        self.episodes = Episodes(connector.alerts, limits.episodes)
        self.forecasts = Forecasts(limits.forecast_bytes)
        self.membership = Membership(connector.input)
        self.model: ModelRef | None = None
        self.rate = Rate()
        self.newest_time = 0
        """Time of the newest reading or alert, UTC ns."""
        self._follows_clock = connector.engine.clock_reset > 0
        self._lock = threading.RLock()
        self._alerts = self._scores = self._forecasts = 0
        self._stale = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold everything still."""
        with self._lock:
            if self._stale:
                self._mark_open()
            yield

    @property
    def versions(self) -> Versions:
        """What has changed since, for those who wait for news."""
        return Versions(self._alerts, self._scores, self._forecasts)

    def take_alert(self, alert: Alert) -> None:
        """Take a message about an episode. ValueError where its times are none."""
        with self._lock:
            if not self.episodes.take(alert):
                return
            self._alerts += 1
            self._stale = True
            self.newest_time = max(self.newest_time, self.episodes_end(alert))
            for channel in alert.channels:
                self.membership.tell(channel.series_id, alert.series_id)

    def asset_of(self, alert: Alert) -> str:
        """What an alert is about: a group, else the series' id up to its last `/`."""
        name = alert.series_id
        if alert.channels or self.membership.heard(name):
            return name
        return self.membership.group_of(name) or name.rpartition("/")[0] or name

    def episodes_end(self, alert: Alert) -> int:
        """Time of the newest message of an alert's episode."""
        episode = self.episodes.get(alert.alert_id)
        return 0 if episode is None else episode.end

    def judge(self, verdicts: dict[str, Verdict]) -> None:
        """Note what people said of episodes, by alert id."""
        with self._lock:
            self.episodes.judge(verdicts)
            self._alerts += 1

    def take_forecast(self, series_id: str, message: bytes) -> None:
        """Take a forecast's message."""
        with self._lock:
            self.forecasts.take(series_id, message)
            self._forecasts += 1

    def take_scores(self, scores: Scores, model: ModelRef) -> None:
        """Take a frame of scores."""
        at = np.flatnonzero(np.isin(scores.status, _TAKEN))
        with self._lock:
            self.model = model
            self._scores += 1
            self.rate.count(len(scores))
            if not len(at):
                return
            known = len(self.catalogue)
            series = self.catalogue.numbers([scores.series[i] for i in at.tolist()])
            self.history.reserve(len(self.catalogue))
            if self.membership.hear(self.catalogue.names[known:]):
                self._alerts += 1  # an alert that came before may be of a group
                self._stale = True
            order = np.argsort(series, kind="stable")
            series, rows = series[order], _rows(scores, at[order])
            kept = self._in_order(series, rows)
            if not kept.all():
                series, rows = series[kept], rows[kept]
            self.history.append(series, rows)
            self.catalogue.take(series, rows)
            if len(rows):
                self.newest_time = max(self.newest_time, int(rows["time"].max()))

    def _in_order(self, series: Int64, rows: Records) -> npt.NDArray[np.bool_]:
        """Which readings follow those that are there; the others were sent twice.

        Where the engine follows a clock that is set back, the history begins anew instead.
        """
        last = self.catalogue.last[series]
        behind = rows["time"] < last["time"]
        if self._follows_clock:
            for number in np.unique(series[behind]).tolist():
                self.history.forget(number)
            return np.ones(len(series), bool)
        again = (rows["time"] == last["time"]) & (rows["value"] == last["value"])
        kept: npt.NDArray[np.bool_] = ~(behind | again)
        return kept

    def _mark_open(self) -> None:
        """Give series the state of their open episodes, and of their group's."""
        states: dict[int, int] = {}
        for one in self.episodes.all():
            if not one.open:
                continue
            alert = one.alert
            state = CRITICAL if alert.severity == "critical" else WARNING
            state = SILENT if alert.reason == "no_data" else state
            if alert.series_id == "*":
                continue
            names = self._shown_on(alert)
            for number in self.catalogue.numbers(names).tolist():
                states[number] = max(state, states.get(number, 0))
        self.history.reserve(len(self.catalogue))
        self.catalogue.set_open(states)
        self._stale = False

    def _shown_on(self, alert: Alert) -> list[str]:
        """The series whose state an alert is: of a group that fell silent all channels."""
        if alert.channels:
            return [channel.series_id for channel in alert.channels]
        name = alert.series_id
        found = self.membership.heard(name)
        if found or alert.reason != "no_data" or not self.membership.any:
            return found or [name]
        # alerts are read before scores: it may be a group whose channels will be heard of
        known = self.catalogue.number(name) is not None or self.membership.group_of(name)
        return [name] if known else []


def _rows(scores: Scores, at: Int64) -> Records:
    rows: Records = np.empty(len(at), READING)
    rows["time"] = scores.timestamp[at]
    for name in READING.names or ():
        if name != "time":
            rows[name] = getattr(scores, name)[at]
    return rows
