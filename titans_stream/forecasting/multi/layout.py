"""Constants and layout of the multi-step forecaster; its njit kernels read them from here.

Words: a *tick* is one position of the stream, a reading or a missing one; a *period* is P ticks;
a *cell* is an equal share of a period: `min(P, 96)` *fine* cells (the slot memory) and
`min(P, 24)` *coarse* cells (targets and window of the heads); a *row* of the heads is a range of
steps that shares weights, counted in 24ths of a period. docs/forecasting.md tells the method.
"""

from __future__ import annotations

import numpy as np

from titans_stream.memory.rows import ArraySpec

FINE = 96
"""Most fine cells a period."""
COARSE = 24
"""Most coarse cells a period."""
PERIODS = 30
"""Periods ahead that the heads have weights for; beyond, the last ones serve."""
NEAR_PERIODS = 4
"""Periods ahead that are learned from the near twin; the rest from the far one."""
HORIZON = PERIODS * COARSE
WINDOW = 2 * COARSE
"""Coarse cells of the shared head's window."""
RING = HORIZON + WINDOW
FEATURES = 4
"""Same phase a period ago, slot memory, last reading, mean of the last period; each less the
anchor: the last reading less that of its own phase, the others less that of the step's."""
FINER_ROWS = 12
"""Rows for steps of less than a 24th of a period: row FINER_ROWS - i ends at 24ths / 2^i."""
ENDS = (1, 2, 3, 4, 6, 12, 24, 48, 96, 192, 336, 528, 720)
"""Last steps of the other rows, in 24ths of a period."""
ROWS = FINER_ROWS + len(ENDS)
A_INPUTS = WINDOW + COARSE
"""Window, oldest first, and slot memory, the next phase first; both less the window's mean."""
A_OUTPUTS = HORIZON

SLOT_RATE = 1.0 - 0.5 ** (1.0 / 7.0)
"""2 theta of the slot memory: half of a slot is younger than seven periods."""
READY_PERIODS = 2.0
"""Periods seen before they are forecast from."""
PRIOR = 3_000.0
PRIOR_PER_STEP = 60.0
"""Origins that the shared weights count for: PRIOR + PRIOR_PER_STEP x the row's end."""
PRIOR_RIDGE = 1e-3
REFIT_EVERY = 96
"""Readings between two solutions for a series' own weights."""
NEAR_EVERY, FAR_EVERY = 11, 25
NEAR_EVERY_11, FAR_EVERY_5 = 13, 29
"""Coarse cells between two origins that are learned from; the second line where 11, or 5, divides
the cells of a period, so that every phase has its turn."""
NEAR_LASTS, FAR_LASTS = 24, 32
OUTLIER = 30.0
"""Deviations from the last reading beyond which a lone reading enters bounded."""
OUTLIERS = 3.0
"""The so-manieth outlier in a row is a new level."""
VALUE_LIMIT = 1e100
LEAST_UNIT = 1e-100
"""Smaller units would make the largest values infinite."""
SAME_PERIOD = 0.1
"""A new period this close to the one before, as a share of it, keeps all that was learned."""
CARRIED = 0.25
"""Share of what weights and gates were learned from that counts on with another period."""
LONGEST_GAP = 2.0 * PERIODS
"""Periods; of a longer gap whole periods are left out."""
VARIANCE_PERIODS = 1_000.0
UNIT_OCTAVES = 10.0
"""The unit is chosen anew where the deviation is 2^10 times as large or small."""
FALLBACK_HALF_LIFE = 90.0
FALLBACK_MASS = 6.0
FALLBACK_GATE = (0.95, 1.05)
"""Ratio of the model's squared error to the naive one: no blending below, full from above."""
OTHER_START, OTHER_MOST = 0.25, 0.5
"""Share of the shared head before anything is known, and at most."""
DAY_MINIMUM = 4.0
"""Least readings a day for the time of day to be a phase."""

# Columns of `forecast_meta`
TICK = 0
"""Ticks so far plus an offset that makes the phase the time of day."""
COUNT = 1
"""Readings that were not missing."""
PERIOD = 2
"""Ticks a period, 0: none."""
CLOCK = 3
"""Days of the clock that are the phase: 1 or 7; 0 where it is counted in ticks."""
LAST = 4
"""Last reading as it came."""
LAST_Z = 5
"""The last reading in units of UNIT from OFFSET, bounded."""
OFFSET = 6
UNIT = 7
MEAN = 8
VAR = 9
RUN = 10
OUTLYING = 11
TIME = 12
"""Timestamp of the last reading."""
STARTED = 13
"""First coarse cell of this period's state."""
CELL = 14
"""Last complete coarse cell."""
FINE_CELL = 15
FINE_SUM = 16
FINE_COUNT = 17
COARSE_SUM = 18
COARSE_COUNT = 19
REFIT = 20
SNAPSHOT = 21
"""Coarse cell of the newer of the kept weights."""
LAST_PLACE = 22
"""Fine cell of a period that the last reading lies in."""
DUE = 23
META = DUE + FINER_ROWS

# Columns of `forecast_sums`: x x' (upper triangle), x (y - anchor), weight
CROSS = FEATURES * (FEATURES + 1) // 2
MASS = CROSS + FEATURES
SUMS = MASS + 1

# Columns of `forecast_gate`: decaying sums of matured errors, m the model, s seasonal naive, l the
# last reading, y the value; then what follows from them
MODEL = 0
SEASONAL = 1
REPEAT = 2
SEASONAL_CROSS = 3
SEASONAL_SQUARE = 4
REPEAT_CROSS = 5
REPEAT_SQUARE = 6
OTHER_CROSS = 7
OTHER_SQUARE = 8
"""The shared head against the structured one."""
GATE_MASS = 9
SHARE = 10
"""Share of the naive forecast, 0: the model alone."""
NAIVE = 11
"""0 seasonal naive, 1 repeat-last."""
OTHER = 12
"""Share of the shared head in the model."""
GATE = 13

# Columns of `forecast_samples`
SAMPLE_ANCHOR = FEATURES
SAMPLE_FORECAST = FEATURES + 1
SAMPLE_LATEST = FEATURES + 2
SAMPLE_STEP = FEATURES + 3
SAMPLE = FEATURES + 4

# Rows of the scratch space in which the matured targets of one row of the heads are laid out
VALUE, ANCHOR_OF, SLOT_OF, LATEST_OF, HEAD_OF, OTHER_OF = 0, 1, 2, 3, 4, 5
PAIR = 6
WIDEST = max(ENDS[i] - ENDS[i - 1] for i in range(1, len(ENDS)))


def state_layout() -> dict[str, ArraySpec]:
    """The arrays of the forecaster's state, in the kernels' order; every one starts at zero."""
    f = np.float32
    return {
        "forecast_meta": ArraySpec((META,), np.float64),
        "forecast_slots": ArraySpec((2, FINE), f),
        "forecast_twins": ArraySpec((2, 2, COARSE), f),
        "forecast_visits": ArraySpec((FINE + 2 * COARSE,), np.uint8),
        "forecast_ring": ArraySpec((RING,), f),
        "forecast_lasts": ArraySpec((NEAR_LASTS + FAR_LASTS,), f),
        "forecast_sums": ArraySpec((ROWS, SUMS), f),
        "forecast_own": ArraySpec((ROWS, FEATURES), f),
        "forecast_kept": ArraySpec((2, len(ENDS), FEATURES), f),
        "forecast_gate": ArraySpec((ROWS, GATE), f),
        "forecast_samples": ArraySpec((FINER_ROWS, SAMPLE), f),
    }


def weight_shapes() -> dict[str, tuple[int, ...]]:
    """The shared weights, by name; all float64.

    `w`: the structured head; `gram`: mean of x x' over the training data in units of the series'
    variance; `window`: the shared head, a row for each 24th of a period ahead.
    """
    return {
        "forecast.head.w": (ROWS, FEATURES),
        "forecast.head.gram": (ROWS, FEATURES, FEATURES),
        "forecast.head.window": (A_OUTPUTS, A_INPUTS),
    }
