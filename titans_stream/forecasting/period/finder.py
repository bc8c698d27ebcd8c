"""The period of one series found from its stream: what is kept, and when it is looked at.

Three rings hold the last 1024 readings, 768 means of 8 and 512 means of 64. Every 96 readings, and
four times less often once nothing changes, `choice` looks for a period in them; a new one must
stand for two checks with fresh readings between them, one in use goes only when it has failed for
as long.
"""

from __future__ import annotations

import math

import numpy as np

from titans_stream.forecasting.period.candidates import (
    CANDIDATES,
    first_candidates,
    load,
    propose,
    usable,
)
from titans_stream.forecasting.period.choice import DAY, NO_HINT, SAME, WEEK, choose, which_hint
from titans_stream.forecasting.period.second import choose_second
from titans_stream.forecasting.period.state import (
    COARSE,
    FINE,
    MIDDLE,
    SCALES,
    Finder,
    Meta,
    Workspace,
)
from titans_stream.jit import njit, scratch
from titans_stream.records import Float32, Float64

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
"""How far the last readings may be from the offset, in mean distances from their own mean."""
VALUE_LIMIT = 1e30

_candidates = scratch(CANDIDATES)
_hints = scratch(2)


@njit(inner=True)
def put(finder: Finder, value: float) -> bool:
    """Take one reading of one series (NaN: missing); True where a check is due."""
    meta = finder.meta
    kept = np.float32(math.nan)
    if math.isfinite(value):
        if meta.started == 0.0:
            meta.started = 1.0
            meta.offset = value
            meta.next_check = FIRST_CHECK
        kept = np.float32(min(VALUE_LIMIT, max(-VALUE_LIMIT, value - meta.offset)))
        meta.middle_sum += float(kept)
        meta.middle_count += 1.0
    count = int(meta.count)
    finder.fine[count % FINE] = kept
    count += 1
    meta.count = count
    if count % SCALES[1] == 0:
        have = meta.middle_count
        mean = meta.middle_sum / have if have else math.nan
        finder.middle[(count // SCALES[1] - 1) % MIDDLE] = mean
        meta.coarse_sum += meta.middle_sum
        meta.coarse_count += have
        meta.middle_sum = meta.middle_count = 0.0
    if count % SCALES[2] == 0:
        have = meta.coarse_count
        mean = meta.coarse_sum / have if have else math.nan
        finder.coarse[(count // SCALES[2] - 1) % COARSE] = mean
        meta.coarse_sum = meta.coarse_count = 0.0
    return meta.started != 0.0 and count >= meta.next_check


@njit(inner=True)
def is_near(meta: Meta, readings: float) -> bool:
    """Whether a check may be due within so many readings."""
    due = FIRST_CHECK if meta.started == 0.0 else meta.next_check
    return meta.count + readings >= due


@njit(inner=True)
def observe(finder: Finder, value: float, day: float, week: float, space: Workspace) -> bool:
    """Take one reading of one series (NaN: missing); True if a period changed.

    The state is all zero at first. day and week are the calendar's lengths in readings, NaN where
    unknown; `space` is scratch space.
    """
    return put(finder, value) and check(finder, day, week, space)


@njit(inner=True)
def reach(finder: Finder, period: float) -> int:
    """How many readings `recall` has that are fine enough for a period; at least 1."""
    limit = FINE
    if period > FINE / 8.0:
        limit = (MIDDLE - 1) * SCALES[1]
    if period > MIDDLE:
        limit = (COARSE - 1) * SCALES[2]
    return max(1, int(min(finder.meta.count, limit)))


@njit(inner=True)
def recall(finder: Finder, back: int) -> float:
    """The reading `back` readings ago (0: the last), or the mean kept of it; NaN: missing."""
    at = int(finder.meta.count) - 1 - back
    if back < FINE:
        kept = finder.fine[at % FINE]
    elif back < (MIDDLE - 1) * SCALES[1]:
        kept = finder.middle[(at // SCALES[1]) % MIDDLE]
    else:
        kept = finder.coarse[(at // SCALES[2]) % COARSE]
    return float(kept) + finder.meta.offset


@njit(inner=True)
def _linear(ring: Float32, written: int, out: Float32) -> int:
    """The ring's entries, oldest first -> out; how many."""
    size = ring.shape[0]
    n: int = min(written, size)
    place = written % size if written > size else 0
    for t in range(n):
        out[t] = ring[place]
        place = place + 1 if place + 1 < size else 0
    return n


@njit(inner=True)
def _rebase(finder: Finder) -> None:
    """Move the offset to the present level when it is so far off that float32 loses the changes."""
    meta = finder.meta
    count, mean, spread = 0.0, 0.0, 0.0
    last = int(meta.count)
    for t in range(max(0, last - FIRST_CHECK), last):
        value = finder.fine[t % FINE]
        if not math.isnan(value):
            count += 1.0
            mean += (value - mean) / count
            spread += abs(value - mean)
    if count == 0.0 or abs(mean) * count <= FAR * spread:
        return
    shift = np.float32(mean)
    for ring in (finder.fine, finder.middle, finder.coarse):
        for t in range(ring.shape[0]):
            ring[t] -= shift
    moved = float(shift)
    meta.middle_sum -= meta.middle_count * moved
    meta.coarse_sum -= meta.coarse_count * moved
    meta.offset += moved


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
def _schedule(meta: Meta, fine: Float32, changed: bool) -> None:
    """When the next check is due."""
    meta.agreed = 0.0 if changed else meta.agreed + 1.0
    wait = CHECK_EVERY if meta.count >= CHECK_EVERY else FIRST_WAIT
    if meta.agreed >= STABLE_CHECKS and meta.pending == 0.0 and meta.failed_since == 0.0:
        wait = SLOWER * CHECK_EVERY
    if meta.checks == SPREAD_CHECK:
        wait += _own_number(fine)
    meta.next_check = meta.count + wait


@njit(inner=True)
def check(finder: Finder, day: float, week: float, space: Workspace) -> bool:
    """Look for a period in the rings; True if one changed. Arguments as in `observe`."""
    meta, rings = finder.meta, space.rings
    meta.checks += 1.0
    count = int(meta.count)
    _rebase(finder)
    rings.lengths[0] = _linear(finder.fine, count, rings.values[0])
    rings.lengths[1] = _linear(finder.middle, count // SCALES[1], rings.values[1])
    rings.lengths[2] = _linear(finder.coarse, count // SCALES[2], rings.values[2])
    hints = _hints()
    hints[DAY] = usable(day)
    hints[WEEK] = usable(week)
    if not load(rings):
        _schedule(meta, finder.fine, False)
        return False
    candidates = _candidates()
    taken = first_candidates(candidates, rings.lengths, hints, meta.period, meta.pending)
    taken = propose(rings, space, candidates, taken)
    best, strength = choose(rings, space, candidates, taken, hints, meta.period)
    changed = _settle(meta, best, strength, hints)
    if meta.period > 0.0 and meta.checks % SLOWER == 0.0:
        second = choose_second(space, meta.period, hints, meta.second)
        changed = _settle_second(meta, second, hints) or changed
    if meta.period == 0.0 and meta.second != 0.0:
        meta.second = meta.second_pending = 0.0
        changed = True
    _schedule(meta, finder.fine, changed)
    return changed


@njit(inner=True)
def _settle(meta: Meta, best: float, strength: float, hints: Float64) -> bool:
    """Take over, keep or drop the period; True when it changed."""
    period, count = meta.period, meta.count
    if period > 0.0 and abs(best - period) <= 1e-9 * period:
        meta.pending = meta.failed_since = 0.0
        return False
    if best > 0.0:
        meta.failed_since = 0.0
        if abs(best - meta.pending) > SAME * best:
            meta.pending = best
            meta.pending_since = count
            plain = strength > AT_ONCE or which_hint(best, hints) != NO_HINT
            if period > 0.0 or not plain:
                return False
        elif count - meta.pending_since < 0.5 * best:
            return False
        meta.period = best
        meta.pending = 0.0
        if abs(meta.second - best) <= 0.05 * best:
            meta.second = meta.second_pending = 0.0
        if 0.0 < period < 0.5 * best:
            # a short cycle that was in use is looked for beside a longer one before it is dropped
            meta.second = meta.second_pending = period
        return True
    meta.pending = 0.0
    if period == 0.0:
        return False
    if meta.failed_since == 0.0:
        meta.failed_since = count
        return False
    if count - meta.failed_since < max(period, SLOWER * CHECK_EVERY):
        return False
    meta.period = meta.failed_since = 0.0
    return True


@njit(inner=True)
def _settle_second(meta: Meta, second: float, hints: Float64) -> bool:
    """Take over or drop the second period; True when it changed."""
    again = abs(second - meta.second_pending) <= SAME * second
    meta.second_pending = second
    plain = meta.second == 0.0 and which_hint(second, hints) != NO_HINT
    if second == meta.second or not (again or plain):
        return False
    meta.second = second
    return True
