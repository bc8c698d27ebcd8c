"""Our own detector under evaluation: the engine of the service, fed with labelled series.

T is the number of rows of a series, D of its channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from titans_stream.detection.rules import AlertConfig
from titans_stream.durations import SECOND
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.model import Model
from titans_stream.engine.settings import EngineConfig
from titans_stream.evaluation.baselines import strangest_mean
from titans_stream.evaluation.protocol import Bool, Detection, LabelledSeries
from titans_stream.records import Float64, Readings, Scores, Status

INTERVAL = 300 * SECOND
"""Spacing of readings that turns a budget per 100 readings into one per day, and back."""
PER_DAY_OF_100 = 86_400 * SECOND / INTERVAL / 100
CHUNK = 20_000


@dataclass(frozen=True, slots=True)
class OurDetector:
    """The service's detector with one configuration for all series.

    `budgets` are in false episodes per 100 readings; the alerts of each are computed by the
    engine itself. `alerts` holds every other alert setting.
    """

    model: Model
    budgets: tuple[float, ...] = ()
    alerts: AlertConfig = field(default_factory=AlertConfig)
    engine: EngineConfig = field(
        default_factory=lambda: EngineConfig(device="cpu", expected_interval=INTERVAL // SECOND)
    )

    def __call__(self, series: Sequence[LabelledSeries]) -> list[Detection]:
        """One detection per series."""
        return [self._detect(one) for one in series]

    def _detect(self, one: LabelledSeries) -> Detection:
        scores = self._scores(one, self.alerts)
        channels = one.channels
        surprise = strangest_mean(scores.surprise.reshape(-1, channels))
        scored = np.isin(scores.status, (Status.SCORED, Status.WARMING_UP)).reshape(-1, channels)
        return Detection(
            surprise=surprise,
            statistic=surprise - 0.45 * np.log10(0.5 + _history_weight(scored[:, 0])),
            onsets={q: self._onsets(one, q) for q in self.budgets},
            p_value=scores.p_value if channels == 1 else None,
            expected=scores.expected[::channels],
            lower=scores.lower[::channels],
            upper=scores.upper[::channels],
        )

    def _onsets(self, one: LabelledSeries, budget: float) -> Bool:
        alerts = self.alerts.model_copy(
            update={"false_alarms_per_series_per_day": budget * PER_DAY_OF_100}
        )
        onset = self._scores(one, alerts).onset.reshape(-1, one.channels)
        any_channel: Bool = onset.max(axis=1) > 0
        return any_channel

    def _scores(self, one: LabelledSeries, alerts: AlertConfig) -> Scores:
        """All rows through a fresh engine; [T * D], the channels of a row side by side."""
        times = one.timestamp
        calendar = times is not None
        if times is None or (np.diff(times) <= 0).any():
            # equal or disordered times would be marked, not scored, and every row counts here
            order = np.arange(len(one), dtype=np.int64)
            times = order * INTERVAL if times is None else _increasing(times)
        engine = StreamEngine(self.engine, alerts, self.model, calendar=calendar)
        values = one.values.reshape(len(one), -1)
        channels = values.shape[1]
        names = [f"{one.name}/{d}" for d in range(channels)]
        parts = []
        for first in range(0, len(one), CHUNK):
            chunk = values[first : first + CHUNK]
            n = len(chunk)
            rows = np.repeat(np.arange(first, first + n), channels)
            readings = Readings(
                series=names * n,
                timestamp=times[rows],
                value=np.ascontiguousarray(chunk.reshape(-1)),
                partition=np.zeros(n * channels, np.int32),
                offset=rows,
            )
            parts.append(engine.process(readings).scores)
        return _join(parts)


def _increasing(
    times: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Times with ties and steps back moved just after their predecessor."""
    steps = np.arange(len(times), dtype=np.int64)
    return np.maximum.accumulate(times - steps) + steps


def _history_weight(scored: Bool) -> Float64:
    """The weight W of a series' block history at each row, as the detector counts it."""
    before = np.cumsum(scored) - 1
    blocks = np.maximum(before // 100 - 1, 0)
    weight: Float64 = (1.0 - 0.98**blocks) / 0.02
    return weight


def _join(parts: Sequence[Scores]) -> Scores:
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in Scores.__dataclass_fields__
        if name != "series"
    }
    return Scores(series=[name for part in parts for name in part.series], **columns)
