"""The reference of an alert, its words, gaps, counters and weekly habits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.detection.test_trust import first_within, opened, score
from titans_stream.commands import check_budget
from titans_stream.detection.printed import plain

DAY = 288


def daily(days: int, seed: int = 3) -> np.ndarray:
    t = np.arange(days * DAY)
    noise = np.random.default_rng(seed).normal(0.0, 1.0, len(t))
    return 50.0 + 10.0 * np.sin(2 * np.pi * t / DAY) + noise


def test_the_reference_knows_the_time_of_day_and_does_not_follow_the_event() -> None:
    values = daily(14)
    first = 10 * DAY + 72
    values[first : first + 200] -= 30.0
    result = score(values, 300)
    alert = first_within(result, first, len(values))
    told = [a for a in result.alerts if a.alert_id == alert.alert_id]
    last = told[-1]
    assert alert.source.offset <= first + 2
    assert alert.direction == "below"
    assert alert.expected == pytest.approx(60.0, abs=2.0)
    assert alert.upper is not None
    assert alert.lower is not None
    assert alert.upper - alert.lower == pytest.approx(4.0, rel=0.5)
    assert last.expected is not None
    assert last.expected > 45.0
    assert last.value < last.expected - 25.0
    assert last.onset_value == values[first]
    assert last.latest_value == values[last.source.offset]
    within = [a for a in told if a.lower is not None and a.lower <= a.value <= (a.upper or 0.0)]
    assert within == []


@pytest.mark.parametrize("event", ["drift", "shift"])
def test_a_small_lasting_change_is_told_as_a_level(event: str) -> None:
    values = daily(14)
    first = 10 * DAY
    size = 10.0 * np.arange(DAY) / DAY if event == "drift" else 3.0
    values[first : first + DAY] += size
    alert = first_within(score(values, 300), first, first + DAY)
    assert alert.source.offset < first + (150 if event == "drift" else 80)
    assert alert.direction == "above"


def test_a_rise_within_hours_is_told_before_it_is_large() -> None:
    t = np.arange(14 * 1440)
    noise = np.random.default_rng(3).normal(0.0, 1.0, len(t))
    values = 50.0 + 10.0 * np.sin(2 * np.pi * t / 1440) + noise
    first = 10 * 1440
    values[first : first + 1440] += 12.0 * np.minimum(1.0, np.arange(1440) / 360)
    alert = first_within(score(values, 60), first, first + 1440)
    assert alert.source.offset < first + 90
    assert alert.direction == "above"


def warmed(days: int, seed: int) -> np.ndarray:
    """A bearing a minute: it follows two shifts and weather that wanders, with a lag."""
    rng = np.random.default_rng(seed)
    t = np.arange(days * 1440)
    hour = t / 60 % 24
    target = 27.0 + 6.0 * np.sin(2 * np.pi * (hour - 9) / 24)
    target += 18.0 * (0.55 + 0.45 * np.clip(2.0 * np.minimum(hour - 6, 22 - hour) + 0.5, 0.0, 1.0))
    values, weather, at = np.zeros(len(t)), 0.0, target[0]
    for i, shock in enumerate(rng.normal(0.0, 0.05, len(t))):
        weather = 0.999 * weather + shock
        at += (target[i] + weather - at) / 90
        values[i] = at
    return values + rng.normal(0.0, 0.15, len(t))


def test_a_rise_of_what_wanders_is_held_against_this_time_of_day() -> None:
    values = warmed(10, 2)
    first = 8 * 1440 + 600
    values[first : first + 360] += np.linspace(0.0, 12.0, 360)
    result = score(values, 60)
    alert = first_within(result, first, first + 360)
    assert alert.source.offset < first + 90, "148 by the levels alone"
    assert alert.what == "level at this time of day"
    assert alert.figures["risen"] > 0.5
    assert alert.direction == "above"
    assert f"has lately risen by {plain(alert.figures['risen'], 3)}" in alert.explanation
    assert len([i for i in opened(result) if i < first]) <= 2


def test_a_counter_is_watched_by_its_rate() -> None:
    rng = np.random.default_rng(2)
    steps = 1.0 + rng.exponential(0.2, 4000)
    steps[3000:3100] *= 3.0
    values = np.cumsum(steps)
    values[2000:] -= values[2000]  # a reset
    result = score(values, 60)
    found = opened(result)
    assert len([i for i in found if i < 3000]) <= 1  # one that the budget accepts
    alert = first_within(result, 3000, 3030)
    assert alert.what == "rate"
    assert alert.figures["times_usual"] == pytest.approx(3.0, rel=0.4)
    assert "a minute" in alert.explanation


def test_nothing_is_told_of_the_first_readings_after_a_gap() -> None:
    values = daily(14)
    values[10 * DAY + 20 : 10 * DAY + 92] = np.nan
    result = score(values, 300)
    back = 10 * DAY + 92
    assert not [i for i in opened(result) if back <= i < back + 30]
    values[back] = 20.0
    assert back in opened(score(values, 300))


def test_a_weekly_job_is_a_habit_after_four_times() -> None:
    weeks, hours = 26, 24 * 7
    values = np.random.default_rng(1).normal(50.0, 1.0, weeks * hours * 4)
    job = [w * hours * 4 + (3 * 24 + 2) * 4 for w in range(2, weeks)]  # Sundays at 02:00
    for at in job:
        values[at : at + 4] += 25.0
    found = opened(score(values, 900))
    told = [at for at in job if any(at <= i < at + 8 for i in found)]
    assert 1 <= len(told) <= 4
    assert told == job[: len(told)]


def test_words_fit_the_budget() -> None:
    values = daily(14)
    values[10 * DAY + 5] += 30.0
    for budget in (0.01, 0.1, 3.0):
        result = score(values, 300, false_alarms_per_series_per_day=budget)
        for alert in result.alerts:
            assert "times a day" not in alert.explanation or budget > 1.0
            assert not alert.extrapolated
            assert math.isfinite(alert.value)


def test_check_says_how_much_history_a_budget_takes(capsys: pytest.CaptureFixture[str]) -> None:
    check_budget.tell(1.0, 0.1)
    out, err = capsys.readouterr()
    assert "one in 864,000 readings; thresholds are extrapolated for 10 days" in out
    assert "1.7 a day can" in err
    check_budget.tell(300.0, 0.1)
    out, err = capsys.readouterr()
    assert "a reading in 5 min" in out
    assert err == ""
    check_budget.tell(86_400.0, 0.1)
    told = capsys.readouterr()
    assert "one in 10 readings" in told.err
    assert "0.01 a day" in told.err
    check_budget.tell(3_600.0, 0.1)
    assert capsys.readouterr().err == ""
    check_budget.tell(None, 0.1)
    assert capsys.readouterr() == ("", "")
