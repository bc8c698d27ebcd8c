"""What a series' surprise is made of: the scores of the detector's channels.

They are in no message. The service's own engine is run over the kept history of the series, from
an empty memory, and its detector is listened to; with a shorter history than the worker's, early
scores differ from those that made the alerts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from titans_stream.config import Connector
from titans_stream.detection import layout
from titans_stream.detection.detector import Detector, Scored
from titans_stream.detection.explain import CAUSES
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.model import Model
from titans_stream.records import Float64, Int64, Status
from titans_stream.web.trial import Course, feed, readings_of

NAMES = (
    "level",
    "level, over 24 readings",
    "level, over 192 readings",
    "time of day",
    "next value",
    "value at this hour, finely",
    "value after its past, finely",
    "value at this hour, coarsely",
    "value after its past, coarsely",
    "next values after the last 32",
    "value after the one before",
    "quiet",
)
"""Of the detector's channels, in their order (docs/method.md)."""
assert len(NAMES) == layout.CHANNELS

_SCORED = (int(Status.SCORED), int(Status.WARMING_UP))


@dataclass(frozen=True, slots=True)
class ChannelScores:
    """UTC ns and surprise [N], and the channels' scores [N, 12], NaN while they warm up."""

    time: Int64
    surprise: Float64
    channels: Float64

    def between(self, begin: int, end: int) -> ChannelScores:
        """Those of a stretch of time, both ends included."""
        at = slice(
            int(np.searchsorted(self.time, begin)), int(np.searchsorted(self.time, end, "right"))
        )
        return ChannelScores(self.time[at], self.surprise[at], self.channels[at])

    def thinned(self, most: int) -> ChannelScores:
        """At most `most` columns: of each stretch the highest of every channel, at its begin."""
        n = len(self.time)
        if n <= most:
            return self
        begins = np.unique(np.linspace(0, n, most, endpoint=False).astype(np.int64))
        return ChannelScores(
            self.time[begins],
            np.fmax.reduceat(self.surprise, begins),
            np.fmax.reduceat(self.channels, begins, axis=0),
        )


class _Listening:
    """The model's own detector, whose channels are kept."""

    def __init__(self, model: Model) -> None:
        self._detector = Detector(model.weights)
        self.heard: list[Float64] = []

    def run(
        self, arrays: Mapping[str, Any], slots: Int64, values: Float64, calendar: Float64
    ) -> Scored:
        """As `Scorer.run`."""
        scored = self._detector.run(arrays, slots, values, calendar)
        self.heard.append(scored.channels.copy())
        return scored


def channel_scores(connector: Connector, model: Model, course: Course) -> ChannelScores:
    """Run the engine over the readings of one series, with a connector's settings."""
    detector = _Listening(model)
    engine = StreamEngine(
        connector.engine, connector.alerts, model, connector.input.topic or "", detector=detector
    )
    scores = feed(engine, readings_of([course])).scores
    at = np.flatnonzero(np.isin(scores.status, _SCORED))
    heard = np.concatenate(detector.heard or [np.empty((0, layout.CHANNELS))])
    assert len(heard) == len(at), f"{len(heard)} of {len(at)} readings were heard"
    surprise = scores.surprise[at]
    heard[np.isnan(surprise)] = np.nan  # of a memory that knows nothing yet
    return ChannelScores(scores.timestamp[at], surprise, heard)


def told_channels() -> list[dict[str, str]]:
    """Name and meaning of each channel."""
    return [{"name": name, "meaning": cause} for name, cause in zip(NAMES, CAUSES, strict=True)]
