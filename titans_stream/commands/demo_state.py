"""What the demo has heard back from the output topics; one thread writes, another one reads."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from titans_stream.records import Scores, Status

HISTORY = 40
"""Scores kept per series, for the sparkline."""
RATE_SECONDS = 1.0
"""Time that messages a second are counted over."""


@dataclass
class SeriesState:
    """The latest of one series; NaN where nothing is known."""

    value: float = math.nan
    expected: float = math.nan
    lower: float = math.nan
    upper: float = math.nan
    score: float = math.nan
    alert: bool = False
    readings: int = 0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))


@dataclass
class AlertState:
    """An episode: its latest message, and when its first one was read (seconds since 1970)."""

    message: Mapping[str, Any]
    first_seen: float


@dataclass
class StreamState:
    """All that came back of one connector."""

    series: dict[str, SeriesState] = field(default_factory=dict)
    alerts: dict[str, AlertState] = field(default_factory=dict)
    readings: int = 0
    next_offset: dict[int, int] = field(default_factory=dict)
    """By partition of the input: the offset after the last one that was scored."""
    arrivals: deque[tuple[float, int]] = field(default_factory=deque)
    fastest: float = 0.0

    @property
    def open_alerts(self) -> int:
        """Episodes that are not resolved."""
        return sum(alert.message["status"] != "resolved" for alert in self.alerts.values())

    @property
    def messages(self) -> int:
        """Messages of the input that were scored."""
        return sum(self.next_offset.values())

    def rate(self, now: float) -> float:
        """Readings a second over the last RATE_SECONDS; `now` is monotonic."""
        while self.arrivals and self.arrivals[0][0] < now - RATE_SECONDS:
            self.arrivals.popleft()
        rate = sum(count for _, count in self.arrivals) / RATE_SECONDS
        self.fastest = max(self.fastest, rate)
        return rate


class DemoState:
    """The state of both streams, by their input topic. Hold `lock` while using it."""

    def __init__(self, topics: tuple[str, ...]) -> None:
        self.lock = threading.Lock()
        self.streams = {topic: StreamState() for topic in topics}
        self.new_alerts: deque[AlertState] = deque()
        """Episodes that nobody has shown yet."""

    def add_scores(self, topic: str, scores: Scores) -> None:
        """Take a frame of scores of an input topic."""
        stream = self.streams[topic]
        now = time.monotonic()
        with self.lock:
            for i, name in enumerate(scores.series):
                series = stream.series.setdefault(name, SeriesState())
                series.readings += 1
                if scores.status[i] in (Status.SCORED, Status.WARMING_UP):
                    series.value = float(scores.value[i])
                    series.expected = float(scores.expected[i])
                    series.lower = float(scores.lower[i])
                    series.upper = float(scores.upper[i])
                    series.score = float(scores.score[i])
                    series.alert = bool(scores.alert[i])
                    series.recent.append(series.score)
            stream.readings += len(scores)
            stream.arrivals.append((now, len(scores)))
            stream.rate(now)
            if len(scores):
                partition = int(scores.partition[0])
                after = int(scores.offset.max()) + 1
                stream.next_offset[partition] = max(after, stream.next_offset.get(partition, 0))

    def add_alert(self, message: Mapping[str, Any]) -> None:
        """Take an alert message."""
        stream = self.streams[message["source"]["topic"]]
        with self.lock:
            known = stream.alerts.get(message["alert_id"])
            if known is None:
                known = stream.alerts[message["alert_id"]] = AlertState(message, time.time())
                self.new_alerts.append(known)
            known.message = message
