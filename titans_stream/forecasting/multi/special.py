"""Special days of one series, holidays that are forecast as Sundays, compiled by numba.

By how much a Sunday differs from the day of the week in question, in the memory of the longer
cycle, is taken from a special day's readings before anything learns them, and added to what is
forecast for a special day. So memories and heads know ordinary days alone, and learn from what
follows a holiday as they do from what follows an ordinary day. Where no table of special days is
given nothing is looked up.
"""

from __future__ import annotations

import math

from titans_stream.forecasting.multi import layout
from titans_stream.forecasting.multi.clock import DAY_SECONDS, WEEK
from titans_stream.forecasting.multi.layout import Meta
from titans_stream.forecasting.multi.series import Series, UInt8, cell_of, coarse_cells
from titans_stream.jit import njit

SUNDAY = 3
"""Days of the week are counted from 1970-01-01, a Thursday."""
DAY_BAND = layout.FINER_BANDS + layout.ENDS.index(layout.COARSE)
"""Steps of up to a day: as far as the longer head has a say in these, so has the week here."""


@njit(inner=True)
def note_day(meta: Meta, seconds: float) -> None:
    """Learn from the last tick's local time which day the ticks' first was."""
    if meta.days == 1.0 and not math.isnan(seconds):
        meta.epoch = math.floor(seconds / DAY_SECONDS - meta.tick / meta.period + 0.5)


@njit(inner=True)
def special_effect(series: Series, special: UInt8, tick: float) -> float:
    """What a tick's day being special makes of its value, in the series' unit; 0: it is ordinary.

    special [days from 1970 on].
    """
    meta = series.meta
    if special.shape[0] == 0 or meta.days != 1.0 or meta.cycle != WEEK:
        return 0.0
    day = int(math.floor(tick / meta.period) + meta.epoch)
    if day < 0 or day >= special.shape[0] or special[day] == 0:
        return 0.0
    cells = coarse_cells(meta.period)
    cell = cell_of(tick, cells, meta.period)
    memory = series.longer[0]
    effect = memory[SUNDAY * cells + cell % cells] - memory[cell % (7 * cells)]
    return 0.0 if math.isnan(effect) else series.gate[DAY_BAND].longer * effect
