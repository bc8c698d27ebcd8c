"""Runs the service's own engine beside the stream: what would other rules have alerted?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from titans_stream.config import Connector
from titans_stream.detection.rules import AlertConfig, SeriesRule
from titans_stream.engine.build import EngineSetup, build_engine
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.model import Model
from titans_stream.records import Alert, Float64, Int64, Readings, Scores, concatenate
from titans_stream.times import parse_timestamp

MOST_READINGS = 50_000
"""Readings of one run; more are refused."""
MOST_SERIES = 1_000
"""Series of readings that are given; a memory takes some 64 KB."""
_CHUNK = 1_000
"""Readings of one call of the engine: between two of them other requests have their turn."""


@dataclass(frozen=True, slots=True)
class Course:
    """The readings of one series: UTC ns and values [N], NaN where one is missing."""

    series: str
    time: Int64
    value: Float64


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the engine made of readings; `alerts` holds every message, in order."""

    alerts: list[Alert]
    scores: Scores

    @property
    def episodes(self) -> list[Alert]:
        """The last message of each episode, by onset."""
        last = {alert.alert_id: alert for alert in self.alerts}
        return sorted(
            last.values(), key=lambda alert: (parse_timestamp(alert.onset), alert.series_id)
        )


def run_courses(
    connector: Connector,
    model: Model,
    courses: Sequence[Course],
    group: str | None = None,
    alerts: AlertConfig | None = None,
) -> Outcome:
    """Score courses by time, at one time in their order; `group`: they are channels of it."""
    return run(connector, model, readings_of(courses, group), alerts)


def run(
    connector: Connector, model: Model, readings: Readings, alerts: AlertConfig | None = None
) -> Outcome:
    """Score readings from empty memories with a connector's settings.

    `alerts` takes the place of the connector's rules. ValueError for more than `MOST_READINGS`.
    """
    engine = build_engine(
        model,
        EngineSetup(connector.engine, alerts or connector.alerts, topic=connector.input.topic),
    )
    return feed(engine, readings)


def feed(engine: StreamEngine, readings: Readings) -> Outcome:
    """Have an engine take readings to the end.

    ValueError for more than `MOST_READINGS`, and for more series than it takes.
    """
    if len(readings) > MOST_READINGS:
        raise ValueError(f"{len(readings):,} readings are more than {MOST_READINGS:,}")
    found = [
        engine.process(readings.take(np.arange(at, min(at + _CHUNK, len(readings)))))
        for at in range(0, len(readings), _CHUNK)
    ]
    if any(one.refused is not None for one in found):
        raise ValueError(f"more than {engine.series_count():,} series (engine.max_series)")
    found.append(engine.flush())
    told = [alert for one in found for alert in one.alerts]
    return Outcome(told, concatenate(Scores, [one.scores for one in found]))


def with_rule(alerts: AlertConfig, rule: SeriesRule) -> AlertConfig:
    """Alert settings with one more rule, which overrides those before it."""
    return alerts.model_copy(update={"rules": (*alerts.rules, rule)})


def exactly(series_id: str) -> str:
    """A glob that matches this id alone."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in series_id)


def readings_of(courses: Sequence[Course], group: str | None = None) -> Readings:
    """The readings of all courses by time; at one time in the order of the courses."""
    lengths = [len(one.time) for one in courses]
    owner = np.repeat(np.arange(len(courses)), lengths)
    time = np.concatenate([one.time for one in courses]) if courses else np.empty(0, np.int64)
    value = np.concatenate([one.value for one in courses]) if courses else np.empty(0)
    order = np.argsort(time, kind="stable")
    names = [courses[i].series for i in owner[order].tolist()]
    n = len(order)
    return Readings(
        names,
        np.ascontiguousarray(time[order]),
        np.ascontiguousarray(value[order]),
        np.zeros(n, np.int32),
        np.arange(n, dtype=np.int64),
        None if group is None else [group] * n,
    )
