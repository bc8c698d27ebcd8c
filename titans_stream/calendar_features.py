"""Time of day and week as features, from local time."""

from __future__ import annotations

import math

import numpy as np

from titans_stream.jit import njit
from titans_stream.records import Float64

FEATURES = 9
"""sin and cos of 1, 2 and 3 x day, weekend flag, sin and cos of the week."""
HOUR = 9
"""Column of the time of day, in [0, 1)."""
COLUMNS = 10


@njit()
def calendar_features(local_seconds: Float64) -> Float64:
    """[N] local seconds since the epoch -> [N, COLUMNS]; NaN (no timestamps) gives zeros."""
    out = np.zeros((local_seconds.shape[0], COLUMNS))
    for i in range(local_seconds.shape[0]):
        seconds = local_seconds[i]
        if math.isnan(seconds):
            continue
        fraction = (seconds % 86400.0) / 86400.0
        s, c = math.sin(2.0 * math.pi * fraction), math.cos(2.0 * math.pi * fraction)
        s2, c2 = 2.0 * s * c, c * c - s * s
        out[i, 0], out[i, 1] = s, c
        out[i, 2], out[i, 3] = s2, c2
        out[i, 4], out[i, 5] = s2 * c + c2 * s, c2 * c - s2 * s
        # 1970-01-01 was a Thursday; weekday 0 is Monday
        weekday = (seconds / 86400.0 + 3.0) % 7.0
        out[i, 6] = 1.0 if weekday >= 5.0 else 0.0
        out[i, 7] = math.sin(2.0 * math.pi * weekday / 7.0)
        out[i, 8] = math.cos(2.0 * math.pi * weekday / 7.0)
        out[i, HOUR] = fraction
    return out
