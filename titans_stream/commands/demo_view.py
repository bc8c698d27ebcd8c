"""Shows the demo: a live screen, or plain lines."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from titans_stream.commands.demo_state import AlertState, DemoState, SeriesState, StreamState

_BARS = "▁▂▃▄▅▆▇█"
_MOST_SERIES = 8
_MOST_ALERTS = 6
_PLAIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Progress:
    """What is shown beside the streams: seconds since the start, the phase, the lags by topic."""

    seconds: float
    phase: str
    lags: dict[str, int]


class View(Protocol):
    """Shows progress until it is left."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    def show(self, progress: Progress) -> None:
        """Bring the view up to date; to be called a few times a second."""


class PlainView:
    """Lines: each alert as it comes, each phase, and how things are every few seconds."""

    def __init__(self, state: DemoState) -> None:
        self._state = state
        self._phase = ""
        self._due = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def show(self, progress: Progress) -> None:
        """Print what is new."""
        with self._state.lock:
            while self._state.new_alerts:
                self._print(progress, alert_line(self._state.new_alerts.popleft()))
            phase = progress.phase.partition(":")[0]
            if phase != self._phase or progress.seconds >= self._due:
                self._phase, self._due = phase, progress.seconds + _PLAIN_SECONDS
                self._print(progress, progress.phase)
                for topic, stream in self._state.streams.items():
                    self._print(progress, "  " + _stream_line(topic, stream, progress))

    def _print(self, progress: Progress, text: str) -> None:
        sys.stdout.write(f"{progress.seconds:6.1f} s  {text}\n")
        sys.stdout.flush()


class LiveView:
    """A screen that is drawn anew four times a second."""

    def __init__(self, state: DemoState) -> None:
        self._state = state
        self._live = Live(console=Console(), screen=True, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, progress: Progress) -> None:
        """Draw."""
        with self._state.lock:
            self._state.new_alerts.clear()
            drawn = draw(self._state, progress)
        self._live.update(drawn, refresh=True)


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
        title=_stream_line(topic, stream, progress, values=False),
        title_justify="left",
        title_style="bold",
        expand=True,
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("series", no_wrap=True)
    table.add_column("last value", justify="right")
    table.add_column("expected (95 %)", justify="right")
    table.add_column("score", justify="right")
    table.add_column("scores so far", no_wrap=True)
    table.add_column("alert")
    for name, series in list(stream.series.items())[:_MOST_SERIES]:
        table.add_row(
            name,
            _number(series.value),
            _band(series),
            "" if math.isnan(series.score) else f"{series.score:.3f}",
            sparkline(series.recent),
            Text("open", "bold red") if series.alert else "",
        )
    more = len(stream.series) - _MOST_SERIES
    if more > 0:
        table.add_row(f"and {more} more", "", "", "", "", "")
    return table


def _alerts(state: DemoState) -> Panel:
    alerts = [alert for stream in state.streams.values() for alert in stream.alerts.values()]
    latest = sorted(alerts, key=lambda alert: alert.first_seen)[-_MOST_ALERTS:]
    lines = [
        Text(
            alert_line(alert),
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


def _stream_line(topic: str, stream: StreamState, progress: Progress, values: bool = True) -> str:
    text = (
        f"{topic}: {stream.rate(time.monotonic()):,.0f} readings/s, lag "
        f"{progress.lags[topic]:,} messages, {stream.readings:,} readings, "
        f"{stream.open_alerts} open alerts"
    )
    if values and stream.series:
        name, series = next(iter(stream.series.items()))
        text += f"; {name} {_number(series.value)}, expected {_band(series)}"
    return text


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
