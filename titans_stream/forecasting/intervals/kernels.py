"""Forecast intervals for one row at a time, compiled by numba.

For every position of a row: `observe` its reading, then `remember` the median forecasts that
`due` asks for; `interval_widths.quantiles` whenever a forecast is published. Errors are measured
in a unit that moves with the series: the slow mean of the errors one step (near anchors) or one
period ahead, times powers of how far the fast means are from the slow ones.
"""

from __future__ import annotations

import math

import numpy as np

from titans_stream.jit import ASSOCIATIVE, njit
from titans_stream.records import Float64

ANCHORS = 8
PERIOD_ANCHOR = 3
"""The anchor at one period, whose errors set the unit."""
PERIOD_STEPS = (1.0, 4.0, 8.0, 14.0, 30.0)
"""Steps of the anchors from `PERIOD_ANCHOR` on, in periods."""
NO_PERIOD = 24
"""Readings taken for a period where none is known; shorter periods count in multiples near it."""
SLOTS = 32
"""Forecasts of an anchor that wait for their reading, at most."""
BINS = 64
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

# Columns of a row of `interval_state`
CLOCK = 0
PERIOD = 1
LAST = 2
RUN = 3
CHANGED = 4
FAST = 5
SLOW = 6
MASS = 7
BEFORE = 8
"""The last two errors one period ahead; the same four columns follow for those of one step."""
ONE_STEP_FAST = 10
ONE_STEP_SLOW = 11
ONE_STEP_MASS = 12
ONE_STEP_BEFORE = 13
STALE = 15
"""What intervals are wider by after a flat run, in octaves."""
GAIN = 16
"""Gains of the four mean errors in the order of `FAST`, `SLOW`, `ONE_STEP_FAST`, ..."""
STEP = GAIN + 4
STRIDE = STEP + ANCHORS
UNIT = STRIDE + ANCHORS
DECAY = UNIT + ANCHORS
STATE = DECAY + ANCHORS


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
    """Readings between two kept forecasts: few enough for the slots, and prime to the period, so
    that every phase gets its turn."""
    stride = (step + SLOTS - 1) // SLOTS
    while stride > 1:
        a, b = stride, period
        while b > 0:
            a, b = b, a % b
        if a == 1:
            break
        stride += 1
    return stride


@njit(inner=True)
def _shift(histogram: Float64, bins: int) -> None:
    """Move a histogram [BINS] up by `bins` in place; what leaves stays in the last bin."""
    moved = np.zeros(BINS)
    for b in range(BINS):
        moved[min(max(b + bins, 0), BINS - 1)] += histogram[b]
    for b in range(BINS):
        histogram[b] = moved[b]


@njit(inner=True, fastmath=ASSOCIATIVE)
def total(histogram: Float64) -> float:
    """Mass of a histogram [BINS]."""
    mass: float = 0.0
    for b in range(BINS):
        mass += histogram[b]
    return mass


@njit()
def log_units(state: Float64, sd: float, out: Float64) -> None:
    """log2 of the unit of errors at every anchor; out [ANCHORS]."""
    one_step = max(state[ONE_STEP_SLOW], LEAST_UNIT * sd)
    ratio = max(state[ONE_STEP_FAST] / one_step, LEAST_RATIO)
    common = ONE_STEP_POWER * math.log2(ratio) if state[ONE_STEP_MASS] >= BIRTH else 0.0
    if state[MASS] < BIRTH:
        out[:] = common + math.log2(sd)
        return
    slow = max(state[SLOW], LEAST_UNIT * sd)
    spread = math.log2(max(state[FAST] / slow, LEAST_RATIO))
    common += math.log2(slow)
    near = math.log2(one_step / slow)
    for i in range(ANCHORS):
        out[i] = common + SPREAD_POWERS[i] * spread + NEARNESS[i] * near


@njit(inner=True)
def _change_unit(state: Float64, histograms: Float64, sd: float, born: bool) -> None:
    """From the deviation as the unit to the mean errors (born) or back, in place; widths stay."""
    before, after = np.empty(ANCHORS), np.empty(ANCHORS)
    mass = state[MASS]
    log_units(state, sd, after)
    state[MASS] = 0.0
    log_units(state, sd, before)
    state[MASS] = mass
    for i in range(ANCHORS):
        octaves = before[i] - after[i] if born else after[i] - before[i]
        _shift(histograms[i], round(BINS_PER_OCTAVE * octaves))


@njit(inner=True)
def _set_pace(state: Float64, steps: Float64, p: int) -> None:
    """Anchor steps and what follows from them and the period p: strides, decays and gains."""
    for i in range(ANCHORS):
        stride = _stride(int(steps[i]), p)
        state[STEP + i] = steps[i]
        state[STRIDE + i] = stride
        state[DECAY + i] = math.exp2(stride / (HALF_LIFE_PERIODS[i] * p)) - 1.0
    stride = int(state[STRIDE + PERIOD_ANCHOR])
    state[GAIN] = 1.0 - math.exp2(-stride / (FAST_PERIODS * p))
    state[GAIN + 1] = 1.0 - math.exp2(-stride / (SLOW_PERIODS * p))
    state[GAIN + 2] = 1.0 - math.exp2(-1.0 / (ONE_STEP_PERIODS * p))
    state[GAIN + 3] = 1.0 - math.exp2(-1.0 / (SLOW_PERIODS * p))


@njit(inner=True)
def _retime(
    state: Float64, histograms: Float64, pending: Float64, sd: float, period: float
) -> None:
    """Move the anchors to a new period, in place.

    A histogram begins as that of the nearest old anchor, with the deviation as the unit and with
    little mass, so that widths stay and new errors soon count more.
    """
    steps = np.empty(ANCHORS)
    p = anchors(period, steps)
    old_steps = state[STEP : STEP + ANCHORS].copy()
    old_strides = state[STRIDE : STRIDE + ANCHORS].copy()
    if state[MASS] >= BIRTH:
        _change_unit(state, histograms, sd, False)
    state[MASS] = 0.0
    state[PERIOD] = period
    _set_pace(state, steps, p)
    pending[:] = math.nan
    if old_steps[0] > 0.0:
        for i in range(ANCHORS):
            for b in range(BINS):
                histograms[i, b] /= state[UNIT + i]
        old = histograms.copy()
        for i in range(ANCHORS):
            near, least = 0, math.inf
            for j in range(ANCHORS):
                off = abs(math.log(old_steps[j] / steps[i]))
                if off < least:
                    near, least = j, off
            _begin_with(
                histograms[i], old[near], old_strides[near], old_steps[near], steps[i],
                state[STRIDE + i], period,
            )  # fmt: skip
    state[UNIT : UNIT + ANCHORS] = 1.0


@njit(inner=True)
def _begin_with(
    histogram: Float64, old: Float64, old_stride: float, old_step: float, step: float,
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
def _mean_errors(
    state: Float64, error: float, sd: float, weight: float, fast: int, gain: int
) -> None:
    """Take one error into a fast mean (column `fast`), its slow mean and what belongs to them."""
    slow, mass, before = fast + 1, fast + 2, fast + 3
    bound = ERROR_BOUND * sd
    if state[mass] >= BIRTH:
        known = max(state[fast], LEAST_RATIO * state[slow], LEAST_UNIT * sd)
        run = min(state[before], state[before + 1])
        bound = min(max(run, ERROR_BOUND * known), ESCAPE_BOUND * known)
    bounded = min(error, bound)
    state[mass] += weight
    first = min(weight * EARLY / state[mass], 1.0)
    state[fast] += max(weight * state[gain], first) * (bounded - state[fast])
    state[slow] += max(weight * state[gain + 1], first) * (bounded - state[slow])
    state[before + 1] = state[before]
    state[before] = error


@njit(inner=True)
def _count(
    state: Float64, histogram: Float64, error: float, unit_log: float, i: int, w: float
) -> None:
    """Take one error of anchor i into its histogram with weight w."""
    position = 0.0
    if error > 0.0:
        position = (math.log2(error) - unit_log - BIN_ORIGIN) * BINS_PER_OCTAVE
    bin_ = int(min(max(position, 0.0), BINS - 1.0))
    unit = state[UNIT + i] * (1.0 + w * state[DECAY + i])
    if unit > UNIT_LIMIT:
        for b in range(BINS):
            histogram[b] /= unit
        unit = 1.0
    state[UNIT + i] = unit
    histogram[bin_] += w * unit


@njit(inner=True)
def _weight(state: Float64, value: float) -> float:
    """What a reading's errors count: little in a flat run, nothing before the first change."""
    if state[CHANGED] == 0.0:
        if state[RUN] > 0.0 and value != state[LAST]:
            state[CHANGED] = 1.0
            state[RUN] = 0.0
        state[RUN] += 1.0
        state[LAST] = value
        changed: float = state[CHANGED]
        return changed
    if value == state[LAST]:
        state[RUN] += 1.0
    else:
        if state[RUN] > LONG_PERIODS * state[STEP + PERIOD_ANCHOR]:
            state[STALE] = STALE_OCTAVES
        state[RUN] = 0.0
    state[STALE] *= STALE_DECAY
    state[LAST] = value
    if state[RUN] < FLAT_RUN:
        return 1.0
    return FLAT_WEIGHT if state[RUN] < LONG_PERIODS * state[STEP + PERIOD_ANCHOR] else LONG_WEIGHT


@njit()
def observe(
    state: Float64, histograms: Float64, pending: Float64, value: float, sd: float, period: float
) -> None:
    """One position of a row: learn from the forecasts whose reading this is.

    state [STATE], histograms [ANCHORS, BINS] and pending [ANCHORS, SLOTS] are the row's arrays.
    value: NaN where the reading is missing. sd: the series' deviation, above 0. period: in
    readings, 0 where none is known; a new one moves the anchors.
    """
    if state[STEP] == 0.0 or state[PERIOD] != period:
        _retime(state, histograms, pending, sd, period)
    clock = int(state[CLOCK])
    present = math.isfinite(value)
    weight = _weight(state, value) if present else 0.0
    units = np.empty(ANCHORS)
    log_units(state, sd, units)
    one_step = math.nan
    one_period = math.nan
    for i in range(ANCHORS):
        step, stride = int(state[STEP + i]), int(state[STRIDE + i])
        origin = clock - step
        if stride == 1:
            slot, matured, begins = clock % step, origin >= 0, True
        else:
            matured, begins = origin >= 0 and origin % stride == 0, clock % stride == 0
            if not (matured or begins):
                continue
            slots = (step + stride - 1) // stride
            slot = ((origin if matured else clock) // stride) % slots
        if weight > 0.0 and matured:
            error = abs(value - pending[i, slot])
            if not math.isnan(error):
                _count(state, histograms[i], error, units[i], i, weight)
                if i == 0:
                    one_step = error
                elif i == PERIOD_ANCHOR:
                    one_period = error
        if begins:
            if stride > 1:
                slot = (clock // stride) % slots
            pending[i, slot] = math.nan
    if not math.isnan(one_step):
        _mean_errors(state, one_step, sd, weight, ONE_STEP_FAST, GAIN + 2)
    if not math.isnan(one_period):
        mass = state[MASS]
        _mean_errors(state, one_period, sd, weight, FAST, GAIN)
        if mass < BIRTH <= state[MASS]:
            _change_unit(state, histograms, sd, True)
    state[CLOCK] = clock + 1.0


@njit()
def skip(state: Float64, pending: Float64, count: int) -> None:
    """Pass `count` positions without readings."""
    if state[STEP] == 0.0:
        return
    first = int(state[CLOCK])
    for i in range(ANCHORS):
        step, stride = int(state[STEP + i]), int(state[STRIDE + i])
        slots = (step + stride - 1) // stride
        begin = (first + stride - 1) // stride
        end = (first + count - 1) // stride + 1
        for k in range(begin, min(end, begin + slots)):
            pending[i, k % slots] = math.nan
    state[CLOCK] = first + count


@njit(inner=True)
def due(state: Float64, anchor: int) -> int:
    """The step whose median forecast an anchor asks for after `observe`; 0: none this time."""
    clock = int(state[CLOCK]) - 1
    stride = int(state[STRIDE + anchor])
    if stride == 1 or clock % stride == 0:
        return int(state[STEP + anchor])
    return 0


@njit(inner=True)
def remember(state: Float64, pending: Float64, anchor: int, median: float) -> None:
    """Keep the median that `due` asked for; not finite: none was made."""
    step, stride = int(state[STEP + anchor]), int(state[STRIDE + anchor])
    slots = (step + stride - 1) // stride
    slot = ((int(state[CLOCK]) - 1) // stride) % slots
    pending[anchor, slot] = median if math.isfinite(median) else math.nan
