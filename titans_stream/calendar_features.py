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
def features_at(seconds: float, out: Float64) -> None:
    """Write the features [COLUMNS] of a local time in seconds since the epoch."""
    for k in range(COLUMNS):
        out[k] = 0.0
    if math.isnan(seconds):
        return
    fraction = (seconds % 86400.0) / 86400.0
    s, c = math.sin(2.0 * math.pi * fraction), math.cos(2.0 * math.pi * fraction)
    s2, c2 = 2.0 * s * c, c * c - s * s
    out[0], out[1] = s, c
    out[2], out[3] = s2, c2
    out[4], out[5] = s2 * c + c2 * s, c2 * c - s2 * s
    # 1970-01-01 was a Thursday; weekday 0 is Monday
    weekday = (seconds / 86400.0 + 3.0) % 7.0
    out[6] = 1.0 if weekday >= 5.0 else 0.0
    out[7] = math.sin(2.0 * math.pi * weekday / 7.0)
    out[8] = math.cos(2.0 * math.pi * weekday / 7.0)
    out[HOUR] = fraction


@njit()
def calendar_features(local_seconds: Float64) -> Float64:
    """[N] local seconds since the epoch -> [N, COLUMNS]; NaN (no timestamps) gives zeros."""
    out = np.empty((local_seconds.shape[0], COLUMNS))
    for i in range(local_seconds.shape[0]):
        features_at(local_seconds[i], out[i])
    return out
