"""Our own detector under evaluation: the engine of the service, fed with labelled series.

T is the number of rows of a series, D of its channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from titans_stream.detection.claims import SHARE
from titans_stream.detection.layout import BLOCK, BLOCK_DECAY, JOINT_AGE
from titans_stream.detection.rules import AlertConfig
from titans_stream.durations import SECOND
from titans_stream.engine.build import EngineSetup, build_engine
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.model import Model
from titans_stream.engine.settings import EngineConfig
from titans_stream.evaluation.protocol import Bool, Detection, LabelledSeries
from titans_stream.evaluation.second_stage import Onsets, ScoredReadings, onsets
from titans_stream.records import (
    Float64,
    GroupScores,
    Int64,
    Readings,
    Scores,
    Status,
    concatenate,
)

HISTORY_TERM = 0.45
"""What a single threshold is set on is S less this for each tenfold history, of a frame together
with what its S has already."""
INTERVAL = 300 * SECOND
"""Spacing of readings without timestamps."""
CHUNK = 20_000


def engine_settings(**changes: object) -> EngineConfig:
    """The engine's settings in an evaluation: on the CPU."""
    return EngineConfig.model_validate({"device": "cpu", **changes})


@dataclass(frozen=True, slots=True)
class OurDetector:
    """The service's detector with one configuration for all series.

    `budgets` are in false episodes per 100 readings; the engine runs once, its second stage once
    for each of them. `alerts` holds every other alert setting.
    """

    model: Model
    budgets: tuple[float, ...] = ()
    alerts: AlertConfig = field(default_factory=AlertConfig)
    engine: EngineConfig = field(default_factory=engine_settings)

    def __call__(self, series: Sequence[LabelledSeries]) -> list[Detection]:
        """One detection per series."""
        return [self._detect(one) for one in series]

    def make_engine(self, calendar: bool) -> StreamEngine:
        """A fresh engine; `calendar` False where timestamps carry no time of day."""
        setup = EngineSetup(self.engine, self.alerts, calendar=calendar)
        return build_engine(self.model, setup)

    def _detect(self, one: LabelledSeries) -> Detection:
        scores, frames = self.score_rows(one)
        channels = one.channels
        columns = scores.surprise.reshape(-1, channels)
        scored = np.isin(scores.status, (Status.SCORED, Status.WARMING_UP)).reshape(-1, channels)
        surprise, p_value = scores.surprise, scores.p_value
        judged = np.flatnonzero(scored[:, 0])
        alone = np.full(len(one), -np.inf)
        term = HISTORY_TERM
        if frames is not None:
            # a row is a frame of the group; the last stays open where a channel is missing
            judged = np.searchsorted(scores.timestamp[::channels], frames.timestamp)
            surprise, p_value = np.full((2, len(one)), np.nan)
            surprise[judged], p_value[judged] = frames.statistic, frames.p_value
            term -= JOINT_AGE
            alone = _rarity_alone(scores.rarity.reshape(-1, channels))
        strangest = np.where(scored & ~np.isnan(columns), columns, -np.inf)[judged].argmax(axis=1)
        at = judged * channels + strangest
        readings = ScoredReadings(
            series_id=one.name if frames is not None else scores.series[0],
            timestamp=scores.timestamp[at],
            value=scores.value[at],
            statistic=surprise[judged],
            band=np.column_stack((scores.expected, scores.lower, scores.upper))[at],
            alone=alone[judged],
            asset=frames is not None,
            calendar=one.timestamp is not None,
            gap=scores.gap[at],
            first_move=_first_moves(one.values)[judged],
        )
        alerts = {q: self._onsets(readings, judged, len(one), q) for q in self.budgets}
        return Detection(
            surprise=surprise,
            statistic=surprise - term * np.log10(0.5 + _history_weight(scored[:, 0])),
            onsets={q: found.opened for q, found in alerts.items()},
            anyway={q: found.anyway for q, found in alerts.items()},
            p_value=p_value,
            expected=scores.expected[::channels],
            lower=scores.lower[::channels],
            upper=scores.upper[::channels],
        )

    def _onsets(self, readings: ScoredReadings, rows: Int64, length: int, budget: float) -> Onsets:
        """At which rows [length] episodes open; `rows` [N] are those of the readings."""
        found = np.zeros((2, length), dtype=np.bool_)
        found[:, rows] = onsets(readings, self.alerts, budget)
        return Onsets(*found)

    def score_rows(self, one: LabelledSeries) -> tuple[Scores, GroupScores | None]:
        """All rows through a fresh engine; [T * D], the channels of a row side by side.

        Several channels are a group of the engine, with a frame per row.
        """
        times = one.timestamp
        calendar = times is not None
        if times is None or (np.diff(times) <= 0).any():
            # equal or disordered times would be marked, not scored, and every row counts here
            order = np.arange(len(one), dtype=np.int64)
            times = order * INTERVAL if times is None else _increasing(times)
        engine = self.make_engine(calendar)
        values = one.values.reshape(len(one), -1)
        channels = values.shape[1]
        names = [f"{one.name}/{d}" for d in range(channels)]
        results = []
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
                group=None if channels == 1 else [one.name] * (n * channels),
            )
            results.append(engine.process(readings))
        frames = [result.groups for result in results if result.groups is not None]
        return (
            concatenate(Scores, [result.scores for result in results]),
            concatenate(GroupScores, frames) if frames else None,
        )


def _first_moves(values: Float64) -> Bool:
    """[T]: where a channel of the values [T] or [T, D] first leaves its first value."""
    columns = values.reshape(len(values), -1)
    found = np.zeros(len(values), np.bool_)
    for column in columns.T:
        known = np.flatnonzero(~np.isnan(column))
        moved = known[column[known] != column[known[:1]]]
        found[moved[:1]] = True
    return found


def _rarity_alone(rarity: Float64) -> Float64:
    """[T]: the rarity that one of the members [T, D] alone gives a frame; -inf without a score."""
    scored = ~np.isnan(rarity)
    members = np.maximum(scored.sum(axis=1), 1)
    rarest = np.where(scored, rarity, -np.inf).max(axis=1)
    found: Float64 = rarest + np.log10(SHARE / members)
    return found


def _increasing(times: Int64) -> Int64:
    """Times with ties and steps back moved just after their predecessor."""
    steps = np.arange(len(times), dtype=np.int64)
    return np.maximum.accumulate(times - steps) + steps


def _history_weight(scored: Bool) -> Float64:
    """The weight W of a series' block history at each row, as the detector counts it."""
    before = np.cumsum(scored) - 1
    blocks = np.maximum(before // BLOCK - 1, 0)
    weight: Float64 = (1.0 - BLOCK_DECAY**blocks) / (1.0 - BLOCK_DECAY)
    return weight
