"""What a gap, a holiday, a freeze or another kind of series leaves of the past before it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.detection.test_trust import START, opened
from tests.detection.test_turns import MINUTES, shifts, tank
from tests.engine.streams import MODEL
from titans_stream.control.messages import message_of, text_of
from titans_stream.detection import judging, watch, watch_state
from titans_stream.detection.dwell import OTHER
from titans_stream.detection.episodes import Episode, EpisodeTimes, Judgement
from titans_stream.detection.normal import Normal, Reference, least_normal
from titans_stream.detection.rules import AlertConfig
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.settings import EngineConfig
from titans_stream.engine.state import (
    alert_settings,
    judged_state,
    judged_tables,
    rule_of,
    watches_of,
)
from titans_stream.jit import njit
from titans_stream.memory.rows import ArraySpec
from titans_stream.records import Float64, Order, Readings, Results


def engine(**settings: object) -> StreamEngine:
    config = EngineConfig.model_validate({"device": "cpu", **settings})
    return StreamEngine(config, AlertConfig(), MODEL, "in")


def take(one: StreamEngine, values: Float64, first: int = 0, step: int = 60) -> Results:
    """Readings `step` seconds apart, from row `first` on."""
    at = first + np.arange(len(values))
    times = (START + at * step) * 10**9
    return one.process(Readings(["a"] * len(at), times, values, np.zeros(len(at), np.int32), at))


def row(one: StreamEngine, name: str) -> Any:
    """The state of the series, of one kind."""
    packed = one.snapshot(0).arrays[name][0]
    kind = watch_state.state_layout()[name].rows(1)
    return packed.view(kind.dtype)[0] if kind.dtype.names else packed


def test_what_falls_after_a_gap_turned_nowhere_in_between() -> None:
    values = tank(2_000, np.full(2_000, 1.5), np.full(2_000, 85.0))
    filling = 1_900 + int(np.argmin(values[1_900:1_960]))
    one = engine()
    take(one, values[: filling + 6])
    before = row(one, "turns")
    take(one, 84.0 - 1.2 * np.arange(20), filling + 600)
    after = row(one, "turns")
    assert after["all"] == before["all"] > 40
    assert after["direction"] == -1.0


def test_a_counter_that_turns_out_to_be_none_has_no_rate_among_its_turns() -> None:
    rng = np.random.default_rng(0)
    one = engine()
    take(one, np.cumsum(rng.uniform(1.0, 9.0, 600)))
    assert row(one, "watch")["counter"] == 1.0
    take(one, np.array([2_900.0]), 600)
    assert row(one, "watch")["counter"] == 0.0
    take(one, np.array([2_905.0]), 601)
    assert row(one, "turns")["extreme"] == 2_905.0


def test_a_midnight_at_which_nothing_steps_explains_no_step() -> None:
    at = np.arange(11 * 288 + 4)
    one = engine()
    take(one, np.where(at % 288 == 144, 9.0, 5.0), step=300)
    assert row(one, "profile_known")[:, 0, 1].min() >= 2.0, "both kinds of days are known"
    assert row(one, "watch")["since_gap"] > 1_000.0


def test_the_step_to_a_holiday_and_back_is_explained_as_one_to_a_weekend_is() -> None:
    closed = 12
    for seed in (4, 5, 7):
        values = shifts(seed, closed)
        result = take(engine(calendar={"days": {"closed": ["2026-01-13"]}}), values)
        midnights = [MINUTES * closed, MINUTES * (closed + 1)]
        assert [i for i in opened(result) if any(0 <= i - at < 30 for at in midnights)] == []


def test_the_run_before_the_last_moves_on_while_a_series_is_frozen() -> None:
    rng = np.random.default_rng(2)
    one = engine()
    take(one, np.repeat(np.arange(120) % 2, 8).astype(float))
    assert row(one, "dwell")["before"] != OTHER
    freeze = text_of(message_of({"action": "freeze", "series": "a"}))
    one.control(0, Order("f", freeze), 960)
    take(one, np.r_[rng.uniform(0.2, 0.8, 20), np.ones(3)], 960)
    assert row(one, "dwell")["state"] != OTHER
    assert row(one, "dwell")["before"] == OTHER


@njit()
def least(normal: Normal, x: float) -> float:
    return least_normal(normal, x)


@njit()
def away(x: float, expected: float, low: float, high: float, least: float) -> float:
    return watch._away(x, Reference(expected, low, high, 1.0, math.nan, False), least)


def test_nothing_below_zero_is_normal_for_what_never_was_there() -> None:
    normal = ArraySpec.of(Normal).rows(1).view(np.recarray)[0]
    assert least(normal, 3.0) == -math.inf, "nothing is known"
    normal.seen = 1_000.0
    assert (least(normal, 3.0), least(normal, -0.5)) == (0.0, -math.inf)
    normal.lowest = -1.0
    assert least(normal, 3.0) == -math.inf
    assert away(0.5, -20.0, -24.0, -17.0, -math.inf) == 20.5 / 3.0
    assert away(0.5, -20.0, -24.0, -17.0, 0.0) == 0.5 / 3.0
    assert away(3.0, 5.0, -1.0, 9.0, 0.0) == 2.0 / 6.0


def test_what_cannot_be_negative_has_a_band_above_zero_with_two_sides() -> None:
    n = 28 * 288
    at = np.arange(n)
    day = 50.0 * (1.0 + np.sin(2.0 * np.pi * at / 288))
    values = np.maximum(day - 20.0 * (at > 20 * 288), 0.0)
    local = START + at * 300.0
    one = np.zeros(n, np.int8)
    rule, settings = rule_of(AlertConfig(), "a"), alert_settings(AlertConfig())
    readings = judging.Readings(
        START * 10**9 + at * 300 * 10**9, local, values, np.full(n, -1.0), np.full((n, 3), np.nan),
        one, np.full(n, 300e9), one, np.repeat(rule, n), one,
    )  # fmt: skip
    written = judging.Events(
        ArraySpec.of(Judgement).rows(n), np.empty((n, 3)), np.empty(n, np.int8),
        np.empty(n, np.int8), ArraySpec.of(Episode).rows(n), ArraySpec.of(EpisodeTimes).rows(n),
    )  # fmt: skip
    tables = judged_tables({name: spec.rows(1) for name, spec in judged_state().items()})
    states = {name: spec.rows(1) for name, spec in watch_state.state_layout().items()}
    judging.run(np.zeros(n, np.int64), readings, tables, watches_of(states), settings, written)
    expected, lower, upper = written.normal[1:].T
    assert (lower >= 0.0).all() and (lower <= expected).all()
    assert (expected == 0.0).any() and (upper >= expected).all()
