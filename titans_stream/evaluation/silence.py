"""From a statistic and a threshold to alerts: the silence rule.

After an alert at row s, a row t may alert again if more than clip(.045 t, 30, 150) rows lie
between them: t - s > clip(.045 t, 30, 150). The rule needs no knowledge of the series' length.
"""

from __future__ import annotations

import numpy as np

from titans_stream.jit import njit
from titans_stream.records import Float64, Int64

SHARE = 0.045
SHORTEST = 30
LONGEST = 150


@njit()
def _onsets(statistic: Float64, threshold: float, silence: bool, out: Int64) -> int:
    """Fill `out` with the rows that alert; return their number."""
    count = 0
    last = -1_000_000
    for t in range(len(statistic)):
        if statistic[t] >= threshold:
            if silence:
                gap = min(max(SHARE * t, SHORTEST), LONGEST)
                if t - last <= gap:
                    continue
            last = t
            out[count] = t
            count += 1
    return count


def alert_rows(statistic: Float64, threshold: float, silence: bool = True) -> Int64:
    """Rows of `statistic` [T] that alert at `threshold`.

    NaN never alerts. Without `silence`, every row at or above the threshold is an alert.
    """
    out = np.empty(len(statistic), dtype=np.int64)
    count = _onsets(np.ascontiguousarray(statistic), float(threshold), silence, out)
    return out[:count]
