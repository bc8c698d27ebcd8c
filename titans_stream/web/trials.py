"""Answers of the API that run the engine: what if the rules were others, and scores of readings."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import yaml

from titans_stream.detection.rules import AlertConfig, ResolvedRule, SeriesRule, resolve_rule
from titans_stream.engine.model import Model
from titans_stream.printable import redacted
from titans_stream.records import Alert, ModelRef, Readings, Status
from titans_stream.times import format_timestamp, format_timestamps, parse_timestamp
from titans_stream.web.channels import ChannelScores, channel_scores, told_channels
from titans_stream.web.models import RuleChange, ScoreRequest, WhatIfRequest
from titans_stream.web.store import Store
from titans_stream.web.trial import (
    MOST_READINGS,
    MOST_SERIES,
    Course,
    Outcome,
    exactly,
    run,
    run_courses,
    with_rule,
)
from titans_stream.web.views import NotFoundError, Views, numbers

log = logging.getLogger(__name__)

_LABELS = {int(status): status.label for status in Status}


class Trials:
    """Runs the engine with a connector's settings; the model is loaded when it is first needed."""

    def __init__(self, store: Store, views: Views, load: Callable[[], Model]) -> None:
        self._store = store
        self._views = views
        self._load = load
        self._model: Model | None = None
        self._served: ModelRef | None = None
        """What made the newest scores when the model was loaded."""
        self._loading = threading.Lock()
        self._running = threading.Lock()
        """One run of the engine at a time."""
        self._channels: tuple[tuple[ModelRef, str, int, int], ChannelScores] | None = None
        """Of the series that was asked for last, as long as it was then."""

    def what_if(self, request: WhatIfRequest) -> dict[str, Any]:
        """The kept history of a series or group under the present rules and changed ones.

        NotFoundError where nothing is kept; ValueError where nothing is changed.
        """
        change = request.rule.model_dump(exclude_none=True)
        if not change:
            raise ValueError("rule: name at least one setting to try")
        name = request.series_id
        courses, group = self._courses(name)
        connector, model = self._store.connector, self._get_model()
        rule = SeriesRule(series=exactly(name), **change)
        after = with_rule(connector.alerts, rule)
        times = [one.time for one in courses]
        with self._running:
            now = run_courses(connector, model, courses, group)
            then = run_courses(connector, model, courses, group, after)
        stays = pairs(now.episodes, then.episodes)
        return {
            "series_id": name,
            "members": [] if group is None else [one.series for one in courses],
            "begin": format_timestamp(int(min(time[0] for time in times))),
            "end": format_timestamp(int(max(time[-1] for time in times))),
            "readings": sum(map(len, times)),
            "before": _trial(now, connector.alerts, name, stays, "gone"),
            "after": _trial(then, after, name, stays, "new"),
            "yaml": rule_yaml(rule, request.rule),
        }

    def channels(
        self, series_id: str, begin: float | None, end: float | None, most: int
    ) -> dict[str, Any]:
        """The detector's channels over the kept history of a series, between two times.

        Times are seconds since 1970. NotFoundError where nothing is kept; ValueError for a group.
        """
        course = self._course(series_id)
        model = self._get_model()
        key = (model.ref, series_id, len(course.time), int(course.time[-1]))
        with self._running:
            if self._channels is None or self._channels[0] != key:
                self._channels = key, channel_scores(self._store.connector, model, course)
            found = self._channels[1]
        ends = (
            _nanoseconds(begin, int(course.time[0])), _nanoseconds(end, int(course.time[-1]))
        )  # fmt: skip
        shown = found.between(*ends).thinned(most)
        return {
            "series_id": series_id,
            "channels": told_channels(),
            "readings": len(found.time),
            "time": (shown.time / 1e9).tolist(),
            "surprise": numbers(shown.surprise),
            "scores": [numbers(column) for column in shown.channels.T],
        }

    def _course(self, series_id: str) -> Course:
        """What is kept of one series."""
        store = self._store
        with store.reading():
            if self._views.members(series_id):
                raise ValueError(f"{series_id!r} is a group: ask for one of its channels")
            number = store.catalogue.number(series_id)
            rows = None if number is None else store.history.of(number, MOST_READINGS)
            if rows is None or not len(rows):
                raise NotFoundError(
                    f"no readings of {series_id!r} are kept (is output.scores set?)"
                )
            return Course(series_id, rows["time"].copy(), rows["value"].copy())

    def score(self, request: ScoreRequest) -> dict[str, Any]:
        """Readings scored by a fresh engine with the connector's settings."""
        given = request.readings
        grouped = any(one.group is not None for one in given)
        if grouped and not all(one.group is not None for one in given):
            raise ValueError("readings: either all name a group or none")
        series = len({one.series for one in given})
        if series > MOST_SERIES:
            raise ValueError(f"readings: of {series:,} series, more than {MOST_SERIES:,}")
        readings = Readings(
            [one.series for one in given],
            np.array([one.timestamp for one in given], np.int64),
            np.array([np.nan if one.value is None else one.value for one in given]),
            np.zeros(len(given), np.int32),
            np.arange(len(given), dtype=np.int64),
            [one.group or "" for one in given] if grouped else None,
        )
        model = self._get_model()
        with self._running:
            outcome = run(self._store.connector, model, readings)
        scores = outcome.scores
        return {
            "series": scores.series,
            "timestamp": format_timestamps(scores.timestamp),
            "status": [_LABELS[status] for status in scores.status.tolist()],
            **{
                name: numbers(getattr(scores, name))
                for name in (
                    "value", "score", "surprise", "p_value", "rarity", "expected", "lower", "upper",
                )
            },
            "alert": scores.alert.tolist(),
            "alerts": orjson.loads(orjson.dumps(outcome.alerts)),
        }  # fmt: skip

    def _get_model(self) -> Model:
        """The connector's model; it is loaded anew once the worker's scores are of another one."""
        with self._loading:
            served = self._store.model
            if self._model is None:
                self._model, self._served = self._load(), served
            elif served not in (self._served, self._model.ref):
                self._served = served
                try:
                    self._model = self._load()
                except (OSError, ValueError) as error:
                    log.warning("going on with %s: %s", self._model.ref, redacted(str(error)))
            return self._model

    def _courses(self, name: str) -> tuple[list[Course], str | None]:
        """What is kept of a series; of a group, or of a channel's group, of all channels."""
        store = self._store
        with store.reading():
            group = store.membership.group_of(name)
            members = self._views.members(name)
            if group is not None and not members:
                raise ValueError(f"{name!r} is judged with its group: try rules of {group!r}")
            names = members or [name]
            each = max(1, MOST_READINGS // len(names))
            courses = []
            for one in names:
                number = store.catalogue.number(one)
                if number is None:
                    continue
                rows = store.history.of(number, each)
                if len(rows):
                    courses.append(Course(one, rows["time"].copy(), rows["value"].copy()))
        if not courses:
            raise NotFoundError(f"no readings of {name!r} are kept (is output.scores set?)")
        return courses, name if members else None


def _nanoseconds(seconds: float | None, otherwise: int) -> int:
    return otherwise if seconds is None else int(seconds * 1e9)


def rule_yaml(rule: SeriesRule, change: RuleChange) -> str:
    """The rule as it stands in a connector, under `alerts`."""
    settings = {"series": rule.series, **change.model_dump(exclude_none=True)}
    text = yaml.safe_dump(
        {"alerts": {"rules": [settings]}}, sort_keys=False, allow_unicode=True, width=1_000
    )
    return f"# Append this rule to the connector's: later ones override earlier ones.\n{text}"


def pairs(before: list[Alert], after: list[Alert]) -> set[int]:
    """Which episodes of two runs are in both, by `id`: those of a series that overlap, each once.

    A silence and a surprise are never the same.
    """
    found: set[int] = set()
    left = list(before)
    for one in after:
        for other in left:
            same = one.series_id == other.series_id
            silent = "no_data" in (one.reason, other.reason)
            if same and (not silent or one.reason == other.reason) and _overlap(one, other):
                found |= {id(one), id(other)}
                left.remove(other)
                break
    return found


def _overlap(one: Alert, other: Alert) -> bool:
    begins, ends = ([parse_timestamp(t) for t in times] for times in (
        (one.onset, other.onset), (one.timestamp, other.timestamp)
    ))  # fmt: skip
    return max(begins) <= min(ends)


def _trial(
    outcome: Outcome, alerts: AlertConfig, name: str, stays: set[int], otherwise: str
) -> dict[str, Any]:
    rule = resolve_rule(alerts, name)
    return {
        "budget_per_day": rule.false_alarms_per_day,
        "direction": rule.direction,
        "min_deviation": rule.min_deviation,
        "min_deviation_ratio": rule.min_deviation_ratio,
        "episodes": [
            _episode(one, rule) | {"change": "stays" if id(one) in stays else otherwise}
            for one in outcome.episodes
        ],
    }


def _episode(alert: Alert, rule: ResolvedRule) -> dict[str, Any]:
    rate = alert.rate_per_day
    return {
        "series_id": alert.series_id,
        "onset": alert.onset,
        "end": alert.timestamp,
        "reason": alert.reason,
        "severity": alert.severity,
        "status": alert.status,
        "over": rule.false_alarms_per_day / rate if rate else None,
        "explanation": alert.explanation,
    }
