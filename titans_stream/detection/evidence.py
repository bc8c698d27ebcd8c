"""What is known of a reading of a single series beside its statistic."""

from __future__ import annotations

import math
from typing import NamedTuple

from titans_stream.jit import njit


class Evidence(NamedTuple):
    """What else is known of a reading of a single series; see `watch_state.Found`."""

    rarity: float
    what: int
    first: float
    second: float
    third: float
    far: float
    big: bool
    """Beyond anything plausible: an episode opens whatever the budget says."""
    fresh: bool
    """The reading before was plausible."""
    minor: bool
    """It is no critical one."""
    limit: float
    known_far: float
    """Episodes like this are known up to so many half widths from normal; -1: they are not."""
    side: float
    """How far from normal the series was lately, in usual deviations."""


@njit(inline="always")
def no_evidence() -> Evidence:
    """Nothing more is known."""
    return Evidence(
        -9.0, 0, math.nan, math.nan, math.nan, 0.0, False, False, False, math.nan, -1.0, 0.0
    )  # fmt: skip
