"""The detector's constants and the layout of its state; the names are those of docs/method.md.

A series' state is one row of each array in `state_layout()`; its size is constant.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from titans_stream.memory.rows import ArraySpec

# Normaliser
Y_CLIP = 20.0
"""Largest normalised value, in standard deviations."""
COUNT_CAP = 100_000.0
"""Effective number of readings of the running mean and deviation: a long life still adapts."""
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

# Calibration
DENSE_CHANNELS = 5
SPARSE_CHANNELS = 4
CHANNELS = DENSE_CHANNELS + SPARSE_CHANNELS
WEIGHTS = (0.1, 0.1, 0.1, 0.1, 0.1, 1.0 / 6.0, 1.0 / 12.0, 1.0 / 6.0, 1.0 / 12.0)
"""Weights of the channels in S. Dense: A, its running means over 24 and 192, T, N; sparse: (width
.2, hour), (width .2, mean), (width .5, hour), (width .5, mean)."""
WEIGHTS_WITHOUT_TIME = (0.125, 0.125, 0.125, 0.0, 0.125, 0.125, 0.125, 0.125, 0.125)
"""Without timestamps T sees nothing, and the hour's cells are a plain histogram."""
BLOCK = 100
WARM_UP = 200
RING = 256
BLOCK_DECAY = 0.98
SOFTNESS = 0.05
LOG_FLOOR = 1e-3
NOTABLE = 0.4
"""A block whose highest S is at least this is notable."""
RECENT = 8
"""Blocks in which notable ones are counted; at most 30, they are bits of an integer."""
WITHHELD_FROM = 2
"""Age at which a notable block leaves the history, until it is RECENT blocks old: an event alone
makes nothing usual."""
FEW = 4
"""More notable blocks than this among the RECENT newest are a new habit: none is withheld."""

# Offsets into the cells of one series
_WIDE = HOUR_BINS + MEAN_BINS
CELLS_C1_FINE = 0
CELLS_C1_COARSE = CELLS_C1_FINE + TILINGS * _WIDE * VALUE_BINS[0]
CELLS_C0_FINE = CELLS_C1_COARSE + TILINGS * _WIDE * VALUE_BINS[1]
CELLS_C0_COARSE = CELLS_C0_FINE + TILINGS * VALUE_BINS[0]
CELLS_N1 = CELLS_C0_COARSE + TILINGS * VALUE_BINS[1]
CELLS = CELLS_N1 + TILINGS * _WIDE

# Columns of `core`
T = 0
COUNT = 1
MEAN = 2
VAR = 3
LAST_DEVIATION = 4
EMA24 = 5
EMA192 = 6
GRADIENT = 7
P_SMOOTH = GRADIENT + MEMORIES
LEVEL = P_SMOOTH + SPARSE_CHANNELS
PARTIAL = LEVEL + CHANNELS
W_SUM = PARTIAL + CHANNELS
WB_SUM = W_SUM + 1
WBB_SUM = WB_SUM + CHANNELS
N_BLOCKS = WBB_SUM + CHANNELS
N0 = N_BLOCKS + 1
PEAK_S = N0 + 1
NOTABLE_BITS = PEAK_S + 1
CORE = NOTABLE_BITS + 1


def state_layout() -> dict[str, ArraySpec]:
    """The arrays of the detector's state on the device, by name."""
    return {
        "core": ArraySpec((CORE,), np.float64),
        "history": ArraySpec((HISTORY,), np.float64),
        "memory": ArraySpec((MEMORIES, 2, KEY), np.float64),
        "cells": ArraySpec((CELLS,), np.int16),
        "blocks": ArraySpec((CHANNELS, RING), np.float32),
    }


def fresh_core() -> npt.NDArray[np.float64]:
    """The first `core` of a series; every other array starts at zero."""
    core = np.zeros(CORE)
    core[GRADIENT : GRADIENT + MEMORIES] = 1.0
    core[PARTIAL : PARTIAL + CHANNELS] = -np.inf
    core[PEAK_S] = -np.inf
    return core


def weight_shapes() -> dict[str, tuple[int, ...]]:
    """The slow weights, by name: projections of the keys A (lags and time) and T (time)."""
    return {
        "detect.key_a_weight": (LAGS + TIME_FEATURES, FEATURES),
        "detect.key_a_bias": (FEATURES,),
        "detect.key_t_weight": (TIME_FEATURES, FEATURES),
        "detect.key_t_bias": (FEATURES,),
    }
