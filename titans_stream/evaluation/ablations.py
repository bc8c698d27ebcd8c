"""Our detector with a part of it switched off, everything else being the engine's own code.

The second stage's population constants are those of the whole detector, so that at a given
budget an ablation alerts a little more or less often than it should; a single threshold for all
series does not see that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from titans_stream.detection import layout
from titans_stream.detection.detector import Detector, Scored, Scorer
from titans_stream.engine.engine import StreamEngine
from titans_stream.evaluation.memory_off import MemoryOff
from titans_stream.evaluation.ours import OurDetector
from titans_stream.evaluation.protocol import Bool
from titans_stream.records import Float64, Int64

MEMORY_OFF = "memory off"


DENSE = np.arange(layout.LEVEL_CHANNELS) < layout.DENSE_CHANNELS
"""[9]: the channels of the dense memories A, T and N; the others are the sparse one's."""


class ChannelSubset:
    """A `Scorer`: S is the mean of `chosen` channels, flags [9], as another one weights them.

    P, V, Q and the magnitudes are left out.
    """

    def __init__(self, inner: Scorer, chosen: Bool) -> None:
        self._inner = inner
        self._timed, self._untimed = (
            np.where(chosen, weights, 0.0) / np.asarray(weights)[chosen].sum()
            for weights in (layout.WEIGHTS, layout.WEIGHTS_WITHOUT_TIME)
        )

    def run(
        self, arrays: Mapping[str, Any], slots: Int64, values: Float64, calendar: Float64
    ) -> Scored:
        """As `Scorer.run`, S being that of the chosen channels."""
        statistic, channels, _ = self._inner.run(arrays, slots, values, calendar)
        timed = (calendar[:, :2] != 0.0).any(axis=1)
        weights = np.where(timed[:, None], self._timed, self._untimed)
        combined = (channels[:, : layout.LEVEL_CHANNELS] * weights).sum(axis=1)
        combined[np.isnan(statistic)] = np.nan
        return Scored(combined, channels, np.column_stack((combined, 0.0 * combined)))


ABLATIONS: Mapping[str, Callable[[Mapping[str, Float64]], Scorer]] = {
    MEMORY_OFF: lambda weights: MemoryOff(),
    "running mean": lambda weights: ChannelSubset(MemoryOff(), DENSE),
    "dense": lambda weights: ChannelSubset(Detector(weights), DENSE),
    "sparse": lambda weights: ChannelSubset(Detector(weights), ~DENSE),
}
"""Name in tables -> the detector of slow weights. `running mean` is `memory off` without the
histogram."""


@dataclass(frozen=True, slots=True)
class AblatedDetector(OurDetector):
    """`OurDetector` with the ablation of a name in `ABLATIONS`."""

    ablation: str = MEMORY_OFF

    def make_engine(self, calendar: bool) -> StreamEngine:
        """A fresh engine with the ablated detector."""
        detector = ABLATIONS[self.ablation](self.model.weights)
        return StreamEngine(
            self.engine, self.alerts, self.model, calendar=calendar, detector=detector
        )
