"""The one-step forecaster's constants and the layout of its state (docs/forecasting.md).

A linear Titans memory with data-dependent gates predicts the next change of the series from
learned keys; the band around it comes from the series' own past errors. It gives `expected`,
`lower` and `upper` of every score.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from titans_stream.memory.rows import ArraySpec, Record
from titans_stream.records import Float64

LAGS = 8
TIME_FEATURES = 9
INPUTS = LAGS + 1 + TIME_FEATURES
"""Lagged changes, the level, and the time of day and week."""
FEATURES = 32
KEY = FEATURES + 1
KEY_CONSTANT = 0.5
GATES = 3
"""alpha (forgetting), eta (momentum), theta (step), each sigmoid(w k + b) times its maximum."""
GATE_MAXIMA = (0.05, 0.95, 0.4)
CLIP = 4.0
"""Largest gradient norm, in deviations of the series' changes."""
COUNT_CAP = 5_000.0
INPUT_CLIP = 8.0
VALUE_LIMIT = 1e100
"""Values beyond it enter as this, so that no square overflows."""
SCALE_READINGS = 4.0
"""The first readings only set the scales; memory and errors start with the next. While all
readings are equal only the first one counts: a sensor that is not in use yet has no scale."""
CHANGE_BOUND = 20.0
DEVIATION_BOUND = 100.0
ESCAPE_BOUND = 100.0
"""Largest change and deviation of a lone outlier, and of the third of a run of outliers."""

BAND_LEVEL = 0.95
SCALE_EMA = 1.0 / 50.0
SLOW_EMA = 1.0 / 1_000.0
SCALE_POWER = 0.6
BINS = 72
BIN_ORIGIN = -12.0
BINS_PER_OCTAVE = 4.0
HISTOGRAM_DECAY = 1.0 - 1.0 / 3_000.0
BLEND_DECAY = 1.0 - 1.0 / 1_000.0
BLEND_MASS = 30.0
BLEND_FLOOR = 1e-20
"""Below this sum of squared forecasts the memory has forecast nothing yet."""
FALLBACK = (0.98, 1.02)
"""Absolute error over that of repeating the last value: the memory is trusted in full up to the
first, not at all from the second on."""
FLAT_RUN = 12.0
FLAT_WEIGHT = 0.05
MINIMUM_READINGS = 30.0
"""Readings before a band is given."""
FIRST_BAND = 2.0
"""Half width, in deviations of the changes, of a series that was constant and has just moved."""


class OneStep(Record):
    """What a series' forecaster knows beside its memory and its past errors."""

    count: float
    """Readings taken."""
    mean: float
    variance: float
    change_variance: float
    """Mean square of the changes."""
    last: float
    run: float
    """Changes of zero in a row."""
    constant: float
    """Those before the first move."""
    error_scale: float
    """Fast and slow mean absolute error, in deviations of the changes."""
    slow_scale: float
    gain_cross: float
    """Decaying sums of target x forecast and forecast^2."""
    gain_square: float
    error_memory: float
    """Decaying absolute errors of the memory, and of repeating the last value."""
    error_last: float
    unit: float
    """What an error counts now in the histogram of errors."""
    history: Annotated[Float64, LAGS]
    """The last changes, newest first."""


def state_layout() -> dict[str, ArraySpec]:
    """The arrays of the one-step forecaster's state, by name; every one starts at zero."""
    return {
        "one_step": ArraySpec.of(OneStep),
        "one_step_memory": ArraySpec((2, KEY), np.float64),
        "one_step_errors": ArraySpec((BINS,), np.float64),
    }


def weight_shapes() -> dict[str, tuple[int, ...]]:
    """The slow weights, by name; all float64."""
    return {
        "forecast.key_weight": (INPUTS, FEATURES),
        "forecast.key_bias": (FEATURES,),
        "forecast.gate_weight": (GATES, KEY),
        "forecast.gate_bias": (GATES,),
    }
