"""The alerts that one statistic comes to at several budgets: the second stage run again alone.

The budget enters after the detector and the forecaster, so that one run of the engine is enough
for any number of budgets; the code is the engine's own (`detection.episodes`).

N is the number of readings of a series, or of frames of an asset.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from titans_stream.detection import episodes as E
from titans_stream.detection.rules import AlertConfig
from titans_stream.engine.host_state import fresh_host, host_state, rule_row, settings_vector
from titans_stream.evaluation.protocol import Bool
from titans_stream.records import Float64, Int64


@dataclass(frozen=True, slots=True)
class ScoredReadings:
    """What the second stage reads, in order, of one series or asset.

    `statistic` [N] is S (of an asset its frames' S), NaN while warming up; `band` [N, 3] holds
    expected, lower and upper. `series_id` is what alert rules are matched with.
    """

    series_id: str
    timestamp: Int64
    value: Float64
    statistic: Float64
    band: Float64


def onsets(readings: ScoredReadings, alerts: AlertConfig, budget: float) -> Bool:
    """[N]: true where an episode opens at `budget` false episodes per 100 readings."""
    n = len(readings.statistic)
    # a day of 100 readings: episodes per day are then episodes per 100 readings
    interval = np.full(n, E.NANOSECONDS_PER_DAY / 100.0)
    config = alerts.model_copy(update={"false_alarms_per_series_per_day": budget})
    host = {name: np.zeros((1, *spec.shape), spec.dtype) for name, spec in host_state().items()}
    for name, row in fresh_host().items():
        host[name][:] = row
    host["rule"][0] = rule_row(config, readings.series_id)
    event = np.empty(n, np.int8)
    E.run(
        np.zeros(n, np.int64), readings.timestamp, readings.value, readings.statistic,
        readings.band, np.zeros(n, np.int8), interval, host["rule"], settings_vector(config),
        host["tail"], host["histogram"], host["episode"], host["episode_times"],
        np.empty((n, 3)), np.empty(n, np.int8), event,
        np.empty((n, E.EPISODE)), np.empty((n, E.TIMES), np.int64),
    )  # fmt: skip
    opened: Bool = event == E.OPENED
    return opened
