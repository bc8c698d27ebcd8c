"""The detector over slots of state.

N readings, in order; the readings of one series are consecutive in time. State arrays are those
of `layout.state_layout()`, [slots, ...], updated in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from titans_stream.detection import kernels, layout
from titans_stream.records import Float64, Int64


class Scorer(Protocol):
    """What the engine asks of a detector."""

    def run(
        self, arrays: Mapping[str, Any], slots: Int64, values: Float64, calendar: Float64
    ) -> tuple[Float64, Float64]:
        """S [N] (NaN while warming up) and the channels' scores [N, 9]; then learn.

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
        self._weights = kernels.Weights(a_weight, a_bias, t_weight, t_bias, blocks)

    def run(
        self, arrays: Mapping[str, Any], slots: Int64, values: Float64, calendar: Float64
    ) -> tuple[Float64, Float64]:
        """As `Scorer.run`."""
        statistic = np.empty(len(slots))
        channels = np.empty((len(slots), layout.CHANNELS))
        kernels.run(slots, values, calendar, state_of(arrays), self._weights, statistic, channels)
        return statistic, channels


def state_of(arrays: Mapping[str, Any]) -> kernels.State:
    """The detector's arrays out of an engine's."""
    return kernels.State(*(arrays[name] for name in layout.state_layout()))
