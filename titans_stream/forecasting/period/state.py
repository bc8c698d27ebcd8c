"""The state of the finder of periods, and the space in which it looks for one."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np

from titans_stream.memory.rows import ArraySpec, Record, dtype_of
from titans_stream.records import Float32, Float64, Int64, Records

RINGS = 3
FINE, MIDDLE, COARSE = 1024, 768, 512
"""Entries of the rings of readings, of means of 8 and of means of 64."""
SCALES = (1, 8, 64)
"""Readings per entry of each ring."""
LONGEST = FINE
LAGS = LONGEST // 2
REMEMBERED = 48
"""Folds of one choice that are kept, not to be worked out twice."""
FOLD = 6
"""Numbers of a fold (`evidence.Fold`)."""


class Meta(Record):
    """What is known of one series' period."""

    count: float
    """Readings so far, missing ones included."""
    period: float
    """In readings, 0: none."""
    second: float
    """A further period beside it, 0: none."""
    checks: float
    offset: float
    """What the rings' values are counted from."""
    next_check: float
    """The count at which the next check is due."""
    pending: float
    """A period that has been seen once, 0: none; then the count at which it was."""
    pending_since: float
    failed_since: float
    """The count at which the period in use failed, 0: it did not."""
    agreed: float
    """Checks without a change."""
    middle_sum: float
    """Sum and number of the readings in the present entry of the middle and the coarse ring."""
    middle_count: float
    coarse_sum: float
    coarse_count: float
    second_pending: float
    started: float


class Finder(NamedTuple):
    """One series' state; the arrays of all series have their slot as first axis."""

    fine: Float32
    """[FINE] readings less the offset; NaN: missing."""
    middle: Float32
    """[MIDDLE] means of 8."""
    coarse: Float32
    """[COARSE] means of 64."""
    meta: Meta


class Rings(Record):
    """The three rings of one series, oldest entry first, as they are searched."""

    sums: Annotated[Float64, RINGS, LONGEST + 1]
    """Running sums of the entries and of how many were read."""
    counts: Annotated[Float64, RINGS, LONGEST + 1]
    lengths: Annotated[Int64, RINGS]
    """Entries held; 0 where a ring shows nothing."""
    complete: Annotated[Int64, RINGS]
    """1 where none is missing."""
    values: Annotated[Float32, RINGS, LONGEST]


class Cycle(Record):
    """Scratch space for the fold of one period."""

    deviations: Annotated[Float64, LONGEST]
    remainder: Annotated[Float64, LONGEST]
    total: Annotated[Float64, LONGEST]
    seen: Annotated[Float64, LONGEST]
    phases: Annotated[Int64, LONGEST]


class Workspace(Record):
    """Scratch space of one check, too much for a stack."""

    rings: Rings
    rest: Rings
    """What the first period leaves."""
    cycle: Cycle
    trial_sums: Annotated[Float64, LONGEST + 1]
    trial_counts: Annotated[Float64, LONGEST + 1]
    depths: Annotated[Float64, LAGS + 1]
    memo: Annotated[Float64, REMEMBERED, 2 + FOLD]
    """Period, ring and fold; a period of 0 is a free line."""
    trial: Annotated[Float32, LONGEST]
    filled: Annotated[Float32, LONGEST]
    mask: Annotated[Float32, LONGEST]
    structure: Annotated[Float32, LAGS + 1]
    padding: Annotated[Float32, 1]


def workspace(count: int = 1) -> Records:
    """Space for `count` checks at a time, with anything in it."""
    return np.empty(count, dtype_of(Workspace))


def state_layout() -> dict[str, ArraySpec]:
    """The arrays by name, in the order of `Finder`; every one starts at zero."""
    return {
        "period_fine": ArraySpec((FINE,), np.float32),
        "period_middle": ArraySpec((MIDDLE,), np.float32),
        "period_coarse": ArraySpec((COARSE,), np.float32),
        "period_meta": ArraySpec.of(Meta),
    }
