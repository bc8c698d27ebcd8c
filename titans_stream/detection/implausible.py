"""Is a reading beyond anything plausible: its deviation from normal, or its step.

A deviation is held against the largest one so far and against the usual one. So is the error of
the one-step forecast, which sees what a wide swing hides: a jump on a smooth cycle may stay within
the values of every day. Readings like these are counted by their size, in octaves.
"""

from __future__ import annotations

import math

from titans_stream.detection.normal import Reference
from titans_stream.detection.watch_state import SETTLED, SIZES, Found, Series, Watch
from titans_stream.jit import njit

SEEN = 300.0
"""Readings after which what was never seen is implausible."""
DEVIATIONS = 12.0
FEWER = 5.0
MORE = 3.0
"""A reading is implausible beyond TWICE the largest deviation so far and so many standard ones, or
beyond MORE of the largest and FEWER of the standard ones (a bounded series has no tail). A step is
beyond MORE of the largest error and DEVIATIONS."""
TAIL = 6.0
"""A series whose largest deviation was so many standard ones has a tail, in which twice the largest
comes by itself: there it takes 1 + largest / (TAIL standard ones) of the largest, at most MORE."""
PER_ERROR = 1.2533
"""Standard deviations of a normal distribution in a mean absolute one."""
TWICE = 2.0
FIRST = 32.0
"""Readings before the level is known well enough to tell how far others are from it."""
ACCUSTOMED = 15.0
"""Implausible readings of a size, or larger, that make it plausible."""
LASTING = 16.0
"""Implausible readings in a row that are a new regime."""
CONSTANT = 1_000.0
"""Usual deviations of a move by a series that was constant, but for next to nothing."""
LARGEST_DECAY = 1.0 - 1e-5
ERROR_CAP = 1_000.0
"""Readings that the usual error counts for."""
ERROR_BOUND = 8.0
"""A reading adds at most this many usual errors to it."""


@njit(inner=True)
def _octave(watch: Watch, size: float) -> int:
    return min(SIZES - 1, max(0, int(math.floor(math.log2(size))) - int(watch.base)))


@njit(inner=True)
def earlier(watch: Watch, size: float, episode: bool = False) -> float:
    """How many implausible readings about this large, or larger, there were.

    `episode`: not counting those since the last episode began.
    """
    if size <= 0.0:
        return 0.0
    count = 0.0
    for j in range(max(0, _octave(watch, size) - 1), SIZES):
        count += watch.large_before[j] if episode else watch.large[j]
    return count


@njit(inner=True)
def far_off(series: Series, reference: Reference, size: float) -> bool:
    """Whether a deviation of this size is beyond anything plausible."""
    watch = series.watch
    if series.normal.seen < SEEN or size <= 0.0 or watch.large_run >= LASTING:
        return False
    usual = PER_ERROR * reference.scale
    times = TWICE
    if watch.largest > TAIL * usual > 0.0:
        times = min(MORE, 1.0 + watch.largest / (TAIL * usual))
    far = size > DEVIATIONS * usual and size > times * watch.largest
    far = far or (size > FEWER * usual and size > MORE * watch.largest)
    return far and earlier(watch, size) < ACCUSTOMED


@njit(inner=True)
def leaps(watch: Watch, error: float) -> bool:
    """Whether a one-step error of this size is; NaN where there is none."""
    if watch.error_seen < SEEN or watch.error_usual == 0.0:
        return False
    usual = PER_ERROR * watch.error_usual
    return error > DEVIATIONS * usual and error > MORE * watch.error_largest


@njit(inner=True)
def begin(watch: Watch) -> None:
    """An episode opens: what is counted from now on is its own."""
    for j in range(SIZES):
        watch.large_before[j] = watch.large[j]


@njit(inner=True)
def forget(watch: Watch) -> None:
    """Begin anew: the series turned out to be another kind of series."""
    watch.largest = 0.0
    for j in range(SIZES):
        watch.large[j] = 0.0
        watch.large_before[j] = 0.0


@njit(inner=True)
def _learn_error(watch: Watch, error: float, big: bool) -> None:
    """The one-step error's usual and largest size.

    A leap is told once: it counts as the largest. A `big` reading and the way back from it do not.
    """
    if math.isnan(error):
        return
    watch.error_seen += 1.0
    n = min(watch.error_seen, ERROR_CAP)
    size = error
    if n > FIRST and watch.error_usual > 0.0:
        size = min(size, ERROR_BOUND * watch.error_usual)
    watch.error_usual += (size - watch.error_usual) / n
    if not big and watch.large_run == 0.0:
        watch.error_largest = max(LARGEST_DECAY * watch.error_largest, error)


@njit(inner=True)
def learn(series: Series, found: Found, gap: bool) -> None:
    """Plausible sizes, and how often implausible ones came; `gap`: one came before the reading."""
    watch, size = series.watch, found.size
    if not gap and watch.seen >= SETTLED:
        _learn_error(watch, found.error, found.big)
    if not found.big:
        watch.large_run = 0.0
        watch.largest = max(LARGEST_DECAY * watch.largest, size)
        return
    if watch.large_run == 0.0:
        empty = True
        for j in range(SIZES):
            empty = empty and watch.large[j] == 0.0
        if empty:
            watch.base = math.floor(math.log2(size)) - 1.0
        watch.large[_octave(watch, size)] += 1.0
    watch.large_run += 1.0
    if size > CONSTANT * found.reference.scale:  # it moves for the first time but once
        watch.largest = max(watch.largest, size)
