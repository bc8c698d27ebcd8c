"""Ticks, phase, scale and period of one series of the multi-step forecaster, compiled by numba."""

from __future__ import annotations

import math
from typing import NamedTuple

from titans_stream.forecasting.multi import layout
from titans_stream.forecasting.multi.fallback import scale_errors
from titans_stream.forecasting.multi.layout import Meta
from titans_stream.forecasting.multi.series import Series
from titans_stream.jit import njit
from titans_stream.records import Float32

DAY_SECONDS = 86_400.0
WEEK = 7.0
"""Days: the longer cycle beside a day."""
DAYS = (24.0, 48.0, 96.0, 144.0, 288.0, 1_440.0)
"""Readings a day at the usual intervals, from an hour to a minute."""
SHORT = 12.0
"""A cycle of which a day has more is too short for the cells of a day."""
BESIDE = 8.0
"""Periods of a day that can be followed beside them, at least."""
FEW_DAYS = 4.0
"""A period of so many days, found beside the calendar's, is a multiple of the day; one of more
has been better than the day by much."""
NANOSECONDS = 1e-9
FAR = 1e6
"""Units from the offset from where on a reading asks for a new unit."""


class Reading(NamedTuple):
    """One reading of a series."""

    value: float
    """NaN: missing."""
    seconds: float
    """Local seconds since the epoch, NaN: unknown."""
    interval: float
    """Nanoseconds a reading, NaN or <= 0: unknown."""
    timestamp: float
    """UTC nanoseconds."""


@njit(inner=True)
def ticks_since(meta: Meta, reading: Reading) -> float:
    """Ticks from the last reading to this one, at least 1."""
    if meta.time == 0.0 or not reading.interval > 0.0:
        return 1.0
    gap = (reading.timestamp - meta.time) / reading.interval
    return max(1.0, math.floor(gap + 0.5)) if gap < 1e15 else 1.0


@njit(inner=True)
def readings_a_day(reading: Reading) -> float:
    """Length of a day in ticks, 0 where the clock is unknown or a day is too short; whole where
    it nearly is."""
    if not reading.interval > 0.0 or math.isnan(reading.seconds):
        return 0.0
    day = DAY_SECONDS / (reading.interval * NANOSECONDS)
    whole = math.floor(day + 0.5)
    if abs(day - whole) <= 0.01 * day and abs(day - whole) < 0.5:
        day = whole
    return day if day >= layout.DAY_MINIMUM else 0.0


@njit(inner=True)
def wanted_period(
    meta: Meta, found: float, second: float, day: float, fixed: float
) -> tuple[float, float, float, float]:
    """The period to use, how many days of the clock are its phase (0: counted in ticks), how many
    periods a longer cycle beside it has (0: there is none), and the ticks of a day beside a short
    cycle (0: none).

    found, second: by the finder, 0 none; day: in ticks, 0 unknown; fixed: what to use, 0 where it
    is to be found. The day comes before what was found, unless that is neither the week nor a part
    of a day nor two to `FEW_DAYS` of them; a week goes beside it. A part that is too short for the
    cells of a day stays, also where it was found second, with the day beside it; and any part until
    a day has been seen as often as forecasts need. A day that moved by less than 2 % stays what it
    was (the interval is an estimate).
    """
    if abs(meta.day - day) <= 0.02 * day:
        day = meta.day
    if fixed > 0.0:
        timed = abs(day - fixed) <= 0.02 * fixed
        return (fixed, 1.0, WEEK, 0.0) if timed else counted(fixed, second, day)
    if day <= 0.0:
        return counted(found, second, 0.0)
    if meta.days > 0.0 and abs(meta.days * day - meta.period) <= 0.02 * meta.period:
        day = meta.period / meta.days
    if 0.0 < found * SHORT < day:
        return counted(found, second, day)
    if found > 0.9 * day and second >= layout.COARSE and is_short(second, day):
        return counted(second, 0.0, day)
    if 0.0 < found < 0.75 * day and meta.count < layout.READY_PERIODS * day:
        return counted(found, second, day)
    ratio = found / day if found >= day else day / max(found, 1e-9)
    if found > day and abs(ratio - WEEK) <= 0.03 * WEEK:
        return day, 1.0, WEEK, 0.0
    whole = abs(ratio - math.floor(ratio + 0.5)) <= 0.03 * ratio
    if found == 0.0 or (whole and (found < day or ratio < FEW_DAYS + 0.5)):
        return day, 1.0, WEEK, 0.0
    return counted(found, second, day)


@njit(inline="always")
def is_short(period: float, day: float) -> bool:
    """Whether a day's cells are too long for a period, or do not have it at the same place."""
    ratio = day / period
    parts = abs(ratio - math.floor(ratio + 0.5)) <= 0.03 * ratio
    return ratio > SHORT or (ratio >= BESIDE and not parts)


@njit(inline="always")
def counted(period: float, second: float, day: float) -> tuple[float, float, float, float]:
    """What `wanted_period` returns of a period whose phase is counted in ticks."""
    if 0.0 < period * BESIDE <= day:
        return period, 0.0, 0.0, day
    return period, 0.0, cycles(period, second), 0.0


@njit(inline="always")
def cycles(period: float, second: float) -> float:
    """How many periods a longer cycle has: a second period, if that is a whole number of them up
    to `layout.CYCLE`; a week where there is none and the first looks like a day; else 0."""
    if period <= 0.0:
        return 0.0
    if second < 1.5 * period:
        for day in DAYS:
            if abs(period - day) <= 0.01 * day:
                return WEEK
        return 0.0
    ratio = second / period
    whole = math.floor(ratio + 0.5)
    return whole if whole <= layout.CYCLE and abs(ratio - whole) <= 0.03 * ratio else 0.0


@njit(inner=True)
def set_phase(meta: Meta, before: float, tick: float, seconds: float) -> float:
    """The tick that the clock says; `before` was the last reading's, `tick` is expected.

    An hour that is skipped is missing. In an hour that comes twice, or where readings run ahead
    of the clock, the tick stays at `before` until the clock is there. A clock that was set back
    by more than an eighth of a day leaves out the rest of the period.
    """
    period: float = meta.period
    days: float = meta.days
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
def set_day(meta: Meta, tick: float, seconds: float) -> float:
    """The tick moved on by whole days until that of the longer cycle, a week, is the clock's."""
    week = WEEK * meta.period
    turns = seconds / DAY_SECONDS / WEEK
    off = (turns - math.floor(turns)) * week - (tick - week * math.floor(tick / week))
    days = math.floor(off / meta.period + 0.5)
    return tick + meta.period * (days - WEEK * math.floor(days / WEEK))


@njit(inner=True)
def bounded(meta: Meta, value: float) -> float:
    """A reading in units of the series; a lone outlier enters bounded."""
    z: float = (value - meta.offset) / meta.unit
    if meta.count >= 12.0 and meta.variance > 0.0:
        limit = layout.OUTLIER * math.sqrt(meta.variance)
        last: float = meta.last_z
        if abs(z - last) > limit:
            meta.outlying += 1.0
            if meta.outlying < layout.OUTLIERS:
                return last + math.copysign(limit, z - last)
            return z
    meta.outlying = 0.0
    return z


@njit(inner=True)
def take_scale(series: Series, value: float) -> float:
    """Scale and last reading learn a reading; returns it in units of the series.

    NaN for a lone outlier: what it says of the series' course is nothing.
    """
    meta = series.meta
    value = min(layout.VALUE_LIMIT, max(-layout.VALUE_LIMIT, value))
    if meta.count == 0.0:
        meta.offset = value
        meta.unit = 1.0
    meta.run = meta.run + 1.0 if value == meta.last and meta.count > 0.0 else 1.0
    if meta.variance == 0.0 and value != meta.offset:
        meta.unit = _power_of_two(abs(value - meta.offset))
    z = bounded(meta, value)
    if abs(z) > FAR:
        rebase(series, meta.unit * _power_of_two(abs(z)))
        z = (value - meta.offset) / meta.unit
    meta.last = value
    meta.count += 1.0
    n = min(meta.count, layout.VARIANCE_PERIODS * max(meta.period, layout.COARSE))
    off = z - meta.mean
    meta.mean += off / n
    meta.variance = (1.0 - 1.0 / n) * (meta.variance + off * off / n)
    if is_lone(meta):
        return math.nan
    meta.last_z = z
    return z


@njit(inner=True)
def is_lone(meta: Meta) -> bool:
    """Whether the last reading was an outlier of which it is not known yet if it stays."""
    lone: bool = 0.0 < meta.outlying < layout.OUTLIERS
    return lone


@njit(inner=True)
def _power_of_two(value: float) -> float:
    return math.exp2(math.floor(math.log2(max(value, layout.LEAST_UNIT)) + 0.5))


@njit(inner=True)
def keep_scale(series: Series) -> None:
    """A new unit where the deviation has left the old one behind, or the level the offset."""
    meta = series.meta
    if meta.variance <= 0.0:
        return
    octaves = 0.5 * math.log2(meta.variance)
    far = abs(meta.mean) > 2.0**layout.UNIT_OCTAVES * math.sqrt(meta.variance)
    if abs(octaves) > layout.UNIT_OCTAVES or far:
        rebase(series, meta.unit * math.exp2(math.floor(octaves + 0.5)))


@njit(inner=True)
def move(values: Float32, mean: float, ratio: float) -> None:
    """values <- (values - mean) x ratio, in place."""
    for i in range(values.shape[0]):
        values[i] = (values[i] - mean) * ratio


@njit(inner=True)
def rebase(series: Series, unit: float) -> None:
    """Express a series' state in a new unit, from its mean."""
    meta = series.meta
    unit = max(unit, layout.LEAST_UNIT)
    ratio = meta.unit / unit
    mean = meta.mean
    for i in range(2):
        move(series.memory[i], mean, ratio)
        move(series.twins[0, i], mean, ratio)
        move(series.twins[1, i], mean, ratio)
    for copy in range(series.longer.shape[0]):
        move(series.longer[copy], mean, ratio)
    move(series.ring, mean, ratio)
    series.values.usual *= ratio
    series.values.jumped *= ratio
    carry = series.carry
    carry.error *= ratio
    carry.forecast = (carry.forecast - mean) * ratio
    for k in range(layout.CARRY_SAMPLES):
        carry.samples[k, 0] *= ratio
        carry.samples[k, 1] = (carry.samples[k, 1] - mean) * ratio
    for band in range(layout.CARRY_BANDS):
        for k in range(3):
            carry.bands[band, k] *= ratio * ratio
    move(series.lasts, mean, ratio)
    for band in range(layout.FINER_BANDS):
        sample = series.samples[band]
        move(sample.x, 0.0, ratio)
        sample.anchor = (sample.anchor - mean) * ratio
        sample.forecast = (sample.forecast - mean) * ratio
        sample.latest = (sample.latest - mean) * ratio
    for band in range(layout.BANDS):
        move(series.sums[band].products, 0.0, ratio * ratio)
        move(series.sums[band].cross, 0.0, ratio * ratio)
        scale_errors(series.gate[band], ratio * ratio)
    for band in range(len(layout.ENDS)):
        move(series.longer_sums[band].products, 0.0, ratio * ratio)
        move(series.longer_sums[band].cross, 0.0, ratio * ratio)
    meta.fine_sum = (meta.fine_sum - meta.fine_count * mean) * ratio
    meta.coarse_sum = (meta.coarse_sum - meta.coarse_count * mean) * ratio
    meta.last_z = (meta.last_z - mean) * ratio
    meta.offset += mean * meta.unit
    meta.unit = unit
    meta.mean = 0.0
    meta.variance *= ratio * ratio


@njit(inner=True)
def deviation(meta: Meta) -> float:
    """The series' deviation in its own unit of measurement, above 0."""
    sd: float = max(meta.unit * math.sqrt(meta.variance), 1e-9 * abs(meta.offset))
    return sd if sd > 0.0 else 1e-12
