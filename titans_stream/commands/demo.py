"""Watch this machine live, with nothing to set up.

An embedded broker, and the real worker on two inputs: metrics of this machine every 100 ms, and a
recorded stream (built-in, or --source FILE.csv) as fast as it is read. After a warm-up of 200
readings the demo burns the cores for a few seconds; the alert that this causes is read back from
the alerts topic.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from titans_stream.commands.csv_arguments import add_csv_arguments, delimiter
from titans_stream.commands.outputs import note, say

if TYPE_CHECKING:
    from collections.abc import Iterable

    from titans_stream.commands.demo_session import DemoSession
    from titans_stream.commands.demo_sources import Message
    from titans_stream.commands.demo_view import Show
    from titans_stream.synthetic import SyntheticSeries

_STEP_SECONDS = 0.25


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--seconds", metavar="N", type=_seconds, help="end after N seconds; default: at Ctrl-C"
    )
    parser.add_argument("--plain", action="store_true", help="print lines instead of a screen")
    parser.add_argument(
        "--no-disturbance", action="store_true", help="leave the cores alone, for comparison"
    )
    parser.add_argument(
        "--source", metavar="FILE.csv", type=Path, help="read this file as the recorded stream"
    )
    add_csv_arguments(parser.add_argument_group("how --source is read"))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise argparse.ArgumentTypeError(f"a number of seconds is needed, not {text!r}")
    return seconds


def run(args: argparse.Namespace) -> int:
    """Run the demo."""
    import logging

    from titans_stream.commands.demo_session import DemoFailedError, DemoSession
    from titans_stream.commands.demo_view import live_view, plain_view
    from titans_stream.commands.signals import terminated_by_signal

    _compile()
    began = time.monotonic()
    logging.getLogger("titans_stream.devbroker.broker").setLevel(logging.ERROR)
    series, recorded = _recorded(args)
    view = plain_view if args.plain or not sys.stdout.isatty() else live_view
    with terminated_by_signal():
        try:
            with DemoSession(recorded, disturb=not args.no_disturbance) as session:
                with view(session.state) as show:
                    _watch(session, show, began, args.seconds)
                _summary(session, series, time.monotonic() - began)
        except DemoFailedError as error:
            note(f"titans-stream demo: {error}")
            return 1
    return 0


def _compile() -> None:
    """Fill the kernels' cache once, instead of in both workers at the same time."""
    from titans_stream.engine.build import compile_kernels
    from titans_stream.jit import cache_is_empty
    from titans_stream.lifecycle.artifacts import base_model

    if cache_is_empty("detection/kernels.py"):
        say("compiling the kernels; this happens once and takes up to a minute")
    compile_kernels(base_model())


def _recorded(
    args: argparse.Namespace,
) -> tuple[list[SyntheticSeries], Iterable[Message]]:
    """The recorded stream's messages; of the built-in one the series too, with their labels."""
    from titans_stream.commands.demo_sources import (
        csv_messages,
        synthetic_messages,
        synthetic_series,
    )

    if args.source is None:
        series = synthetic_series()
        return series, synthetic_messages(series)
    options = (delimiter(args.delimiter), args.timestamp, args.value, args.series, args.timezone)
    return [], csv_messages(args.source, *options)


def _watch(session: DemoSession, show: Show, began: float, seconds: float | None) -> None:
    """Show what happens until the time is over or Ctrl-C."""
    from titans_stream.commands.demo_view import Progress

    try:
        while True:
            elapsed = time.monotonic() - began
            phase = session.step()
            show(Progress(elapsed, phase, session.lags()))
            if seconds is not None and elapsed >= seconds:
                return
            time.sleep(_STEP_SECONDS)
    except KeyboardInterrupt:
        return


def _summary(session: DemoSession, series: list[SyntheticSeries], seconds: float) -> None:
    from titans_stream.commands.demo_session import LIVE, RECORDED
    from titans_stream.commands.demo_sources import anomalies_found

    live, recorded = session.stream(LIVE), session.stream(RECORDED)
    say("")
    say(
        f"{seconds:.0f} s: {live.readings + recorded.readings:,} readings scored "
        f"({live.readings:,} live, {recorded.readings:,} recorded), "
        f"up to {recorded.fastest:,.0f} a second"
    )
    alerts = f"alerts: {len(live.alerts)} live; {len(recorded.alerts)} on the recorded stream"
    if series:
        onsets = [
            (str(alert.message["series_id"]), str(alert.message["onset"]))
            for alert in recorded.alerts.values()
        ]
        injected = sum(len(one.windows) for one in series)
        found = anomalies_found(series, onsets)
        alerts += f", in {found} of its {injected} injected anomalies"
    say(alerts)
    say(_disturbance_line(session))


def _disturbance_line(session: DemoSession) -> str:
    outcome = session.outcome()
    if outcome is None:
        return "disturbance: none was made"
    made = f"disturbance ({session.disturbance.cores} cores busy for 4 s): "
    if outcome.delay is None:
        reason = ", for the cores were busy already" if outcome.busy_before else ""
        return f"{made}not alerted{reason}"
    names = ", ".join(sorted({str(alert.message["series_id"]) for alert in outcome.alerts}))
    return f"{made}alerted on {names}, the alert was read {outcome.delay:.1f} s after its start"
