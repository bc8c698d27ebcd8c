"""How fast a series leaves its profile, against how fast it does so at this time of day.

The rise is a running mean over QUICK readings of the deviation from the profile less one over SLOW,
no more than the first: what a slow event does for hours. A series may do as much at the turns of
its day, where the profile is never quite in time; so the rise is measured in its usual size, or in
that of this half hour over the last days where it is larger.
"""

from __future__ import annotations

from typing import NamedTuple

from titans_stream.detection.normal import (
    BINS,
    DAYS_KEPT,
    LEARNED,
    Moment,
    between,
    near_bin,
)
from titans_stream.detection.watch_state import Series, Watch
from titans_stream.jit import njit

QUICK = 16.0
SLOW = 96.0
FIRST = 2.0 * SLOW
"""Readings with a profile before which a rise is none."""
COUNTED = 3_000.0
"""Readings that the usual size counts for."""
BOUND = 8.0
"""A reading adds at most so many usual sizes to it, ..."""
LARGEST = 20.0
"""... and a rise is at most as many."""

LARGEST_KNOWN = 1e38
"""What a half hour keeps has single precision."""


class Rise(NamedTuple):
    """Of a reading: the mean deviation and the rise, both with it, and their unit, 0: none yet."""

    mean: float
    size: float
    unit: float


@njit(inner=True)
def look(series: Series, moment: Moment, off: float) -> Rise:
    """The rise with a reading that is `off` its profile, which is known."""
    watch = series.watch
    mean = watch.rise_quick + (off - watch.rise_quick) / QUICK
    size = mean - watch.rise_slow - (off - watch.rise_slow) / SLOW
    # the way back to the profile is no rise
    size = min(max(mean, 0.0), max(size, 0.0)) + max(min(mean, 0.0), min(size, 0.0))
    unit = 0.0
    if watch.rise_seen >= FIRST and series.rises[moment.day, moment.bin, 1] >= LEARNED:
        here = float(series.rises[moment.day, moment.bin, 0])
        near = near_bin(moment)
        if series.rises[moment.day, near, 1] >= LEARNED:
            # what rises at the edge of a half hour is the next one's, too
            there = float(series.rises[moment.day, near, 0])
            here = max(here, between(moment, here, there))
        unit = max(watch.rise_usual, here)
    return Rise(mean, size, unit)


@njit(inner=True)
def day_of(watch: Watch, before: Moment) -> int:
    """The kind of day of the reading before: as it was taken in, as a special day is a Sunday to
    its own readings alone."""
    at = int(watch.rise_bin) - 1
    return at // BINS if at >= 0 and at % BINS == before.bin else before.day


@njit(inner=True)
def scaled(rise: Rise) -> float:
    """In its unit; 0 without one."""
    if rise.unit == 0.0:
        return 0.0
    near: float = min(LARGEST, max(-LARGEST, rise.size / rise.unit))
    return near


@njit(inner=True)
def learn(series: Series, moment: Moment, off: float, rise: Rise, event: bool) -> None:
    """Take the reading in; `event`: no half hour learns from it."""
    watch = series.watch
    here = float(moment.day * BINS + moment.bin + 1)
    if watch.rise_bin != here:
        if watch.rise_bin > 0.0 and watch.rise_count > 0.0:
            known = series.rises[
                (int(watch.rise_bin) - 1) // BINS, (int(watch.rise_bin) - 1) % BINS
            ]
            days = min(float(known[1]) + 1.0, DAYS_KEPT)
            here_usual = min(watch.rise_sum / watch.rise_count, LARGEST_KNOWN)
            known[0] += (here_usual - float(known[0])) / days
            known[1] = days
        watch.rise_bin = here
        watch.rise_sum = 0.0
        watch.rise_count = 0.0
    watch.rise_quick = rise.mean
    watch.rise_slow += (off - watch.rise_slow) / SLOW
    watch.rise_seen = min(watch.rise_seen + 1.0, FIRST + COUNTED)
    if watch.rise_seen <= FIRST:
        return
    size = abs(rise.size)
    if watch.rise_usual > 0.0:
        size = min(size, BOUND * watch.rise_usual)
    watch.rise_usual += (size - watch.rise_usual) / (watch.rise_seen - FIRST)
    if not event:
        watch.rise_sum += size
        watch.rise_count += 1.0


@njit(inner=True)
def forget(series: Series) -> None:
    """Begin anew, with the profile."""
    watch = series.watch
    watch.rise_quick = 0.0
    watch.rise_slow = 0.0
    watch.rise_seen = 0.0
    watch.rise_usual = 0.0
    watch.rise_bin = 0.0
    series.rises[:] = 0.0
