"""Forecast intervals of one series at a time, compiled by numba.

For every position of the stream: `observe` its reading, then `remember` the median forecasts that
`due` asks for; `widths.quantiles` whenever a forecast is published. Errors are measured
in a unit that moves with the series: the slow mean of the errors one step (near anchors) or one
period ahead, times powers of how far the fast means are from the slow ones.
"""

from __future__ import annotations

import math

import numpy as np

from titans_stream.forecasting.intervals.state import (
    ANCHORS,
    BINS,
    WAITING,
    Intervals,
    MeanError,
    Meta,
)
from titans_stream.jit import ASSOCIATIVE, njit, scratch
from titans_stream.records import Float32, Float64

PERIOD_ANCHOR = 3
"""The anchor at one period, whose errors set the unit."""
PERIOD_STEPS = (1.0, 4.0, 8.0, 14.0, 30.0)
"""Steps of the anchors from `PERIOD_ANCHOR` on, in periods."""
NO_PERIOD = 24
"""Readings taken for a period where none is known; shorter periods count in multiples near it."""
BIN_ORIGIN = -8.0
BINS_PER_OCTAVE = 4.0
NEARNESS = (1.0, 0.75, 0.45, 0.0, 0.0, 0.0, 0.0, 0.0)
"""Share of the slow mean of one-step errors in an anchor's unit, as a power; the rest is that of
the errors one period ahead."""
SPREAD_POWERS = (0.55, 0.55, 0.55, 0.55, 0.4, 0.35, 0.3, 0.25)
ONE_STEP_POWER = 0.35
"""Powers in an anchor's unit of the fast over the slow mean error, one period and one step
ahead."""
HALF_LIFE_PERIODS = (15.0, 15.0, 18.0, 30.0, 45.0, 80.0, 140.0, 300.0)
"""Half-lives of the histograms."""
FAST_PERIODS = 10.0
SLOW_PERIODS = 200.0
ONE_STEP_PERIODS = 0.3
"""Half-lives of the mean errors: fast, slow, and fast at one step."""
EARLY = 2.0
"""Of n errors so far the last one counts EARLY / n, so that a forecaster's first steps fade."""
BIRTH = 8.0
"""Errors one period ahead before they set the unit; until then it is the series' deviation."""
ERROR_BOUND = 20.0
ESCAPE_BOUND = 1_000.0
"""Largest error, in mean errors, of a lone outlier and of the third of a run of outliers."""
LEAST_RATIO = 0.05
LEAST_UNIT = 2e-3
"""Least fast over slow mean error; least unit in deviations of the series."""
FLAT_RUN = 12.0
FLAT_WEIGHT = 0.25
LONG_PERIODS = 7.0
LONG_WEIGHT = 0.03
"""From so many equal readings on, each counts as so much of a reading; from so many periods of
them on, as less."""
STALE_OCTAVES = 1.0
STALE_DECAY = 0.99
"""After a long flat run forecasts and intervals have half forgotten the course before it: intervals
are wider by so much, less with every reading."""
GROWTH = 0.25
GROWTH_NO_PERIOD = 0.5
"""Power of the step by which errors are taken to grow where an anchor has seen few."""
KEPT_STEPS = 5.0
KEPT_READINGS = 20.0
"""Mass that a histogram keeps, at most, when the period changes."""
UNIT_LIMIT = 1e6

_moved = scratch(BINS)
_before, _after, _units = scratch(ANCHORS), scratch(ANCHORS), scratch(ANCHORS)
_steps, _old_steps, _old_strides = scratch(ANCHORS), scratch(ANCHORS), scratch(ANCHORS)
_old_histograms = scratch((ANCHORS, BINS), np.float32)


@njit()
def anchors(period: float, out: Float64) -> int:
    """Write the anchor steps, increasing, to out [ANCHORS]; returns the period they are made for.

    `period` is in readings, 0 where none is known. For 24: 1, 3, 6, 24, 96, 192, 336, 720.
    """
    p = NO_PERIOD
    if period >= 1.5:
        p = int(round(period))
        p *= max(1, int(round(NO_PERIOD / p)))
    out[0] = 1.0
    out[1] = math.ceil(math.sqrt(p / 4.0))
    out[2] = round(p / 4.0)
    for i in range(PERIOD_ANCHOR, ANCHORS):
        out[i] = PERIOD_STEPS[i - PERIOD_ANCHOR] * p
    for i in range(1, ANCHORS):
        out[i] = max(out[i], out[i - 1] + 1.0)
    return p


@njit(inner=True)
def _stride(step: int, period: int) -> int:
    """Readings between two kept forecasts: few enough to be kept, and prime to the period, so
    that every phase gets its turn."""
    stride = (step + WAITING - 1) // WAITING
    while stride > 1:
        a, b = stride, period
        while b > 0:
            a, b = b, a % b
        if a == 1:
            break
        stride += 1
    return stride


@njit(inner=True)
def _shift(histogram: Float32, bins: int) -> None:
    """Move a histogram [BINS] up by `bins` in place; what leaves stays in the last bin."""
    moved = _moved()
    for b in range(BINS):
        moved[b] = 0.0
    for b in range(BINS):
        moved[min(max(b + bins, 0), BINS - 1)] += histogram[b]
    for b in range(BINS):
        histogram[b] = moved[b]


@njit(inner=True, fastmath=ASSOCIATIVE)
def total(histogram: Float32) -> float:
    """Mass of a histogram [BINS]."""
    mass: float = 0.0
    for b in range(BINS):
        mass += histogram[b]
    return mass


@njit()
def log_units(meta: Meta, sd: float, out: Float64) -> None:
    """log2 of the unit of errors at every anchor; out [ANCHORS]."""
    one_step = max(meta.one_step.slow, LEAST_UNIT * sd)
    ratio = max(meta.one_step.fast / one_step, LEAST_RATIO)
    common = ONE_STEP_POWER * math.log2(ratio) if meta.one_step.mass >= BIRTH else 0.0
    if meta.one_period.mass < BIRTH:
        out[:] = common + math.log2(sd)
        return
    slow = max(meta.one_period.slow, LEAST_UNIT * sd)
    spread = math.log2(max(meta.one_period.fast / slow, LEAST_RATIO))
    common += math.log2(slow)
    near = math.log2(one_step / slow)
    for i in range(ANCHORS):
        out[i] = common + SPREAD_POWERS[i] * spread + NEARNESS[i] * near


@njit(inner=True)
def _change_unit(intervals: Intervals, sd: float, born: bool) -> None:
    """From the deviation as the unit to the mean errors (born) or back, in place; widths stay."""
    meta = intervals.meta
    before, after = _before(), _after()
    mass = meta.one_period.mass
    log_units(meta, sd, after)
    meta.one_period.mass = 0.0
    log_units(meta, sd, before)
    meta.one_period.mass = mass
    for i in range(ANCHORS):
        octaves = before[i] - after[i] if born else after[i] - before[i]
        _shift(intervals.histograms[i], round(BINS_PER_OCTAVE * octaves))


@njit(inner=True)
def _set_pace(meta: Meta, steps: Float64, p: int) -> None:
    """Anchor steps and what follows from them and the period p: strides, decays and gains."""
    for i in range(ANCHORS):
        stride = _stride(int(steps[i]), p)
        meta.step[i] = steps[i]
        meta.stride[i] = stride
        meta.decay[i] = math.exp2(stride / (HALF_LIFE_PERIODS[i] * p)) - 1.0
    stride = int(meta.stride[PERIOD_ANCHOR])
    meta.fast_gain = 1.0 - math.exp2(-stride / (FAST_PERIODS * p))
    meta.slow_gain = 1.0 - math.exp2(-stride / (SLOW_PERIODS * p))
    meta.one_step_fast_gain = 1.0 - math.exp2(-1.0 / (ONE_STEP_PERIODS * p))
    meta.one_step_slow_gain = 1.0 - math.exp2(-1.0 / (SLOW_PERIODS * p))


@njit(inner=True)
def _retime(intervals: Intervals, sd: float, period: float) -> None:
    """Move the anchors to a new period, in place.

    A histogram begins as that of the nearest old anchor, with the deviation as the unit and with
    little mass, so that widths stay and new errors soon count more.
    """
    meta, histograms = intervals.meta, intervals.histograms
    steps = _steps()
    p = anchors(period, steps)
    old_steps, old_strides = _old_steps(), _old_strides()
    for i in range(ANCHORS):
        old_steps[i] = meta.step[i]
        old_strides[i] = meta.stride[i]
    if meta.one_period.mass >= BIRTH:
        _change_unit(intervals, sd, False)
    meta.one_period.mass = 0.0
    meta.period = period
    _set_pace(meta, steps, p)
    intervals.pending[:] = math.nan
    if old_steps[0] > 0.0:
        old = _old_histograms()
        for i in range(ANCHORS):
            for b in range(BINS):
                histograms[i, b] /= meta.unit[i]
                old[i, b] = histograms[i, b]
        for i in range(ANCHORS):
            near, least = 0, math.inf
            for j in range(ANCHORS):
                off = abs(math.log(old_steps[j] / steps[i]))
                if off < least:
                    near, least = j, off
            _begin_with(
                histograms[i], old[near], old_strides[near], old_steps[near], steps[i],
                meta.stride[i], period,
            )  # fmt: skip
    for i in range(ANCHORS):
        meta.unit[i] = 1.0


@njit(inner=True)
def _begin_with(
    histogram: Float32, old: Float32, old_stride: float, old_step: float, step: float,
    stride: float, period: float,
) -> None:  # fmt: skip
    """Fill the histogram of an anchor from that of another step, in unit 1."""
    counts = total(old)
    readings = min(counts * old_stride, KEPT_STEPS * step + KEPT_READINGS)
    factor = readings / stride / counts if counts > 0.0 else 0.0
    for b in range(BINS):
        histogram[b] = factor * old[b]
    growth = GROWTH if period > 0.0 else GROWTH_NO_PERIOD
    _shift(histogram, round(BINS_PER_OCTAVE * growth * math.log2(step / old_step)))


@njit(inner=True)
def _take_error(
    mean: MeanError, error: float, sd: float, weight: float, fast_gain: float, slow_gain: float
) -> None:
    """Take one error into the mean errors of its step."""
    bound = ERROR_BOUND * sd
    if mean.mass >= BIRTH:
        known = max(mean.fast, LEAST_RATIO * mean.slow, LEAST_UNIT * sd)
        run = min(mean.before[0], mean.before[1])
        bound = min(max(run, ERROR_BOUND * known), ESCAPE_BOUND * known)
    bounded = min(error, bound)
    mean.mass += weight
    first = min(weight * EARLY / mean.mass, 1.0)
    mean.fast += max(weight * fast_gain, first) * (bounded - mean.fast)
    mean.slow += max(weight * slow_gain, first) * (bounded - mean.slow)
    mean.before[1] = mean.before[0]
    mean.before[0] = error


@njit(inner=True)
def _count(meta: Meta, histogram: Float32, error: float, unit_log: float, i: int, w: float) -> None:
    """Take one error of anchor i into its histogram with weight w."""
    position = 0.0
    if error > 0.0:
        position = (math.log2(error) - unit_log - BIN_ORIGIN) * BINS_PER_OCTAVE
    bin_ = int(min(max(position, 0.0), BINS - 1.0))
    unit = meta.unit[i] * (1.0 + w * meta.decay[i])
    if unit > UNIT_LIMIT:
        for b in range(BINS):
            histogram[b] /= unit
        unit = 1.0
    meta.unit[i] = unit
    histogram[bin_] += w * unit


@njit(inner=True)
def _weight(meta: Meta, value: float) -> float:
    """What a reading's errors count: little in a flat run, nothing before the first change."""
    if meta.changed == 0.0:
        if meta.run > 0.0 and value != meta.last:
            meta.changed = 1.0
            meta.run = 0.0
        meta.run += 1.0
        meta.last = value
        changed: float = meta.changed
        return changed
    if value == meta.last:
        meta.run += 1.0
    else:
        if meta.run > LONG_PERIODS * meta.step[PERIOD_ANCHOR]:
            meta.stale = STALE_OCTAVES
        meta.run = 0.0
    meta.stale *= STALE_DECAY
    meta.last = value
    if meta.run < FLAT_RUN:
        return 1.0
    return FLAT_WEIGHT if meta.run < LONG_PERIODS * meta.step[PERIOD_ANCHOR] else LONG_WEIGHT


@njit()
def observe(
    intervals: Intervals, value: float, sd: float, period: float, spread: float = 1.0
) -> float:
    """One position of the stream: learn from the forecasts whose reading this is.

    value: NaN where the reading is missing. sd: the series' deviation, above 0. period: in
    readings, 0 where none is known; a new one moves the anchors. spread: what errors of this phase
    are beside those of others; nothing is learned where it is 0. Returns the size of the error one
    period ahead, NaN where there is none.
    """
    meta, pending = intervals.meta, intervals.pending
    if meta.step[0] == 0.0 or meta.period != period:
        _retime(intervals, sd, period)
    clock = int(meta.clock)
    present = math.isfinite(value)
    weight = _weight(meta, value) if present else 0.0
    if spread <= 0.0:
        weight, spread = 0.0, 1.0
    units = _units()
    log_units(meta, sd, units)
    one_step = math.nan
    one_period = math.nan
    for i in range(ANCHORS):
        step, stride = int(meta.step[i]), int(meta.stride[i])
        origin = clock - step
        if stride == 1:
            place, matured, begins = clock % step, origin >= 0, True
        else:
            matured, begins = origin >= 0 and origin % stride == 0, clock % stride == 0
            if not (matured or begins):
                continue
            kept = (step + stride - 1) // stride
            place = ((origin if matured else clock) // stride) % kept
        if weight > 0.0 and matured:
            error = abs(value - pending[i, place]) / spread
            if not math.isnan(error):
                _count(meta, intervals.histograms[i], error, units[i], i, weight)
                if i == 0:
                    one_step = error
                elif i == PERIOD_ANCHOR:
                    one_period = error
        if begins:
            if stride > 1:
                place = (clock // stride) % kept
            pending[i, place] = math.nan
    if not math.isnan(one_step):
        _take_error(
            meta.one_step, one_step, sd, weight, meta.one_step_fast_gain, meta.one_step_slow_gain
        )
    if not math.isnan(one_period):
        mass = meta.one_period.mass
        _take_error(meta.one_period, one_period, sd, weight, meta.fast_gain, meta.slow_gain)
        if mass < BIRTH <= meta.one_period.mass:
            _change_unit(intervals, sd, True)
    meta.clock = clock + 1.0
    return one_period * spread


@njit()
def skip(intervals: Intervals, count: int) -> None:
    """Pass `count` positions without readings."""
    meta, pending = intervals.meta, intervals.pending
    if meta.step[0] == 0.0:
        return
    first = int(meta.clock)
    for i in range(ANCHORS):
        step, stride = int(meta.step[i]), int(meta.stride[i])
        kept = (step + stride - 1) // stride
        begin = (first + stride - 1) // stride
        end = (first + count - 1) // stride + 1
        for k in range(begin, min(end, begin + kept)):
            pending[i, k % kept] = math.nan
    meta.clock = first + count


@njit(inner=True)
def due(meta: Meta, anchor: int) -> int:
    """The step whose median forecast an anchor asks for after `observe`; 0: none this time."""
    clock = int(meta.clock) - 1
    stride = int(meta.stride[anchor])
    if stride == 1 or clock % stride == 0:
        return int(meta.step[anchor])
    return 0


@njit(inner=True)
def remember(intervals: Intervals, anchor: int, median: float) -> None:
    """Keep the median that `due` asked for; not finite: none was made."""
    meta = intervals.meta
    step, stride = int(meta.step[anchor]), int(meta.stride[anchor])
    kept = (step + stride - 1) // stride
    place = ((int(meta.clock) - 1) // stride) % kept
    intervals.pending[anchor, place] = median if math.isfinite(median) else math.nan
