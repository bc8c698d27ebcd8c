"""When a forecast is due, and the interval that its timestamps keep."""

from __future__ import annotations

import numpy as np
import pytest

from titans_stream.engine import rhythm

SECOND = 1_000_000_000
START = 1_772_366_400 * SECOND


class Series:
    """One series' turns and rhythm."""

    def __init__(self, **settings: float) -> None:
        self.turns = rhythm.Turns(*(spec.rows(1) for spec in rhythm.state_layout().values()))
        self.settings = {
            "expected": 0.0, "every": 10, "steps": 0, "horizon": 0.0, "most": 10_000, **settings,
        }  # fmt: skip

    def take(
        self, times: np.ndarray, values: np.ndarray | None = None, pace: float = 7.0 * SECOND
    ) -> tuple[np.ndarray, np.ndarray]:
        """Interval and steps after each reading; `pace` is what the clock has learned."""
        n = len(times)
        interval, steps = np.empty(n), np.empty(n, np.int64)
        s = self.settings
        schedule = rhythm.Schedule(
            s["expected"], int(s["every"]), int(s["steps"]), s["horizon"], int(s["most"])
        )
        rhythm.take_turns(
            np.zeros(n, np.int64), np.asarray(times, np.int64),
            np.ones(n) if values is None else values, np.full(n, pace), self.turns, schedule,
            interval, steps,
        )  # fmt: skip
        return interval, steps


def regular(n: int, step: int = 60 * SECOND) -> np.ndarray:
    return START + step * np.arange(n)


def test_the_first_forecast_waits_for_its_values_and_the_others_for_their_turn() -> None:
    _, steps = Series(steps=4, every=20).take(regular(130))
    assert np.flatnonzero(steps).tolist() == [49, 69, 89, 109, 129]
    assert set(steps[steps > 0].tolist()) == {4}
    _, steps = Series(steps=4, every=120).take(regular(300))
    assert np.flatnonzero(steps).tolist() == [119, 239]
    _, steps = Series(steps=4, every=1).take(regular(60))
    assert np.flatnonzero(steps).tolist() == list(range(49, 60))


def test_missing_values_count_but_are_not_followed() -> None:
    values = np.ones(100)
    values[:10] = values[69:72] = np.nan
    _, steps = Series(steps=4, every=10).take(regular(100), values)
    assert np.flatnonzero(steps).tolist() == [59, 72, 82, 92]


def test_splits_change_nothing() -> None:
    rng = np.random.default_rng(0)
    times = START + np.cumsum(rng.integers(1, 90, 500)) * SECOND
    whole, parts = Series(horizon=3600.0 * SECOND), Series(horizon=3600.0 * SECOND)
    left = whole.take(times)
    right = [parts.take(part) for part in np.split(times, [1, 2, 77, 78, 300])]
    for one, many in zip(left, zip(*right, strict=True), strict=True):
        np.testing.assert_array_equal(one, np.concatenate(many))
    np.testing.assert_array_equal(whole.turns.rhythm, parts.turns.rhythm)
    np.testing.assert_array_equal(whole.turns.turn, parts.turns.turn)


def test_a_regular_series_has_its_interval_exactly_whatever_is_missing() -> None:
    step = 900 * SECOND + 7
    rng = np.random.default_rng(1)
    there = rng.random(400) > 0.3
    times = regular(400, step)[there]
    times[200:] += 40 * step
    interval, _ = Series(steps=1).take(times)
    assert set(interval[20:].tolist()) == {float(step)}


def test_jitter_is_averaged_and_a_new_rate_is_taken_over() -> None:
    rng = np.random.default_rng(2)
    jitter = rng.normal(0, 0.02, 300) * SECOND
    times = regular(300, 10 * SECOND) + jitter.astype(np.int64)
    series = Series(steps=1)
    interval, _ = series.take(times)
    np.testing.assert_allclose(interval[30:], 10 * SECOND, rtol=2e-3)
    later = times[-1] + 2 * SECOND * np.arange(1, 60)
    interval, _ = series.take(later)
    assert interval[5] > 9 * SECOND
    np.testing.assert_allclose(interval[40:], 2 * SECOND, rtol=1e-12)


def test_without_a_common_interval_the_pace_counts() -> None:
    rng = np.random.default_rng(3)
    times = START + np.cumsum(10 ** rng.uniform(0, 4, 400) * SECOND).astype(np.int64)
    interval, _ = Series(steps=1).take(times, pace=123.0 * SECOND)
    assert (interval == 123.0 * SECOND).mean() > 0.9
    assert np.isnan(interval[0]), "one reading has no interval"


def test_an_expected_interval_is_kept() -> None:
    interval, _ = Series(steps=1, expected=5.0 * SECOND).take(regular(100))
    assert set(interval.tolist()) == {5.0 * SECOND}


@pytest.mark.parametrize(
    ("step", "expected"),
    [(900, 96), (3600, 24), (700, 123), (86_400, 1), (7 * 86_400, 1), (1, 5_000)],
)
def test_a_horizon_in_steps(step: int, expected: int) -> None:
    _, steps = Series(horizon=86_400.0 * SECOND, most=5_000).take(regular(60, step * SECOND))
    assert steps[49] == expected


def test_the_end_of_time_is_not_passed() -> None:
    year = 365 * 86_400 * SECOND
    times = np.iinfo(np.int64).max - 3 * year // 2 - (year // 100) * np.arange(60)[::-1]
    _, steps = Series(steps=1_000).take(times)
    assert steps[49] > 100
    assert times[49] + int(steps[49]) * (year // 100) <= np.iinfo(np.int64).max
    _, steps = Series(steps=1_000).take(np.iinfo(np.int64).max - 60 + np.arange(60))
    assert set(steps.tolist()) == {0}


def test_a_clock_set_back_is_no_interval() -> None:
    series = Series(steps=1)
    series.take(regular(100))
    interval, _ = series.take(regular(100))
    assert set(interval.tolist()) == {60.0 * SECOND}


def test_readings_that_share_a_time_share_the_step_to_the_next() -> None:
    one = Series(steps=1)
    times = START + SECOND * (np.arange(100) // 10)
    interval, _ = one.take(times, pace=0.0)
    assert interval[30:].tolist() == [SECOND / 10] * 70
