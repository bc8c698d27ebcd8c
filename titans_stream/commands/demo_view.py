"""What the demo has heard back from the output topics, and how it is shown."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from titans_stream.commands.outputs import say
from titans_stream.printable import printable
from titans_stream.records import Scores, Status

HISTORY = 40
"""Scores kept per series, for the sparkline."""
RATE_SECONDS = 1.0
"""Time that messages a second are counted over."""
_BARS = "▁▂▃▄▅▆▇█"
_MOST_SERIES = 8
_MOST_ALERTS = 6
_PLAIN_SECONDS = 5.0


@dataclass
class SeriesState:
    """The latest of one series; NaN where nothing is known."""

    value: float = math.nan
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
    """All that came back of one connector, whose input topic has one partition.

    `messages` is the number of its messages that were scored, `fastest` the most readings a
    second.
    """

    series: dict[str, SeriesState] = field(default_factory=dict)
    alerts: dict[str, AlertState] = field(default_factory=dict)
    readings: int = 0
    messages: int = 0
    arrivals: deque[tuple[float, int]] = field(default_factory=deque)
    fastest: float = 0.0

    @property
    def open_alerts(self) -> int:
        """Episodes that are not resolved."""
        return sum(alert.message["status"] != "resolved" for alert in self.alerts.values())

    def rate(self, now: float) -> float:
        """Readings a second over the last RATE_SECONDS; `now` is monotonic."""
        while self.arrivals and self.arrivals[0][0] < now - RATE_SECONDS:
            self.arrivals.popleft()
        rate = sum(count for _, count in self.arrivals) / RATE_SECONDS
        self.fastest = max(self.fastest, rate)
        return rate


class DemoState:
    """The state of both streams, by their input topic. Hold `lock` while using it.

    One thread writes, another one reads.
    """

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
                    series.value, series.score = float(scores.value[i]), float(scores.score[i])
                    series.lower, series.upper = float(scores.lower[i]), float(scores.upper[i])
                    series.alert = bool(scores.alert[i])
                    series.recent.append(series.score)
            stream.readings += len(scores)
            stream.arrivals.append((now, len(scores)))
            stream.rate(now)
            stream.messages = max(stream.messages, int(scores.offset.max(initial=-1)) + 1)

    def add_alert(self, message: Mapping[str, Any]) -> None:
        """Take an alert message."""
        stream = self.streams[message["source"]["topic"]]
        with self.lock:
            known = stream.alerts.get(message["alert_id"])
            if known is None:
                known = stream.alerts[message["alert_id"]] = AlertState(message, time.time())
                self.new_alerts.append(known)
            known.message = message


@dataclass(frozen=True, slots=True)
class Progress:
    """What is shown beside the streams: seconds since the start, the phase, the lags by topic."""

    seconds: float
    phase: str
    lags: dict[str, int]


Show = Callable[[Progress], None]
"""Brings a view up to date; to be called a few times a second."""


@contextmanager
def plain_view(state: DemoState) -> Iterator[Show]:
    """Lines: each alert as it comes, each phase, and how things are every few seconds."""
    shown, due = "", 0.0

    def show(progress: Progress) -> None:
        nonlocal shown, due
        with state.lock:
            lines = [alert_line(alert) for alert in state.new_alerts]
            state.new_alerts.clear()
            phase = progress.phase.partition(":")[0]
            if phase != shown or progress.seconds >= due:
                shown, due = phase, progress.seconds + _PLAIN_SECONDS
                lines.append(progress.phase)
                lines += [
                    "  " + _stream_line(topic, stream, progress) + _first_series(stream)
                    for topic, stream in state.streams.items()
                ]
        for line in lines:
            say(f"{progress.seconds:6.1f} s  {line}")

    yield show


@contextmanager
def live_view(state: DemoState) -> Iterator[Show]:
    """A screen that is drawn anew each time."""
    with Live(console=Console(), screen=True, auto_refresh=False) as live:

        def show(progress: Progress) -> None:
            with state.lock:
                state.new_alerts.clear()
                drawn = draw(state, progress)
            live.update(drawn, refresh=True)

        yield show


def draw(state: DemoState, progress: Progress) -> Group:
    """The screen: a header, the first stream's series, the latest alerts, the other streams."""
    header = Text.assemble(
        ("titans-stream demo", "bold"),
        f"   {progress.seconds:.0f} s   ",
        (progress.phase, "bold yellow"),
        "   Ctrl-C ends it",
    )
    live, *others = (_table(topic, one, progress) for topic, one in state.streams.items())
    return Group(header, live, _alerts(state), *others)


def _table(topic: str, stream: StreamState, progress: Progress) -> Table:
    table = Table(
        title=Text(printable(_stream_line(topic, stream, progress))),
        title_justify="left",
        title_style="bold",
        expand=True,
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("series", no_wrap=True)
    for name in ("last value", "expected (95 %)", "score"):
        table.add_column(name, justify="right")
    table.add_column("scores so far", no_wrap=True)
    table.add_column("alert")
    for name, series in list(stream.series.items())[:_MOST_SERIES]:
        table.add_row(
            Text(printable(name)),
            _number(series.value),
            _band(series),
            "" if math.isnan(series.score) else f"{series.score:.3f}",
            sparkline(series.recent),
            Text("open", "bold red") if series.alert else "",
        )
    more = len(stream.series) - _MOST_SERIES
    if more > 0:
        table.add_row(f"and {more} more")
    return table


def _alerts(state: DemoState) -> Panel:
    alerts = [alert for stream in state.streams.values() for alert in stream.alerts.values()]
    latest = sorted(alerts, key=lambda alert: alert.first_seen)[-_MOST_ALERTS:]
    lines = [
        Text(
            printable(alert_line(alert)),
            "bold red" if alert.message["status"] != "resolved" else "",
            no_wrap=True,
            overflow="ellipsis",
        )
        for alert in reversed(latest)
    ]
    title = "alerts, read back from their topics"
    return Panel(Group(*lines) if lines else Text("none so far", "dim"), title=title)


def alert_line(alert: AlertState) -> str:
    """An alert in a line."""
    message = alert.message
    clock = time.strftime("%H:%M:%S", time.localtime(alert.first_seen))
    return (
        f"{clock} {message['severity'].upper()} {message['series_id']} "
        f"({message['status']}): {message['explanation']}"
    )


def _stream_line(topic: str, stream: StreamState, progress: Progress) -> str:
    return (
        f"{topic}: {stream.rate(time.monotonic()):,.0f} readings/s, lag "
        f"{progress.lags[topic]:,} messages, {stream.readings:,} readings, "
        f"{stream.open_alerts} open alerts"
    )


def _first_series(stream: StreamState) -> str:
    for name, series in stream.series.items():
        return f"; {name} {_number(series.value)}, expected {_band(series)}"
    return ""


def _band(series: SeriesState) -> str:
    if math.isnan(series.lower):
        return "learning"
    return f"{_number(series.lower)} to {_number(series.upper)}"


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4g}"


def sparkline(scores: Iterable[float]) -> str:
    """Scores in [0, 1) as bars; a dot where there is none yet."""
    return "".join(
        "·" if math.isnan(score) else _BARS[min(int(score * len(_BARS)), len(_BARS) - 1)]
        for score in scores
    )
