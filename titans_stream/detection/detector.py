"""The detector over slots of state.

N readings, in order; the readings of one series are consecutive in time. State arrays are those
of `layout.state_layout()`, [slots, ...], updated in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from titans_stream.detection import kernels, layout
from titans_stream.detection.arrays import State, Weights
from titans_stream.records import Float64, Int64

_NAMES = tuple(layout.state_layout())


class Scored(NamedTuple):
    """What a detector says of N readings, NaN while warming up."""

    statistic: Float64
    """[N]: S."""
    channels: Float64
    """[N, 12]: the channels' scores."""
    joint: Float64
    """[N, 2]: what a frame of an asset takes of its members, the even part and the magnitude."""

    @classmethod
    def empty(cls, n: int) -> Scored:
        """Room for N readings."""
        return cls(np.empty(n), np.empty((n, layout.CHANNELS)), np.empty((n, 2)))


class Scorer(Protocol):
    """What the engine asks of a detector."""

    def run(
        self, arrays: Mapping[str, Any], slots: Int64, values: Float64, calendar: Float64
    ) -> Scored:
        """Score N readings; then learn.

        slots [N] index the arrays; values [N] finite; calendar [N, 10].
        """
        ...


class Detector:
    """Scores readings with the slow weights `detect.*` of a model; a `Scorer`."""

    def __init__(self, weights: Mapping[str, Float64]) -> None:
        a_weight, a_bias, t_weight, t_bias = (
            np.ascontiguousarray(weights[name], np.float64) for name in layout.weight_shapes()
        )
        blocks = layout.block_weights()
        self.weights = Weights(a_weight, a_bias, t_weight, t_bias, blocks)

    def run(
        self, arrays: Mapping[str, Any], slots: Int64, values: Float64, calendar: Float64
    ) -> Scored:
        """As `Scorer.run`."""
        found = Scored.empty(len(slots))
        kernels.run(slots, values, calendar, state_of(arrays), self.weights, *found)
        return found


def state_of(arrays: Mapping[str, Any]) -> State:
    """The detector's arrays out of an engine's."""
    return State(*(arrays[name] for name in _NAMES))
