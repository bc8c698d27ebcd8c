"""Control messages in the engine: what they change, that it can be undone, and that nothing else
depends on how readings were divided into calls or on when the state was saved."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from titans_stream.control.messages import message_of, text_of
from titans_stream.detection.rules import AlertConfig
from titans_stream.detection.watch_state import Watch
from titans_stream.engine.build import EngineSetup, build_engine
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.frozen import LEARNED, MOVING
from titans_stream.forecasting.settings import ForecastConfig
from titans_stream.lifecycle.artifacts import base_model
from titans_stream.memory.rows import dtype_of
from titans_stream.records import Alert, Order, Readings, Results
from titans_stream.times import format_timestamp

STEP = 300 * 10**9
NAMES = ("plant/a", "plant/b", "other/c")
ALERTS = AlertConfig.model_validate({"false_alarms_per_series_per_day": 0.1})


OFTEN = AlertConfig.model_validate({"false_alarms_per_series_per_day": 0.5})
"""A third bump of one size is no longer rare enough for less."""


def build(forecasts: bool = False, alerts: AlertConfig = ALERTS) -> StreamEngine:
    forecast = ForecastConfig.model_validate({"horizon": "1h"}) if forecasts else None
    return build_engine(base_model(), EngineSetup(alerts=alerts, forecast=forecast, topic="t"))


def order(name: str, **fields: Any) -> Order:
    return Order(name, text_of(message_of(fields)) if fields else "")


def readings(
    first: int, last: int, grouped: bool = False, bumps: tuple[tuple[int, int], ...] = ()
) -> Readings:
    """Of three series by turns; rows of `bumps` (first, last) are far above the others."""
    row = np.repeat(np.arange(last), len(NAMES))
    noise = np.random.default_rng(0).normal(size=len(row))
    value = 10 + np.sin(row / 20) + 0.1 * noise
    for begin, end in bumps:
        value[(row >= begin) & (row < end)] += 6.0
    mine = row >= first
    return Readings(
        [*NAMES] * (last - first), row[mine] * STEP, value[mine],
        np.zeros(int(mine.sum()), np.int32), row[mine],
        ["plant", "plant", "c"] * (last - first) if grouped else None,
    )  # fmt: skip


def at(row: int) -> str:
    return format_timestamp(row * STEP)


def opened(alerts: list[Alert], series: str = "") -> list[int]:
    """The offsets at which episodes open."""
    return [a.source.offset for a in alerts if a.status == "opened" and a.series_id == series]


def told(results: list[Results], extra: list[Alert]) -> str:
    """All that is said of readings, bit for bit."""
    found = []
    for result in results:
        for name in ("surprise", "expected", "lower", "upper", "rarity", "p_value", "alert"):
            found.append(getattr(result.scores, name).tobytes().hex())
    alerts = [alert for result in results for alert in result.alerts]
    forecasts = [forecast for result in results for forecast in result.forecasts]
    return "".join(found[i] for k in range(7) for i in range(k, len(found), 7)) + repr(
        (alerts, forecasts, extra)
    )


ORDERS: dict[int, list[Order]] = {
    100: [order("freeze:plant/a", action="freeze", series="plant/a")],
    300: [order("r", action="rule", rule={"series": "*/b", "valid_range": [0, 12]})],
    350: [
        order("s", action="silence", series="*", until=at(420), learn=False),
        order("w", **{"action": "silence", "series": "other/*", "from": at(470), "until": at(530)}),
    ],
    500: [order("freeze:plant/a"), order("b", action="budget", series="other/*",
                                         false_alarms_per_series_per_day=50)],
    555: [order("reset:plant/b", action="reset", series="plant/b")],
    600: [order("r"), order("freeze:*", action="freeze", series="*")],
}  # fmt: skip
BUMPS = ((250, 253), (320, 324), (380, 400), (500, 504), (552, 570), (640, 643))
LAST = 720


def divided(parts: int, grouped: bool, save: bool) -> str:
    """All that is said where calls hold `parts` rows at most; `save`: through snapshots."""
    engine = build(forecasts=True)
    data = readings(0, LAST, grouped, BUMPS)
    cuts = sorted({*ORDERS, *range(0, LAST, parts), LAST})
    results, extra = [], []
    for first, last in pairwise(cuts):
        for each in ORDERS.get(first, ()):
            extra += engine.control(0, each, first)
        part = data.take(np.arange(len(NAMES) * first, len(NAMES) * last))
        results.append(engine.process(part))
        if save:
            state = engine.snapshot(0)
            state.meta.update(json.loads(json.dumps(state.meta)))
            engine = build(forecasts=True)
            engine.restore(0, state)
    return told(results, extra)


@pytest.mark.parametrize("grouped", [False, True])
def test_calls_and_snapshots_change_nothing(grouped: bool) -> None:
    whole = divided(LAST, grouped, save=False)
    assert divided(7, grouped, save=False) == whole
    assert divided(61, grouped, save=True) == whole


def test_a_frozen_series_is_scored_and_learns_nothing() -> None:
    engine = build()
    engine.process(readings(0, 400))
    before = engine.snapshot(0)
    engine.control(0, order("f", action="freeze", series="plant/*"), 400)
    results = engine.process(readings(400, 600, bumps=((450, 600),)))
    after = engine.snapshot(0)
    mine = np.array([*NAMES] * 200) == "plant/a"
    assert results.scores.alert[mine][55:65].all()
    assert {tuple(a.adjusted_by) for a in results.alerts if a.series_id == "plant/a"} == {("f",)}
    assert not np.isnan(results.scores.surprise).any()
    place = {name: i for i, name in enumerate(before.meta["series"])}
    learned = list(LEARNED)
    for name in learned:
        for series in ("plant/a", "plant/b"):
            i = place[series]
            np.testing.assert_array_equal(after.arrays[name][i], before.arrays[name][i], name)
    changed = [
        name
        for name in (*learned, *MOVING)
        if (after.arrays[name][place["other/c"]] != before.arrays[name][place["other/c"]]).any()
    ]
    seldom = {"cells", "transitions", "dwell_lengths", "rises"}
    assert set(changed) == {*learned, *MOVING} - seldom | {
        "cells", "transitions", *({"dwell_lengths"} & set(changed)),
    }  # fmt: skip
    engine.control(0, order("f"), 600)
    engine.process(readings(600, 620))
    assert (engine.snapshot(0).arrays["memory"][0] != before.arrays["memory"][0]).any()


DAY = 288


def daily(first: int, last: int) -> Readings:
    """Rows of two series that repeat their day; the first day is a Thursday."""
    row = np.repeat(np.arange(last), 2)
    noise = np.random.default_rng(7).normal(size=len(row))
    value = 50.0 + 10.0 * np.sin(2.0 * np.pi * row / DAY) + noise
    mine = row >= first
    return Readings(
        ["a", "b"] * (last - first), row[mine] * STEP, value[mine],
        np.zeros(int(mine.sum()), np.int32), row[mine],
    )  # fmt: skip


def test_how_fast_a_series_leaves_its_profile_is_learned_but_not_while_it_is_frozen() -> None:
    def state() -> tuple[np.ndarray, dict[str, list[float]]]:
        arrays = engine.snapshot(0).arrays
        watch = arrays["watch"].view(dtype_of(Watch))[:, 0]
        names = ("quick", "slow", "seen", "usual", "bin", "sum", "count")
        return arrays["rises"], {name: watch[f"rise_{name}"].tolist() for name in names}

    engine = build()
    engine.process(daily(0, 9 * DAY))
    rises, watch = state()
    # Monday is the first working day with a profile; its first 192 readings, 32 half hours, are
    # none yet, and the last half hour of Friday is not over
    assert rises[0, 0, :, 1].tolist() == [4.0] * 32 + [5.0] * 15 + [4.0]
    assert (rises[0, 0, :, 0] > 0.01).all()
    assert rises[0, 0, :, 0].mean() == pytest.approx(watch["usual"][0], rel=0.1)
    assert not rises[:, 1].any(), "weekends have no profile yet"
    engine.control(0, order("f", action="freeze", series="a"), 9 * DAY)
    engine.process(daily(9 * DAY, 12 * DAY + 146))
    later, watch_later = state()
    np.testing.assert_array_equal(later[0], rises[0])
    moved = {name for name in watch if watch_later[name][0] != watch[name][0]}
    assert moved == {"quick", "slow"}
    assert all(watch_later[name][1] != watch[name][1] for name in watch)
    assert later[1, 0, :, 1].tolist() == [6.0] * 24 + [5.0] * 8 + [6.0] * 16
    engine.control(0, order("f"), 12 * DAY + 146)
    engine.process(daily(12 * DAY + 146, 13 * DAY))
    assert (state()[0][0, 0, 25:47, 1] == rises[0, 0, 25:47, 1] + 1.0).all()


def test_a_silence_opens_nothing_until_it_is_over() -> None:
    bumps = ((420, 423), (448, 470), (520, 523))
    plain = build(alerts=OFTEN).process(readings(0, 560, bumps=bumps))
    due = [offset for offset in opened(plain.alerts, "plant/a") if offset >= 400]
    assert due == [420, 448, 520]
    engine = build(alerts=OFTEN)
    engine.process(readings(0, 400))
    engine.control(0, order("s", action="silence", series="plant/*", until=at(455)), 400)
    found = engine.process(readings(400, 560, bumps=bumps))
    assert opened(found.alerts, "plant/a") == [455, 520], "what lasts is told when it is over"
    assert opened(found.alerts, "other/c") == opened(plain.alerts, "other/c")[-2:] == [420, 520]
    np.testing.assert_array_equal(found.scores.surprise, plain.scores.surprise[1200:])


def test_a_group_is_silenced_by_its_own_name() -> None:
    bumps = ((420, 423), (500, 503))
    engine = build()
    engine.process(readings(0, 400, grouped=True))
    engine.control(0, order("s", action="silence", series="plant", until=at(450)), 400)
    found = engine.process(readings(400, 540, grouped=True, bumps=bumps))
    assert opened(found.alerts, "plant") == [500]
    assert opened(found.alerts, "c") == [420, 500]


def test_rules_hold_for_a_glob_and_are_undone() -> None:
    engine = build()
    engine.process(readings(0, 400))
    rule = {"series": "*/b", "valid_range": [None, 10.5]}
    engine.control(0, order("limit", action="rule", rule=rule, by="anna"), 400)
    found = engine.process(readings(400, 440)).alerts
    first = [alert for alert in found if alert.reason == "valid_range"]
    assert {alert.series_id for alert in first} == {"plant/b"}
    assert {tuple(alert.adjusted_by) for alert in first} == {("limit",)}
    engine.control(0, order("limit"), 440)
    later = engine.process(readings(440, 800)).alerts
    assert all(a.reason == "surprise" or a.status != "opened" for a in later)
    assert all(a.adjusted_by == [] for a in later)


def test_a_new_series_and_a_reload_know_the_rules_in_force() -> None:
    engine = build()
    limit = {"series": "*", "valid_range": [None, 9.0]}
    engine.control(0, order("limit", action="rule", rule=limit), 0)
    engine.change_alerts(ALERTS.model_copy(update={"critical_factor": 20.0}))
    found = engine.process(readings(0, 3)).alerts
    assert {a.series_id for a in found if a.reason == "valid_range"} == set(NAMES)
    other = engine.process(
        Readings(["x"], np.array([0]), np.array([99.0]), np.array([1], np.int32), np.array([0]))
    )
    assert other.alerts == [], "it is in force for its own partition"


def test_a_reset_begins_anew_and_ends_the_open_episode() -> None:
    engine = build()
    engine.process(readings(0, 400))
    before = engine.process(readings(400, 405, bumps=((402, 405),)))
    assert opened(before.alerts, "plant/a") == [402]
    ended = engine.control(0, order("r", action="reset", series="plant/a"), 405)
    assert [(a.series_id, a.status, a.source.offset) for a in ended] == [
        ("plant/a", "resolved", 405)
    ]
    assert ended[0].alert_id == next(a.alert_id for a in before.alerts if a.series_id == "plant/a")
    assert ended[0].adjusted_by == ["r"]
    fresh = build()
    rest = readings(405, 700, bumps=((650, 653),))
    found, expected = engine.process(rest), fresh.process(rest)
    mine = np.array(rest.series) == "plant/a"
    np.testing.assert_array_equal(found.scores.surprise[mine], expected.scores.surprise[mine])
    assert np.isfinite(found.scores.surprise[~mine]).all()


def test_a_message_of_the_same_id_takes_the_place_of_the_other() -> None:
    engine = build()
    for high in (9.0, 1e9):
        rule = {"series": "*", "valid_range": [None, high]}
        engine.control(0, order("limit", action="rule", rule=rule), 0)
    assert engine.process(readings(0, 20)).alerts == []
