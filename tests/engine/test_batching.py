"""Order, duplicates, late readings, gaps, clock steps and expiry, by value."""

from __future__ import annotations

import numpy as np

from tests.engine.streams import MODEL
from titans_stream.detection.rules import AlertConfig
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.settings import EngineConfig
from titans_stream.records import Readings, Scores, Status

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND


def make(**config: object) -> StreamEngine:
    return StreamEngine(
        EngineConfig.model_validate({"device": "cpu", **config}),
        AlertConfig(),
        MODEL,
    )


def feed(one: StreamEngine, seconds: list[float], values: list[float] | None = None) -> Scores:
    n = len(seconds)
    times = np.array([START + round(s * SECOND) for s in seconds], np.int64)
    column = np.arange(n, dtype=float) if values is None else np.array(values)
    return one.process(
        Readings(["a"] * n, times, column, np.zeros(n, np.int32), np.arange(n))
    ).scores


def labels(scores: Scores) -> list[str]:
    return [Status(status).label for status in scores.status.tolist()]


def seconds(scores: Scores) -> list[float]:
    return [(int(t) - START) / SECOND for t in scores.timestamp]


def test_without_disorder_allowed_nothing_waits() -> None:
    scores = feed(make(), [0, 1, 2, 2, 1.5, 3])
    assert seconds(scores) == [0, 1, 2, 2, 1.5, 3]
    assert labels(scores) == ["warming_up"] * 3 + ["duplicate", "late", "warming_up"]


def test_disorder_within_the_bound_is_mended_and_beyond_is_late() -> None:
    one = make(max_out_of_orderness="2s")
    scores = feed(one, [0, 3, 1.5, 2, 6, 3.5, 9])
    # after 3 the horizon is 1; 1.5 and 2 wait, 3.5 comes when the horizon is 4
    assert seconds(scores) == [0, 1.5, 2, 3, 3.5, 6]
    assert labels(scores) == ["warming_up"] * 4 + ["warming_up", "warming_up"]
    rest = one.flush().scores
    assert seconds(rest) == [9]


def test_a_reading_older_than_one_already_released_is_late() -> None:
    one = make(max_out_of_orderness="2s")
    scores = feed(one, [0, 3, 6, 2.5, 9])
    assert seconds(scores) == [0, 3, 2.5, 6]
    assert labels(scores)[2] == "late"


def test_a_repeat_of_a_waiting_reading_is_a_duplicate() -> None:
    one = make(max_out_of_orderness="5s")
    scores = feed(one, [0, 1, 1, 9])
    assert list(zip(seconds(scores), labels(scores), strict=True)) == [
        (1, "duplicate"),
        (0, "warming_up"),
        (1, "warming_up"),
    ]


def test_one_wrong_clock_does_not_make_others_late() -> None:
    one = make(max_out_of_orderness="2s")
    times = np.array([0, 0, 10_000, 1, 1, 2, 2], np.int64) * SECOND + START
    scores = one.process(
        Readings(
            ["good", "bad", "bad", "good", "bad", "good", "bad"],
            times,
            np.ones(7),
            np.zeros(7, np.int32),
            np.arange(7),
        )
    ).scores
    assert Status.LATE not in scores.status.tolist()


def test_missing_values_are_marked_and_never_scored() -> None:
    scores = feed(make(), [0, 1, 2], [1.0, float("nan"), 2.0])
    assert labels(scores) == ["warming_up", "missing", "warming_up"]
    assert np.isnan(scores.expected[1])


def test_infinite_values_count_as_missing() -> None:
    assert labels(feed(make(), [0, 1], [float("inf"), -float("inf")])) == ["missing"] * 2


def test_a_gap_is_marked_on_the_first_reading_after_it() -> None:
    scores = feed(make(), [*range(20), 40, 41])
    assert np.flatnonzero(scores.gap).tolist() == [20]
    given = feed(make(expected_interval="1s"), [0, 1, 7, 8])
    assert np.flatnonzero(given.gap).tolist() == [2]


def test_a_clock_that_was_set_back_is_followed_after_twenty_readings() -> None:
    back = [float(s) for s in range(500, 530)]
    scores = feed(make(), [1000, 1001, *back])
    assert labels(scores)[2:22] == ["late"] * 19 + ["warming_up"]
    assert labels(scores)[22:] == ["warming_up"] * 10


def test_stray_late_readings_do_not_move_the_clock() -> None:
    scores = feed(make(), [1000, *([500.0] * 50), 1001])
    assert labels(scores) == ["warming_up", *(["late"] * 50), "warming_up"]


def test_a_series_that_was_silent_for_long_starts_anew() -> None:
    one = make(expire_after="1h")
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(400).tolist()
    first = feed(one, [float(s) for s in range(400)], noise)
    again = feed(one, [90_000.0 + s for s in range(400)], noise)
    fresh = feed(make(expire_after="1h"), [90_000.0 + s for s in range(400)], noise)
    assert (first.status == Status.SCORED).sum() == 200
    np.testing.assert_array_equal(again.surprise, fresh.surprise)


def test_expired_series_are_freed_with_the_snapshot() -> None:
    one = make(expire_after="1h")
    names = ["old", "b", "c"]
    for t in (0, 10_000):
        n = 3 if t == 0 else 2
        one.process(
            Readings(
                names[-n:],
                np.full(n, START + t * SECOND),
                np.ones(n),
                np.zeros(n, np.int32),
                np.zeros(n, np.int64),
            )
        )
    assert one.snapshot(0).meta["series"] == ["b", "c"]
    assert one.series_count() == 2


def test_the_interval_is_learned_in_spite_of_gaps() -> None:
    one = make()
    feed(one, [float(s) for s in range(0, 600, 10)] + [5000.0, 5010.0, 5020.0])
    pace = one.snapshot(0).arrays["pace"][0, 0]
    assert abs(pace / SECOND - 10) < 0.5
