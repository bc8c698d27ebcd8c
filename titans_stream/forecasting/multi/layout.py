"""Constants and layout of the multi-step forecaster; its njit kernels read them from here.

Words: a *tick* is one position of the stream, a reading or a missing one; a *period* is P ticks;
a *cell* is an equal share of a period: `min(P, 96)` *fine* cells (the slot memory) and
`min(P, 24)` *coarse* cells (targets of the heads); a *band* is a range of steps ahead
that share the weights of the heads, counted in 24ths of a period. docs/forecasting.md tells the
method.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from titans_stream.memory.rows import ArraySpec, Record, Single
from titans_stream.records import Float32, Float64

FINE = 96
"""Most fine cells a period."""
COARSE = 24
"""Most coarse cells a period."""
PERIODS = 30
"""Periods ahead that the heads have weights for; beyond, the last ones serve."""
NEAR_PERIODS = 4
"""Periods ahead that are learned from the near twin; the rest from the far one."""
HORIZON = PERIODS * COARSE
CYCLE = 7
"""Periods of the longest further cycle that has a memory of its own: a week of days."""
RING = HORIZON + (CYCLE + 1) * COARSE
"""A reading a cycle before the oldest origin that is learned from, and the period before that."""
FEATURES = 4
"""Same phase a period ago, slot memory, last reading, mean of the last period; each less the
anchor: the last reading less that of its own phase, the others less that of the step's."""
FINER_BANDS = 12
"""Bands of less than a 24th of a period: band FINER_BANDS - i ends at 24ths / 2^i."""
ENDS = (1, 2, 3, 4, 6, 12, 24, 48, 96, 192, 336, 528, 720)
"""Last steps of the other bands, in 24ths of a period."""
BANDS = FINER_BANDS + len(ENDS)

MEMORY_RATE = 1.0 - 0.5 ** (1.0 / 7.0)
"""2 theta of the slot memory: half of a value is younger than seven periods."""
READY_PERIODS = 2.0
"""Periods seen before they are forecast from."""
PRIOR = 3_000.0
PRIOR_PER_STEP = 60.0
"""Origins that the shared weights count for: PRIOR + PRIOR_PER_STEP x the band's end."""
PRIOR_RIDGE = 1e-3
REFIT_EVERY = 96
LONGER_REFIT_EVERY = 24
"""Readings between two solutions for a series' own weights, and for those of the longer head."""
NEAR_EVERY, FAR_EVERY = 11, 25
NEAR_EVERY_11, FAR_EVERY_5 = 13, 29
"""Coarse cells between two origins that are learned from; the second line where 11, or 5, divides
the cells of a period, so that every phase has its turn."""
NEAR_LASTS, FAR_LASTS = 24, 32
OUTLIER = 30.0
"""Deviations from the last reading beyond which a lone reading enters bounded."""
OUTLIERS = 3.0
"""So many outliers in a row are a new level."""
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
FALLBACK_GATE = (0.9, 1.05)
"""Ratio of the model's squared error to the naive one: no blending below, full from above."""
CYCLE_HALF_LIFE = 4.0
"""Periods, of how the longer cycle repeated does beside the model: a series that gets regular late
is forecast from weeks that were not for long, and errors of young weeks are to be forgotten."""
CYCLE_SEEN = 4.0
"""Periods of matured forecasts before the longer cycle repeated is one of the naive forecasts."""
LONGER_MASS = 2.0
"""Origins, in periods or band ends, whose evidence holds the longer head's share at that of the
band before, at first 0."""
CARRY_ENDS = (3, 6, 12, 24, 48)
"""Last steps, in 24ths of a period, of the bands over which late errors are carried on."""
CARRY_BANDS, CARRY_SAMPLES = 5, 10
CARRY_SHARE = 4
"""Where a band's record has the share that is carried on."""
DAY_MINIMUM = 4.0
"""Least readings a day for the time of day to be a phase."""

WIDEST = max(ENDS[i] - ENDS[i - 1] for i in range(1, len(ENDS)))
"""Coarse cells of the widest band."""
PRODUCTS = FEATURES * (FEATURES + 1) // 2

LONGER_FEATURES = 8
"""Inputs of the longer head; `longer.py` names them."""
LONGER_PRODUCTS = LONGER_FEATURES * (LONGER_FEATURES + 1) // 2
LONGER_RATE = 1.0 - 0.5 ** (1.0 / 5.0)
"""Of the longer cycle's memory: half of a value is younger than five cycles."""
LONGER_PRIOR = (0.25, 0.0, 1.0, 0.0, 0.35, 0.0, 0.0, 0.0)
"""Weights of the longer head before anything is learned; the third is a factor of the structured
head's."""
LONGER_TRIFLE = 0.1
"""Share up to which the longer cycle is not spoken of."""
LONGER_RIDGE = 0.02
LONGER_ORIGINS = 6.0
"""These weights count for so many origins, and for a share of all that were seen."""
LONGER_LEAST = 1e-3
"""Added to the mean square of each input, in units of the series' variance."""


class Meta(Record):
    """Where a series is, in which unit it is kept, and the cells that are being filled."""

    tick: float
    """Ticks so far plus an offset that makes the phase the time of day."""
    count: float
    """Readings that were not missing."""
    period: float
    """Ticks a period, 0: none."""
    days: float
    """Days of the clock that are the phase: 1 or 7; 0 where it is counted in ticks."""
    last: float
    """Last reading as it came."""
    last_z: float
    """The last reading in units of `unit` from `offset`, bounded."""
    offset: float
    unit: float
    mean: float
    variance: float
    """Mean and variance of the readings, in the unit from the offset."""
    run: float
    """Equal readings in a row."""
    outlying: float
    """Outliers in a row."""
    time: float
    """Timestamp of the last reading."""
    started: float
    """First coarse cell of this period's state."""
    coarse_cell: float
    """Last complete coarse cell."""
    fine_cell: float
    """The fine cell that is being filled; then sum and number of the readings in both kinds."""
    fine_sum: float
    fine_count: float
    coarse_sum: float
    coarse_count: float
    refit: float
    """Readings since the own weights were solved for."""
    snapshot: float
    """Coarse cell of the newer of the kept weights."""
    last_place: float
    """Fine cell of a period that the last reading lies in."""
    cycle: float
    """Periods of the longer cycle, 0: none."""
    longer_snapshot: float
    """Coarse cell of the newer of the longer head's older weights."""
    epoch: float
    """Local day, counted from 1970, that tick 0 lies in, or that `midnight` begins."""
    day: float
    """Ticks of a day beside a short cycle, 0: none."""
    midnight: float
    """The tick at which the last reading's day began, beside a short cycle."""
    due: Annotated[Float64, FINER_BANDS]
    """Ticks at which the sampled forecasts mature."""


class Sums(Record):
    """What a band's weights are learned from: sums over matured targets y with inputs x."""

    products: Annotated[Float32, PRODUCTS]
    """x x', upper triangle."""
    cross: Annotated[Float32, FEATURES]
    """x (y - anchor)"""
    mass: Single


class Values(Record):
    """What the values of a series can be; `values.py` learns and uses it."""

    seen: float
    lowest: float
    """Least reading."""
    whole: float
    """1 while every reading was a whole number."""
    same: float
    """Share of the complete fine cells that repeated the value of the period before."""
    need: float
    """So many repetitions in a row, and a phase is at rest."""
    spread: float
    """Mean of the phases' spreads, less 1."""
    cells: float
    """Complete fine cells, and by how much they are off the slot memory on average."""
    usual: float
    jumped: float
    """How far off a new level is that has just been believed, 0: none was."""
    calm: Annotated[Float64, 4]
    """The intervals' fast and slow mean error of the last but one period's end, and the last's."""


class Counter(Record):
    """Whether a series is a counter, and its last change; `counters.py` tells."""

    last: float
    seen: float
    ticks: float
    """Since the last reading with a value."""
    row: float
    """Changes in a row that were none below zero, and how many of them were above."""
    above: float
    fallen: float
    """1 once it fell other than by a reset."""
    active: float
    """1 while it is taken for a counter."""
    change: float
    """The last change per interval, NaN: unknown."""
    resets: float
    since_reset: float
    """Readings since the last reset."""


class Carry(Record):
    """Errors one step ahead and what they say of later steps; `carry.py` learns and uses it."""

    error: Single
    """Decaying mean of the errors."""
    forecast: Single
    """Of the next reading, where `ready` is 1."""
    ready: Single
    cell: Single
    """Last complete coarse cell that was looked at."""
    bands: Annotated[Float32, CARRY_BANDS, 5]
    """Decaying sums of error x later error, their squares and their mass, and the weight."""
    samples: Annotated[Float32, CARRY_SAMPLES, 3]
    """The mean error at the origin, the forecast and the coarse cell it is of."""


class LongerSums(Record):
    """The same for the longer head."""

    products: Annotated[Float32, LONGER_PRODUCTS]
    cross: Annotated[Float32, LONGER_FEATURES]
    mass: Single


class Gate(Record):
    """Decaying sums of a band's matured errors, and what follows from them.

    Of a value y, the model's m, the seasonal naive and the repeat-last forecast n: (y - m)^2,
    (y - n)^2 of both, (y - n)(m - n) and (m - n)^2 of both; the same of repeating the cycle,
    of the last `CYCLE_HALF_LIFE` alone.
    """

    model: Single
    seasonal: Single
    repeat: Single
    seasonal_cross: Single
    seasonal_square: Single
    repeat_cross: Single
    repeat_square: Single
    cycle: Single
    cycle_cross: Single
    cycle_square: Single
    cycle_model: Single
    """(y - m)^2 of the same time, and the mass of these four sums."""
    cycle_mass: Single
    mass: Single
    share: Single
    """Share of the naive forecast, 0: the model alone."""
    naive: Single
    """0 seasonal naive, 1 repeat-last, 2 the longer cycle repeated."""
    longer_cross: Single
    """Of the longer head's forecast w beside the structured one's f: (y - f)(w - f), (w - f)^2, and
    the mass of these sums."""
    longer_square: Single
    longer_mass: Single
    longer: Single
    """Share of the longer head in the model."""


class Sample(Record):
    """A sampled forecast of a band below a coarse cell, under way."""

    x: Annotated[Float32, FEATURES]
    anchor: Single
    forecast: Single
    latest: Single
    step: Single


def state_layout() -> dict[str, ArraySpec]:
    """The arrays of the forecaster's state, in the order of `Series`; every one starts at zero."""
    f = np.float32
    return {
        "forecast_meta": ArraySpec.of(Meta),
        "forecast_slots": ArraySpec((2, FINE), f),
        "forecast_twins": ArraySpec((2, 2, COARSE), f),
        "forecast_visits": ArraySpec((FINE + 2 * COARSE,), np.uint8),
        "forecast_ring": ArraySpec((RING,), f),
        "forecast_lasts": ArraySpec((NEAR_LASTS + FAR_LASTS,), f),
        "forecast_sums": ArraySpec.of(Sums, BANDS),
        "forecast_own": ArraySpec((BANDS, FEATURES), f),
        "forecast_kept": ArraySpec((2, len(ENDS), FEATURES), f),
        "forecast_gate": ArraySpec.of(Gate, BANDS),
        "forecast_samples": ArraySpec.of(Sample, FINER_BANDS),
        "forecast_longer": ArraySpec((4, CYCLE * COARSE), f),
        "forecast_longer_sums": ArraySpec.of(LongerSums, len(ENDS)),
        "forecast_longer_own": ArraySpec((3, len(ENDS), LONGER_FEATURES), f),
        "forecast_values": ArraySpec.of(Values),
        "forecast_rest": ArraySpec((FINE,), np.uint8),
        "forecast_spreads": ArraySpec((COARSE,), f),
        "forecast_floors": ArraySpec((COARSE,), f),
        "forecast_counter": ArraySpec.of(Counter),
        "forecast_carry": ArraySpec.of(Carry),
    }


def weight_shapes() -> dict[str, tuple[int, ...]]:
    """The shared weights, by name; all float64.

    `w`: the structured head; `gram`: mean of x x' over the training data in units of the series'
    variance.
    """
    return {
        "forecast.head.w": (BANDS, FEATURES),
        "forecast.head.gram": (BANDS, FEATURES, FEATURES),
    }
