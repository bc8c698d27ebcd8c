"""What the engine begins with: scores yet to be filled in, and values whose squares are finite."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from titans_stream.engine.columns import Columns, no_columns
from titans_stream.records import Float64, Int8, Scores

VALUE_LIMIT = 1e100
"""Larger values are taken as this; squares of it are still finite."""
_NUMBERS = ("surprise", "score", "p_value", "rarity", "expected", "lower", "upper")


def blank(columns: Columns, names: Sequence[str], status: Int8, gap: Int8) -> Scores:
    """Scores of readings whose status alone is known; numbers are NaN."""
    n = len(columns)
    empty = dict(zip(_NUMBERS, np.full((len(_NUMBERS), n), np.nan), strict=True))
    return Scores(
        series=names,
        timestamp=columns.timestamp,
        value=columns.value,
        status=status,
        alert=np.zeros(n, np.int8),
        onset=np.zeros(n, np.int8),
        gap=gap,
        partition=columns.partition,
        offset=columns.offset,
        **empty,
    )


def blank_scores() -> Scores:
    """No scores."""
    return blank(no_columns(), [], np.empty(0, np.int8), np.empty(0, np.int8))


def bounded(values: Float64) -> Float64:
    """Values within `VALUE_LIMIT`."""
    # np.clip takes five times as long for a few
    return np.minimum(np.maximum(values, -VALUE_LIMIT), VALUE_LIMIT)
