"""Answers of the API about what is kept; each holds the store still while it reads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

import titans_stream
from titans_stream.detection.rules import alarms_accepted, resolve_rule
from titans_stream.durations import DAY, SECOND
from titans_stream.records import Alert, Float64, Forecast, Int64, Records
from titans_stream.times import format_timestamp, parse_timestamp
from titans_stream.web.catalogue import STATES, Sort
from titans_stream.web.episodes import Episode, Incident, incidents
from titans_stream.web.reader import Progress
from titans_stream.web.store import Store

JOIN = 900 * SECOND
"""Episodes of an asset with less time between them are one incident."""
SPARK = 48
"""Readings of a small picture."""
MOST_SHOWN = 6_000
"""Readings of one answer; of more, those that stand out are kept."""
MOST_EPISODES = 20
"""Episodes listed of one incident."""


class NotFoundError(LookupError):
    """There is nothing of this name."""


class Views:
    """What can be asked of a store."""

    def __init__(self, store: Store, progress: Progress, control_topic: str | None) -> None:
        self._store = store
        self._progress = progress
        self._control_topic = control_topic
        self._incidents: tuple[int, list[Incident]] = (-1, [])

    def status(self) -> dict[str, Any]:
        """What is served, and how far it has been read."""
        store, progress = self._store, self._progress
        with store.reading():
            episodes, model = store.episodes.all(), store.model
            return {
                "connector": store.connector.name,
                "version": titans_stream.__version__,
                "topics": {
                    "input": store.connector.input.subscription.text,
                    **{
                        name: getattr(store.connector.output, name)
                        for name in ("alerts", "scores", "forecasts")
                    },
                },
                "control_topic": self._control_topic,
                "model": None if model is None else {"name": model.name, "version": model.version},
                "problem": progress.problem,
                "behind": dict(progress.behind),
                "caught_up": progress.caught_up,
                "unreadable": progress.refused,
                "series": len(store.catalogue),
                "states": store.catalogue.counts(),
                "open_alerts": sum(one.open for one in episodes),
                "episodes": len(episodes),
                "readings_kept": store.history.kept,
                "readings_of_series": store.history.limit,
                "readings_per_second": round(store.rate.a_second(), 1),
                "newest": format_timestamp(store.newest_time) if store.newest_time else None,
                "versions": self.versions(),
            }

    def versions(self) -> dict[str, int]:
        """Numbers that rise when something changes."""
        now = self._store.versions
        return {"alerts": now.alerts, "scores": now.scores, "forecasts": now.forecasts}

    def inbox(
        self,
        show: str = "all",
        text: str = "",
        severity: str = "",
        offset: int = 0,
        limit: int = 50,
    ) -> dict[str, Any]:
        """Incidents, the gravest first; `show` is open, resolved or all."""
        with self._store.reading():
            found = [
                one
                for one in self._all_incidents()
                if (show == "all" or one.open == (show == "open"))
                and (not severity or any(e.alert.severity == severity for e in one.episodes))
                and _matches(one, text)
            ]
            return {
                "total": len(found),
                "open": sum(one.open for one in found),
                "offset": offset,
                "incidents": [self._incident(one) for one in found[offset : offset + limit]],
            }

    def open_alerts(self, limit: int = 100) -> list[dict[str, Any]]:
        """Open episodes, the gravest first."""
        with self._store.reading():
            found = [e for one in self._all_incidents() for e in one.episodes if e.open]
            return [self._episode(one) for one in found[:limit]]

    def explain(self, alert_id: str) -> dict[str, Any]:
        """Everything that is known of one alert."""
        with self._store.reading():
            one = self.episode(alert_id)
            alert = one.alert
            incident = next(i for i in self._all_incidents() if one in i.episodes)
            earlier = [e for e in self._store.episodes.of(alert.series_id) if e.onset < one.onset]
            together = [e for e in incident.episodes if e is not one]
            return {
                "alert": self._episode(one),
                "figures": {k: v for k, v in alert.figures.items() if v is not None},
                "messages": [_message(each) for each in one.messages],
                "earlier": [self._episode(e) for e in earlier[:MOST_EPISODES]],
                "together": [self._episode(e) for e in together[:MOST_EPISODES]],
                "source": {
                    "topic": alert.source.topic,
                    "partition": alert.source.partition,
                    "offset": alert.source.offset,
                },
                "model": {"name": alert.model.name, "version": alert.model.version},
            }

    def episode(self, alert_id: str) -> Episode:
        """An episode. NotFoundError where there is none."""
        one = self._store.episodes.get(alert_id)
        if one is None:
            raise NotFoundError(f"there is no alert {alert_id!r} among those that are kept")
        return one

    def series(
        self,
        text: str = "",
        states: Sequence[str] = (),
        sort: Sort = "state",
        down: bool = True,
        offset: int = 0,
        limit: int = 50,
    ) -> dict[str, Any]:
        """A page of the table of series."""
        with self._store.reading():
            catalogue = self._store.catalogue
            wanted = [STATES.index(state) for state in states]
            found = catalogue.find(text, wanted, sort, down)
            return {
                "total": len(found),
                "offset": offset,
                "states": catalogue.counts(),
                "series": self._rows(found[offset : offset + limit]),
            }

    def readings(self, series_id: str, most: int = MOST_SHOWN) -> dict[str, Any]:
        """The kept readings of a series, or what there is to know of a group."""
        store = self._store
        with store.reading():
            members = self.members(series_id)
            number = store.catalogue.number(series_id)
            episodes = store.episodes.of(series_id) + store.episodes.driven_by(series_id)
            if number is None and not members and not episodes:
                raise NotFoundError(f"nothing has come of a series {series_id!r}")
            rows = store.history.of(0 if number is None else number)
            rows = rows[:0] if number is None else rows
            group = store.membership.group_of(series_id)
            judged = series_id if group is None else group
            budget = resolve_rule(store.connector.alerts, judged).false_alarms_per_day
            per_day = _readings_per_day(rows["time"])
            shown = rows[_standing_out(rows, most)]
            state = None if number is None else int(store.catalogue.states(np.array([number]))[0])
            forecast = store.forecasts.of(series_id)
            return {
                "series_id": series_id,
                "state": _group_state(episodes) if state is None else STATES[state],
                "group": group if group != series_id else None,
                "members": members,
                "budget_per_day": budget,
                "readings_per_day": per_day,
                "kept": len(rows),
                "shown": len(shown),
                "time": (shown["time"] / 1e9).tolist(),
                **{
                    n: numbers(shown[n])
                    for n in ("value", "expected", "lower", "upper", "surprise")
                },
                "over": numbers(_over(shown["rarity"], per_day, budget)),
                "alert": shown["alert"].tolist(),
                "gap": shown["gap"].tolist(),
                "forecast": None if forecast is None else _forecast(forecast),
                "episodes": [self._episode(one) for one in episodes[:200]],
            }

    def members(self, group_id: str) -> list[str]:
        """The channels of a group; empty for what is none."""
        store = self._store
        if store.catalogue.number(group_id) is not None:
            return []
        return store.membership.members(group_id, store.catalogue.names)

    def budget(self) -> dict[str, Any]:
        """What the budgets accept for the time that the kept readings cover, and what opened."""
        store = self._store
        with store.reading():
            count = len(store.catalogue)
            begins = [one.onset for one in store.episodes.all() if one.over is not None]
            last = store.catalogue.last["time"][:count]
            first = store.history.first(np.arange(count))
            seen = last > 0
            if not seen.any():
                return {"period_days": 0.0, "alerts_due": None, "alerts_opened": 0}
            begin = int(first[seen].min())
            due = self._due(np.flatnonzero(seen), (last - first)[seen])
            return {
                "period_days": (int(last[seen].max()) - begin) / DAY,
                "alerts_due": due,
                "alerts_opened": sum(onset >= begin for onset in begins),
            }

    def _due(self, series: Int64, spans: Int64) -> float:
        """False episodes that budgets accept: by series, or once by group."""
        store = self._store
        alerts = store.connector.alerts
        if not alerts.rules and not store.membership.any:
            return alerts.false_alarms_per_series_per_day * float(spans.sum(dtype=np.float64)) / DAY
        names = (store.catalogue.names[number] for number in series.tolist())
        longest = store.membership.judged(zip(names, spans.tolist(), strict=True))
        return alarms_accepted(alerts, longest)

    def _all_incidents(self) -> list[Incident]:
        version = self._store.versions.alerts
        if self._incidents[0] != version:
            found = incidents(
                self._store.episodes.all(), self._store.asset_of, JOIN, self._store.newest_time
            )
            self._incidents = (version, found)
        return self._incidents[1]

    def _incident(self, one: Incident) -> dict[str, Any]:
        critical = any(e.alert.severity == "critical" for e in one.episodes)
        return {
            "asset": one.asset,
            "open": one.open,
            "severity": "critical" if critical else "warning",
            "onset": format_timestamp(min(e.onset for e in one.episodes)),
            "end": format_timestamp(max(e.end for e in one.episodes)),
            "episodes": [self._episode(e) for e in one.episodes[:MOST_EPISODES]],
            "more": max(0, len(one.episodes) - MOST_EPISODES),
        }

    def _episode(self, one: Episode) -> dict[str, Any]:
        alert = one.alert
        over = None if one.over is None or math.isinf(one.over) else one.over
        return {
            **{name: getattr(alert, name) for name in _PASSED_ON},
            "asset": self._store.asset_of(alert),
            "open": one.open,
            "budget_per_day": resolve_rule(
                self._store.connector.alerts, alert.series_id
            ).false_alarms_per_day,
            "over": over,
            "channels": [
                {name: getattr(each, name) for name in _OF_CHANNEL} for each in alert.channels
            ],
            "verdict": one.verdict,
            "spark": self._spark(
                alert.channels[0].series_id if alert.channels else alert.series_id
            ),
        }

    def _spark(self, series_id: str) -> list[float | None]:
        number = self._store.catalogue.number(series_id)
        if number is None:
            return []
        return numbers(self._store.history.of(number, SPARK)["value"])

    def _rows(self, series: Int64) -> list[dict[str, Any]]:
        store = self._store
        sparks, kept = store.history.column("value", series, SPARK)
        times, _ = store.history.column("time", series, SPARK)
        last, states = store.catalogue.last[series], store.catalogue.states(series)
        rows = []
        for i, number in enumerate(series.tolist()):
            name, reading = store.catalogue.names[number], last[i]
            group = store.membership.group_of(name)
            some = kept[i] > 0
            per_day = _readings_per_day(times[i, SPARK - kept[i] :])
            budget = resolve_rule(store.connector.alerts, group or name).false_alarms_per_day
            rows.append(
                {
                    "series_id": name,
                    "state": STATES[states[i]],
                    "time": format_timestamp(int(reading["time"])) if reading["time"] else None,
                    **{
                        column: number_of(reading[column]) if some else None
                        for column in ("value", "expected", "lower", "upper", "score")
                    },
                    "over": numbers(_over(reading["rarity"][None], per_day, budget))[0],
                    "readings": int(store.catalogue.readings[number]),
                    "group": group,
                    "spark": numbers(sparks[i, SPARK - kept[i] :]),
                }
            )
        return rows


_PASSED_ON = (
    "alert_id", "series_id", "status", "severity", "reason", "onset", "timestamp",
    "peak_timestamp", "duration_s", "value", "onset_value", "latest_value", "expected", "lower",
    "upper", "direction", "what", "limit", "score", "rate_per_day", "extrapolated", "explanation",
)  # fmt: skip
_OF_CHANNEL = ("series_id", "share", "value", "expected", "lower", "upper")


def _matches(one: Incident, text: str) -> bool:
    words = text.casefold().split()
    return not words or any(
        all(word in e.alert.series_id.casefold() for word in words) for e in one.episodes
    )


def _message(alert: Alert) -> dict[str, Any]:
    value = alert.value if alert.latest_value is None else alert.latest_value
    return {
        "status": alert.status,
        "severity": alert.severity,
        "timestamp": alert.timestamp,
        "value": value,
        "explanation": alert.explanation,
    }


def _forecast(one: Forecast) -> dict[str, Any]:
    return {
        "origin": one.origin,
        "time": [parse_timestamp(text) / 1e9 for text in one.timestamps],
        "median": one.median,
        "quantiles": one.quantiles,
        "period": one.period,
    }


def _group_state(episodes: Iterable[Episode]) -> str:
    severities = [one.alert.severity for one in episodes if one.open]
    return "critical" if "critical" in severities else "warning" if severities else "normal"


def _readings_per_day(time: Int64) -> float | None:
    """By the median of the intervals, None with fewer than two times."""
    steps = np.diff(time)
    steps = steps[steps > 0]
    return DAY / float(np.median(steps)) if len(steps) else None


def _over(rarity: Any, per_day: float | None, budget: float) -> Float64:
    """How many times rarer than the budget accepts: rarity is of an episode in 100 readings."""
    if per_day is None:
        return np.full(len(rarity), np.nan)
    return budget * 100.0 / per_day * 10.0 ** np.asarray(rarity, np.float64)


def _standing_out(rows: Records, most: int) -> Int64:
    """At most `most` places: of each stretch the lowest and the highest value and the rarest."""
    if len(rows) <= most:
        return np.arange(len(rows))
    found: list[int] = []
    for part in np.array_split(np.arange(len(rows)), most // 3):
        value, rarity = rows["value"][part], rows["rarity"][part]
        low = int(np.argmin(np.where(np.isnan(value), np.inf, value)))
        high = int(np.argmax(np.where(np.isnan(value), -np.inf, value)))
        rare = int(np.argmax(np.where(np.isnan(rarity), -np.inf, rarity)))
        found += part[sorted({low, high, rare})].tolist()
    return np.array(found, np.int64)


def number_of(value: Any) -> float | None:
    """A number for JSON: NaN and infinity are null."""
    number = float(value)
    return number if math.isfinite(number) else None


def numbers(values: Any) -> list[float | None]:
    """`number_of` each."""
    finite = np.isfinite(values)
    found: list[float | None] = np.asarray(values).tolist()
    if not finite.all():
        for i in np.flatnonzero(~finite).tolist():
            found[i] = None
    return found
