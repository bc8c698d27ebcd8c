"""Series whose own interval is as long as `expire_after`: they live."""

from __future__ import annotations

import numpy as np
import pytest

from tests.engine.streams import engine
from tests.engine.test_batching import labels
from titans_stream.records import Readings, Results, Status

DAY = 86_400_000_000_000
START = np.datetime64("1901-01-01").astype("datetime64[ns]").astype(np.int64)


def dates(count: int, months: int) -> np.ndarray:
    """Firsts of months, nanoseconds."""
    first = np.datetime64("1901-01") + months * np.arange(count)
    return first.astype("datetime64[ns]").astype(np.int64)


def readings(times: np.ndarray, members: int = 0) -> Readings:
    n, each = len(times), max(members, 1)
    values = np.random.default_rng(0).standard_normal(n * each)
    return Readings(
        [f"s{m}" for m in range(each)] * n,
        np.repeat(times, each),
        values,
        np.zeros(n * each, np.int32),
        np.arange(n * each),
        ["asset"] * (n * each) if members else None,
    )


def unscored(result: Results) -> list[int]:
    return np.flatnonzero(result.scores.status != Status.SCORED).tolist()


@pytest.mark.parametrize(("count", "months"), [(320, 1), (260, 3), (250, 12)])
def test_monthly_quarterly_and_yearly_data_live(count: int, months: int) -> None:
    times = dates(count, months)
    result = engine().process(readings(times))
    assert unscored(result) == [*range(200)]


@pytest.mark.parametrize("days", [30, 31, 400])
def test_no_reading_of_such_a_series_is_lost(days: int) -> None:
    one = engine()
    one.process(readings(START + np.arange(60) * days * DAY))
    assert one.snapshot(0).arrays["core"][0, 0] == 60.0


def test_fifty_months_are_enough_for_a_forecast() -> None:
    one = engine(forecast={"steps": 12, "every": 1, "quantiles": [0.1, 0.9]})
    result = one.process(readings(dates(50, 1)))
    assert len(result.forecasts) == 1
    assert result.forecasts[0].origin == "1905-02-01T00:00:00Z"


def test_a_silence_of_many_of_its_intervals_still_ends_a_slow_series() -> None:
    times = START + np.arange(300) * 31 * DAY
    times[250:] += 500 * DAY
    result = engine().process(readings(times))
    assert labels(result.scores)[199:201] == ["warming_up", "scored"]
    assert set(labels(result.scores)[250:]) == {"warming_up"}


def test_a_fast_series_expires_as_before() -> None:
    times = START + np.arange(300) * 1_000_000_000
    times[250:] += 31 * DAY
    result = engine().process(readings(times))
    assert set(labels(result.scores)[200:250]) == {"scored"}
    assert set(labels(result.scores)[250:]) == {"warming_up"}


def test_a_series_that_slows_down_for_good_does_not_alternate() -> None:
    times = START + np.arange(250) * DAY
    slow = times[-1] + (1 + np.arange(300)) * 31 * DAY
    scores = engine().process(readings(np.concatenate([times, slow]))).scores
    assert set(labels(scores)[452:]) == {"scored"}


@pytest.mark.parametrize("months", [1, 12])
def test_groups_of_slow_series_live(months: int) -> None:
    result = engine().process(readings(dates(330, months), members=3))
    assert result.groups is not None
    assert np.isfinite(result.groups.statistic).sum() == 130
    rarity = result.groups.rarity
    assert np.isfinite(rarity[-100:]).all()
    one = engine()
    one.process(readings(dates(330, months), members=3))
    assert one.snapshot(0).arrays["group_episode"][0, 0] >= 327


@pytest.mark.parametrize("members", [0, 3])
def test_false_alarms_are_due_for_what_is_judged_alone(members: int) -> None:
    one = engine(budget=0.1)
    times = START + np.arange(260) * DAY
    one.process(readings(times[:200], members))
    assert one.figures().due == 0.0, "it warms up"
    result = one.process(readings(times[200:], members))
    rows = result.groups if members else result.scores
    assert rows is not None
    # a tenth of a day's reading is more than one in 100, which is the most
    assert one.figures().due == pytest.approx(0.01 * len(rows.p_value), rel=0.05)
