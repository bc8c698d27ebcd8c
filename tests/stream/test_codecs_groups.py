"""Group ids of readings: rendered the same both ways, with a reason where they cannot be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from titans_stream.stream.codec.codec import Decoded
from titans_stream.stream.codec.json_codec import JsonCodec
from titans_stream.stream.messages import RawMessage
from titans_stream.stream.publisher import MessageBuilder, Row
from titans_stream.stream.settings import InputConfig

NOON_MS = 1_772_366_400_000
ONE: dict[str, Any] = {
    "topic": "sensors",
    "series": "{site}/{machine}/{channel}",
    "group": "{site}/{machine}",
    "value": "v",
}
SEVERAL: dict[str, Any] = {
    "topic": "sensors",
    "series": "{site}/{machine}",
    "group": "{line}:{machine}",
    "values": ["flow", "oil.t"],
}


def raw(value: Any, key: bytes | None = b"k") -> RawMessage:
    return RawMessage("sensors", 2, 0, NOON_MS, key, json.dumps(value).encode())


def decode(config: dict[str, Any], *messages: Any) -> Decoded:
    decoder = JsonCodec(InputConfig.model_validate(config), clock=lambda: NOON_MS * 1_000_000)
    return decoder.decode([m if isinstance(m, RawMessage) else raw(m) for m in messages])


def named(decoded: Decoded) -> list[tuple[str, str]]:
    assert decoded.readings.group is not None
    return list(zip(decoded.readings.series, decoded.readings.group, strict=True))


def test_one_value_per_message() -> None:
    message = {"site": "a", "machine": 7, "channel": "p", "v": 1.5}
    decoded = decode(ONE, message, {**message, "machine": 8})
    assert named(decoded) == [("a/7/p", "a/7"), ("a/8/p", "a/8")]
    assert decode({**ONE, "group": None}, message).readings.group is None


def test_several_values_and_a_field_that_the_series_id_does_not_have() -> None:
    message = {"site": "a", "machine": 7, "line": "L1", "flow": 1, "oil": {"t": None}}
    assert named(decode(SEVERAL, message)) == [("a/7/flow", "L1:7"), ("a/7/oil.t", "L1:7")]
    by_value = {**SEVERAL, "group": "{machine}-{value_name}"}
    assert [g for _, g in named(decode(by_value, message))] == ["7-flow", "7-oil.t"]


def test_key_topic_and_partition() -> None:
    config = {**ONE, "series": "{channel}", "group": "{topic}.{partition}.{key}"}
    message = {"channel": "p", "v": 1}
    assert named(decode(config, raw(message, b"m1"), raw(message, b"m2"))) == [
        ("p", "sensors.2.m1"),
        ("p", "sensors.2.m2"),
    ]
    assert [letter.reason for letter in decode(config, raw(message, None)).dead] == ["missing-key"]


def test_arrays_take_the_plain_way_to_the_same_groups() -> None:
    config = {**ONE, "items": "r"}
    items = [{"channel": "p", "v": 1}, {"channel": "q", "v": 2, "machine": 9}]
    message = {"site": "a", "machine": 7, "r": items}
    assert named(decode(config, message)) == [("a/7/p", "a/7"), ("a/9/q", "a/9")]


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (..., "missing-field", "line: not there"),
        (None, "missing-field", "line: null"),
        (1.5, "wrong-type", "line: a string or a whole number is needed for the group id"),
        ("x" * 600, "invalid-series", "group: the group id has 602 bytes, more than 512"),
    ],
)
def test_a_group_that_cannot_be_rendered_is_a_dead_letter(
    line: Any, reason: str, detail: str
) -> None:
    message = {"site": "a", "machine": 7, "line": line, "flow": 1, "oil": {"t": 2}}
    if line is ...:
        del message["line"]
    decoded = decode(SEVERAL, message)
    assert len(decoded.readings) == 0
    assert decoded.readings.group == []
    assert decoded.dead[0].reason == reason
    assert decoded.dead[0].detail.split("; ")[0] == detail


@pytest.mark.parametrize("template", ["", "{", "{}", "{a..b}"])
def test_a_wrong_template_is_refused(template: str) -> None:
    with pytest.raises(ValidationError, match="group"):
        InputConfig.model_validate({**ONE, "group": template})


def test_built_messages_hold_what_the_group_needs() -> None:
    config = InputConfig.model_validate(SEVERAL)
    fields = {"site": "a", "machine": "7", "line": "L1"}
    key, value = MessageBuilder(config).build(Row(10**18, {"flow": 1.0, "oil.t": 2.0}, fields))
    message = RawMessage("sensors", 0, 0, NOON_MS, key, value)
    assert named(decode(SEVERAL, message)) == [("a/7/flow", "L1:7"), ("a/7/oil.t", "L1:7")]
    by_key = InputConfig.model_validate({**ONE, "group": "{key}"})
    names = {"site": "a", "machine": "7", "channel": "p", "key": "asset"}
    assert MessageBuilder(by_key).build(Row(10**18, {"v": 1.0}, names))[0] == b"asset"
