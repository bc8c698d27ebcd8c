"""What an operator says of an alert: a false alarm is learned as a pattern of its series."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from titans_stream.control.messages import message_of, text_of
from titans_stream.detection import watch
from titans_stream.detection.rules import AlertConfig
from titans_stream.engine.build import EngineSetup, build_engine
from titans_stream.engine.course import CELLS, Course
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.familiar import Pattern, Step
from titans_stream.lifecycle.artifacts import base_model
from titans_stream.records import Alert, Order, Readings
from titans_stream.times import format_timestamp

STEP = 60 * 10**9
FIRST = 1_000
SECOND = 1_800
LAST = 2_000
ALERTS = AlertConfig.model_validate({"false_alarms_per_series_per_day": 0.5})


def build() -> StreamEngine:
    return build_engine(base_model(), EngineSetup(alerts=ALERTS, topic="t"))


def pattern(kind: str) -> np.ndarray:
    """Events of 20 to 30 readings, 8 standard deviations high at most."""
    k = np.arange(30)
    return {
        "step": np.where(k < 20, 0.8, 0.0),
        "ramp": np.where(k < 25, 0.8 * k / 25, 0.0),
        "spike": np.where(k < 2, 2.0, 0.0),
    }[kind]


def values(seed: int, kind: str, second: float, shape: str = "") -> np.ndarray:
    """A quiet series with an event at FIRST, and `second` times the same, or another, at SECOND."""
    rng = np.random.default_rng(seed)
    out = 10 + 0.5 * np.sin(np.arange(LAST) / 40) + 0.1 * rng.normal(size=LAST)
    out[FIRST : FIRST + 30] += pattern(kind)
    out[SECOND : SECOND + 30] += second * pattern(shape or kind)
    return out


def feed(engine: StreamEngine, data: np.ndarray, first: int, last: int) -> list[Alert]:
    n = last - first
    rows = np.arange(first, last)
    batch = Readings(["a"] * n, rows * STEP, data[first:last], np.zeros(n, np.int32), rows)
    return engine.process(batch).alerts


def order(name: str, **fields: Any) -> Order:
    return Order(name, text_of(message_of(fields)) if fields else "")


def at(row: int) -> str:
    return format_timestamp(row * STEP)


def opened(alerts: list[Alert], first: int) -> list[Alert]:
    return [a for a in alerts if a.status == "opened" and a.source.offset >= first]


def first_alert(alerts: list[Alert]) -> Alert:
    return next(a for a in alerts if FIRST <= a.source.offset < FIRST + 30)


def marked(data: np.ndarray, action: str = "false_alarm", **more: Any) -> StreamEngine:
    """An engine that was told of the event at FIRST; it has seen all before SECOND."""
    engine = build()
    alert = first_alert(feed(engine, data, 0, 1_200))
    fields = {"action": action, "series": "a", "alert_id": alert.alert_id, **more}
    assert engine.control(0, order("m", **fields), 1_200) == []
    feed(engine, data, 1_200, SECOND)
    return engine


SEEDS = range(2)


@pytest.mark.parametrize("kind", ["step", "ramp", "spike"])
def test_the_same_is_not_told_again_and_a_larger_one_is(kind: str) -> None:
    """Of two series each: without the mark both are told, with it the larger one alone."""
    told = {
        (mark, size): 0 for mark in (False, True) for size in (1.0, 2.5)
    }  # fmt: skip
    for seed in SEEDS:
        for size in (1.0, 2.5):
            data = values(seed, kind, size)
            engine = marked(data)
            found = opened(feed(engine, data, SECOND, LAST), SECOND)
            told[True, size] += any(a.source.offset < SECOND + 30 for a in found)
            plain = build()
            found = opened(feed(plain, data, 0, LAST), SECOND)
            told[False, size] += any(a.source.offset < SECOND + 30 for a in found)
    assert told[False, 1.0] == len(SEEDS), "worth a mark"
    assert told[True, 1.0] == 0
    assert told[True, 2.5] == told[False, 2.5] == len(SEEDS)


def test_another_course_does_not_fit() -> None:
    course = Course(0, 0, float(watch.VALUE), 2.0)
    for k in range(30):
        course.take(k, 1.0 if k < 10 else 0.0, 0.2)

    def fits(
        number: int, deviation: float, what: int, rarity: float, calm: bool = False,
        far: int = 0, pattern: Pattern | None = None, time: int = 0,
    ) -> bool:  # fmt: skip
        so_far = Course(0, 0, float(what), rarity)
        for _ in range(far):
            so_far.take(0, deviation, 0.2)
        step = Step(time, number, deviation, float(what), rarity, calm)
        return (pattern or Pattern("m", course)).has(step, so_far)

    assert fits(5, 1.2, watch.BIG, 2.9)
    assert not fits(5, 1.5, watch.BIG, 2.9), "larger"
    assert not fits(5, -0.8, watch.VALUE, 2.0), "on the other side"
    assert not fits(29, 1.0, watch.VALUE, 2.0), "later"
    assert fits(15, 1.0, watch.VALUE, 2.0, far=14)
    assert not fits(16, 1.0, watch.VALUE, 2.0, far=15), "far from normal for longer"
    assert not fits(60, 0.0, watch.VALUE, 2.0), "longer"
    assert fits(60, 0.0, watch.VALUE, 2.0, calm=True), "only not yet over"
    assert not fits(60, 0.3, watch.VALUE, 2.0, calm=True), "out of the band"
    assert not fits(5, 1.0, watch.VALUE, 3.5), "rarer"
    assert not fits(5, 0.0, watch.DWELL, 2.0), "of another kind"
    planned = Pattern("m", course, until=100)
    assert fits(500, 0.1, watch.VALUE, 2.0, pattern=planned, time=99)
    assert not fits(5, 0.1, watch.VALUE, 2.0, pattern=planned, time=100)


def test_how_long_a_course_is_far_off_is_counted_to_a_few_readings() -> None:
    course = Course(0, 0, float(watch.VALUE), 2.0)
    for k in range(500):
        course.take(k, -1.0 if k in (200, 201, 202, 203) else 0.05, 0.02)
    assert course.stride >= 32
    assert course.beyond(0.5) == (7, 0)
    so_far = Course(0, 0, float(watch.VALUE), 2.0)
    for k in range(12):
        step = Step(0, 200 + k, -1.0, float(watch.VALUE), 2.0, False)
        assert Pattern("m", course).has(step, so_far) == (k < 10), k
        so_far.take(0, -1.0, 0.02)
    restored = Course.of([course.onset, course.last], course.numbers())
    assert restored.beyond(0.5) == (7, 0)


def test_the_sign_of_a_course_is_where_the_series_was_as_it_opened() -> None:
    up = Course(0, 0, float(watch.VALUE), 2.0, side=2.0)
    for k in range(20):
        up.take(k, 1.0 if k < 10 else 0.0, 0.2)
    back = Step(0, 0, 0.0, float(watch.VALUE), 2.0, False, side=-2.0)
    assert not Pattern("m", up).has(back, None), "the way back of an opposite one"
    assert Pattern("m", up).has(back._replace(side=1.0), None), "its own way back"
    up.take(20, -1.0, 0.2)
    assert Pattern("m", up).has(back, None), "it swings to both sides"


def test_a_mark_is_undone() -> None:
    data = values(1, "step", 1.0)
    engine = marked(data)
    assert engine.control(0, order("m"), SECOND) == []
    found = opened(feed(engine, data, SECOND, LAST), SECOND)
    assert found[0].adjusted_by == []
    silent = marked(data)
    assert opened(feed(silent, data, SECOND, SECOND + 10), SECOND) == []
    told = silent.control(0, order("m"), SECOND + 10)
    assert [(a.status, a.source.offset) for a in told] == [("opened", SECOND + 10)]
    assert told[0].alert_id == found[0].alert_id


def test_what_is_open_ends_when_it_is_marked() -> None:
    data = values(1, "step", 1.0)
    engine = build()
    alert = first_alert(feed(engine, data, 0, FIRST + 10))
    mark = order("m", action="false_alarm", series="a", alert_id=alert.alert_id)
    ended = engine.control(0, mark, FIRST + 10)
    assert [(a.alert_id, a.status) for a in ended] == [(alert.alert_id, "resolved")]
    rest = feed(engine, data, FIRST + 10, LAST)
    assert opened(rest, 0) == []
    assert not [a for a in rest if a.alert_id == alert.alert_id]


def test_expected_holds_until_its_time() -> None:
    data = values(2, "step", 1.0)
    until = marked(data, "expected", until=at(SECOND + 100))
    assert opened(feed(until, data, SECOND, LAST), SECOND) == []
    over = marked(data, "expected", until=at(SECOND - 1))
    assert opened(feed(over, data, SECOND, LAST), SECOND)
    ends = marked(data, "expected", until=at(SECOND + 8))
    found = opened(feed(ends, data, SECOND, LAST), SECOND)
    assert [a.source.offset for a in found] == [SECOND + 8], "told from then on"


def test_a_range_that_is_expected_opens_nothing() -> None:
    data = values(2, "step", 1.0)
    engine = build()
    planned = {"from": at(SECOND - 5), "to": at(SECOND + 40), "until": at(LAST)}
    engine.control(0, order("m", action="expected", series="a", **planned), 0)
    found = opened(feed(engine, data, 0, LAST), 0)
    assert [a.source.offset // 100 for a in found] == [FIRST // 100]


def test_a_range_marks_what_it_touches() -> None:
    data = values(1, "step", 1.0)
    engine = build()
    feed(engine, data, 0, 1_200)
    ends = {"from": at(FIRST - 50), "to": at(FIRST + 50)}
    engine.control(0, order("m", action="false_alarm", series="a", **ends), 1_200)
    assert opened(feed(engine, data, 1_200, LAST), SECOND) == []
    elsewhere = build()
    feed(elsewhere, data, 0, 1_200)
    ends = {"from": at(10), "to": at(20)}
    elsewhere.control(0, order("m", action="false_alarm", series="a", **ends), 1_200)
    assert opened(feed(elsewhere, data, 1_200, LAST), SECOND)


def test_a_true_alarm_is_no_habit() -> None:
    data = values(1, "step", 1.0)
    engine = build()
    alert = first_alert(feed(engine, data, 0, 1_200))
    assert engine.snapshot(0).arrays["habits"].any()
    before = engine.snapshot(0).arrays["habits"][0][12:24]
    mark = order("m", action="true_alarm", series="a", alert_id=alert.alert_id)
    assert engine.control(0, mark, 1_200) == []
    after = engine.snapshot(0).arrays["habits"][0][12:24]
    assert before.sum() - after.sum() >= 1.0
    assert opened(feed(engine, data, 1_200, LAST), SECOND)[0].adjusted_by == ["m"]


@pytest.mark.parametrize("size", [1.0, 2.5])
def test_calls_and_snapshots_change_nothing(size: float) -> None:
    data = values(3, "ramp", size)

    def run(step: int, save: bool) -> tuple[list[Alert], bytes]:
        engine, found, scores = build(), [], b""
        for first in range(0, LAST, step):
            if first == 1_200:
                alert = first_alert(found)
                mark = {"action": "false_alarm", "series": "a", "alert_id": alert.alert_id}
                found += engine.control(0, order("m", **mark), first)
            n = min(step, LAST - first)
            rows = np.arange(first, first + n)
            batch = Readings(["a"] * n, rows * STEP, data[rows], np.zeros(n, np.int32), rows)
            results = engine.process(batch)
            found += results.alerts
            scores += results.scores.alert.tobytes() + results.scores.surprise.tobytes()
            if save:
                state = engine.snapshot(0)
                state.meta.update(json.loads(json.dumps(state.meta)))
                engine = build()
                engine.restore(0, state)
        return found, scores

    def split(step: int, save: bool) -> tuple[list[Alert], list[int]]:
        found, _ = run(step, save)
        return found, [a.source.offset for a in found]

    whole = split(1_200, save=False)
    assert split(8, save=False) == whole
    assert split(40, save=True) == whole


def test_the_state_of_a_mark_is_bounded() -> None:
    course = Course(0, 0, 1.0, 2.0)
    for k in range(10_000):
        course.take(k, float(np.sin(k)), 1.0)
    assert len(course.low) == len(course.high) <= CELLS
    assert course.stride * CELLS >= 10_000
    assert Course.of([course.onset, course.last], course.numbers()) == course
    assert course.has(5_000, 1.7)
    assert not course.has(5_000, 2.0)
