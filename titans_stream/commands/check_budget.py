"""What `check` says of the alert budget: how much history it takes at the topic's pace."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from titans_stream.commands.outputs import note, say
from titans_stream.detection.budget import MOST

if TYPE_CHECKING:
    from titans_stream.stream.inspect import MessageReport

DAY = 86_400.0
REMEMBERED = 50_000
"""Readings whose block maxima a series' tail remembers (`detection.tail.COUNT_DECAY`)."""


def usual_interval(reports: Iterable[MessageReport]) -> float | None:
    """Seconds between a series' readings: the median over series of their medians."""
    times: dict[tuple[str, int, str], list[int]] = {}
    for report in reports:
        readings = report.readings
        for series, time in zip(readings.series, readings.timestamp.tolist(), strict=True):
            key = (report.message.topic, report.message.partition, series)
            times.setdefault(key, []).append(time)
    steps = [np.diff(np.unique(found)) for found in times.values()]
    medians = [float(np.median(each)) for each in steps if len(each)]
    return float(np.median(medians)) / 1e9 if medians else None


def tell(interval: float | None, budget: float) -> None:
    """Say how long thresholds are extrapolated; warn where history never gets that long.

    Warns, too, where more episodes are accepted than can come.
    """
    if interval is None:
        return
    readings = DAY / budget / interval
    pace = f"at a reading in {interval:.3g} s" if interval < 120 else _at_a_reading(interval)
    say(
        f"budget     {pace} {budget:g} false episodes a day are one in {readings:,.0f} readings; "
        f"thresholds are extrapolated for {1.0 / budget:,.3g} days"
    )
    least = 100.0 / MOST
    if readings < least:
        note(
            f"warning: {pace} {budget:g} a day are one in {readings:.3g} readings: so many "
            f"episodes would be one long one, and no more than about one in {least:.0f} readings "
            f"comes, {DAY / interval / least:.2g} a day"
        )
    if readings > REMEMBERED:
        note(
            f"warning: {pace} and {budget:g} a day thresholds are extrapolated for "
            f"{1.0 / budget:,.3g} days, and after that from the last {REMEMBERED:,} readings of a "
            f"series ({REMEMBERED * interval / 3600.0:,.3g} hours): that budget cannot be "
            f"resolved, {DAY / interval / REMEMBERED:.2g} a day can"
        )


def _at_a_reading(interval: float) -> str:
    minutes = interval / 60.0
    return (
        f"at a reading in {minutes:.3g} min"
        if minutes < 120
        else (f"at a reading in {minutes / 60.0:.3g} h")
    )
