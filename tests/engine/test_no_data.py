"""Series that send nothing: one alert each, one for all where all are silent, none for a pace."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.streams import Stream, engine, make_stream, run
from tests.engine.test_invariants import cuts_of, relaxed, seeds
from titans_stream.detection.rules import AlertConfig
from titans_stream.durations import DAY, SECOND
from titans_stream.engine.engine import StreamEngine
from titans_stream.records import Alert, Readings
from titans_stream.stream.encoding import encode_alert
from titans_stream.times import parse_timestamp

START = parse_timestamp("2026-01-01")
MINUTE = 60 * SECOND


def made(**alerts: object) -> StreamEngine:
    return engine(budget=1e-3, **{"no_data_after": "learned", **alerts})


def feed(
    one: StreamEngine, rows: list[tuple[str, float]], first: int = 0, group: str | None = None
) -> list[Alert]:
    """Readings of (series, minutes after START), in order."""
    n = len(rows)
    rng = np.random.default_rng(first)
    return one.process(
        Readings(
            [name for name, _ in rows],
            np.array([START + round(minute * MINUTE) for _, minute in rows], np.int64),
            rng.normal(20.0, 1.0, n),
            np.zeros(n, np.int32),
            np.arange(first, first + n),
            None if group is None else [group] * n,
        )
    ).alerts


def told(alerts: list[Alert]) -> list[tuple[str, str, float]]:
    """Series, status, and minutes after START of the message."""
    found = [alert for alert in alerts if alert.reason == "no_data"]
    return [(a.series_id, a.status, (parse_timestamp(a.timestamp) - START) / MINUTE) for a in found]


def test_a_lone_series_that_was_silent_is_told_when_it_is_back() -> None:
    rows = [("a", 5.0 * k) for k in range(300) if not 200 <= k < 206]
    alerts = feed(made(), rows)
    assert told(alerts) == [("a", "opened", 1030.0), ("a", "resolved", 1030.0)]
    opened, resolved = alerts
    assert opened.alert_id == resolved.alert_id
    assert opened.onset == "2026-01-01T17:00:00Z", "when it was five intervals late"
    assert "no reading for 35 min, 7 times the interval of 5 min; the last one was of 2026-01-01T" \
        "16:35:00Z" in opened.explanation  # fmt: skip
    assert resolved.explanation.endswith("readings come again")
    assert opened.value is None
    assert msgspec.json.decode(encode_alert(opened).value, type=Alert) == opened, "readers take it"
    assert (opened.duration_s, opened.source.offset) == (600.0, 200)
    assert not feed(made(no_data_after="never"), rows)


def test_a_silence_after_which_a_series_starts_anew_is_told_with_its_length() -> None:
    rows = [("a", 60.0 * k + (400 * 1440.0 if k >= 150 else 0.0)) for k in range(300)]
    opened, resolved = (a for a in feed(made(), rows) if a.reason == "no_data")
    assert "no reading for 400 days" in opened.explanation
    assert "the last one was of 2026-01-07T05:00:00Z" in resolved.explanation


def test_a_series_is_told_once_by_the_time_of_the_others() -> None:
    rows = [
        (name, 5.0 * k + 0.1 * at)
        for k in range(400)
        for at, name in enumerate("abc")
        if name != "b" or not 100 <= k < 300
    ]
    alerts = feed(made(), rows)
    assert [(name, status) for name, status, _ in told(alerts)] == [
        ("b", "opened"),
        ("b", "resolved"),
    ]
    opened, resolved = (minute for *_, minute in told(alerts))
    assert 520.0 <= opened <= 525.0
    assert resolved == pytest.approx(1500.1)
    ends = [row for row in rows if row[0] != "b" or row[1] < 1000.0]
    assert [status for _, status, _ in told(feed(made(), ends))] == ["opened"]


def test_a_silent_partition_is_one_alert() -> None:
    names = [f"s{i}" for i in range(12)]
    rows = [(name, k + i / 20) for k in range(300) for i, name in enumerate(names)
            if not 100 <= k < 160]  # fmt: skip
    alerts = feed(made(), rows)
    assert told(alerts) == [("*", "opened", 160.0), ("*", "resolved", 160.0)]
    assert "no reading of any of the 12 series of this partition for 60.5 min" in (
        alerts[0].explanation
    )


def test_data_that_come_in_blocks_are_no_silence() -> None:
    rows = [
        (name, 1440.0 * day + 5.0 * k)
        for day in range(60)
        for name in ("a", "b", "c")
        for k in range(288)
    ]
    assert told(feed(made(), rows)) == []


def test_an_irregular_series_is_not_silent() -> None:
    rng = np.random.default_rng(0)
    rows = [("a", float(t)) for t in np.cumsum(rng.exponential(5.0, 20_000))]
    assert told(feed(made(), rows)) == []


def test_nights_are_told_once_and_learned() -> None:
    rows = [
        (name, 1440.0 * day + 10.0 * k)
        for day in range(20)
        for k in range(144)
        for name in ("day", "always")
        if name == "always" or 48 <= k < 108
    ]
    found = told(feed(made(), sorted(rows, key=lambda row: row[1])))
    assert [(name, status) for name, status, _ in found] == [("day", "opened"), ("day", "resolved")]
    assert found[0][2] < 1440.0 + 480.0, "the first night"


def test_a_limit_can_be_given_and_by_rule() -> None:
    rows = [(name, 5.0 * k) for k in range(30) for name in ("a", "b", "c", "d")
            if name == "d" or k < 10]  # fmt: skip
    rules = [
        {"series": "b", "no_data_after": "1h"},
        {"series": "c", "no_data_after": "never"},
        {"series": "d", "enabled": False},
    ]
    found = told(feed(made(no_data_after="20m", rules=rules), rows))
    assert found == [("a", "opened", 65.0), ("b", "opened", 105.0)]


def test_changed_limits_hold_for_who_is_heard_already() -> None:
    """Also a shorter one than that with which the clock was last looked at."""
    rows = [(name, 5.0 * k) for k in range(10) for name in ("a", "b", "d")]
    rest = [("d", 5.0 * k) for k in range(10, 30)]
    one = made(no_data_after="20m", rules=[{"series": "b", "no_data_after": "2d"}])
    assert not feed(one, rows)
    one.change_alerts(
        AlertConfig.model_validate(
            {
                "no_data_after": "never",
                "rules": [{"series": "b", "no_data_after": "10m"}],
            }
        )
    )
    assert told(feed(one, rest, first=len(rows))) == [("b", "opened", 55.0)]


def test_a_group_falls_silent_as_one() -> None:
    one = made()
    rows = [(f"pump/{i}", float(k)) for k in range(200) for i in range(4) if k < 100 or k >= 120]
    alerts = feed(one, rows, group="pump")
    assert told(alerts) == [("pump", "opened", 120.0), ("pump", "resolved", 120.0)]


def test_a_channel_that_falls_silent_alone_is_told_by_its_own_id() -> None:
    rows = [
        (f"pump/{i}", float(k))
        for k in range(300)
        for i in range(4)
        if i != 2 or not 100 <= k < 200
    ]
    found = told(feed(made(), rows, group="pump"))
    assert [(name, status) for name, status, _ in found] == [
        ("pump/2", "opened"),
        ("pump/2", "resolved"),
    ]
    assert found[1][2] == 200.0


def test_one_of_two_assets_falls_silent_as_one() -> None:
    one = made()
    alerts = []
    for k in range(300):
        for pump in ("a", "b"):
            if pump == "a" or not 100 <= k < 200:
                rows = [(f"{pump}/{i}", k + i / 100) for i in range(3)]
                alerts += feed(one, rows, 10 * k, group=pump)
    assert [(name, status) for name, status, _ in told(alerts)] == [
        ("b", "opened"),
        ("b", "resolved"),
    ]
    alerts = []
    for k in (*range(300, 310), *range(900, 910)):
        for pump in ("a", "b"):
            alerts += feed(one, [(f"{pump}/{i}", k + i / 100) for i in range(3)], 10 * k, pump)
    assert [(name, status) for name, status, _ in told(alerts)] == [
        ("*", "opened"),
        ("*", "resolved"),
    ]


def test_a_wall_clock_tells_once_that_all_are_silent() -> None:
    one = made()
    feed(one, [(name, float(k)) for k in range(100) for name in ("a", "b")])
    assert one.tick(0, 4 * MINUTE, 0, 200) == []
    assert one.tick(0, 6 * MINUTE, 7 * MINUTE, 200) == [], "messages come in bursts"
    (alert,) = one.tick(0, 6 * MINUTE, 0, 200)
    assert (alert.series_id, alert.status, alert.source.offset) == ("*", "opened", 200)
    assert alert.onset == "2026-01-01T01:44:00Z"
    assert one.tick(0, 60 * MINUTE, 0, 200) == []
    (since, _) = one.silent_since(0)
    assert since == parse_timestamp(alert.onset)
    back = feed(one, [("a", 400.0), ("b", 400.0)], 200)
    assert told(back) == [("*", "resolved", 400.0)]
    assert back[0].alert_id == alert.alert_id
    assert one.silent_since(0) == [0, 0]


@relaxed
@given(seed=seeds, at=st.integers(0, 900))
def test_who_is_silent_depends_on_the_readings_and_their_order_alone(seed: int, at: int) -> None:
    stream = make_stream(seed, series=3, readings=900)
    rng = np.random.default_rng(seed)
    kept = np.ones(900, bool)
    for _ in range(4):
        name, first = f"s{rng.integers(3)}", rng.integers(300, 800)
        mine = np.array([series == name for series in stream.series])
        kept &= ~(mine & (np.arange(900) >= first) & (np.arange(900) < first + 60))
    stream = stream.where(kept)
    n = len(stream)
    at = min(at, n)
    whole = run(made(), stream, [])
    first = made()
    begun = run(first, stream.slice(0, at), cuts_of(at, seed))
    other = made()
    other.restore(0, first.snapshot(0))
    rest = run(other, stream.slice(at, n), cuts_of(n - at, seed + 1))
    names = [a.alert_id for a in whole.alerts if a.reason == "no_data"]
    both = [*begun.alerts, *rest.alerts]
    assert [a.alert_id for a in both if a.reason == "no_data"] == names
    assert [replace(a, value=0.0) for a in both] == [replace(a, value=0.0) for a in whole.alerts]


def test_a_snapshot_without_silences_begins_to_listen() -> None:
    old = engine()
    stream = Stream(["a"] * 100, START + DAY * np.arange(100), np.ones(100),
                    np.zeros(100, np.int32), np.arange(100))  # fmt: skip
    run(old, stream, [])
    new = made(no_data_after="2d")
    new.restore(0, old.snapshot(0))
    rows = [("a", 1440.0 * day) for day in (100, 101, 105)]
    assert [status for _, status, _ in told(feed(new, rows, 100))] == ["opened", "resolved"]
