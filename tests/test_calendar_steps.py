"""The next times of series that follow a calendar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from titans_stream.files.calendar_steps import next_times
from titans_stream.records import Int64
from titans_stream.times import format_timestamps, load_zone, parse_timestamp


def times(*texts: str, zone: str = "UTC") -> Int64:
    return np.array([parse_timestamp(text, load_zone(zone)) for text in texts], np.int64)


def after(past: Int64, steps: int, zone: str = "UTC") -> list[str] | None:
    found = next_times(past, steps, load_zone(zone))
    return None if found is None else [text[:16] for text in format_timestamps(found)]


def months(step: int, day: int, count: int = 60, clock: str = "") -> list[str]:
    out = []
    for i in range(count):
        year, month = divmod(2000 * 12 + i * step, 12)
        last = (datetime(year + month // 11, (month + 1) % 12 + 1, 1) - timedelta(days=1)).day
        out.append(f"{year}-{month + 1:02d}-{min(day, last):02d}{clock}")
    return out


@pytest.mark.parametrize(
    ("step", "day", "expected"),
    [
        (1, 1, ["2005-01-01", "2005-02-01", "2005-03-01"]),
        (1, 15, ["2005-01-15", "2005-02-15", "2005-03-15"]),
        (1, 31, ["2005-01-31", "2005-02-28", "2005-03-31"]),
        (1, 30, ["2005-01-30", "2005-02-28", "2005-03-30"]),
        (3, 1, ["2015-01-01", "2015-04-01", "2015-07-01"]),
        (12, 1, ["2060-01-01", "2061-01-01", "2062-01-01"]),
    ],
)
def test_months_quarters_and_years(step: int, day: int, expected: list[str]) -> None:
    assert after(times(*months(step, day)), 3) == [text + "T00:00" for text in expected]


def test_months_of_a_zone_keep_their_local_time() -> None:
    past = times(*months(1, 1, clock=" 06:00"), zone="Europe/Vienna")
    assert after(past, 4, "Europe/Vienna") == [
        "2005-01-01T05:00", "2005-02-01T05:00", "2005-03-01T05:00", "2005-04-01T04:00",
    ]  # fmt: skip


def test_one_missing_month_changes_nothing() -> None:
    listed = months(1, 1)
    del listed[30]
    assert after(times(*listed), 1) == ["2005-01-01T00:00"]


def hours(days: int, keep: set[int], weekdays: set[int], first: str = "2026-03-02") -> Int64:
    begin = datetime.fromisoformat(first).replace(tzinfo=UTC)
    moments = [begin + timedelta(hours=hour) for hour in range(24 * days)]
    kept = [one for one in moments if one.hour in keep and one.weekday() in weekdays]
    return np.array([int(one.timestamp()) * 10**9 for one in kept], np.int64)


WORKDAYS = set(range(5))


def test_business_days() -> None:
    past = hours(75, {0}, WORKDAYS)  # until Friday, 15 May
    assert after(past, 4) == [f"2026-05-{day}T00:00" for day in (18, 19, 20, 21)]


def test_a_holiday_is_no_rule() -> None:
    past = hours(75, {0}, WORKDAYS)
    past = np.delete(past, [20, 33])
    assert after(past, 2) == ["2026-05-18T00:00", "2026-05-19T00:00"]


def test_office_hours() -> None:
    past = hours(26, set(range(8, 18)), WORKDAYS)  # until Friday 17:00
    assert after(past, 12) == [
        *(f"2026-03-30T{hour:02d}:00" for hour in range(8, 18)),
        "2026-03-31T08:00",
        "2026-03-31T09:00",
    ]


def test_hours_of_the_day_show_within_days_and_weekends_within_two_weeks() -> None:
    assert after(hours(5, set(range(8, 12)), WORKDAYS), 2) == [
        "2026-03-07T08:00", "2026-03-07T09:00",
    ]  # fmt: skip
    assert after(hours(12, set(range(8, 12)), WORKDAYS), 1) == ["2026-03-16T08:00"]


def test_office_hours_are_local() -> None:
    past = hours(26, set(range(7, 17)), WORKDAYS)  # 08:00 to 17:00 in Vienna, until 27 March
    assert after(past, 1, "Europe/Vienna") == ["2026-03-30T06:00"], "summer time begins on the 29th"


def test_an_hour_that_clocks_leave_out_is_no_time_twice() -> None:
    past = hours(26, set(range(24)), WORKDAYS | {6})  # all but Saturdays, until 27 March
    assert after(past, 4, "Europe/Vienna") == [f"2026-03-29T0{hour}:00" for hour in range(4)]


@pytest.mark.parametrize("kind", ["regular", "every 30 days", "gaps", "irregular", "few"])
def test_no_calendar(kind: str) -> None:
    rng = np.random.default_rng(0)
    past = hours(30, set(range(24)), set(range(7)))
    if kind == "gaps":
        past = past[rng.uniform(size=len(past)) > 0.2]
    elif kind == "irregular":
        past = past + rng.integers(0, 3000, len(past)) * 10**9
    elif kind == "every 30 days":
        past = times("2026-03-01") + np.arange(60) * 30 * 86_400 * 10**9
    elif kind == "few":
        past = hours(3, set(range(8, 12)), WORKDAYS)
    assert after(past, 3) is None
