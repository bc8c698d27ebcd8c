"""Where each part of a series' state lives.

| arrays | what | home |
|---|---|---|
| core, history, memory, cells, blocks | the detector | slot |
| one_step, one_step_memory, one_step_errors | the forecast of the next reading | slot |
| clock, jump, held, pace, stamp | event time | slot |
| watch, normal, profile, profile_known | what is normal for the series | slot |
| dwell, dwell_lengths, habits | how long it stays at one value; weekly episodes | slot |
| rises, turns | how fast it leaves what is normal, by time of day; where it turns | slot |
| tail, histogram, episode, episode_times | the second stage and its episode | slot |
| forecast_*, period_*, interval_*, mal_* | forecasts of many steps, where there are any | slot |
| rule | what the configuration says of the series: no memory, in no snapshot | by uid |
| member | the series as a member of its group (groups.py) | by uid |
| waiting readings | reorder buffer (reorder.py) | by uid |

A young series needs no slot while it is idle: its readings, from which the slot is made anew, and
what a replay does not give are a row of young.py. Another slot is spilled; what is by uid stays
in memory. State outside the engine (`export`, snapshots) has the arrays by these names, records
as plain columns; those of young series are named `young_*`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from titans_stream.detection.budget import MOST
from titans_stream.detection.episodes import Episode, EpisodeTimes, Rule, Settings, Tables
from titans_stream.detection.layout import fresh_core
from titans_stream.detection.layout import state_layout as detector_state
from titans_stream.detection.rules import AlertConfig, ResolvedRule, resolve_rule
from titans_stream.detection.tail import Histogram, Tail
from titans_stream.detection.watch_state import State as Watches
from titans_stream.detection.watch_state import state_layout as watch_state
from titans_stream.durations import DAY
from titans_stream.engine.order import (
    NEVER,
    Clock,
    Clocks,
    Jump,
    OrderSettings,
    Pace,
    Stamp,
)
from titans_stream.engine.settings import EngineConfig
from titans_stream.engine.store import Array
from titans_stream.forecasting.one_step.layout import state_layout as one_step_state
from titans_stream.memory.rows import ArraySpec
from titans_stream.records import Float64, Records

_DIRECTIONS = {"both": 0.0, "above": 1.0, "below": -1.0}


def clock_state() -> dict[str, ArraySpec]:
    """Event time of a series."""
    return {
        "clock": ArraySpec.of(Clock),
        "jump": ArraySpec.of(Jump),
        "held": ArraySpec((1,), np.float64),
        "pace": ArraySpec.of(Pace),
        "stamp": ArraySpec.of(Stamp),
    }


def judged_state() -> dict[str, ArraySpec]:
    """The second stage and the episode of a series or group, in the order of `Tables`."""
    return {
        "tail": ArraySpec.of(Tail),
        "histogram": ArraySpec.of(Histogram),
        "episode": ArraySpec.of(Episode),
        "episode_times": ArraySpec.of(EpisodeTimes),
    }


def series_state() -> dict[str, ArraySpec]:
    """What a series has in its slot without forecasts of many steps, by name."""
    return {
        **detector_state(), **one_step_state(), **clock_state(), **watch_state(), **judged_state()
    }  # fmt: skip


def fresh_series() -> dict[str, Array]:
    """First rows, [1], of the arrays that do not start at zero."""
    clock, jump = ArraySpec.of(Clock).rows(1), ArraySpec.of(Jump).rows(1)
    clock["last"] = clock["late_last"] = jump["ahead"] = jump["before"] = NEVER
    return {"core": fresh_core(), "clock": clock, "jump": jump}


_JUDGED, _WATCHED, _CLOCKS = tuple(judged_state()), tuple(watch_state()), tuple(clock_state())
"""Names of arrays; the layouts are not made anew for each call."""


def judged_tables(arrays: Mapping[str, Array]) -> Tables:
    """The second stage's arrays out of a state's."""
    return Tables(*(arrays[name] for name in _JUDGED))


def watches_of(arrays: Mapping[str, Array]) -> Watches:
    """What is normal for series, out of a state's arrays."""
    return Watches(*(arrays[name] for name in _WATCHED))


def clocks_of(arrays: Mapping[str, Array]) -> Clocks:
    """The clocks out of a state's arrays."""
    return Clocks(*(arrays[name] for name in _CLOCKS))


def rule_of(config: AlertConfig, series_id: str) -> Records:
    """What the rules come to for one series; [1] of `Rule`."""
    return rule_rows([resolve_rule(config, series_id)])


def rule_rows(rules: Sequence[ResolvedRule]) -> Records:
    """Rules as the kernels take them, [N] of `Rule`."""
    distinct = {id(rule): rule for rule in rules}
    place = {key: i for i, key in enumerate(distinct)}
    rows = ArraySpec.of(Rule).rows(len(distinct))
    for row, rule in enumerate(distinct.values()):
        rows[row] = (
            _DIRECTIONS[rule.direction],
            rule.min_deviation,
            rule.min_deviation_ratio,
            rule.low,
            rule.high,
            rule.false_alarms_per_day,
            float(rule.enabled),
        )
    found: Records = rows[[place[id(rule)] for rule in rules]]
    return found


def due(rules: Records, intervals: Float64) -> float:
    """False episodes that `rules` [N] allow for readings that stand for `intervals` [N], ns.

    A budget counts for at most `budget.MOST` in 100 readings.
    """
    each = np.minimum(rules["budget"] * intervals / DAY, MOST / 100.0)
    return float(np.sum(each * rules["enabled"]))


def alert_settings(config: AlertConfig) -> Settings:
    """The alert settings that all series share."""
    numbers = Settings(
        min_duration=config.min_duration,
        hysteresis=config.hysteresis,
        resolve_after=config.resolve_after,
        max_duration=config.max_duration,
        cool_down=-1.0 if config.cool_down is None else config.cool_down,
        log_critical=math.log10(config.critical_factor),
        update_every=config.update_every,
        onboarding=config.onboarding_allowance,
    )
    return Settings(*map(float, numbers))


def order_settings(config: EngineConfig) -> OrderSettings:
    """What the judge of event time is told."""
    return OrderSettings(
        float(config.expected_interval or 0), config.gap_factor, config.expire_after,
        config.duplicates in ("keep-order", "spread"), config.clock_reset,
    )  # fmt: skip
