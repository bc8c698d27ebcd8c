"""What fills and empties shows a failure by where, and how late, it turns; what wanders has turns
that say nothing."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import pytest

from tests.detection.test_trust import START, first_within, opened, score
from titans_stream.detection.rules import AlertConfig
from titans_stream.evaluation.second_stage import ScoredReadings, onsets
from titans_stream.records import Float64

MINUTES = 1440


def tank(n: int, fill: Float64, top: Float64, noise: float = 0.15, seed: int = 1) -> Float64:
    """Fills by `fill` [n] a reading up to `top` [n], empties at a varying pace down to 35."""
    random = np.random.default_rng(seed)
    drain = 1.2 * np.exp(random.normal(0.0, 0.1, n))
    level, rising, course = 60.0, True, []
    for k in range(n):
        level += fill[k] if rising else -drain[k]
        if level > top[k]:
            rising = False
        elif level < 35.0:
            rising = True
        course.append(level)
    return (np.array(course) + random.normal(0.0, noise, n)).round(2)


def evidence(values: Float64, days_known: int = 0, budget: float = 0.1) -> list[int]:
    """Readings, a minute apart, with which an episode opens where S says nothing at all."""
    n = len(values)
    times = START * 10**9 + np.arange(n) * 60 * 10**9
    readings = ScoredReadings(
        "a", times, values, np.full(n, -1.0), np.full((n, 3), np.nan), np.full(n, -np.inf), False,
        True, np.zeros(n, np.int8), np.zeros(n, np.bool_),
    )  # fmt: skip
    found = np.flatnonzero(onsets(readings, AlertConfig(), budget / (MINUTES / 100.0)).opened)
    return [int(i) for i in found if i >= days_known * MINUTES]


def test_a_tank_that_turns_too_soon_is_told_in_words_that_say_so() -> None:
    n = 3_600
    top = np.full(n, 85.0)
    top[3_000:] = 80.0
    values = tank(n, np.full(n, 1.5), top)
    turn = 3_000 + int(np.argmax(values[3_000:3_060]))
    alert = first_within(score(values, 60), turn, turn + 20)
    assert alert.what == "turn"
    assert alert.direction == "below"
    assert alert.expected is None
    assert 78.5 < alert.figures["turned_at"] < 81.5
    assert 83.5 < alert.figures["usual_turn"] < 86.5
    assert "after rising, where it usually turns at" in alert.explanation
    assert opened(score(tank(n, np.full(n, 1.5), np.full(n, 85.0)), 60))[-1:] < [turn]


def test_a_tank_that_fills_more_slowly_is_told_when_it_is_full() -> None:
    n = 3_600
    fill = np.full(n, 1.5)
    fill[3_000:] = 0.8
    values = tank(n, fill, np.full(n, 85.0))
    alert = first_within(score(values, 60), 3_000, 3_160)
    assert alert.what == "turn"
    assert alert.figures["seconds"] > 1.3 * alert.figures["usual_seconds"]
    assert "it rose for" in alert.explanation


def test_a_limit_that_was_changed_for_good_is_told_twice_at_most() -> None:
    n = 12_000
    top = np.full(n, 85.0)
    top[6_000:] = 78.0
    found = [i for i in evidence(tank(n, np.full(n, 1.5), top)) if i >= 6_000]
    assert 1 <= len(found) <= 2


@pytest.mark.parametrize("exponent", [-40, 30])
def test_turns_do_not_depend_on_the_unit(exponent: int) -> None:
    n = 4_000
    top = np.full(n, 85.0)
    top[3_000:] = 80.0
    values = tank(n, np.full(n, 1.5), top)
    found = evidence(values)
    assert any(3_000 <= i < 3_100 for i in found)
    assert evidence(values * 2.0**exponent) == found


def test_what_wanders_or_is_noise_is_not_told_for_its_turns() -> None:
    told = 0
    for seed in range(6):
        random = np.random.default_rng(seed)
        kicks = random.normal(0.0, 1.0, 10 * MINUTES)
        walk = np.array(list(accumulate(kicks, lambda level, kick: 0.999 * level + kick)))
        wave = np.sin(np.arange(len(kicks)) * 2.0 * np.pi / 37.0) + 0.15 * kicks
        told += len(evidence(walk, 2)) + len(evidence(wave, 2)) + len(evidence(kicks, 2))
    # 14 are due by all evidence at .1 a day
    assert told <= 8


def bearing(seed: int, days: int = 14) -> Float64:
    """A temperature that follows two shifts and air that wanders for days."""
    n = days * MINUTES
    random = np.random.default_rng(seed)
    minute = np.arange(n)
    air = np.array(list(accumulate(random.normal(0.0, 0.05, n), lambda a, b: 0.999 * a + b)))
    air += 12.0 + 6.0 * np.sin(2.0 * np.pi * (minute / MINUTES - 9.0 / 24.0))
    hour = minute // 60 % 24
    load = np.where((hour >= 6) & (hour < 22), 1.0, 0.55)
    load *= 1.0 + np.array(
        list(accumulate(random.normal(0.0, 0.004, n), lambda a, b: 0.99 * a + b))
    )
    settled = list(accumulate(air + 15.0 + 18.0 * load, lambda a, b: a + (b - a) / 90.0))
    return np.array(settled) + random.normal(0.0, 0.15, n)


def test_a_week_of_what_wanders_for_days_says_little_about_its_levels() -> None:
    told = [len(evidence(bearing(seed), 6)) for seed in (3, 4, 9)]
    assert sum(told) <= 1


def shifts(seed: int, closed: int = 10) -> Float64:
    """Weekdays and weekends, from a Thursday on, up to the morning after the day `closed` from 0,
    which is one of the latter; these work half as hard from midnight on."""
    random = np.random.default_rng(seed)
    n = int((closed + 1.1) * MINUTES)
    at = np.arange(n)
    hour = at % MINUTES / 60.0
    shift = np.clip(np.minimum(hour - 6.0, 22.0 - hour), -0.25, 0.25) * 2.0 + 0.5
    wander = np.array(list(accumulate(random.normal(0.0, 0.004, n), lambda a, b: 0.99 * a + b)))
    off = ((at // MINUTES + 3) % 7 >= 5) | (at // MINUTES == closed)
    load = (0.55 + 0.45 * shift) * np.where(off, 0.6, 1.0)
    return (40.0 * load * (1.0 + wander) + random.normal(0.0, 0.5, n)).round(2)


def test_the_turn_of_the_day_is_no_news_once_both_kinds_are_known() -> None:
    midnights = [MINUTES * day for day in (9, 11)]
    values = shifts(3)
    told = [i for i in opened(score(values, 60)) if any(0 <= i - at < 30 for at in midnights)]
    assert told == []
    # what does not go with the day is told there as anywhere
    values[midnights[1] : midnights[1] + 12] = 1.0
    assert any(0 <= i - midnights[1] < 3 for i in opened(score(values, 60)))
