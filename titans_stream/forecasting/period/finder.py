"""The period of one series found from its stream: what is kept, and when it is looked at.

Three rings hold the last 1024 readings, 768 means of 8 and 512 means of 64. Every 96 readings, and
four times less often once nothing changes, `period_choice` looks for a period in them; a new one
must stand for two checks with fresh readings between them, one in use goes only when it has failed
for as long.
"""

from __future__ import annotations

import math

import numpy as np

from titans_stream.forecasting.period import candidates as R
from titans_stream.forecasting.period import choice as S
from titans_stream.forecasting.period import second as second_period
from titans_stream.forecasting.period.evidence import FOLD, STRENGTH
from titans_stream.jit import njit
from titans_stream.records import Float32, Float64

FINE, MIDDLE, COARSE = 1024, 768, 512
"""Cells of the rings of readings, of means of 8 and of means of 64."""
CHECK_EVERY = 96
FIRST_CHECK, FIRST_WAIT = 48, 24
"""The first check and the wait between the next ones, up to reading `CHECK_EVERY`."""
SLOWER = 4
STABLE_CHECKS = 8
"""Checks without a change after which the next ones come `SLOWER` times less often."""
SPREAD_CHECK = 7
"""The check (at reading 480) after which a series moves its checks by a number drawn from its own
values, so that series that started together are not all checked at once."""
AT_ONCE = 9.0
"""Strength from which a first period needs no second check."""
FAR = 1e4
"""How far the last readings may be from OFFSET, in mean distances from their own mean."""
VALUE_LIMIT = 1e30

# Columns of `period_meta`
COUNT = 0
PERIOD = 1
SECOND = 2
CHECKS = 3
OFFSET = 4
NEXT = 5
PENDING = 6
PENDING_SINCE = 7
FAILED_SINCE = 8
AGREED = 9
MIDDLE_SUM = 10
MIDDLE_COUNT = 11
COARSE_SUM = 12
COARSE_COUNT = 13
SECOND_PENDING = 14
STARTED = 15
META = 16


@njit(inner=True)
def observe(
    fine: Float32,
    middle: Float32,
    coarse: Float32,
    meta: Float64,
    value: float,
    day: float,
    week: float,
) -> bool:
    """Take one reading of one series (NaN: missing); True if PERIOD or SECOND changed.

    fine [FINE], middle [MIDDLE], coarse [COARSE] and meta [META] are the row's state, all zero at
    first. day and week are the calendar's lengths in readings, NaN where unknown.
    """
    kept = np.float32(math.nan)
    if math.isfinite(value):
        if meta[STARTED] == 0.0:
            meta[STARTED] = 1.0
            meta[OFFSET] = value
            meta[NEXT] = FIRST_CHECK
        kept = np.float32(min(VALUE_LIMIT, max(-VALUE_LIMIT, value - meta[OFFSET])))
        meta[MIDDLE_SUM] += kept
        meta[MIDDLE_COUNT] += 1.0
    count = int(meta[COUNT])
    fine[count % FINE] = kept
    count += 1
    meta[COUNT] = count
    if count % R.SCALES[1] == 0:
        have = meta[MIDDLE_COUNT]
        middle[(count // R.SCALES[1] - 1) % MIDDLE] = meta[MIDDLE_SUM] / have if have else math.nan
        meta[COARSE_SUM] += meta[MIDDLE_SUM]
        meta[COARSE_COUNT] += have
        meta[MIDDLE_SUM] = meta[MIDDLE_COUNT] = 0.0
    if count % R.SCALES[2] == 0:
        have = meta[COARSE_COUNT]
        coarse[(count // R.SCALES[2] - 1) % COARSE] = meta[COARSE_SUM] / have if have else math.nan
        meta[COARSE_SUM] = meta[COARSE_COUNT] = 0.0
    if meta[STARTED] == 0.0 or count < meta[NEXT]:
        return False
    return _check(fine, middle, coarse, meta, day, week)


@njit(inner=True)
def _linear(ring: Float32, written: int, out: Float32) -> int:
    """The ring's cells, oldest first -> out; how many."""
    size = ring.shape[0]
    n: int = min(written, size)
    place = written % size if written > size else 0
    for t in range(n):
        out[t] = ring[place]
        place = place + 1 if place + 1 < size else 0
    return n


@njit(inner=True)
def _rebase(fine: Float32, middle: Float32, coarse: Float32, meta: Float64) -> None:
    """Move OFFSET to the present level when it is so far off that float32 loses the changes."""
    count, mean, spread = 0.0, 0.0, 0.0
    last = int(meta[COUNT])
    for t in range(max(0, last - FIRST_CHECK), last):
        value = fine[t % FINE]
        if not math.isnan(value):
            count += 1.0
            mean += (value - mean) / count
            spread += abs(value - mean)
    if count == 0.0 or abs(mean) * count <= FAR * spread:
        return
    shift = np.float32(mean)
    for ring in (fine, middle, coarse):
        for t in range(ring.shape[0]):
            ring[t] -= shift
    meta[MIDDLE_SUM] -= meta[MIDDLE_COUNT] * shift
    meta[COARSE_SUM] -= meta[COARSE_COUNT] * shift
    meta[OFFSET] += shift


@njit(inner=True)
def _own_number(fine: Float32) -> int:
    """0 .. CHECK_EVERY - 1 from the series' own values."""
    total = 0.0
    for t in range(FINE // 4):
        if not math.isnan(fine[t]):
            total += fine[t]
    mantissa, _ = math.frexp(total)
    scaled = abs(mantissa) * 1048576.0
    return int((scaled - math.floor(scaled)) * CHECK_EVERY)


@njit(inner=True)
def _schedule(meta: Float64, fine: Float32, changed: bool) -> None:
    meta[AGREED] = 0.0 if changed else meta[AGREED] + 1.0
    wait = CHECK_EVERY if meta[COUNT] >= CHECK_EVERY else FIRST_WAIT
    if meta[AGREED] >= STABLE_CHECKS and meta[PENDING] == 0.0 and meta[FAILED_SINCE] == 0.0:
        wait = SLOWER * CHECK_EVERY
    if meta[CHECKS] == SPREAD_CHECK:
        wait += _own_number(fine)
    meta[NEXT] = meta[COUNT] + wait


@njit(inner=True)
def _check(
    fine: Float32, middle: Float32, coarse: Float32, meta: Float64, day: float, week: float
) -> bool:
    meta[CHECKS] += 1.0
    count = int(meta[COUNT])
    _rebase(fine, middle, coarse, meta)
    rings = np.empty((R.RINGS, FINE), np.float32)
    n = np.empty(R.RINGS, np.int64)
    n[0] = _linear(fine, count, rings[0])
    n[1] = _linear(middle, count // R.SCALES[1], rings[1])
    n[2] = _linear(coarse, count // R.SCALES[2], rings[2])
    sums, counts = np.empty((R.RINGS, FINE + 1)), np.empty((R.RINGS, FINE + 1))
    complete = np.zeros(R.RINGS, np.int64)
    hints = np.empty(2)
    hints[S.DAY] = R.usable(day)
    hints[S.WEEK] = R.usable(week)
    D = np.empty(FINE // 2 + 1, np.float32)
    found = np.zeros(FOLD)
    if not R.load(rings, n, complete, sums, counts):
        _schedule(meta, fine, False)
        return False
    candidates = np.empty(R.CANDIDATES)
    taken = R.first_candidates(candidates, n, hints, meta[PERIOD], meta[PENDING])
    taken = R.propose(rings, n, complete, D, candidates, taken)
    best = S.choose(rings, n, sums, counts, candidates, taken, hints, meta[PERIOD], found)
    changed = _settle(meta, best, found, hints)
    if meta[PERIOD] > 0.0 and meta[CHECKS] % SLOWER == 0.0:
        second = second_period.choose_second(
            rings, n, complete, sums, counts, meta[PERIOD], hints, meta[SECOND], D
        )
        if _settle_second(meta, second, hints):
            changed = True
    if meta[PERIOD] == 0.0 and meta[SECOND] != 0.0:
        meta[SECOND] = meta[SECOND_PENDING] = 0.0
        changed = True
    _schedule(meta, fine, changed)
    return changed


@njit(inner=True)
def _settle(meta: Float64, best: float, found: Float64, hints: Float64) -> bool:
    """Take over, keep or drop the period; True when it changed."""
    period, count = meta[PERIOD], meta[COUNT]
    if period > 0.0 and abs(best - period) <= 1e-9 * period:
        meta[PENDING] = meta[FAILED_SINCE] = 0.0
        return False
    if best > 0.0:
        meta[FAILED_SINCE] = 0.0
        if abs(best - meta[PENDING]) > S.SAME * best:
            meta[PENDING] = best
            meta[PENDING_SINCE] = count
            plain = found[STRENGTH] > AT_ONCE or S.which_hint(best, hints) != S.NO_HINT
            if period > 0.0 or not plain:
                return False
        elif count - meta[PENDING_SINCE] < 0.5 * best:
            return False
        meta[PERIOD] = best
        meta[PENDING] = 0.0
        if abs(meta[SECOND] - best) <= 0.05 * best:
            meta[SECOND] = meta[SECOND_PENDING] = 0.0
        return True
    meta[PENDING] = 0.0
    if period == 0.0:
        return False
    if meta[FAILED_SINCE] == 0.0:
        meta[FAILED_SINCE] = count
        return False
    if count - meta[FAILED_SINCE] < max(period, SLOWER * CHECK_EVERY):
        return False
    meta[PERIOD] = meta[FAILED_SINCE] = 0.0
    return True


@njit(inner=True)
def _settle_second(meta: Float64, second: float, hints: Float64) -> bool:
    """Take over or drop the second period; True when it changed."""
    again = abs(second - meta[SECOND_PENDING]) <= S.SAME * second
    meta[SECOND_PENDING] = second
    plain = meta[SECOND] == 0.0 and S.which_hint(second, hints) != S.NO_HINT
    if second == meta[SECOND] or not (again or plain):
        return False
    meta[SECOND] = second
    return True
