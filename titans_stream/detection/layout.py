"""The detector's constants and the layout of its state; the names are those of docs/method.md.

A series' state is one row of each array in `state_layout()`; its size is constant.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from titans_stream.memory.rows import ArraySpec, Record
from titans_stream.records import Float32, Float64, Records

# Normaliser
Y_CLIP = 20.0
"""Largest normalised value, in standard deviations."""
COUNT_CAP = 100_000.0
"""Effective number of readings of the running mean and deviation: a long life still adapts."""
ROUNDING = 0.29
"""Deviation of values rounded to steps of 1: 1/sqrt(12)."""
OUTLIER_AFTER = 30.0
OUTLIER_CLIP = 100.0
"""A lone reading enters mean and deviation with at most this many standard deviations."""

# Dense memories: A (lags and time -> mean of 8), T (time -> mean of 24), N (lags, time -> next)
LAGS = 8
TIME_FEATURES = 9
FEATURES = 64
KEY = FEATURES + 1
KEY_CONSTANT = 0.5
MEMORIES = 3
HORIZON_A = 12
HORIZON_T = 24
HISTORY = 32
"""Normalised readings kept per series."""
ETA = 0.9
THETA = 0.002
THETA_DECAY = 1000.0
"""theta_t = THETA sqrt(THETA_DECAY / (t + THETA_DECAY))."""
THETA_FLOOR = 1e-4
CLIP_FACTOR = 4.0
CLIP_EMA = 0.01
CLIP_FLOOR = 0.02
EMA_SHORT = 1.0 / 24.0
EMA_LONG = 1.0 / 192.0

# Sparse memory: familiarity of (value, context) cells
TILINGS = 4
VALUE_WIDTHS = (0.2, 0.5)
VALUE_BINS = (39, 17)
VALUE_ORIGIN = (19, 8)
HOUR_BINS = 12
"""Two hours each; the bins are a ring."""
MEAN_BINS = 9
MEAN_ORIGIN = 4
MEAN_WINDOW = 16
CELL_UNIT = 1600
"""A visit in the cells' fixed-point numbers (int16): exact, and alike on every device."""
CELL_DECAY = 243
CELL_DECAY_SHIFT = 8
"""A visited cell c becomes c 243/256 + 1 visit: at most 19.7 visits."""
MASS_DECAY = 0.95
PRIOR_FAMILIARITY = 0.02
P_EMA = 0.1
FINE_BY_LEVEL = 1
"""Of the sparse channels, the one with the finer bins and the delayed level."""

# Memory P: the next value, linear in the last HISTORY ones
NEXT = HISTORY + 1
NEXT_RATE = 0.05
NEXT_EMA = 1.0 / 24.0

# Memory V: the value after the one before it
PREVIOUS_BINS = 17
PREVIOUS_ORIGIN = 8
PREVIOUS_WIDTH = 0.5
V_EMA = 0.3

# Q: the changes from value to value
QUIET_EMA = 1.0 / 8.0
QUIET_FLOOR = 0.001
MOVES_CAP = 3000.0
"""Readings that the usual change is a mean of."""
MOVE_BOUND = 8.0
MOVES_FREE = 30.0
"""A change counts at most MOVE_BOUND usual ones, after so many readings also in the usual one."""

# Is the series predictable from its last values?
GATE_CAP = 3000.0
GATE_BOUND = 5.0
GATE_FLOOR = 0.02
GATE_CLOSED = 0.4
GATE_OPEN = 0.2
"""P's mean error over the mean size of y: from GATE_CLOSED on its ranks count nothing, from
GATE_OPEN down fully."""

# Calibration
DENSE_CHANNELS = 5
SPARSE_CHANNELS = 4
LEVEL_CHANNELS = DENSE_CHANNELS + SPARSE_CHANNELS
NEXT_CHANNEL, TRANSITION_CHANNEL, QUIET_CHANNEL = (
    LEVEL_CHANNELS,
    LEVEL_CHANNELS + 1,
    LEVEL_CHANNELS + 2,
)
CHANNELS = LEVEL_CHANNELS + 3
WEIGHTS = (0.1, 0.1, 0.1, 0.1, 0.1, 1.0 / 6.0, 1.0 / 12.0, 1.0 / 6.0, 1.0 / 12.0)
"""Weights of the first nine channels in S0. Dense: A, its running means over 24 and 192, T, N;
sparse: (width .2, hour), (width .2, mean), (width .5, hour), (width .5, mean)."""
WEIGHTS_WITHOUT_TIME = (0.125, 0.125, 0.125, 0.0, 0.125, 0.125, 0.125, 0.125, 0.125)
"""Without timestamps T sees nothing, and the hour's cells are a plain histogram."""
BLOCK = 100
WARM_UP = 200
RING = 256
BLOCK_UNIT = 2048
"""Log surprises of block maxima in fixed-point numbers (int16): within 16 of 0, a hundredth of
SOFTNESS apart."""
BLOCK_DECAY = 0.98
SOFTNESS = 0.05
LOG_FLOOR = 1e-3
NOTABLE = 0.4
"""A block whose highest S0 is at least this is notable."""
RECENT = 8
"""Blocks in which notable ones are counted; at most 30, they are bits of an integer."""
WITHHELD_FROM = 2
"""Age at which a notable block leaves the history, until it is RECENT blocks old: an event alone
makes nothing usual."""
FEW = 4
"""More notable blocks than this among the RECENT newest are a new habit: none is withheld."""

# Magnitudes relative to the usual block maximum: of V, of P, of the value itself, of its
# unfamiliarity at the delayed level, of how small the changes are
MAGNITUDES = 5
LARGEST = 1e3
"""A value counts as at most this many deviations."""
MAGNITUDE_ABOVE = 0.4
"""The usual block maximum is so far above the mean at first, ..."""
MAGNITUDE_PRIOR = 2.0
"""... for as many blocks, ..."""
MAGNITUDE_VAR = 0.04
"""... with this variance of block maxima."""
MAGNITUDE_FLOOR = 0.2

# Fusion (docs/method.md, section 5)
PATTERN = 0.7
"""Share of P's and V's ranks in the statistic of a series that its last values predict."""
ALONE = 0.3
"""Weight of P's and V's ranks by themselves, in a mean of evidence that the larger part rules."""
QUIET_ALONE = 0.05
"""The same of Q's rank, where patterns count, ..."""
QUIET_BEYOND = 0.2
QUIET_SPAN = 0.4
"""... so far as Q's magnitude goes beyond its usual block maximum by these."""
KNOWN = 1000.0
"""Readings after which these weights, and what a predictable series takes off its magnitudes, are
half of what they will be."""
MAGNITUDE_V = 0.6
MAGNITUDE_V_BLOCKS = 4.0
"""V's magnitude counts MAGNITUDE_V, and by this many blocks of history half of that."""
MAGNITUDE_P = 0.15
BIG = 0.5
BIG_WEIGHT = 2.0
"""The value's own magnitude counts beyond BIG, so much in a series' statistic, ..."""
JOINT_BIG = 0.5
"""... and so much in a frame's."""
QUIET_SHARE = 0.2
QUIET_FROM = 0.7
"""Elsewhere Q's rank counts beyond QUIET_FROM, by this share."""
JOINT_V = 0.6
JOINT_Y = 0.6
JOINT_CENTRE = 0.45
JOINT_AGE = 0.25
"""A member's even part is lowered by this for each tenfold history, as it grows with it."""

# Offsets into the cells of one series
_WIDE = HOUR_BINS + MEAN_BINS
CELLS_C1_FINE = 0
CELLS_C1_COARSE = CELLS_C1_FINE + TILINGS * _WIDE * VALUE_BINS[0]
CELLS_C0_FINE = CELLS_C1_COARSE + TILINGS * _WIDE * VALUE_BINS[1]
CELLS_C0_COARSE = CELLS_C0_FINE + TILINGS * VALUE_BINS[0]
CELLS_N1 = CELLS_C0_COARSE + TILINGS * VALUE_BINS[1]
CELLS = CELLS_N1 + TILINGS * _WIDE
# Offsets into V's cells
TRANSITIONS_N = TILINGS * PREVIOUS_BINS * VALUE_BINS[0]
TRANSITIONS = TRANSITIONS_N + TILINGS * PREVIOUS_BINS


class Core(Record):
    """The numbers of one series."""

    t: float
    """Readings so far."""
    count: float
    """Readings that the running mean and deviation count for, at most COUNT_CAP."""
    mean: float
    var: float
    last_deviation: float
    last_value: float
    step: float
    """Smallest step between two values in a row, 0: none yet."""
    ema24: float
    """Running means of A's error over 24 and 192 readings."""
    ema192: float
    gradient: Annotated[Float64, MEMORIES]
    """Usual size of each memory's gradient."""
    p_smooth: Annotated[Float64, SPARSE_CHANNELS]
    level: Annotated[Float64, CHANNELS]
    """Mean surprise of each channel."""
    partial: Annotated[Float64, CHANNELS]
    """Largest log surprise of the block that is being filled."""
    w_sum: float
    """Weight of the counted block maxima, and per channel their weighted sum and square sum."""
    wb_sum: Annotated[Float64, CHANNELS]
    wbb_sum: Annotated[Float64, CHANNELS]
    n_blocks: float
    n0: float
    """Mass of the cells without context."""
    peak_s: float
    """Highest S0 of the block that is being filled."""
    notable_bits: float
    """Which of the RECENT newest blocks were notable: bit i is the block of age i."""
    lowest: Annotated[Float64, CHANNELS]
    """Least and greatest of each channel's block maxima."""
    highest: Annotated[Float64, CHANNELS]
    day: float
    """Fraction of the day at the newest reading; mean step from reading to reading in days."""
    pace: float
    deviations: float
    """The newest value's distance from the mean in standard deviations, at most LARGEST."""
    error: float
    """P's error at the newest value, and its running mean over 24 readings."""
    next_error: float
    u: float
    """asinh of the newest y, and of the one before it."""
    before: float
    transition: float
    """V's surprise, smoothed."""
    moved: float
    """The newest change from value to value, their usual size, and their running mean in that."""
    usual_move: float
    change: float
    gate_error: float
    """Means of P's error and of the size of y, bounded."""
    gate_size: float
    magnitude: Annotated[Float64, MAGNITUDES]
    """Mean magnitude, the largest one of the block that is being filled, and over past blocks the
    decayed weight, sum and square sum of those maxima."""
    magnitude_partial: Annotated[Float64, MAGNITUDES]
    magnitude_weight: float
    magnitude_sum: Annotated[Float64, MAGNITUDES]
    magnitude_squares: Annotated[Float64, MAGNITUDES]


def state_layout() -> dict[str, ArraySpec]:
    """The arrays of the detector's state, by name."""
    return {
        "core": ArraySpec.of(Core),
        "history": ArraySpec((HISTORY,), np.float64),
        "memory": ArraySpec((MEMORIES, 2, KEY), np.float64),
        "cells": ArraySpec((CELLS,), np.int16),
        "next_value": ArraySpec((NEXT,), np.float64),
        "transitions": ArraySpec((TRANSITIONS,), np.int16),
        "blocks": ArraySpec((CHANNELS, RING), np.int16),
    }


def fresh_core() -> Records:
    """The first `core` of a series, [1]; every other array starts at zero."""
    core = ArraySpec.of(Core).rows(1)
    core["gradient"] = 1.0
    core["partial"] = -np.inf
    core["lowest"] = np.inf
    core["highest"] = -np.inf
    core["change"] = 1.0
    core["magnitude_partial"] = -np.inf
    core["peak_s"] = -np.inf
    return core


def weight_shapes() -> dict[str, tuple[int, ...]]:
    """The slow weights, by name: projections of the keys A (lags and time) and T (time)."""
    return {
        "detect.key_a_weight": (LAGS + TIME_FEATURES, FEATURES),
        "detect.key_a_bias": (FEATURES,),
        "detect.key_t_weight": (TIME_FEATURES, FEATURES),
        "detect.key_t_bias": (FEATURES,),
    }


def block_weights() -> Float32:
    """Weights of the RING newest blocks, newest first; [RING] float32."""
    return np.power(BLOCK_DECAY, np.arange(RING)).astype(np.float32)
