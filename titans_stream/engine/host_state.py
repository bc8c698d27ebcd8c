"""The small per-series state that stays in host memory: clocks, tails, histograms, episodes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from titans_stream.detection import episodes as E
from titans_stream.detection import tail
from titans_stream.detection.rules import AlertConfig, resolve_rule
from titans_stream.engine import order as B
from titans_stream.memory.rows import ArraySpec
from titans_stream.records import Float64

_DIRECTIONS = {"both": 0.0, "above": 1.0, "below": -1.0}


def host_state() -> dict[str, ArraySpec]:
    """The arrays by name; `rule` comes from the configuration and is no memory."""
    return {
        "clock": ArraySpec((B.CLOCK,), np.int64),
        "pace": ArraySpec((B.PACE,), np.float64),
        "tail": ArraySpec((tail.TAIL,), np.float64),
        "histogram": ArraySpec((tail.HISTOGRAM,), np.float64),
        "episode": ArraySpec((E.EPISODE,), np.float64),
        "episode_times": ArraySpec((E.TIMES,), np.int64),
        "rule": ArraySpec((E.RULE,), np.float64),
    }


def fresh_host() -> dict[str, npt.NDArray[Any]]:
    """First rows of the arrays that do not start at zero."""
    clock = np.array([B.NEVER, B.NEVER, 0], np.int64)
    return {"clock": clock}


def rule_row(config: AlertConfig, series_id: str) -> Float64:
    """What the rules come to for one series; [RULE]."""
    rule = resolve_rule(config, series_id)
    row = np.zeros(E.RULE)
    row[E.DIRECTION] = _DIRECTIONS[rule.direction]
    row[E.MIN_DEVIATION] = rule.min_deviation
    row[E.MIN_RATIO] = rule.min_deviation_ratio
    row[E.LOW] = rule.low
    row[E.HIGH] = rule.high
    row[E.BUDGET] = rule.false_alarms_per_day
    row[E.ENABLED] = float(rule.enabled)
    return row


def settings_vector(config: AlertConfig) -> Float64:
    """The alert settings that all series share; [SETTINGS]."""
    vector = np.zeros(E.SETTINGS)
    vector[E.MIN_DURATION] = config.min_duration
    vector[E.HYSTERESIS] = config.hysteresis
    vector[E.RESOLVE_AFTER] = config.resolve_after
    vector[E.MAX_DURATION] = config.max_duration
    vector[E.COOL_DOWN] = -1.0 if config.cool_down is None else config.cool_down
    vector[E.LOG_CRITICAL] = math.log10(config.critical_factor)
    vector[E.UPDATE_EVERY] = config.update_every
    vector[E.ONBOARDING] = config.onboarding_allowance
    return vector
