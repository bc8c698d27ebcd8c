"""Alertmanager's v2 API: open alerts are sent again and again, resolved ones are ended.

An alert there is its labels: alertname, connector, series, reason, severity and those of the
connector. They hold nothing that was measured, so that an episode stays one alert; where its
severity or reason changes, the alert of the old labels is ended. What was measured is in the
annotations. Ended ones are sent for a while, too: a member of a cluster that was away hears of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from titans_stream.durations import SECOND
from titans_stream.notify_settings import AlertmanagerConfig
from titans_stream.ops.notify.post import DeliveryError, Poster
from titans_stream.ops.notify.receiver import Entry
from titans_stream.records import Alert
from titans_stream.times import format_timestamp, parse_timestamp

log = logging.getLogger(__name__)

_MOST_AT_ONCE = 64
"""Alerts of one request."""
_MOST_OPEN = 20_000
_ENDED_SECONDS = 15 * 60.0
"""So long an ended alert is sent on, as Prometheus does."""

Labels = tuple[tuple[str, str], ...]


@dataclass
class _Kept:
    """An alert as Alertmanager knows it; `ended` by `clock`, None while it is open."""

    alert: Alert
    ended: float | None = None


class Alertmanager:
    """Implements `Receiver`. `clock` counts seconds since 1970, `monotonic` those of a timer."""

    def __init__(
        self,
        config: AlertmanagerConfig,
        connector: str,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._connector = connector
        self._clock = clock
        self._monotonic = monotonic
        self._poster = Poster(config.timeout / SECOND, config.ssl_cafile)
        self._kept: dict[Labels, _Kept] = {}
        self._labels: dict[str, Labels] = {}
        """Of open episodes, by alert_id."""
        self._refresh_at = monotonic()
        self._away: set[int] = set()

    @property
    def open_count(self) -> int:
        """Open alerts that are sent again and again."""
        return len(self._labels)

    def recall(self, entries: Iterable[Entry]) -> None:
        """Learn what is open; it is sent with the next `refresh`."""
        for entry in entries:
            self._note(entry)
        self._kept = {labels: kept for labels, kept in self._kept.items() if kept.ended is None}
        self._refresh_at = self._monotonic()

    def forget(self) -> None:
        """Send nothing more."""
        self._kept.clear()
        self._labels.clear()

    def deliver(self, entries: list[Entry]) -> int:
        """Send what some messages have changed."""
        part = entries[:_MOST_AT_ONCE]
        changed = {labels for entry in part for labels in self._note(entry)}
        try:
            self._send([labels for labels in self._kept if labels in changed])
        except DeliveryError as error:
            error.done = len(part)
            raise
        return len(part)

    def due(self) -> float | None:
        """The next time that everything is sent again."""
        return self._refresh_at

    def refresh(self) -> None:
        """Send what is open, and what has ended not long ago."""
        now = self._clock()
        self._kept = {
            labels: kept
            for labels, kept in self._kept.items()
            if kept.ended is None or now - kept.ended < _ENDED_SECONDS
        }
        # before sending: a failure is tried again by the caller, at its own pace
        self._refresh_at = self._monotonic() + self._config.resend_every / SECOND
        labels = list(self._kept)
        for begin in range(0, len(labels), _MOST_AT_ONCE):
            self._send(labels[begin : begin + _MOST_AT_ONCE])

    def _note(self, entry: Entry) -> list[Labels]:
        """Take a message in; the labels of the alerts that it changes."""
        alert, now = entry.alert, self._clock()
        labels, before = self._labels_of(entry), self._labels.get(alert.alert_id)
        if before is None and (alert.status == "resolved" and labels not in self._kept):
            return []
        if self._config.min_severity == "critical" and not entry.critical:
            return []
        old = None if before is None else self._kept.get(before)
        if alert.status == "resolved":
            self._labels.pop(alert.alert_id, None)
            ended = before if before is not None and old is not None else labels
            self._kept[ended] = _Kept(alert, now)
            return [ended]
        changed = [labels]
        if before is not None and before != labels and old is not None:
            old.ended = old.ended or now
            changed.append(before)
        self._labels[alert.alert_id] = labels
        self._kept[labels] = _Kept(alert)
        if len(self._labels) > _MOST_OPEN:
            oldest = next(iter(self._labels))
            log.warning("more than %d open alerts: %s is let go of", _MOST_OPEN, oldest)
            self._kept.pop(self._labels.pop(oldest), None)
        return changed

    def _labels_of(self, entry: Entry) -> Labels:
        alert = entry.alert
        found = {
            **self._config.labels,
            "alertname": "TitansAnomaly" if alert.reason != "no_data" else "TitansNoData",
            "connector": self._connector,
            "series": alert.series_id,
            "reason": alert.reason,
            "severity": alert.severity,
        }
        return tuple(sorted(found.items()))

    def _send(self, labels: list[Labels]) -> None:
        """Post to every member; DeliveryError where none takes it."""
        if not labels:
            return
        now = self._clock()
        body = orjson.dumps([self._document(each, self._kept[each], now) for each in labels])
        headers = {}
        if self._config.authorization is not None:
            headers["Authorization"] = self._config.authorization.get_secret_value()
        errors: list[DeliveryError] = []
        for number, url in enumerate(self._config.urls):
            try:
                target = url.get_secret_value().rstrip("/") + "/api/v2/alerts"
                self._poster.post(target, body, headers)
                self._away.discard(number)
            except DeliveryError as error:
                errors.append(error)
                if number not in self._away and len(self._config.urls) > 1:
                    log.warning("member %d of Alertmanager: %s", number + 1, error)
                self._away.add(number)
        if len(errors) == len(self._config.urls):
            raise errors[0]

    def _document(self, labels: Labels, kept: _Kept, now: float) -> dict[str, Any]:
        alert = kept.alert
        ends = kept.ended if kept.ended is not None else now + self._config.lasts / SECOND
        starts = min(parse_timestamp(alert.onset) / SECOND, ends - 1.0)
        return {
            "labels": dict(labels),
            "annotations": {
                "summary": f"{alert.series_id}: {alert.explanation}",
                "alert_id": alert.alert_id,
                "onset": alert.onset,
                "peak": f"{alert.value:.6g} at {alert.peak_timestamp}",
                "what": alert.what,
            },
            "startsAt": format_timestamp(int(starts * SECOND)),
            "endsAt": format_timestamp(int(ends * SECOND)),
        }
