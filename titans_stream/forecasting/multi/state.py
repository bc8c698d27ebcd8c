"""What the kernels of the multi-step forecaster pass on: state, weights, readings and results."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from titans_stream.forecasting.intervals.state import ANCHORS, Intervals
from titans_stream.forecasting.mal.residual import Residual, ResidualWeights
from titans_stream.forecasting.multi import layout
from titans_stream.forecasting.multi.series import Series, Shared, View, new_view
from titans_stream.forecasting.multi.values import Limits
from titans_stream.forecasting.period.state import Finder
from titans_stream.jit import njit, scratch
from titans_stream.records import Float64, Int64, Records


class State(NamedTuple):
    """One series' state; the arrays of all series have their slot as first axis."""

    series: Series
    finder: Finder
    intervals: Intervals
    residual: Residual


class Model(NamedTuple):
    """What all series share."""

    shared: Shared
    slow: ResidualWeights
    levels: Records
    """[Q] the intervals' level table."""
    fixed: float
    """The period in readings; 0: it is to be found."""
    limits: Limits
    counters: bool
    """Whether counters are forecast by their changes."""


class Batch(NamedTuple):
    """N readings in order, as `MultiStepForecaster.run` has them."""

    slots: Int64
    values: Float64
    seconds: Float64
    interval: Float64
    timestamps: Int64
    steps: Int64
    ahead: Int64
    """[most of `steps`] 1, 2, 3, ..."""
    shifts: Float64
    """[S] ticks by which clocks will have been changed until each step of each forecast."""


class Written(NamedTuple):
    """Where M forecasts of S steps in all are written, one after another."""

    median: Float64
    """[S]"""
    quantiles: Float64
    """[Q, S]"""
    spreads: Float64
    """[S] of the steps' phases."""
    periods: Float64
    """[M, 2] the period and the longer cycle in readings, NaN: none."""


class Work(NamedTuple):
    """Scratch space for any series."""

    read: View
    x: Float64
    """[FEATURES]"""
    steps: Int64
    """[ANCHORS] of the forecasts that the intervals learn from: steps, anchors and medians."""
    which: Int64
    medians: Float64
    unshifted: Float64
    """[ANCHORS] of zeros."""
    spreads: Float64
    """[ANCHORS]"""


_x = scratch(layout.FEATURES)
_steps = scratch(ANCHORS, np.int64)
_which = scratch(ANCHORS, np.int64)
_medians = scratch(ANCHORS)
_unshifted = scratch(ANCHORS)
_spreads = scratch(ANCHORS)


@njit(inline="always")
def new_work() -> Work:
    """Scratch space for any series."""
    unshifted = _unshifted()
    for k in range(ANCHORS):
        unshifted[k] = 0.0
    return Work(new_view(), _x(), _steps(), _which(), _medians(), unshifted, _spreads())


@njit(inline="always")
def state_of(states: Any, k: int) -> State:
    """The state of the series in slot k, from that of all (`State` of arrays)."""
    s, f, i, r = states.series, states.finder, states.intervals, states.residual
    return State(
        Series(
            s.meta[k], s.memory[k], s.twins[k], s.visits[k], s.ring[k], s.lasts[k], s.sums[k],
            s.own[k], s.kept[k], s.gate[k], s.samples[k], s.longer[k], s.longer_sums[k],
            s.longer_own[k], s.values[k], s.rest[k], s.spreads[k], s.floors[k], s.counter[k],
            s.carry[k],
        ),
        Finder(f.fine[k], f.middle[k], f.coarse[k], f.meta[k]),
        Intervals(i.meta[k], i.histograms[k], i.pending[k]),
        Residual(
            r.memory[k], r.tail[k], r.window[k], r.meta[k], r.head[k], r.gate[k], r.pending[k]
        ),
    )  # fmt: skip
