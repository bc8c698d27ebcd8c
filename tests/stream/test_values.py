"""Values as people send them: numbers in text, truth values, states, marks, sentinels."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import pytest

from titans_stream.stream.codec.codec import Decoded
from titans_stream.stream.codec.json_codec import JsonCodec
from titans_stream.stream.codec.values import suspicious_value
from titans_stream.stream.messages import RawMessage
from titans_stream.stream.settings import InputConfig

NOON_MS = 1_772_366_400_000
NOON = NOON_MS * 1_000_000
BASE: dict[str, Any] = {"topic": "in", "series": "{s}", "value": "v", "timestamp": "t"}
WAYS = ("typed", "plain")


def decode(way: str, message: Any, **more: Any) -> Decoded:
    codec = JsonCodec(InputConfig.model_validate(BASE | more), clock=lambda: NOON)
    assert codec._typed is not None
    if way == "plain":
        codec._typed = None
    else:
        codec._plain.decode = refuse if isinstance(message, Usable) else codec._plain.decode
    content = message if isinstance(message, bytes) else json.dumps(message).encode()
    return codec.decode([RawMessage("in", 0, 0, NOON_MS, None, content)])


class Usable(dict[str, Any]):
    """A message that the typed way must take by itself."""


def refuse(*_: object) -> Any:
    raise AssertionError("the typed way leaves this message to the plain one")


def message(value: Any) -> dict[str, Any]:
    return {"s": "a", "v": value, "t": NOON_MS}


def value_of(way: str, value: Any, **more: Any) -> float:
    decoded = decode(way, Usable(message(value)), **more)
    assert decoded.dead == []
    assert (decoded.readings.series, decoded.readings.timestamp.tolist()) == (["a"], [NOON])
    return float(decoded.readings.value[0])


def reason_of(way: str, content: Any, **more: Any) -> tuple[str, str]:
    decoded = decode(way, content, **more)
    assert len(decoded.readings) == 0
    (letter,) = decoded.dead
    return letter.reason, letter.detail


LENIENT = {"lenient": True}
NUMBER = {"types": {"v": "number"}}
BOOLEAN = {"types": {"v": "boolean"}}
STATE = {"types": {"v": {"type": "state", "states": {"open": 1, "closed": 0, "half-open": 0.5}}}}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("settings", "value", "expected"),
    [
        (LENIENT, "1", 1.0),
        (LENIENT, "9876543210", 9876543210.0),
        (LENIENT, " 21.5 ", 21.5),
        (LENIENT, "-1.5E3", -1500.0),
        (LENIENT, 0.25, 0.25),
        (LENIENT, 7, 7.0),
        (LENIENT, True, 1.0),
        (LENIENT, False, 0.0),
        (LENIENT, "off", 0.0),
        (LENIENT, "True", 1.0),
        (NUMBER, "21.5", 21.5),
        (NUMBER, 3, 3.0),
        (BOOLEAN, True, 1.0),
        (BOOLEAN, "false", 0.0),
        (BOOLEAN, "1", 1.0),
        (STATE, "open", 1.0),
        (STATE, "closed", 0.0),
        (STATE, "half-open", 0.5),
        (STATE, 4, 4.0),
    ],
)
def test_values_in_other_clothes(
    way: str, settings: dict[str, Any], value: Any, expected: float
) -> None:
    assert value_of(way, value, **settings) == expected


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("settings", [LENIENT, NUMBER, BOOLEAN, STATE])
@pytest.mark.parametrize("value", ["NaN", "+Inf", "-inf", "", "unavailable", "Unknown", None])
def test_text_that_says_that_a_value_is_missing(
    way: str, settings: dict[str, Any], value: Any
) -> None:
    if settings is STATE and isinstance(value, str) and value in ("+Inf", "-inf"):
        assert reason_of(way, message(value), **settings)[0] == "unknown-state"
    else:
        assert math.isnan(value_of(way, value, **settings))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("settings", "value", "reason", "detail"),
    [
        ({}, "21.5", "wrong-type", "v: .*not a string .input.lenient: true reads it"),
        ({}, True, "wrong-type", "v: .*not a truth value .input.lenient: true reads it"),
        (LENIENT, "21,5", "wrong-type", "v: '21,5' is not a value"),
        (LENIENT, "1_000", "wrong-type", "is not a value"),
        (LENIENT, "1e400", "value-not-finite", "64-bit"),
        (LENIENT, [1], "wrong-type", "not an array"),
        (NUMBER, True, "wrong-type", "not a truth value"),
        (NUMBER, "on", "wrong-type", "'on' is not a number"),
        (BOOLEAN, "2", "wrong-type", "'2' is not a truth value"),
        (STATE, "ajar", "unknown-state", "v: 'ajar' is none of the states in input.types"),
    ],
)
def test_values_that_are_none(
    way: str, settings: dict[str, Any], value: Any, reason: str, detail: str
) -> None:

    found = reason_of(way, message(value), **settings)
    assert found[0] == reason
    assert re.search(detail, found[1]), found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("text", [str(NOON_MS), str(NOON_MS // 1000), "1772366400.0"])
def test_times_as_numbers_in_text(way: str, text: str) -> None:
    content = Usable(s="a", v=1.5, t=text)
    assert decode(way, content, **LENIENT).readings.timestamp.tolist() == [NOON]
    assert reason_of(way, dict(content))[0] == "invalid-timestamp"


@pytest.mark.parametrize("way", WAYS)
def test_fields_have_types_of_their_own(way: str) -> None:
    config = {
        "value": None,
        "values": ["p", "q", "r"],
        "types": {"q": "boolean", "r": {"type": "state", "states": {"idle": 3}}},
    }
    content = Usable(s="a", p=1.5, q=True, r="idle", t=NOON_MS)
    assert decode(way, content, **config).readings.value.tolist() == [1.5, 1.0, 3.0]
    decoded = decode(way, {**content, "p": "1.5"}, **config)
    assert decoded.readings.value.tolist() == [1.0, 3.0]
    assert decoded.dead[0].detail.startswith("p: a number or null is needed")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", [-999, -999.0, -9999, "n.v."])
def test_missing_values(way: str, value: Any) -> None:
    assert math.isnan(value_of(way, value, missing_values=[-999, -9999, "n.v."]))
    assert value_of(way, -998, missing_values=[-999, -9999, "n.v."]) == -998.0


JSON = json.dumps(message(1.5)).encode()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("content", "reason", "detail"),
    [
        (b"\xef\xbb\xbf" + JSON, "byte-order-mark", "input.lenient: true reads"),
        (b"\0\0\0\0\7" + JSON, "schema-registry", r"(schema 7): input.lenient: true reads"),
        (b"\0\0\0\1\0\2\x08pump", "schema-registry", "(schema 256): Avro and Protobuf are not"),
        (b"Obj\1\4\x14avro.codec", "binary-message", "Avro"),
        (b"\x08pump\x02", "binary-message", "begins with byte 0x08"),
        (b"\x1f\x8b\x08\0", "binary-message", "packed data"),
        (b"\xff\xfe{\0", "byte-order-mark", "UTF-16"),
    ],
)
def test_what_is_no_json_is_named(way: str, content: bytes, reason: str, detail: str) -> None:
    found = reason_of(way, content)
    assert found[0] == reason
    assert detail in found[1]
    if content.endswith(JSON):
        assert decode(way, content, **LENIENT).readings.value.tolist() == [1.5]
    else:
        assert reason_of(way, content, **LENIENT)[0] == reason


@pytest.mark.parametrize(
    ("types", "problem"),
    [
        ({"w": "number"}, "types: 'w' is no field of value or values"),
        ({"v": "state"}, "states: needed for type state"),
        ({"v": {"type": "number", "states": {"a": 1}}}, "states: needed for type state"),
    ],
)
def test_types_that_cannot_be(types: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        InputConfig.model_validate(BASE | {"types": types})


NOISE = np.random.default_rng(1).normal(20.0, 2.0, 200)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([*NOISE, *[-999.0] * 5], -999.0),
        ([*NOISE, *[-999.0] * 5, *[-9999.0] * 9], -9999.0),
        ([*NOISE, *[65535.0] * 3], 65535.0),
        ([*NOISE, -999.0, -999.0], None),
        ([*NOISE, *np.linspace(-999.0, -500.0, 50), *[-999.0] * 5], None),
        (np.round(NOISE, 0), None),
        ([0.0] * 150 + [100.0] * 40, None),
        (np.random.default_rng(2).lognormal(0, 3, 300), None),
        ([], None),
    ],
)
def test_a_suspicious_value(values: Any, expected: float | None) -> None:
    assert suspicious_value(np.array(values)) == expected
