"""A marked false alarm hides nothing but its like: other events are told with and without it."""

from __future__ import annotations

import json
from collections import defaultdict

import numpy as np
import pytest

from titans_stream.control.messages import message_of, text_of
from titans_stream.detection.rules import AlertConfig
from titans_stream.engine.build import EngineSetup, build_engine
from titans_stream.engine.engine import StreamEngine
from titans_stream.lifecycle.artifacts import base_model
from titans_stream.records import Alert, Order, Readings
from titans_stream.times import format_timestamp

STEP = 60 * 10**9
FIRST = 1_000
MARKED = 1_150
SECOND = 1_800
LAST = 1_900
SOON = 60
"""Readings within which an event is told."""
RAMP = 25
"""Readings of a ramp."""
SEEDS = range(3)
KINDS = ("spike", "step", "ramp")
OTHERS = ("lasting", "opposite", "twice as long", "larger", "stuck", "noisy")
ALERTS = AlertConfig.model_validate({"false_alarms_per_series_per_day": 0.5})


def build() -> StreamEngine:
    return build_engine(base_model(), EngineSetup(alerts=ALERTS, topic="t"))


def event(kind: str, longer: int = 1) -> np.ndarray:
    """An event of 2, 20 or 25 readings."""
    k = np.arange(60) / longer
    return {
        "spike": np.where(k < 2, 2.0, 0.0),
        "step": np.where(k < 20, 0.8, 0.0),
        "ramp": np.where(k < RAMP, 0.8 * k / RAMP, 0.0),
    }[kind]


def series(base: str, kind: str, other: str, seed: int) -> np.ndarray:
    """White noise, or less of it around a cycle, with an event at FIRST and another at SECOND."""
    rng = np.random.default_rng(seed)
    k = np.arange(LAST)
    out = 10 + (0.1 if base == "white" else 0.04) * rng.normal(size=LAST)
    if base == "daily":
        out += 0.4 * np.sin(2 * np.pi * k / 200)
    out[FIRST : FIRST + 60] += event(kind)
    if other == "lasting":
        out[SECOND:] += event(kind).max()
    elif other == "stuck":
        out[SECOND:] = out[SECOND]
    elif other == "noisy":
        out[SECOND : SECOND + 40] += 0.5 * rng.normal(size=40)
    else:
        second = event(kind, 2 if other == "twice as long" else 1)
        out[SECOND : SECOND + 60] += {"opposite": -1.0, "larger": 2.5}.get(other, 1.0) * second
    return out


def feed(
    engine: StreamEngine, names: list[str], data: np.ndarray, first: int, last: int
) -> list[Alert]:
    """Readings `first` to `last` of series [S, N] through an engine, by time."""
    rows = np.repeat(np.arange(first, last), len(names))
    offsets = np.arange(first * len(names), last * len(names))
    values = data[:, first:last].T.ravel()
    batch = Readings(
        names * (last - first), rows * STEP, values, np.zeros(len(rows), np.int32), offsets
    )
    return engine.process(batch).alerts


def order(name: str, **fields: str) -> Order:
    return Order(name, text_of(message_of(fields)))


def told(alerts: list[Alert], names: list[str], first: int) -> dict[str, list[int]]:
    """When alerts of each series opened from reading `first` on, from there."""
    found = defaultdict(list)
    for alert in alerts:
        at = alert.source.offset // len(names) - first
        if alert.status == "opened" and at >= 0:
            found[alert.series_id].append(at)
    return found


@pytest.mark.parametrize("base", ["white", "daily"])
def test_what_is_told_without_a_mark_is_told_with_it(base: str) -> None:
    cases = [(kind, other, seed) for kind in KINDS for other in ("same", *OTHERS) for seed in SEEDS]
    names = [f"{kind}/{other}/{seed}" for kind, other, seed in cases]
    data = np.array([series(base, *case) for case in cases])
    plain, marked = build(), build()
    without, given = (
        feed(plain, names, data, 0, MARKED),
        feed(marked, names, data, 0, MARKED),
    )
    alerts = {a.series_id: a.alert_id for a in given if a.source.offset // len(names) >= FIRST}
    assert set(alerts) == set(names), "each is worth a mark"
    for name, alert in alerts.items():
        mark = order(name, action="false_alarm", series=name, alert_id=alert)
        assert marked.control(0, mark, MARKED * len(names)) == []
    without += feed(plain, names, data, MARKED, LAST)
    given += feed(marked, names, data, MARKED, LAST)
    before, after = told(without, names, SECOND), told(given, names, SECOND)
    soon = {name for name in names if before[name] and before[name][0] < SOON}
    assert len(soon) >= 0.9 * len(names), sorted(set(names) - soon)
    same = {name for name in names if "/same/" in name}
    assert [name for name in sorted(soon & same) if min(after[name], default=SOON) < SOON] == []
    swallowed = [name for name in sorted(soon - same) if min(after[name], default=SOON) >= SOON]
    assert swallowed == []


def marked_while_open(data: np.ndarray, at: int, last: int) -> tuple[StreamEngine, list[Alert]]:
    """An engine that was told of the event at FIRST at reading `at`, and the alerts from there."""
    engine = build()
    alert = next(a for a in feed(engine, ["a"], data, 0, at) if a.source.offset >= FIRST)
    mark = order("m", action="false_alarm", series="a", alert_id=alert.alert_id)
    ended = engine.control(0, mark, at)
    assert [a.status for a in ended] == ["resolved"]
    state = engine.snapshot(0)
    state.meta.update(json.loads(json.dumps(state.meta)))
    again = build()
    again.restore(0, state)
    found = feed(engine, ["a"], data, at, last)
    assert feed(again, ["a"], data, at, last) == found
    return engine, found


def test_one_that_is_marked_while_open_may_last_and_not_grow() -> None:
    data = series("white", "step", "same", 0)[None]
    data[0, FIRST + 20 : FIRST + 60] += 0.8
    _, found = marked_while_open(data, FIRST + 10, FIRST + 60)
    assert found == []
    data[0, FIRST + 30 : FIRST + 60] += 1.2
    _, found = marked_while_open(data, FIRST + 10, FIRST + 60)
    assert [(a.status, a.source.offset) for a in found if a.status == "opened"] == [
        ("opened", FIRST + 30)
    ]
    data[0, SECOND : SECOND + 60] += 1.5
    _, found = marked_while_open(data, FIRST + 10, LAST)
    assert SECOND in [a.source.offset for a in found], "what grew was told and is no pattern"


@pytest.mark.parametrize("height", [-2.0, 3.0])
def test_one_that_was_marked_while_open_hides_no_other(height: float) -> None:
    data = series("white", "step", "same", 0)[None]
    data[0, SECOND : SECOND + 60] -= event("step")
    data[0, SECOND] += height
    _, found = marked_while_open(data, FIRST + 10, LAST)
    assert [a.source.offset for a in found if a.status == "opened"] == [SECOND]


def test_what_is_silent_ends() -> None:
    data = series("white", "step", "same", 0)[None]
    engine = build()
    alert = next(a for a in feed(engine, ["a"], data, 0, MARKED) if a.source.offset >= FIRST)
    engine.control(0, order("m", action="false_alarm", series="a", alert_id=alert.alert_id), MARKED)
    found = feed(engine, ["a"], data, MARKED, LAST)
    assert [a for a in found if a.source.offset >= SECOND] == []
    times = engine.snapshot(0).arrays["course_times"] // STEP
    assert [last < SECOND + 90 for onset, last in times if onset == SECOND] == [True]
    later = {"from": format_timestamp((SECOND + 90) * STEP), "to": format_timestamp(LAST * STEP)}
    engine.control(0, order("n", action="false_alarm", series="a", **later), LAST)
    assert [row[1] for row in engine.snapshot(0).meta["patterns"]] == ["m"]
