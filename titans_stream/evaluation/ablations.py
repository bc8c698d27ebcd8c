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
import torch

from titans_stream.detection import layout as L
from titans_stream.detection.detector import Detector
from titans_stream.detection.rules import AlertConfig
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.model import Model
from titans_stream.engine.settings import EngineConfig
from titans_stream.evaluation.memory_off import MemoryOff
from titans_stream.evaluation.ours import OurDetector
from titans_stream.evaluation.protocol import Bool
from titans_stream.records import Float64, Int64

MEMORY_OFF = "memory off"


DENSE = np.arange(L.CHANNELS) < L.DENSE_CHANNELS
"""[9]: the channels of the dense memories; the others are the sparse one's."""


class ChannelSubset(Detector):
    """Another detector whose S is the mean of `chosen` channels, flags [9], as it weights them."""

    def __init__(self, inner: Detector, chosen: Bool) -> None:
        self._inner = inner
        self._timed, self._untimed = (
            np.where(chosen, weights, 0.0) / np.asarray(weights)[chosen].sum()
            for weights in (L.WEIGHTS, L.WEIGHTS_WITHOUT_TIME)
        )

    def run(
        self, arrays: Mapping[str, Any], rows: Int64, values: Float64, calendar: Float64
    ) -> tuple[Float64, Float64]:
        """S [N] of the chosen channels (NaN while warming up) and all scores [N, 9]."""
        statistic, channels = self._inner.run(arrays, rows, values, calendar)
        timed = (calendar[:, :2] != 0.0).any(axis=1)
        combined = (channels * np.where(timed[:, None], self._timed, self._untimed)).sum(axis=1)
        return np.where(np.isnan(statistic), np.nan, combined), channels


Maker = Callable[[Mapping[str, Float64], torch.device], Detector]

ABLATIONS: Mapping[str, Maker] = {
    MEMORY_OFF: MemoryOff,
    "running mean": lambda w, device: ChannelSubset(MemoryOff(w, device), DENSE),
    "dense": lambda w, device: ChannelSubset(Detector(w, device), DENSE),
    "sparse": lambda w, device: ChannelSubset(Detector(w, device), ~DENSE),
}
"""Name in tables -> the detector. `running mean` is `memory off` without the histogram."""


class AblatedEngine(StreamEngine):
    """The engine with another detector in the place of its own."""

    def __init__(
        self, make: Maker, config: EngineConfig, alerts: AlertConfig, model: Model, calendar: bool
    ) -> None:
        super().__init__(config, alerts, model, calendar=calendar)
        self._detector = make(model.weights, self._device)


@dataclass(frozen=True, slots=True)
class AblatedDetector(OurDetector):
    """`OurDetector` with the ablation of a name in `ABLATIONS`."""

    ablation: str = MEMORY_OFF

    def make_engine(self, calendar: bool) -> StreamEngine:
        """A fresh engine with the ablated detector."""
        make = ABLATIONS[self.ablation]
        return AblatedEngine(make, self.engine, self.alerts, self.model, calendar)
