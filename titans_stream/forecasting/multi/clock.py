"""Ticks, phase, scale and period of one row of the multi-step forecaster, compiled by numba."""

from __future__ import annotations

import math

from titans_stream.forecasting.multi import layout as L
from titans_stream.forecasting.multi import rows as R
from titans_stream.jit import njit
from titans_stream.records import Float64

DAY_SECONDS = 86_400.0
WEEK = 7.0
"""Days."""
FEW_DAYS = 4.0
"""A period of so many days, found beside the calendar's, is a multiple of the day; one of more
has been better than the day by much."""
NANOSECONDS = 1e-9
FAR = 1e6
"""Units from the offset from where on a reading asks for a new unit."""


@njit(inner=True)
def ticks_since(meta: Float64, timestamp: float, interval: float) -> float:
    """Ticks from the last reading to this one, at least 1."""
    if meta[L.TIME] == 0.0 or not interval > 0.0:
        return 1.0
    gap = (timestamp - meta[L.TIME]) / interval
    return max(1.0, math.floor(gap + 0.5)) if gap < 1e15 else 1.0


@njit(inner=True)
def readings_a_day(seconds: float, interval: float) -> float:
    """Length of a day in ticks, 0 where the clock is unknown or a day is too short; whole where
    it nearly is."""
    if not interval > 0.0 or math.isnan(seconds):
        return 0.0
    day = DAY_SECONDS / (interval * NANOSECONDS)
    whole = math.floor(day + 0.5)
    if abs(day - whole) <= 0.01 * day and abs(day - whole) < 0.5:
        day = whole
    return day if day >= L.DAY_MINIMUM else 0.0


@njit(inner=True)
def wanted_period(
    found: float, day: float, now: float, days: float, fixed: float
) -> tuple[float, float]:
    """The period to use, and how many days of the clock are its phase (0: counted in ticks).

    found: by the finder, 0 none; day: in ticks, 0 unknown; now, days: what is in use; fixed:
    what to use, 0 where it is to be found. The day comes before what was found, unless that is
    the week, or neither a part of a day nor two to `FEW_DAYS` of them. A day that moved by less
    than 2 % stays what it was (the interval is an estimate).
    """
    if fixed > 0.0:
        return fixed, 1.0 if abs(day - fixed) <= 0.02 * fixed else 0.0
    if day <= 0.0:
        return found, 0.0
    if days > 0.0 and abs(days * day - now) <= 0.02 * now:
        day = now / days
    ratio = found / day if found >= day else day / max(found, 1e-9)
    if found > day and abs(ratio - WEEK) <= 0.03 * WEEK:
        return WEEK * day, WEEK
    whole = abs(ratio - math.floor(ratio + 0.5)) <= 0.03 * ratio
    if found == 0.0 or (whole and (found < day or ratio < FEW_DAYS + 0.5)):
        return day, 1.0
    return found, 0.0


@njit(inner=True)
def set_phase(meta: Float64, before: float, tick: float, seconds: float) -> float:
    """The tick that the clock says; `before` was the last reading's, `tick` is expected.

    An hour that is skipped is missing. In an hour that comes twice, or where readings run ahead
    of the clock, the tick stays at `before` until the clock is there. A clock that was set back
    by more than an eighth of a day leaves out the rest of the period.
    """
    period: float = meta[L.PERIOD]
    days: float = meta[L.CLOCK]
    turns = seconds / DAY_SECONDS / days
    phase = (turns - math.floor(turns)) * period
    off = phase - (tick - period * math.floor(tick / period))
    off -= period * math.floor(off / period + 0.5)
    if abs(off) <= 0.75:
        return tick
    moved = tick + math.floor(off + 0.5)
    if moved > before:
        return moved
    if off >= -period / days / 8.0:
        return before
    return tick + math.floor(off + period + 0.5)


@njit(inner=True)
def bounded(meta: Float64, value: float) -> float:
    """A reading in units of the series; a lone outlier enters bounded."""
    z: float = (value - meta[L.OFFSET]) / meta[L.UNIT]
    if meta[L.COUNT] >= 12.0 and meta[L.VAR] > 0.0:
        limit = L.OUTLIER * math.sqrt(meta[L.VAR])
        last: float = meta[L.LAST_Z]
        if abs(z - last) > limit:
            meta[L.OUTLYING] += 1.0
            if meta[L.OUTLYING] < L.OUTLIERS:
                return last + math.copysign(limit, z - last)
            return z
    meta[L.OUTLYING] = 0.0
    return z


@njit(inner=True)
def take_scale(row: R.Row, value: float) -> float:
    """Scale and last reading learn a reading; returns it in units of the series.

    NaN for a lone outlier: what it says of the series' course is nothing.
    """
    meta = row.meta
    value = min(L.VALUE_LIMIT, max(-L.VALUE_LIMIT, value))
    if meta[L.COUNT] == 0.0:
        meta[L.OFFSET] = value
        meta[L.UNIT] = 1.0
    meta[L.RUN] = meta[L.RUN] + 1.0 if value == meta[L.LAST] and meta[L.COUNT] > 0.0 else 1.0
    if meta[L.VAR] == 0.0 and value != meta[L.OFFSET]:
        meta[L.UNIT] = _power_of_two(abs(value - meta[L.OFFSET]))
    z = bounded(meta, value)
    if abs(z) > FAR:
        rebase(row, meta[L.UNIT] * _power_of_two(abs(z)))
        z = (value - meta[L.OFFSET]) / meta[L.UNIT]
    meta[L.LAST] = value
    meta[L.COUNT] += 1.0
    n = min(meta[L.COUNT], L.VARIANCE_PERIODS * max(meta[L.PERIOD], L.COARSE))
    off = z - meta[L.MEAN]
    meta[L.MEAN] += off / n
    meta[L.VAR] = (1.0 - 1.0 / n) * (meta[L.VAR] + off * off / n)
    if is_lone(meta):
        return math.nan
    meta[L.LAST_Z] = z
    return z


@njit(inner=True)
def is_lone(meta: Float64) -> bool:
    """Whether the last reading was an outlier of which it is not known yet if it stays."""
    lone: bool = 0.0 < meta[L.OUTLYING] < L.OUTLIERS
    return lone


@njit(inner=True)
def _power_of_two(value: float) -> float:
    return math.exp2(math.floor(math.log2(max(value, L.LEAST_UNIT)) + 0.5))


@njit(inner=True)
def keep_scale(row: R.Row) -> None:
    """A new unit where the deviation has left the old one behind, or the level the offset."""
    meta = row.meta
    if meta[L.VAR] <= 0.0:
        return
    octaves = 0.5 * math.log2(meta[L.VAR])
    far = abs(meta[L.MEAN]) > 2.0**L.UNIT_OCTAVES * math.sqrt(meta[L.VAR])
    if abs(octaves) > L.UNIT_OCTAVES or far:
        rebase(row, meta[L.UNIT] * math.exp2(math.floor(octaves + 0.5)))


@njit(inner=True)
def move(values: Float64, mean: float, ratio: float) -> None:
    """values <- (values - mean) x ratio, in place."""
    for i in range(values.shape[0]):
        values[i] = (values[i] - mean) * ratio


@njit(inner=True)
def rebase(row: R.Row, unit: float) -> None:
    """Express a row's state in a new unit, from its mean."""
    meta = row.meta
    unit = max(unit, L.LEAST_UNIT)
    ratio = meta[L.UNIT] / unit
    mean = meta[L.MEAN]
    for i in range(2):
        move(row.slots[i], mean, ratio)
        move(row.twins[0, i], mean, ratio)
        move(row.twins[1, i], mean, ratio)
    move(row.ring, mean, ratio)
    move(row.lasts, mean, ratio)
    for r in range(row.samples.shape[0]):
        move(row.samples[r, : L.SAMPLE_ANCHOR], 0.0, ratio)
        move(row.samples[r, L.SAMPLE_ANCHOR : L.SAMPLE_STEP], mean, ratio)
    for r in range(row.sums.shape[0]):
        move(row.sums[r, : L.MASS], 0.0, ratio * ratio)
        move(row.gate[r, : L.GATE_MASS], 0.0, ratio * ratio)
    meta[L.FINE_SUM] = (meta[L.FINE_SUM] - meta[L.FINE_COUNT] * mean) * ratio
    meta[L.COARSE_SUM] = (meta[L.COARSE_SUM] - meta[L.COARSE_COUNT] * mean) * ratio
    meta[L.LAST_Z] = (meta[L.LAST_Z] - mean) * ratio
    meta[L.OFFSET] += mean * meta[L.UNIT]
    meta[L.UNIT] = unit
    meta[L.MEAN] = 0.0
    meta[L.VAR] *= ratio * ratio


@njit(inner=True)
def deviation(meta: Float64) -> float:
    """The series' deviation in its own unit of measurement, above 0."""
    sd: float = max(meta[L.UNIT] * math.sqrt(meta[L.VAR]), 1e-9 * abs(meta[L.OFFSET]))
    return sd if sd > 0.0 else 1e-12
