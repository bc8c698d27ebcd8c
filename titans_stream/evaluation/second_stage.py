"""The alerts that one statistic comes to at several budgets: the second stage run again alone.

The budget enters after the detector and the forecaster, so that one run of the engine is enough
for any number of budgets; the code is the engine's own (`detection.episodes`).

N is the number of readings of a series, or of frames of an asset.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from titans_stream.detection import episodes, judging
from titans_stream.detection.rules import AlertConfig
from titans_stream.detection.watch_state import state_layout as watch_state
from titans_stream.engine.state import (
    alert_settings,
    judged_state,
    judged_tables,
    rule_of,
    watches_of,
)
from titans_stream.evaluation.protocol import Bool
from titans_stream.memory.rows import ArraySpec
from titans_stream.records import Float64, Int64


@dataclass(frozen=True, slots=True)
class ScoredReadings:
    """What the second stage reads, in order, of one series or asset.

    `statistic` [N] is S (of an asset its frames' S), NaN while warming up; `band` [N, 3] holds
    expected, lower and upper; `calendar`: timestamps carry a time of day (UTC). `series_id` is what
    alert rules are matched with; `alone` [N] the rarity that one member alone gives a frame, -inf
    without.
    """

    series_id: str
    timestamp: Int64
    value: Float64
    statistic: Float64
    band: Float64
    alone: Float64
    asset: bool
    calendar: bool


def onsets(readings: ScoredReadings, alerts: AlertConfig, budget: float) -> Bool:
    """[N]: true where an episode opens at `budget` false episodes per 100 readings."""
    n = len(readings.statistic)
    # a day of 100 readings: episodes per day are then episodes per 100 readings
    interval = np.full(n, episodes.NANOSECONDS_PER_DAY / 100.0)
    config = alerts.model_copy(update={"false_alarms_per_series_per_day": budget})
    nothing = np.zeros(n, np.int8)
    local = readings.timestamp / 1e9 if readings.calendar else np.full(n, np.nan)
    columns = judging.Readings(
        readings.timestamp, local, readings.value, readings.statistic, readings.band,
        nothing, interval, nothing, np.repeat(rule_of(config, readings.series_id), n), nothing,
        readings.alone,
    )  # fmt: skip
    written = judging.Events(
        ArraySpec.of(episodes.Judgement).rows(n), np.empty((n, 3)), np.empty(n, np.int8),
        np.empty(n, np.int8), ArraySpec.of(episodes.Episode).rows(n),
        ArraySpec.of(episodes.EpisodeTimes).rows(n),
    )  # fmt: skip
    tables = judged_tables({name: spec.rows(1) for name, spec in judged_state().items()})
    watches = watches_of({name: spec.rows(1) for name, spec in watch_state().items()})
    slots = np.zeros(n, np.int64)
    settings = alert_settings(config)._replace(watched=0.0 if readings.asset else 1.0)
    judging.run(slots, columns, tables, watches, settings, written)
    opened: Bool = written.event == episodes.OPENED
    return opened
