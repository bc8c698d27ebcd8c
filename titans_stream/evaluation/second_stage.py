"""The alerts that one statistic comes to at several budgets: the second stage run again alone.

The budget enters after the detector and the forecaster, so that one run of the engine is enough
for any number of budgets; the code is the engine's own (`detection.episodes`).

N is the number of readings of a series, or of frames of an asset.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from titans_stream.detection import claims, episodes, judging, tail, watch
from titans_stream.detection.budget import NANOSECONDS_PER_DAY
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
from titans_stream.jit import njit
from titans_stream.memory.rows import ArraySpec
from titans_stream.records import Float64, Int8, Int64, Records


@dataclass(frozen=True, slots=True)
class ScoredReadings:
    """What the second stage reads, in order, of one series or asset.

    `statistic` [N] is S (of an asset its frames' S), NaN while warming up; `band` [N, 3] holds
    expected, lower and upper; `calendar`: timestamps carry a time of day (UTC). `series_id` is what
    alert rules are matched with; `alone` [N] the rarity that one member alone claims for a frame
    (`detection.claims`), -inf without; `gap` [N]: 1 on the first reading after a gap;
    `first_move` [N]: a series, or a member of an asset, that was constant from its beginning moves.
    """

    series_id: str
    timestamp: Int64
    value: Float64
    statistic: Float64
    band: Float64
    alone: Float64
    asset: bool
    calendar: bool
    gap: Int8
    first_move: Bool


class Onsets(NamedTuple):
    """Where episodes open [N], and at which of these they open whatever the budget says."""

    opened: Bool
    anyway: Bool


class _Frames(NamedTuple):
    """Frames of an asset as columns; `band` [N, 3]; `alone` as in `episodes.Reading`."""

    time: Int64
    value: Float64
    statistic: Float64
    band: Float64
    alone: Float64
    interval: Float64


def onsets(readings: ScoredReadings, alerts: AlertConfig, budget: float) -> Onsets:
    """Where episodes open at `budget` false episodes per 100 readings.

    What opens one at any budget: values and steps beyond anything plausible, and first moves.
    """
    n = len(readings.statistic)
    # a day of 100 readings: episodes per day are then episodes per 100 readings
    interval = np.full(n, NANOSECONDS_PER_DAY / 100.0)
    config = alerts.model_copy(update={"false_alarms_per_series_per_day": budget})
    rule, settings = rule_of(config, readings.series_id), alert_settings(config)
    tables = judged_tables({name: spec.rows(1) for name, spec in judged_state().items()})
    event = np.empty(n, np.int8)
    implausible = np.zeros(n, np.bool_)
    if readings.asset:
        frames = _Frames(
            readings.timestamp, readings.value, readings.statistic, readings.band, readings.alone,
            interval,
        )  # fmt: skip
        judgement = ArraySpec.of(episodes.Judgement).rows(n)
        claimed = ArraySpec.of(claims.Claims).rows(1)
        _judge_frames(frames, rule, tables, claimed, settings, judgement, event)
    else:
        local = readings.timestamp / 1e9 if readings.calendar else np.full(n, np.nan)
        nothing = np.zeros(n, np.int8)
        columns = judging.Readings(
            readings.timestamp, local, readings.value, readings.statistic, readings.band,
            nothing, interval, readings.gap, np.repeat(rule, n), nothing,
        )  # fmt: skip
        written = judging.Events(
            ArraySpec.of(episodes.Judgement).rows(n), np.empty((n, 3)), np.empty(n, np.int8),
            event, ArraySpec.of(episodes.Episode).rows(n),
            ArraySpec.of(episodes.EpisodeTimes).rows(n),
        )  # fmt: skip
        watches = watches_of({name: spec.rows(1) for name, spec in watch_state().items()})
        count = judging.run(np.zeros(n, np.int64), columns, tables, watches, settings, written)
        what = written.episode["what"][:count]
        implausible[event != 0] = (what == watch.BIG) | (what == watch.LEAP)
    opened: Bool = event == episodes.OPENED
    return Onsets(opened, opened & (implausible | readings.first_move))


@njit(nogil=True)
def _judge_frames(
    frames: _Frames,
    rules: Records,
    tables: episodes.Tables,
    members_claims: Records,
    settings: episodes.Settings,
    judgement: Records,
    event: Int8,
) -> None:
    """Frames of an asset, judged as the engine does: each by its statistic and its driver."""
    space = tail.new_space()
    judged = episodes.judged_of(tables, 0, rules[0])
    members = members_claims[0]
    for i in range(frames.time.shape[0]):
        value, band, alone = frames.value[i], frames.band[i], frames.alone[i]
        if alone > -np.inf:
            alone = claims.judge(members, alone)
        reading = episodes.Reading(
            frames.time[i], value, frames.statistic[i], band[0], band[1], band[2], 0,
            frames.interval[i], alone,
        )  # fmt: skip
        permission = episodes.Permission(
            episodes.deviates(judged.rule, value, band[0]),
            episodes.violates(judged.rule, value),
            judged.rule.enabled == 1.0,
        )
        event[i] = episodes.step(judged, settings, reading, permission, space, judgement[i])
