"""Control messages: what they may say, and what is said about those that may not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from kafka import TopicPartition

from tests.stream_harness import MODEL
from titans_stream.commands.control import _show
from titans_stream.control.announcements import Swapped, announced, is_announcement
from titans_stream.control.messages import (
    default_id,
    message_of,
    model_version,
    names_model,
    parse,
    read,
    schema,
    text_of,
    understood,
)
from titans_stream.records import Alert, Channel, ModelRef, Order, Source
from titans_stream.stream.control_client import Standing, mark_of
from titans_stream.stream.journal import Entry
from titans_stream.times import parse_timestamp

GOOD: dict[str, dict[str, Any]] = {
    "reset:a": {"action": "reset", "series": "a", "by": "anna"},
    "freeze:a/*": {"action": "freeze", "series": "a/*"},
    "silence:a": {"action": "silence", "series": "a", "until": "2026-03-01T12:00:00Z"},
    "rule:a": {"action": "rule", "rule": {"series": "a", "valid_range": [None, 3.5]}},
    "budget:a": {"action": "budget", "series": "a", "false_alarms_per_series_per_day": 2.0},
    "mark:5c": {"action": "false_alarm", "series": "a", "alert_id": "5c"},
    "mark:a@2026-03-01T00:00:00Z": {
        "action": "true_alarm",
        "series": "a",
        "from": "2026-03-01T00:00:00Z",
        "to": "2026-03-02T00:00:00Z",
    },
    "mark:6d": {
        "action": "expected",
        "series": "a",
        "alert_id": "6d",
        "until": "2026-03-02T00:00:00Z",
    },
}
BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "action: one of reset, freeze"),
    ({"action": "explode"}, "action: one of reset, freeze"),
    ({"action": "reset"}, "series: is needed"),
    ({"action": "reset", "series": ""}, "series: "),
    ({"action": "reset", "series": "a", "serie": 1}, "serie: unknown field"),
    ({"action": "silence", "series": "a", "until": "soon"}, "until: "),
    ({"action": "silence", "series": "a", "from": "2026-03-02", "until": "2026-03-01"}, "until: "),
    ({"action": "budget", "series": "a", "false_alarms_per_series_per_day": 0}, "false_alarms_per"),
    ({"action": "rule", "rule": {"series": "a", "valid_range": [3, 1]}}, "rule: valid_range: low"),
    ({"action": "rule", "rule": {"series": "a", "limit": 3}}, "rule.limit: unknown field"),
    ({"action": "false_alarm", "series": "a"}, "alert_id: either it or a range"),
    ({"action": "false_alarm", "series": "a*", "alert_id": "1"}, "series: 'a*': the id of one"),
    ({"action": "false_alarm", "series": "a", "from": "2026-03-01"}, "to: from and to go together"),
    ({"action": "expected", "series": "a", "alert_id": "1"}, "until: needed for expected"),
    ({"action": "model"}, "version: is needed"),
    ({"action": "model", "version": "champion"}, "version: "),
    ({"action": "model", "version": "0"}, "version: "),
    ({"action": "model", "version": "3"}, "key: 'model' is the id of model messages"),
    (
        {"action": "true_alarm", "series": "a", "alert_id": "1", "until": "2026-03-01"},
        "until: needed for expected",
    ),
]


@pytest.mark.parametrize("name", GOOD)
def test_a_message_is_read_as_it_was_written(name: str) -> None:
    message = message_of(GOOD[name])
    assert default_id(message) == name
    order = read(name.encode(), json.dumps(GOOD[name]).encode())
    assert order == Order(name, text_of(message))
    assert parse(order.text) == message
    assert Draft202012Validator(schema()).is_valid(GOOD[name])


@pytest.mark.parametrize(("fields", "problem"), BAD, ids=lambda x: str(x)[:40])
def test_what_is_wrong_is_named(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        read(b"x", json.dumps(fields).encode())
    assert str(error.value).startswith(problem)
    assert "Traceback" not in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        (None, b"{}", "key: the message's id is needed"),
        (b"\xff", b"{}", "key: not UTF-8"),
        (b"k" * 600, b"{}", "key: longer than 512"),
        (b"k", b"{", "not JSON"),
        (b"k", b"\xff", "not JSON"),
        (b"k", b"[" * 100_000, "longer than 16,384 bytes"),
        (b"k", b"[]", "a JSON object is needed"),
        (b"model", b'{"action": "reset", "series": "a"}', "key: 'model' is the id of model"),
        (b"k", b'{"action": "undo", "id": "x"}', "id: unknown field of undo"),
    ],
)
def test_what_is_no_message_is_refused(key: bytes | None, value: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read(key, value)


def test_an_undo_and_a_tombstone_are_the_same() -> None:
    assert read(b"k", None) == read(b"k", b'{"action": "undo", "by": "x"}') == Order("k", "")


@pytest.mark.parametrize(
    "order", [Order("r", '{"action":"reset","series":"a"}'), Order("r", ""), None]
)
def test_a_journal_entry_is_read_as_it_was_written(order: Order | None) -> None:
    entry = Entry(TopicPartition("in", 3), 7, 1_234, (0, 99), "r" if order else "", order)
    assert Entry.decode(*entry.encode()) == entry


@pytest.mark.parametrize("value", [b"", b"{}", b"[1]", b'{"number": 1}', b"null"])
def test_what_is_no_entry_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Entry.decode(b'["in", 3, "r"]', value)


def alert(**more: Any) -> Alert:
    time = "2026-03-01T12:00:00Z"
    fields: dict[str, Any] = {
        "alert_id": "5c", "status": "resolved", "series_id": "a", "severity": "warning",
        "reason": "surprise", "onset": time, "timestamp": "2026-03-01T12:30:00Z",
        "peak_timestamp": time, "value": 1.0, "expected": None, "lower": None, "upper": None,
        "band_level": 0.95, "direction": "pattern", "score": None, "p_value": None,
        "surprise": None, "rate_per_day": None, "extrapolated": False, "explanation": "",
        "duration_s": 0.0, "readings": 1, "model": MODEL, "source": Source("in", 0, 1),
    }  # fmt: skip
    return Alert(**{**fields, **more})


def test_a_mark_is_made_of_an_alert() -> None:
    mark = mark_of(alert(), "expected", until="2026-03-02", by="anna")
    assert default_id(mark) == "mark:5c"
    assert mark.series == "a"
    assert mark.begin is not None and mark.end is not None
    assert mark.end - mark.begin == 30 * 60 * 10**9 + 1
    with pytest.raises(ValueError, match="only single series have patterns"):
        mark_of(alert(channels=[Channel("a/x", 1.0, 1.0, None, None, None)]), "false_alarm")
    with pytest.raises(ValueError, match="told for its no_data"):
        mark_of(alert(reason="no_data"), "false_alarm")


@pytest.mark.parametrize(
    ("value", "over"),
    [
        (b'{"action":"silence","series":"a","until":"2026-03-01T12:00:00Z"}', True),
        (b'{"action":"silence","series":"a","until":"2026-03-01T12:00:01Z"}', False),
        (b'{"action":"silence","series":"a"}', False),
        (b'{"action":"expected","series":"a","alert_id":"1","until":"2026-03-01"}', True),
        (None, False),
    ],
)
def test_what_ends_by_itself_is_over(
    value: bytes | None, over: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    order, _ = understood(b"x", value)
    one = Standing("x", order, 0, (0, 0))
    assert one.is_over(parse_timestamp("2026-03-01T12:00:00Z")) == over
    _show([one], False, True)
    told = capsys.readouterr().out
    late = value is not None and b"until" in value
    assert told.count('"state": "over"') == late, "all these times are past"


def test_a_message_about_the_model_is_the_workers_and_no_engines() -> None:
    message = message_of({"action": "model", "version": "12", "by": "anna"})
    order = read(b"model", text_of(message).encode())
    assert default_id(message) == "model" and names_model(order)
    assert model_version(order) == "12"
    assert model_version(read(b"model", None)) is None
    assert not names_model(read(b"reset:a", b'{"action": "reset", "series": "a"}'))
    assert Draft202012Validator(schema()).is_valid({"action": "model", "version": "12"})


def test_an_announcement_is_read_as_it_was_written_and_is_no_message() -> None:
    made = Swapped(
        "group", "in", 3, 1_200, ModelRef("pumps", "2"), ModelRef("pumps", "1"), "warmed_up", 40,
        "2026-03-01T00:00:00Z",
    )  # fmt: skip
    key, value = made.encode()
    assert is_announcement(key) and announced(value) == made
    assert json.loads(value)["action"] == "swapped"
    assert not is_announcement(b"model") and not is_announcement(None)
    for broken in (b"", b"{", b"[]", b"{}", b"\xff", value.replace(b'"offset": 1200', b'"x": 1')):
        assert announced(broken) is None
    order, problem = understood(b"k", value)
    assert order is None and "action: one of reset" in problem
