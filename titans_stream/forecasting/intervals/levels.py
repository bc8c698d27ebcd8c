"""Forecast intervals from a series' own past forecast errors: state and tables of the kernels.

At eight anchor steps, from one reading to 30 periods ahead, the forecasts of every r-th reading
are kept until their reading comes. The size of the error, in units of how large errors have been
lately, goes into a histogram that forgets; a quantile of the histogram times the present unit is
half the width of an interval. `intervals_kernels.py` learns and
`interval_widths.py` reads, row by row; docs/forecasting.md explains and measures it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from titans_stream.forecasting.intervals import kernels as K
from titans_stream.forecasting.intervals import widths as W
from titans_stream.memory.rows import ArraySpec
from titans_stream.records import Float64


def state_layout() -> dict[str, ArraySpec]:
    """The arrays of the intervals' state, by name; every one starts at zero."""
    return {
        "interval_state": ArraySpec((K.STATE,), np.float64),
        "interval_histograms": ArraySpec((K.ANCHORS, K.BINS), np.float32),
        "interval_pending": ArraySpec((K.ANCHORS, K.SLOTS), np.float64),
    }


def level_table(levels: Sequence[float]) -> Float64:
    """What `interval_widths.quantiles` needs to know of each quantile level; [Q, LEVEL].

    A row holds the coverage of the symmetric interval that ends at the quantile, its side (-1, 0
    or 1), the normal quantile, and the factor by which an interval grows when the errors behind it
    are worth n independent ones: Student's t with `NU + n` degrees of freedom over the normal
    quantile, at n + 1 = 2^(j / 8). ValueError for a level outside (0, 1).
    """
    table = np.ones((len(levels), W.LEVEL))
    for row, level in zip(table, levels, strict=True):
        if not 0.0 < level < 1.0:
            raise ValueError(f"levels: {level:g} is not between 0 and 1")
        if level == 0.5:
            row[W.COVERAGE] = row[W.SIDE] = 0.0
            continue
        z = NormalDist().inv_cdf(max(level, 1.0 - level))
        row[W.COVERAGE] = round(abs(2.0 * level - 1.0), 12)
        row[W.SIDE] = np.sign(level - 0.5)
        row[W.NORMAL] = z
        for j in range(W.FACTORS):
            freedom = W.NU - 1.0 + 2.0 ** (j / W.FACTORS_PER_OCTAVE)
            row[W.FACTOR + j] = max(_student(z, row[W.COVERAGE], freedom) / z, 1.0)
    return table


def _student(z: float, coverage: float, n: float) -> float:
    """Quantile of |t| with n >= 2 degrees of freedom (Hill 1970, CACM algorithm 396).

    z is the normal quantile for the same coverage.
    """
    p = 1.0 - coverage
    if n <= 2.0:
        return math.sqrt(2.0 / (p * (2.0 - p)) - 2.0)
    a = 1.0 / (n - 0.5)
    b = 48.0 / (a * a)
    c = ((20700.0 * a / b - 98.0) * a - 16.0) * a + 96.36
    d = ((94.5 / (b + c) - 3.0) / b + 1.0) * math.sqrt(a * math.pi / 2.0) * n
    y: float = (d * p) ** (2.0 / n)
    if y > 0.05 + a:
        x = -z
        if n < 5.0:
            c += 0.3 * (n - 4.5) * (x + 0.6)
        c += (((0.05 * d * x - 5.0) * x - 7.0) * x - 2.0) * x + b
        y = x * x
        y = (((((0.4 * y + 6.3) * y + 36.0) * y + 94.5) / c - y - 3.0) / b + 1.0) * x
        y = math.expm1(a * y * y)
    else:
        head = ((n + 6.0) / (n * y) - 0.089 * d - 0.822) * (n + 2.0) * 3.0
        y = ((1.0 / head + 0.5 / (n + 4.0)) * y - 1.0) * (n + 1.0) / (n + 2.0) + 1.0 / y
    return math.sqrt(n * y)
