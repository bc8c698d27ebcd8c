"""Forecast intervals from a series' own past forecast errors: their state.

At eight anchor steps, from one reading to 30 periods ahead, the forecasts of every r-th reading
are kept until their reading comes. The size of the error, in units of how large errors have been
lately, goes into a histogram that forgets; a quantile of the histogram times the present unit is
half the width of an interval. `kernels.py` learns and `widths.py` reads, series by series;
docs/forecasting.md explains and measures it.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np

from titans_stream.memory.rows import ArraySpec, Record
from titans_stream.records import Float32, Float64

ANCHORS = 8
WAITING = 32
"""Forecasts of an anchor that wait for their reading, at most."""
BINS = 64


class MeanError(Record):
    """Mean errors at one number of steps ahead."""

    fast: float
    slow: float
    mass: float
    """Errors so far, weighted."""
    before: Annotated[Float64, 2]
    """The last two errors."""


class Meta(Record):
    """Where one series' intervals are, and in what unit errors are measured."""

    clock: float
    """Readings so far, missing ones included."""
    period: float
    """The period that the anchors are made for, 0: none."""
    last: float
    """Last reading, how many were equal to it in a row, and whether there ever was a change."""
    run: float
    changed: float
    one_period: MeanError
    one_step: MeanError
    stale: float
    """What intervals are wider by after a flat run, in octaves."""
    fast_gain: float
    """Gains of the four mean errors."""
    slow_gain: float
    one_step_fast_gain: float
    one_step_slow_gain: float
    step: Annotated[Float64, ANCHORS]
    """Steps of the anchors; all 0 before the first reading."""
    stride: Annotated[Float64, ANCHORS]
    """Readings between two kept forecasts."""
    unit: Annotated[Float64, ANCHORS]
    """What an error counts now in the anchor's histogram, and by what share that grows."""
    decay: Annotated[Float64, ANCHORS]


class Intervals(NamedTuple):
    """One series' state; the arrays of all series have their slot as first axis."""

    meta: Meta
    histograms: Float32
    """[ANCHORS, BINS] of the errors in their unit."""
    pending: Float64
    """[ANCHORS, WAITING] kept forecasts; NaN: none."""


def state_layout() -> dict[str, ArraySpec]:
    """The arrays of the intervals' state, by name; every one starts at zero."""
    return {
        "interval_state": ArraySpec.of(Meta),
        "interval_histograms": ArraySpec((ANCHORS, BINS), np.float32),
        "interval_pending": ArraySpec((ANCHORS, WAITING), np.float64),
    }
