"""Alert budgets are kept, loose ones too, and what they come to is bounded."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detection.test_tail import SPACE, feed, fresh, rarity
from tests.detection.test_trust import START, opened, score
from tests.engine.streams import MODEL
from titans_stream.detection import budget
from titans_stream.detection.rules import AlertConfig
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.settings import EngineConfig
from titans_stream.jit import njit
from titans_stream.records import Readings

HOUR = 3_600
LENGTH = 2_000
PER_DAY = 0.1
"""At hourly readings .42 episodes per 100 readings."""


@njit()
def silence(scored: float, q: float) -> float:
    return budget.silence(scored, q)


@njit()
def hysteresis(decades: float, q: float) -> float:
    return budget.hysteresis(decades, q)


@njit()
def raised(delta: float, q: float) -> float:
    return budget.raised(delta, q)


@njit()
def lowered(delta: float, q: float, readings: int) -> float:
    for _ in range(readings):
        delta = budget.lowered(delta, q)
    return delta


@njit()
def per_block(a_day: float, interval: float) -> float:
    return budget.per_block(a_day, interval, 0.0, 5_000.0)


def _waves(seed: int) -> np.ndarray:
    at = np.arange(LENGTH)
    noise = np.random.default_rng(seed).normal(size=LENGTH)
    return 10.0 * np.sin(2.0 * np.pi * at / 24.0) + noise


def _persistent(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=LENGTH)
    values = np.empty(LENGTH)
    x = 0.0
    for i in range(LENGTH):
        x = 0.7 * x + noise[i]
        values[i] = x
    return values


@pytest.mark.parametrize("make", [_waves, _persistent])
def test_hourly_series_get_the_false_alarms_that_are_accepted(make: object) -> None:
    series = [make(seed) for seed in range(6)]  # type: ignore[operator]
    due = PER_DAY / 24.0 * (LENGTH - 200) * len(series)
    for a_day, factor in ((PER_DAY, 1.0), (2.0 * PER_DAY, 2.0)):
        found = sum(
            len(opened(score(values, HOUR, false_alarms_per_series_per_day=a_day)))
            for values in series
        )
        assert 0.5 <= found / (factor * due) <= 1.5, (a_day, found, factor * due)


def test_the_bulk_knows_the_level_of_a_series_own_block_maxima() -> None:
    """Two series whose maxima are nowhere near the population's tail, one far below the other."""
    rng = np.random.default_rng(5)
    for level, width in ((-0.3, 0.06), (0.1, 0.12)):
        state = fresh()
        above = 0
        tops = level + width * rng.gumbel(size=600)
        for number, top in enumerate(tops):
            if number >= 100:
                above += rarity(state, top, SPACE) >= -np.log10(0.42)
            feed(state, [top])
        assert 0.6 < above / 500 / (1.0 - np.exp(-0.42)) < 1.5
        assert rarity(state, level - 0.3, SPACE) < 0.0


def test_a_rarity_has_no_jump_where_bulk_and_tail_meet() -> None:
    tail = fresh()
    for top in np.random.default_rng(0).normal(0.2, 0.03, 300):
        feed(tail, [top] * 100)
    steps = [rarity(tail, s, SPACE) for s in np.arange(0.2, 0.6, 0.001)]
    assert np.all(np.diff(steps) >= 0.0)
    assert np.max(np.diff(steps)) < 0.05
    assert rarity(tail, 0.4, SPACE) - rarity(tail, 0.25, SPACE) > 0.3, "the tail goes on"


@pytest.mark.parametrize("seconds", [60, HOUR, 24 * HOUR])
@pytest.mark.parametrize("value", [0.0, 1.0, 1e-9, -273.15])
def test_what_never_moved_alerts_at_no_budget_until_it_moves(seconds: int, value: float) -> None:
    values = np.full(2_600, value)
    assert opened(score(values, seconds, false_alarms_per_series_per_day=0.1)) == []
    assert opened(score(values, seconds, false_alarms_per_series_per_day=50.0)) == []
    values[2_000:] = 3.0 * value + 5.0
    at = opened(score(values, seconds, false_alarms_per_series_per_day=0.1))
    assert at[:1] == [2_000]


def test_a_weekly_jump_becomes_a_habit_at_a_loose_budget_too() -> None:
    at = np.arange(20 * 168)
    values = np.random.default_rng(0).normal(size=len(at))
    values[at % 168 == 32] += 30.0
    found = np.array(opened(score(values, HOUR, false_alarms_per_series_per_day=PER_DAY)))
    assert np.count_nonzero(found % 168 == 32) <= 5
    assert np.count_nonzero(found[found > 10 * 168] % 168 == 32) == 0


def test_a_loose_budget_leaves_room_for_its_episodes() -> None:
    for q in (0.003, 0.1):
        assert silence(5_000.0, q) == 150.0
        assert silence(300.0, q) == 30.0
        assert hysteresis(0.5, q) == pytest.approx(0.5)
    assert silence(5_000.0, 0.5) == 50.0
    assert hysteresis(0.5, 0.5) == pytest.approx(0.5 * np.log10(2.0))


def test_the_correction_follows_what_came() -> None:
    for q, least in ((0.01, -0.3), (0.1, -0.3), (0.5, np.log10(0.5 / 1.6)), (1.0, -np.log10(1.6))):
        assert lowered(0.0, q, int(2_000 / q)) == pytest.approx(least)
        assert lowered(raised(0.0, q), q, int(100 / q)) == pytest.approx(0.0, abs=1e-9)
    assert per_block(0.1, 86_400e9) == budget.MOST


@pytest.mark.parametrize("seed", [3, 5, 6, 8])
def test_a_member_that_stays_off_hides_no_other(seed: int) -> None:
    """One member sticks, and that is told; what another does 500 readings later is, too."""
    n, channels = 2_600, 8
    values = np.random.default_rng(seed).normal(size=(n, channels)).round(2)
    values[1_500:, 0] = values[1_500, 0]
    values[2_000:, 5] += 6.0
    one = StreamEngine(
        EngineConfig(device="cpu"),
        AlertConfig(false_alarms_per_series_per_day=0.01 * 288 / 100),
        MODEL,
        "in",
    )
    at = np.repeat(np.arange(n), channels)
    result = one.process(
        Readings(
            [f"a{k}" for k in range(channels)] * n,
            ((START + at * 300) * 1e9).astype(np.int64),
            values.reshape(-1),
            np.zeros(n * channels, np.int32),
            np.arange(n * channels),
            group=["asset"] * (n * channels),
        )
    )
    onsets = [a.source.offset // channels for a in result.alerts if a.status == "opened"]
    assert sum(1_500 <= row <= 1_700 for row in onsets) == 1
    assert sum(2_000 <= row <= 2_020 for row in onsets) == 1
