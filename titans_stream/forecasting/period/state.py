"""The state of the finder of periods; `period_kernels.observe` reads it one reading at a time."""

from __future__ import annotations

import numpy as np

from titans_stream.forecasting.period import finder as K
from titans_stream.memory.rows import ArraySpec


def state_layout() -> dict[str, ArraySpec]:
    """The arrays by name, in the order of `observe`; every one starts at zero."""
    return {
        "period_fine": ArraySpec((K.FINE,), np.float32),
        "period_middle": ArraySpec((K.MIDDLE,), np.float32),
        "period_coarse": ArraySpec((K.COARSE,), np.float32),
        "period_meta": ArraySpec((K.META,), np.float64),
    }
