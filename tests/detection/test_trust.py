"""What anyone sees is alerted at once, and an alert says it in numbers that make sense."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.detection.test_episodes import rule
from tests.engine.streams import MODEL
from titans_stream.detection.rules import AlertConfig
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.settings import EngineConfig
from titans_stream.records import Alert, Readings, Results

START = 1_767_225_600
"""Thursday 2026-01-01 00:00 UTC."""


def score(values: np.ndarray, step: float, **alerts: object) -> Results:
    """One series, a reading each `step` seconds; NaN: none there."""
    one = StreamEngine(EngineConfig(device="cpu"), AlertConfig.model_validate(alerts), MODEL, "in")
    at = np.flatnonzero(np.isfinite(values))
    times = ((START + at * step) * 1e9).astype(np.int64)
    result = one.process(
        Readings(["a"] * len(at), times, values[at], np.zeros(len(at), np.int32), at)
    )
    # numpy's numbers cannot be written as JSON
    assert all(type(x) is float for alert in result.alerts for x in alert.figures.values())
    return result


def opened(result: Results) -> list[int]:
    return [alert.source.offset for alert in result.alerts if alert.status == "opened"]


def first_within(result: Results, first: int, last: int) -> Alert:
    return next(
        a for a in result.alerts if a.status == "opened" and first <= a.source.offset < last
    )


@pytest.mark.parametrize("step", [1, 5, 60, 300])
@pytest.mark.parametrize("spike", [45.0, 100.0, 1000.0])
def test_absurd_values_among_plain_ones_are_alerted(step: int, spike: float) -> None:
    values = np.random.default_rng(4).uniform(20, 30, 7200).round(2)
    at = [1500, 3000, 4500, 6000, 7000]
    values[at] = spike
    result = score(values, step)
    found = opened(result)
    assert set(at) <= set(found)
    assert len(set(found) - set(at)) <= 1
    alert = first_within(result, 3000, 3001)
    assert alert.lower is not None
    assert alert.upper is not None
    assert 15.0 < alert.lower < 22.0 < 28.0 < alert.upper < 35.0
    if spike > 45.0:
        assert alert.what == "implausible value"
        assert alert.figures == {"earlier": 1.0}


@pytest.mark.parametrize(("off", "least"), [(0.0, 0.0), (-2.0, -math.inf)])
def test_nothing_below_zero_is_normal_for_what_never_was_negative(off: float, least: float) -> None:
    rng = np.random.default_rng(3)
    values = np.where(rng.random(1500) < 0.1, 30.0, 0.5) * rng.exponential(size=1500) + off
    values[1400] = 2_000.0
    alert = first_within(score(values, 60), 1400, 1401)
    assert alert.lower is not None
    assert alert.lower >= least
    assert (alert.lower < 0.0) == (off < 0.0)


@pytest.mark.parametrize("at", [2520, 2610, 2700])
@pytest.mark.parametrize("lasts", [1, 400])
def test_a_leap_on_a_smooth_cycle_is_told_though_its_value_is_usual(at: int, lasts: int) -> None:
    hour = np.sin(2 * np.pi * np.arange(3000) / 360)
    values = 50.0 + 5.0 * hour + np.random.default_rng(0).normal(0.0, 0.1, 3000)
    assert opened(score(values, 10)) == []
    values[at : at + lasts] -= np.copysign(4.3, hour[at])  # 33 of its usual one-step errors
    result = score(values, 10)
    assert opened(result)[0] == at
    assert len(opened(result)) <= 2
    (alert,) = [a for a in result.alerts if a.source.offset == at]
    assert alert.severity == "warning"
    assert alert.what == "step"
    assert "expected next, a step beyond all that is plausible" in alert.explanation
    assert alert.figures["next_lower"] < alert.figures["next"] < alert.figures["next_upper"]


@pytest.mark.parametrize("spike", [25.0, 100.0])
def test_after_a_spike_a_series_is_not_taken_for_quiet(spike: float) -> None:
    """A spike makes the deviations larger for long, in which the changes are small."""
    for seed in range(4):
        values = np.random.default_rng(seed).normal(size=2_000).round(3)
        values[1_500] += spike
        found = opened(score(values, 60, false_alarms_per_series_per_day=1.44))
        assert 1_500 in found
        assert not [k for k in found if 1_501 < k <= 1_900]


def test_an_episode_counts_what_came_before_it_alone() -> None:
    values = np.random.default_rng(4).normal(50.0, 1.0, 3000)
    values[1500:1503] = [200.0, 201.0, 50.0]
    values[2500:2505] = [200.0, 50.0, 201.0, 50.0, 202.0]
    alerts = [a for a in score(values, 60).alerts if a.status == "resolved"]
    assert [a.value for a in alerts] == [201.0, 202.0]
    assert "before" not in alerts[0].explanation
    assert "it came once before" in alerts[1].explanation
    assert [a.figures.get("earlier") for a in alerts] == [None, 1.0]


@pytest.mark.parametrize(("step", "gap", "n", "wanted"), [(1, 100, 3000, 14), (60, 500, 12000, 11)])
def test_spikes_of_forty_deviations(step: int, gap: int, n: int, wanted: int) -> None:
    values = np.random.default_rng(3).normal(50.0, 1.0, n)
    at = np.arange(n // 2, n, gap)
    values[at] = 90.0
    found = opened(score(values, step))
    assert len(set(found) & set(at.tolist())) >= wanted
    assert len(set(found) - set(at.tolist())) <= 2


def test_spikes_of_one_size_become_a_habit() -> None:
    values = np.random.default_rng(3).normal(50.0, 1.0, 12_000)
    at = np.arange(1500, 12_000, 250)
    values[at] = 90.0
    result = score(values, 1)
    found = opened(result)
    assert found[:15] == at[:15].tolist()
    assert len(found) <= 18
    rare = [a for a in result.alerts if a.status == "opened"][15:]
    assert all("a habit" in a.explanation for a in rare if a.value == 90.0)


@pytest.mark.parametrize("before,event", [(0.0, 500.0), (10.0, 60.0)])
@pytest.mark.parametrize(
    "rules", [{}, {"min_deviation": 3.0}, {"direction": "above"}, {"min_deviation_ratio": 0.2}]
)
def test_a_constant_series_that_moves_alerts_at_once(
    before: float, event: float, rules: dict[str, object]
) -> None:
    values = np.full(3000, before)
    values[2600:2660] = event
    result = score(values, 300, **(rule(**rules) if rules else {}))
    assert opened(result)[:1] == [2600]
    alert = result.alerts[0]
    assert (alert.value, alert.expected, alert.direction) == (event, before, "above")
    assert opened(score(-values, 300, **rule(direction="below")))[:1] == [2600]
    assert 2600 not in opened(score(values, 300, **rule(direction="below")))
    assert np.isfinite(result.scores.expected[100:]).all()
    assert result.scores.expected[2600] == before
    assert np.isfinite(result.scores.upper[100:]).all()


def test_a_small_move_of_a_constant_series_is_no_critical_one() -> None:
    values = np.full(3000, 10.0)
    values[2600:2660] = 10.01
    (first, *_) = score(values, 300).alerts
    assert (first.status, first.severity) == ("opened", "warning")
    assert opened(score(values, 300, **rule(min_deviation=3.0))) == []
    assert opened(score(values, 300, **rule(min_deviation_ratio=0.2))) == []


@pytest.mark.parametrize("kind,minutes", [("shift", 40), ("ramp", 90), ("drift", 360)])
@pytest.mark.parametrize("seed", [3, 4])
def test_slow_changes_of_a_smooth_daily_series_are_told(kind: str, minutes: int, seed: int) -> None:
    n, at = 14 * 1440, 10 * 1440
    values = 50.0 + 10.0 * np.sin(2 * np.pi * np.arange(n) / 1440)
    values += np.random.default_rng(3).normal(0.0, 1.0, n)
    passed = np.arange(n - at)
    added = {"shift": 3.0, "ramp": 12.0 * np.minimum(1.0, passed / 360), "drift": passed / 144}
    values[at:] += added[kind]
    result = score(values, 60)
    assert len([i for i in opened(result) if i < at]) <= 2
    assert first_within(result, at, at + minutes).direction == "above"


def _walk(seed: int, a: float, size: float, n: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0.0, size, n)
    out = np.zeros(n)
    for i in range(1, n):
        out[i] = a * out[i - 1] + noise[i]
    return out


@pytest.mark.parametrize("kind", ["noise", "ar99", "ar9", "day"])
@pytest.mark.parametrize("hours", [6, 24, 96])
def test_a_stuck_sensor_is_one_alert_that_says_so(kind: str, hours: int) -> None:
    n, at = 288 * 14, 2600
    noise = np.random.default_rng(5).normal(0.0, 1.0, n)
    values = {
        "noise": 20.0 + noise,
        "ar99": 20.0 + _walk(1, 0.99, 0.1, n),
        "ar9": 20.0 + _walk(2, 0.9, 0.3, n),
        "day": 50.0 + 10.0 * np.sin(2 * np.pi * np.arange(n) / 288) + noise,
    }[kind].round(2)
    end = at + 12 * hours
    values[at:end] = 20.0 if kind == "noise" else values[at - 1]
    result = score(values, 300)
    alert = first_within(result, at, at + 36)
    assert alert.what == "dwell"
    assert "longest so far" in alert.explanation
    assert alert.figures["seconds"] > 2 * alert.figures["longest_seconds"]
    assert alert.expected is None
    assert len([i for i in opened(result) if at <= i < end]) == 1


def test_values_that_last_once_each_are_a_habit() -> None:
    values = np.random.default_rng(7).normal(0.0, 1.0, 6000)
    for at in range(2000, 6000, 250):
        values[at : at + 20] = values[at]
    found = [a for a in score(values, 300).alerts if a.status == "opened" and a.what == "dwell"]
    assert 1 <= len(found) <= 3


def test_a_state_that_falls_as_often_as_it_rises_is_no_counter() -> None:
    rng = np.random.default_rng(7)
    on = np.repeat(np.arange(1200) % 2, rng.integers(3, 12, 1200)).astype(np.float64)
    result = score(on, 300, false_alarms_per_series_per_day=5.0)
    assert [a for a in result.alerts if a.what == "rate"] == []
