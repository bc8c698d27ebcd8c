"""Times as people write them: digits of dates, days of spreadsheets, formats, whole columns."""

from __future__ import annotations

import json
from typing import Any

import pytest

from titans_stream.stream.codec.json_codec import JsonCodec
from titans_stream.stream.codec.timestamps import TimestampReader, column_reader, column_unit
from titans_stream.stream.messages import RawMessage
from titans_stream.stream.publisher import MessageBuilder, Row
from titans_stream.stream.settings import InputConfig, TimestampConfig
from titans_stream.times import load_zone, parse_timestamp

VIENNA = load_zone("Europe/Vienna")
NOON = parse_timestamp("2026-03-01T12:00:00Z")


def at(text: str) -> int:
    return parse_timestamp(text)


@pytest.mark.parametrize(
    ("cells", "unit", "first"),
    [
        (["20260301", "20260302"], "calendar", "2026-03-01"),
        ([20260301.0, 20260302.0], "calendar", "2026-03-01"),
        (["202603011200", "202603011201"], "calendar", "2026-03-01T12:00"),
        (["20260301120030", "20260301120031"], "calendar", "2026-03-01T12:00:30"),
        (["202603", "202604", ""], "calendar", "2026-03-01"),
        (["1951", "1952", "2026"], "calendar", "1951-01-01"),
        (["46082", "46083"], "days", "2026-03-01"),
        ([46082.5, 46083.5], "days", "2026-03-01T12:00"),
        (["1772366400", "1772366401"], "auto", "2026-03-01T12:00"),
        (["1772366400", "1772366400500"], "auto", "2026-03-01T12:00"),
        (["2026-03-01 12:00:00 UTC", "2026-03-01 12:00:01 UTC"], "auto", "2026-03-01T12:00"),
        (["1951", "1772366400"], "auto", "1970-01-01T00:32:31"),
    ],
)
def test_a_column_says_what_its_numbers_are(cells: list[Any], unit: str, first: str) -> None:
    assert column_unit(cells) == unit
    assert column_reader(cells)(cells[0]) == at(first)


@pytest.mark.parametrize(
    "cells",
    [
        ["0", "1", "2"],
        [0.1, 86_400],
        ["-5", "5"],
        ["202613", "202614"],
        ["20260301", "20261345"],
    ],
)
def test_a_column_of_1970_is_refused(cells: list[Any]) -> None:
    with pytest.raises(ValueError, match="seconds of the year 1970"):
        column_reader(cells)


def test_local_dates_and_spreadsheet_days_are_those_of_the_zone() -> None:
    assert column_reader(["20260701", "20260702"], VIENNA)("20260701") == at("2026-06-30T22:00Z")
    assert column_reader([46204.5], VIENNA)(46204.5) == at("2026-07-01T10:00Z")


@pytest.mark.parametrize(
    ("time_format", "text", "expected"),
    [
        ("%d.%m.%Y %H:%M", "01.03.2026 12:00", "2026-03-01T12:00Z"),
        ("%d.%m.%Y %H:%M:%S.%f", "01.03.2026 12:00:00.25", "2026-03-01T12:00:00.25Z"),
        ("%m/%d/%Y %I:%M %p", "03/01/2026 12:30 PM", "2026-03-01T12:30Z"),
        ("%Y-%m-%d %H:%M:%S %z", "2026-03-01 14:00:00 +0200", "2026-03-01T12:00Z"),
        ("%d.%m.%Y %H:%M:%S", "31.12.2016 23:59:60", "2017-01-01T00:00Z"),
        ("%Y%m%d", "20260301", "2026-03-01"),
    ],
)
def test_a_format(time_format: str, text: str, expected: str) -> None:
    assert TimestampReader(time_format=time_format)(text) == at(expected)
    assert column_reader([text], time_format=time_format)(text) == at(expected)


def test_a_format_in_a_zone_and_what_it_refuses() -> None:
    read = TimestampReader("auto", VIENNA, time_format="%d.%m.%Y %H:%M")
    assert read("01.07.2026 12:00") == at("2026-07-01T10:00Z")
    with pytest.raises(ValueError, match=r"'2026-07-01' is no time of the format '%d.%m.%Y %H:%M'"):
        read("2026-07-01")


@pytest.mark.parametrize("bad", ["%H:%M", "%Q", "now", ""])
def test_a_format_that_is_none(bad: str) -> None:
    with pytest.raises(ValueError, match=r"format"):
        TimestampConfig(field="t", format=bad)


@pytest.mark.parametrize(
    "text",
    ["2026-03-01 12:00:00 UTC", "2026-03-01 12:00:00UTC", "2026-03-01T12:00 GMT",
     "2026-03-01 12:00:00 +0000 UTC", "2026-03-01 14:00:00 +0200 CEST",
     "2026-03-01 12:00:00.0 UTC", "2026-03-01T11:59:60Z", "2026-03-01T11:59:60 UTC"],
)  # fmt: skip
def test_zone_names_and_leap_seconds(text: str) -> None:
    assert parse_timestamp(text, VIENNA) == NOON
    assert TimestampReader("auto", VIENNA)(text) == NOON


@pytest.mark.parametrize(
    "text", ["2026-03-01 12:00:00 CEST", "2026-03-01 UTC", "2026-03-01 12:00 u"]
)
def test_a_zone_name_alone_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="RFC 3339"):
        parse_timestamp(text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (20260301, "2026-03-01"),
        ("20260301", "2026-03-01"),
        (202603011200, "2026-03-01T12:00"),
        (20260301120030, "2026-03-01T12:00:30"),
        (1772366400, "2026-03-01T12:00"),
        (1772366400000, "2026-03-01T12:00"),
    ],
)
def test_a_connector_reads_the_digits_of_a_date(value: object, expected: str) -> None:
    assert decoded({"t": value}) == [at(expected)]


@pytest.mark.parametrize("value", [20261301, 2026, 46082, "1772366400", "1772366400.0"])
def test_a_connector_refuses_what_may_be_anything(value: object) -> None:
    assert decoded({"t": value}) == []


def test_where_times_of_1970_are_taken_digits_are_seconds() -> None:
    assert decoded({"t": 20260301}, min_timestamp="1970-01-01") == [20260301 * 10**9]


@pytest.mark.parametrize(
    "settings",
    [{"unit": "calendar"}, {"unit": "days"}, {"format": "%d.%m.%Y %H:%M:%S"}, {"unit": "ms"}],
)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Vienna"])
def test_what_replay_writes_is_read_back(settings: dict[str, str], zone: str) -> None:
    config = {"timestamp": {"field": "t", **settings}, "timezone": zone}
    message = MessageBuilder(input_config(**config)).build(Row(NOON, {"v": 1.0}))[1]
    assert decoded(json.loads(message), **config) == [NOON]


def input_config(**more: Any) -> InputConfig:
    return InputConfig(**{"topic": "in", "series": "x", "value": "v", "timestamp": "t"} | more)


def decoded(document: dict[str, Any], **more: Any) -> list[int]:
    """The times that a connector reads from a message; none where it is a dead letter."""
    codec = JsonCodec(input_config(**more), clock=lambda: NOON)
    raw = json.dumps({"v": 1.0, **document}).encode()
    found = codec.decode([RawMessage("in", 0, 0, NOON // 10**6, None, raw)])
    assert len(found.dead) == (0 if len(found.readings) else 1)
    return found.readings.timestamp.tolist()
