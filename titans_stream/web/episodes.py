"""Episodes from the alerts topic, and the incidents that people look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from titans_stream.detection.rules import AlertConfig, resolve_rule
from titans_stream.records import Alert
from titans_stream.times import parse_timestamp

MOST_MESSAGES = 50
"""Messages kept of an episode: its first one, and the newest ones."""
_ORDER = {"opened": 0, "updated": 1, "resolved": 2}
_NO_LIMIT = float("inf")
Verdict = Literal["true_alarm", "false_alarm", "expected"]


@dataclass(slots=True)
class Episode:
    """All messages about one episode. Times are UTC nanoseconds."""

    alert: Alert
    """The newest message."""
    onset: int
    end: int
    """Time of the newest message; of an open episode, what is known so far."""
    over: float | None
    """How many times rarer it is than its budget accepts; infinite for a limit that was left, None
    where no rate is known."""
    messages: list[Alert] = field(default_factory=list)
    verdict: Verdict | None = None

    @property
    def open(self) -> bool:
        """Whether it has not ended."""
        return self.alert.status != "resolved"


class Incident(NamedTuple):
    """Episodes of one asset that overlap or follow within a short time; the gravest first."""

    asset: str
    episodes: tuple[Episode, ...]

    @property
    def open(self) -> bool:
        """Whether any of its episodes has not ended."""
        return any(one.open for one in self.episodes)


class Episodes:
    """The newest `most` episodes; where there are more, the ones that ended first are dropped."""

    def __init__(self, alerts: AlertConfig, most: int) -> None:
        self._alerts = alerts
        self._most = most
        self._episodes: dict[str, Episode] = {}
        self._by_series: dict[str, dict[str, None]] = {}
        self._verdicts: dict[str, Verdict] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._episodes)

    def get(self, alert_id: str) -> Episode | None:
        """An episode, None where it is not known (any more)."""
        return self._episodes.get(alert_id)

    def all(self) -> list[Episode]:
        """All of them, in no order."""
        return list(self._episodes.values())

    def of(self, series_id: str) -> list[Episode]:
        """Those of a series or group, the newest first."""
        found = [self._episodes[name] for name in self._by_series.get(series_id, ())]
        return sorted(found, key=lambda one: one.onset, reverse=True)

    def driven_by(self, series_id: str) -> list[Episode]:
        """Those of groups of which a series was a channel that stood out, the newest first."""
        found = [
            one
            for one in self._episodes.values()
            if any(channel.series_id == series_id for channel in one.alert.channels)
        ]
        return sorted(found, key=lambda one: one.onset, reverse=True)

    def take(self, alert: Alert) -> bool:
        """Take a message; False where it is a repetition or says nothing new.

        ValueError where one of its times is none.
        """
        onset, end = parse_timestamp(alert.onset), parse_timestamp(alert.timestamp)
        known = self._episodes.get(alert.alert_id)
        if known is None:
            self._episodes[alert.alert_id] = Episode(
                alert, onset, end, self._over(alert), [alert], self._verdicts.get(alert.alert_id)
            )
            self._by_series.setdefault(alert.series_id, {})[alert.alert_id] = None
            self._drop()
            return True
        before = known.alert
        if (end, _ORDER[alert.status]) <= (known.end, _ORDER[before.status]):
            return False
        known.alert, known.end, known.over = alert, end, self._over(alert)
        known.messages.append(alert)
        if len(known.messages) > MOST_MESSAGES:
            del known.messages[1]
        return True

    def judge(self, verdicts: dict[str, Verdict]) -> None:
        """Note what people said of episodes, known ones and those to come."""
        self._verdicts |= verdicts
        for name, verdict in verdicts.items():
            if name in self._episodes:
                self._episodes[name].verdict = verdict

    def _over(self, alert: Alert) -> float | None:
        if alert.reason == "valid_range":
            return _NO_LIMIT
        if alert.rate_per_day is None:
            return None
        budget = resolve_rule(self._alerts, alert.series_id).false_alarms_per_day
        return budget / alert.rate_per_day if alert.rate_per_day > 0.0 else _NO_LIMIT

    def _drop(self) -> None:
        if len(self._episodes) <= self._most + self._most // 10:
            return
        order = sorted(self._episodes.values(), key=lambda one: (one.open, one.end))
        for one in order[: len(self._episodes) - self._most]:
            name, series = one.alert.alert_id, one.alert.series_id
            del self._episodes[name]
            del self._by_series[series][name]
            if not self._by_series[series]:
                del self._by_series[series]
            self.dropped += 1


def rank(episode: Episode) -> tuple[bool, bool, float]:
    """What sorts episodes, the gravest highest: open, then critical, then far over the budget."""
    over = -1.0 if episode.over is None else episode.over
    return episode.open, episode.alert.severity == "critical", over


def incidents(
    episodes: Iterable[Episode], asset_of: Callable[[Alert], str], join: int, now: int
) -> list[Incident]:
    """Episodes by asset and time, the gravest first; of equal ones the newest.

    Those of an asset with less than `join` ns between them are one; an open one lasts until `now`.
    """
    by_asset: dict[str, list[Episode]] = {}
    for one in episodes:
        by_asset.setdefault(asset_of(one.alert), []).append(one)
    found: list[Incident] = []
    for asset, members in by_asset.items():
        members.sort(key=lambda one: one.onset)
        part: list[Episode] = []
        until = 0
        for one in members:
            if part and one.onset > until + join:
                found.append(_incident(asset, part))
                part = []
            end = max(now, one.end) if one.open else one.end
            until = end if not part else max(until, end)
            part.append(one)
        found.append(_incident(asset, part))
    return sorted(found, key=_incident_rank, reverse=True)


def _incident(asset: str, episodes: list[Episode]) -> Incident:
    order = sorted(episodes, key=lambda one: (*rank(one), one.onset), reverse=True)
    return Incident(asset, tuple(order))


def _incident_rank(one: Incident) -> tuple[bool, int, bool, float, int]:
    """Open ones by how grave they are; what is over by when it was."""
    first = one.episodes[0]
    is_open, critical, over = rank(first)
    newest = max(each.onset for each in one.episodes)
    return (
        (True, -int(first.verdict is not None), critical, over, newest)
        if is_open
        else (False, 0, False, 0.0, newest)
    )
