"""Order, duplicates, late readings, gaps, clock steps and expiry, by value."""

from __future__ import annotations

import numpy as np

from tests.engine.streams import MODEL
from titans_stream.detection.rules import AlertConfig
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.order import ANEW, segments
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
    scores = feed(make(), [0, 1, 2, 2, 1.5, 3], [0, 1, 2, 2, 4, 5])
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
    scores = feed(one, [0, 1, 1, 9], [0.0, 1.0, 1.0, 2.0])
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


def test_old_readings_stay_late_however_many() -> None:
    old = [float(s) for s in range(500, 900)]
    scores = feed(make(), [1000, 1001, *old, 1002])
    assert labels(scores) == ["warming_up"] * 2 + ["late"] * 400 + ["warming_up"]


def test_a_clock_that_was_set_back_is_followed_after_twenty_readings() -> None:
    back = [float(s) for s in range(500, 530)]
    scores = feed(make(clock_reset="after 20"), [1000, 1001, *back])
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


def test_a_snapshot_frees_no_series() -> None:
    """One that reports regularly with a clock 400 days behind the others' has not expired."""
    behind = -400 * 86_400.0
    times = [(name, base + 60.0 * k) for k in range(600) for name, base in
             (("a", 0.0), ("b", 0.0), ("behind", behind))]  # fmt: skip
    saved, never = make(), make()
    n = len(times)
    readings = Readings(
        [name for name, _ in times],
        np.array([START + round(s * SECOND) for _, s in times], np.int64),
        np.sin(np.arange(n) / 5.0),
        np.zeros(n, np.int32),
        np.arange(n),
    )
    for one in (saved, never):
        one.process(readings)
    assert saved.snapshot(0).meta["series"] == ["a", "b", "behind"]
    after = Readings(
        ["behind"], np.array([START + round((behind + 36_000) * SECOND)]), np.ones(1),
        np.zeros(1, np.int32), np.array([n]),
    )  # fmt: skip
    one, other = saved.process(after).scores, never.process(after).scores
    assert labels(one) == ["scored"]
    np.testing.assert_array_equal(one.surprise, other.surprise)


def test_a_snapshot_keeps_readings_that_wait_for_order() -> None:
    one = make(max_out_of_orderness="5m")
    times = [(name, base + 60 * k) for k in range(20) for name, base in
             (("a", 0), ("b", 0), ("backfill", -40 * 86_400))]  # fmt: skip
    n = len(times)
    one.process(
        Readings(
            [name for name, _ in times],
            np.array([START + s * SECOND for _, s in times]),
            np.ones(n),
            np.zeros(n, np.int32),
            np.arange(n),
        )
    )
    one.snapshot(0)
    assert one.flush().scores.series.count("backfill") == 5


def trained(one: StreamEngine, n: int = 400) -> np.ndarray:
    rng = np.random.default_rng(0)
    feed(one, [float(s) for s in range(n)], rng.standard_normal(n).tolist())
    return rng.standard_normal(n)


def test_one_wild_time_does_not_cost_a_series_its_memory() -> None:
    one, other = make(), make()
    values = trained(one)[:5].tolist()
    trained(other)
    scores = feed(one, [400, 3e8, 401, 402, 403], values)
    assert labels(scores) == ["scored", "warming_up", *(["scored"] * 3)]
    plain = feed(other, [400, 401, 402, 403], [values[0], *values[2:]])
    np.testing.assert_array_equal(scores.surprise[[0, 2, 3, 4]], plain.surprise)


def test_a_clock_that_starts_in_another_year_keeps_the_memory() -> None:
    one = make(clock_reset="after 20")
    trained(one)
    boot = feed(one, [-7e8 + s for s in range(30)], [0.1] * 30)
    assert labels(boot)[:20] == ["late"] * 19 + ["scored"]
    assert labels(feed(one, [430.0, 431.0, 432.0], [0.1] * 3)) == ["scored"] * 3


def test_an_open_episode_of_a_series_that_starts_anew_is_resolved() -> None:
    rule = {"series": "*", "valid_range": (None, 50.0)}
    one = StreamEngine(
        EngineConfig.model_validate({"device": "cpu"}),
        AlertConfig.model_validate({"rules": [rule]}),
        MODEL,
    )
    times = [60 * k for k in range(303)]
    back = [40 * 86_400 + 60 * k for k in range(50)]
    values = [*np.sin(np.arange(300) / 5.0), 99.0, 99.0, 99.0, *np.sin(np.arange(50) / 5.0)]
    n = len(values)
    alerts = one.process(
        Readings(
            ["a"] * n,
            np.array([START + s * SECOND for s in [*times, *back]]),
            np.array(values),
            np.zeros(n, np.int32),
            np.arange(n),
        )
    ).alerts
    first = next(alert for alert in alerts if alert.reason == "valid_range")
    mine = [alert.status for alert in alerts if alert.alert_id == first.alert_id]
    assert (mine[0], mine[-1]) == ("opened", "resolved")
    assert one.snapshot(0).arrays["episode"][0, 1] == 0.0


def test_a_months_pause_of_many_series_is_one_part() -> None:
    uids = np.tile(np.arange(50), 3)
    expired = np.zeros(150, np.int8)
    expired[50:100] = ANEW
    assert segments(uids, expired) == [(0, 50, []), (50, 150, list(range(50, 100)))]
    expired[120] = ANEW
    parts = segments(uids, expired)
    assert [part[:2] for part in parts] == [(0, 50), (50, 120), (120, 150)]
    assert parts[-1][2] == [120]
    assert segments(uids[:50], np.ones(50, np.int8) * ANEW) == [(0, 50, list(range(50)))]


def test_the_interval_is_learned_in_spite_of_gaps() -> None:
    one = make()
    feed(one, [float(s) for s in range(0, 600, 10)] + [5000.0, 5010.0, 5020.0])
    pace = one.snapshot(0).arrays["pace"][0, 0]
    assert abs(pace / SECOND - 10) < 0.5


def test_a_file_that_is_sent_again_raises_no_alert_twice() -> None:
    rng = np.random.default_rng(3)
    values = rng.standard_normal(900)
    values[600:606] += 30.0
    times = START + 60 * SECOND * np.arange(900)
    one = make()
    results = [
        one.process(
            Readings(
                ["a"] * 900, times, values, np.zeros(900, np.int32), np.arange(900) + 900 * again
            )
        )
        for again in range(3)
    ]
    assert [alert.status for alert in results[0].alerts][:1] == ["opened"]
    for again in results[1:]:
        assert not again.alerts
        assert set(labels(again.scores)[:-1]) == {"late"}
        assert labels(again.scores)[-1] == "duplicate"
