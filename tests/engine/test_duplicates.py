"""Several readings with one timestamp, by value: each way to take them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.engine.streams import engine
from tests.engine.test_batching import START, labels, seconds
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.order import REMEMBERED
from titans_stream.records import Readings, Results, Status

SECOND = 1_000_000_000


def make(duplicates: str, **settings: object) -> StreamEngine:
    return engine(settings={"duplicates": duplicates, **settings})


def feed(
    one: StreamEngine, times: list[float], values: list[float], series: str = "a", first: int = 0
) -> Results:
    n = len(times)
    return one.process(
        Readings(
            [series] * n,
            np.array([START + round(s * SECOND) for s in times], np.int64),
            np.array(values, float),
            np.zeros(n, np.int32),
            first + np.arange(n),
        )
    )


def ten_hertz(n: int, resolution: float = 1.0) -> tuple[list[float], list[float]]:
    """Noise at 10 readings a stamp, an event of 500 at three quarters."""
    values = np.random.default_rng(0).standard_normal(n) + 50.0
    values[3 * n // 4] = 500.0
    return [resolution * (i // 10) for i in range(n)], values.tolist()


@pytest.mark.parametrize("duplicates", ["keep-order", "spread"])
@pytest.mark.parametrize("resolution", [1.0, 60.0])
def test_more_readings_than_stamps_are_all_scored(duplicates: str, resolution: float) -> None:
    times, values = ten_hertz(2000, resolution)
    one = make(duplicates)
    result = feed(one, times, values)
    rest = one.flush()
    status = np.concatenate([result.scores.status, rest.scores.status])
    assert np.bincount(status).tolist() == [1800, 200]
    assert not result.scores.gap.any()
    event = int(np.flatnonzero(result.scores.value == 500.0)[0])
    assert result.scores.surprise[event] == np.nanmax(result.scores.surprise)
    pace = one.snapshot(0).arrays["pace"][0, 0]
    np.testing.assert_allclose(pace, resolution * SECOND / 10, rtol=1e-6)


def test_keep_order_publishes_the_stamps_that_came() -> None:
    times, values = ten_hertz(100)
    assert seconds(feed(make("keep-order"), times, values).scores) == times


def test_keep_order_scores_as_finer_stamps_would_have_been() -> None:
    """All that is left of the difference is the time of day, less than a second of it."""
    times, values = ten_hertz(600)
    coarse = feed(make("keep-order"), times, values).scores
    fine = feed(make("keep-order"), [i / 10 for i in range(600)], values).scores
    np.testing.assert_allclose(coarse.expected, fine.expected, atol=1e-3)
    np.testing.assert_allclose(coarse.surprise, fine.surprise, atol=1e-3)


def test_drop_keeps_the_first_of_a_stamp() -> None:
    scores = feed(make("drop"), [0, 0, 1, 1], [1.0, 2.0, 3.0, 4.0]).scores
    assert labels(scores) == ["warming_up", "duplicate"] * 2


@pytest.mark.parametrize("bound", ["0s", "3s"])
def test_a_resend_of_several_values_of_a_stamp_is_never_scored(bound: str) -> None:
    times, values = ten_hertz(100)
    one = make("keep-order", max_out_of_orderness=bound)
    for _ in range(3):
        again = feed(one, times[90:], values[90:])
    assert labels(again.scores) == ["duplicate"] * 10
    scores = feed(one, [20.0, 30.0], [0.0, 1.0]).scores
    status = [*scores.status, *one.flush().scores.status]
    assert status.count(Status.DUPLICATE) == 0


def test_a_missing_value_counts_once_a_stamp() -> None:
    nan = float("nan")
    scores = feed(make("keep-order"), [0, 0, 0, 0], [1.0, nan, nan, 2.0]).scores
    assert labels(scores) == ["warming_up", "missing", "duplicate", "warming_up"]


def test_a_resend_is_recognised_as_far_as_values_are_remembered() -> None:
    n = REMEMBERED + 5
    one = make("keep-order")
    feed(one, [0.0] * n, list(range(n)))
    again = feed(one, [0.0] * REMEMBERED, list(range(5, n)))
    assert labels(again.scores) == ["duplicate"] * REMEMBERED
    assert labels(feed(one, [0.0], [0.0]).scores) == ["warming_up"]


def test_a_gap_is_seen_between_shared_stamps() -> None:
    times, values = ten_hertz(420)
    times[400:] = [60.0] * 10 + [61.0] * 10
    scores = feed(make("keep-order"), times, values).scores
    assert np.flatnonzero(scores.gap).tolist() == [400]


def test_a_clock_set_back_is_followed_though_stamps_repeat() -> None:
    one = make("keep-order", clock_reset="after 20")
    times, values = ten_hertz(300)
    feed(one, [1000.0 + t for t in times], values)
    scores = feed(one, times, values).scores
    assert labels(scores)[:190] == ["late"] * 190
    assert set(labels(scores)[190:]) == {"scored"}


def test_keep_last_scores_the_last_of_a_stamp_when_the_next_one_comes() -> None:
    one = make("keep-last")
    scores = feed(one, [0, 0, 0, 1, 1, 2], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).scores
    assert [*zip(scores.value.tolist(), labels(scores), strict=True)] == [
        (1.0, "duplicate"),
        (2.0, "duplicate"),
        (3.0, "warming_up"),
        (4.0, "duplicate"),
        (5.0, "warming_up"),
    ]
    again = feed(one, [1, 1, 2], [5.0, 9.0, 6.0]).scores
    assert labels(again) == ["duplicate"] * 3
    rest = one.flush().scores
    assert rest.value.tolist() == [6.0]


def test_spread_puts_readings_between_their_stamp_and_the_next() -> None:
    one = make("spread")
    scores = feed(one, [0, 0, 1, 1, 1, 1, 2, 100, 101], list(map(float, range(9)))).scores
    assert seconds(scores) == [0, 0.5, 1, 1.25, 1.5, 1.75, 2, 100]
    again = feed(one, [100, 101], [7.0, 8.0]).scores
    assert labels(again) == ["duplicate"] * 2
    assert seconds(one.flush().scores) == [101]


def test_spread_after_a_pause_keeps_to_the_pace_before() -> None:
    one = make("spread")
    scores = feed(one, [0, 1, 2, 2, 90, 90, 91], list(map(float, range(7)))).scores
    assert seconds(scores) == [0, 1, 2, 2.5, 90, 90.5]


def test_spread_waits_for_order_too() -> None:
    one = make("spread", max_out_of_orderness="2s")
    scores = feed(one, [0, 0, 3, 1, 1, 6, 9], list(map(float, range(7)))).scores
    assert seconds(scores) == [0, 0.5, 1, 2, 3]
    assert set(labels(scores)) == {"warming_up"}
    assert seconds(one.flush().scores) == [6, 9]


def test_held_readings_go_on_where_nothing_waits_any_more() -> None:
    one = make("keep-last")
    feed(one, [0, 1], [1.0, 2.0])
    other = make("keep-order")
    other.restore(0, one.snapshot(0))
    assert feed(other, [2.0], [3.0]).scores.value.tolist() == [2.0, 3.0]


def test_forecasts_of_shared_stamps_go_on_from_the_reading_s_place() -> None:
    one = engine(forecast={"steps": 3, "every": 1, "quantiles": [0.1, 0.9]})
    times, values = ten_hertz(100)
    forecasts = feed(one, times, values).forecasts
    last = forecasts[-1]
    assert len(forecasts) == 51
    assert last.origin.endswith("22:13:29Z")
    assert [t[17:] for t in last.timestamps] == ["30Z", "30.1Z", "30.2Z"]


def grouped(times: list[float], values: list[list[float]]) -> Readings:
    n, members = len(times), len(values)
    return Readings(
        [f"s{m}" for m in range(members)] * n,
        np.repeat([START + round(s * SECOND) for s in times], members).astype(np.int64),
        np.array(values).T.ravel(),
        np.zeros(n * members, np.int32),
        np.arange(n * members),
        ["asset"] * (n * members),
    )


def test_members_share_a_frame_for_each_reading_of_a_stamp() -> None:
    times, _ = ten_hertz(600)
    values = np.random.default_rng(1).standard_normal((3, 600))
    rule = {"series": "s1", "valid_range": (None, 50.0)}
    values[1, 555] = 99.0
    one = engine(rules=[rule])
    result = one.process(grouped(times, values.tolist()))
    assert result.groups is not None
    frames = result.groups
    assert frames.timestamp.tolist() == [START + int(t) * SECOND for t in times]
    assert np.isfinite(frames.statistic).sum() == 400
    opened = [alert for alert in result.alerts if alert.reason == "valid_range"]
    assert opened[0].status == "opened"
    assert opened[0].onset == opened[0].peak_timestamp == "2023-11-14T22:14:15Z"
    assert opened[0].channels[0].series_id == "s1"
    pace = one.snapshot(0).arrays["group_pace"][0, 0]
    np.testing.assert_allclose(pace, SECOND, rtol=1e-6)
