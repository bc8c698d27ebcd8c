"""Messages to readings and dead letters, shape by shape and reason by reason."""

from __future__ import annotations

import json
import math
import tracemalloc
from typing import Any

import numpy as np
import pytest

from titans_stream.stream.codec.codec import Decoded
from titans_stream.stream.codec.fields import Reason, find, format_path, parse_path
from titans_stream.stream.codec.json_codec import JsonCodec
from titans_stream.stream.codec.timestamps import TimestampReader
from titans_stream.stream.messages import LOG_APPEND_TIME, RawMessage
from titans_stream.stream.settings import InputConfig
from titans_stream.times import load_zone, parse_timestamp

NOON_MS = 1_772_366_400_000
NOON = NOON_MS * 1_000_000
NOW = NOON + 3600 * 10**9
DAY = 86_400 * 10**9

ONE: dict[str, Any] = {
    "topic": "sensors",
    "series": "{site}/{machine}",
    "value": "value",
    "timestamp": "ts",
}
GOOD: dict[str, Any] = {"site": "a", "machine": 7, "value": 1.5, "ts": "2026-03-01T12:00:00Z"}


def raw(value: Any, key: bytes | None = b"k", offset: int = 0, at: int = NOON_MS) -> RawMessage:
    content = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    return RawMessage("sensors", 2, offset, at, key, content)


def decode(config: dict[str, Any], *messages: RawMessage) -> Decoded:
    return JsonCodec(InputConfig.model_validate(config), clock=lambda: NOW).decode(messages)


def rows(decoded: Decoded) -> list[tuple[str, int, float]]:
    r = decoded.readings
    return list(zip(r.series, r.timestamp.tolist(), r.value.tolist(), strict=True))


def reasons(decoded: Decoded) -> list[tuple[str, str]]:
    return [(letter.reason, letter.detail) for letter in decoded.dead]


# ---------------------------------------------------------------- shapes


def test_one_value_per_message() -> None:
    decoded = decode(ONE, raw(GOOD, offset=5), raw({**GOOD, "machine": "b", "value": 3}, offset=6))
    assert decoded.dead == []
    assert rows(decoded) == [("a/7", NOON, 1.5), ("a/b", NOON, 3.0)]
    r = decoded.readings
    assert r.partition.tolist() == [2, 2]
    assert r.offset.tolist() == [5, 6]
    assert (r.timestamp.dtype, r.value.dtype) == (np.dtype(np.int64), np.dtype(np.float64))
    assert (r.partition.dtype, r.offset.dtype) == (np.dtype(np.int32), np.dtype(np.int64))


def test_no_messages() -> None:
    decoded = decode(ONE)
    assert len(decoded.readings) == 0
    assert decoded.readings.timestamp.dtype == np.int64


def test_several_values_are_series_of_their_own() -> None:
    config = {"topic": "s", "series": "t{n}", "values": ["power", "wind.speed"], "timestamp": "ts"}
    message = {"n": 1, "power": 5, "wind": {"speed": 2.5}, "ts": NOON_MS}
    decoded = decode(config, raw(message, offset=9))
    assert rows(decoded) == [("t1/power", NOON, 5.0), ("t1/wind.speed", NOON, 2.5)]
    assert decoded.readings.offset.tolist() == [9, 9]
    config["series"] = "{value_name}@{n}"
    assert [s for s, _, _ in rows(decode(config, raw(message)))] == ["power@1", "wind.speed@1"]


def test_one_bad_value_of_several_leaves_the_others() -> None:
    config = {"topic": "s", "series": "x", "values": ["a", "b", "c", "d"]}
    message = raw({"a": 1, "b": "2", "d": True})
    decoded = decode(config, message)
    assert rows(decoded) == [("x/a", NOON, 1.0)]
    letter = decoded.dead[0]
    assert len(decoded.dead) == 1
    assert (letter.reason, letter.key, letter.value) == ("wrong-type", b"k", message.value)
    assert letter.detail == (
        "b: a number or null is needed, not a string (input.lenient: true reads it); "
        "c: not there (missing-field); "
        "d: a number or null is needed, not a truth value (input.lenient: true reads it)"
    )


def test_arrays_of_readings() -> None:
    config = {
        "topic": "s",
        "items": "data.readings",
        "series": "{gw}/{sensor}",
        "value": "v",
        "timestamp": "t",
    }
    items = [
        {"sensor": "a", "v": 1, "t": NOON_MS},
        {"sensor": "b", "v": 2},
        {"sensor": "c", "v": "x", "t": NOON_MS},
        7,
        {"v": 3, "t": NOON_MS},
        {"sensor": "d", "gw": "own", "v": None, "t": NOON_MS},
    ]
    message = {"gw": "g", "t": NOON_MS + 1, "data": {"readings": items}}
    decoded = decode(config, raw(message))
    assert rows(decoded)[:2] == [("g/a", NOON, 1.0), ("g/b", NOON + 1_000_000, 2.0)]
    assert rows(decoded)[2][0] == "own/d"
    assert math.isnan(rows(decoded)[2][2])
    assert len(rows(decoded)) == 3
    assert reasons(decoded) == [
        (
            "wrong-type",
            "data.readings[2].v: a number or null is needed, not a string; "
            "data.readings[3]: an object is needed, not a number (not-an-object); "
            "data.readings[4].sensor: not there (missing-field)",
        )
    ]


def test_the_message_itself_is_the_array() -> None:
    config = {"topic": "s", "items": ".", "series": "{key}", "value": "v"}
    assert rows(decode(config, raw([{"v": 1}, {"v": 2}]))) == [("k", NOON, 1.0), ("k", NOON, 2.0)]
    assert reasons(decode(config, raw([{"v": 1}, {}]))) == [
        ("missing-field", "[1].v: not there"),
    ]
    assert reasons(decode(config, raw({"v": 1}))) == [
        ("wrong-type", ".: an array is needed, not an object")
    ]


def test_many_bad_readings_give_one_short_dead_letter() -> None:
    config = {"topic": "s", "items": ".", "series": "{key}", "value": "v"}
    decoded = decode(config, raw([{"v": "x"}] * 10_000))
    assert len(decoded.dead) == 1
    assert decoded.dead[0].detail.endswith("; and 9995 more")
    assert len(decoded.dead[0].detail) < 400


def test_an_empty_array_is_no_error() -> None:
    decoded = decode({"topic": "s", "items": "r", "series": "{key}", "value": "v"}, raw({"r": []}))
    assert (rows(decoded), decoded.dead) == ([], [])


def test_bare_numbers() -> None:
    config = {"topic": "s", "series": "{key}", "value": "."}
    assert rows(decode(config, raw(b"21.5"))) == [("k", NOON, 21.5)]
    assert reasons(decode(config, raw({"v": 1}))) == [
        ("wrong-type", ".: a number or null is needed, not an object")
    ]


def test_special_names_of_the_template() -> None:
    config = {**ONE, "series": "{topic}|{partition}|{key}|{.key}|{{{site}}}"}
    message = raw({**GOOD, "key": "field"}, key="ключ".encode())
    assert rows(decode(config, message))[0][0] == "sensors|2|ключ|field|{a}"


def test_the_same_fields_under_other_keys_are_other_series() -> None:
    config = {**ONE, "series": "{key}/{site}"}
    decoded = decode(config, raw(GOOD, key=b"1"), raw(GOOD, key=b"2"), raw(GOOD, key=b"1"))
    assert decoded.readings.series == ["1/a", "2/a", "1/a"]


def test_a_field_with_a_dot_in_its_name() -> None:
    config = {**ONE, "series": r"{a\.b}", "value": r"v\.x.y"}
    message = raw({"a.b": "s", "v.x": {"y": 4}, "ts": NOON_MS})
    assert rows(decode(config, message)) == [("s", NOON, 4.0)]


def test_a_field_named_in_two_roles_goes_the_plain_way() -> None:
    config = {**ONE, "series": "{value}"}
    assert rows(decode(config, raw({**GOOD, "value": 4}))) == [("4", NOON, 4.0)]


def test_order_is_kept_where_some_messages_go_the_plain_way() -> None:
    good = [raw({**GOOD, "value": n}, offset=n) for n in range(6)]
    messages = [good[0], raw(b"{", offset=90), good[1], good[2], raw(b'{"value":NaN}', offset=91)]
    nan = raw(json.dumps({**GOOD, "value": math.nan}).encode(), offset=7)
    decoded = decode(ONE, *messages, nan, *good[3:])
    assert decoded.readings.offset.tolist() == [0, 1, 2, 7, 3, 4, 5]
    assert [letter.offset for letter in decoded.dead] == [90, 91]


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("text", ["null", "NaN", "-NaN"])
def test_missing_values(text: str) -> None:
    message = json.dumps({**GOOD, "value": 0}).replace('"value": 0', f'"value": {text}').encode()
    decoded = decode(ONE, raw(message))
    if text == "-NaN":  # no writer emits it and no reader takes it
        assert reasons(decoded)[0][0] == "invalid-json"
    else:
        assert decoded.dead == []
        assert np.isnan(decoded.readings.value).tolist() == [True]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0.0),
        ("-0.0", -0.0),
        ("9007199254740993", 9007199254740992.0),
        ("1" + "0" * 30, 1e30),
        ("1.7976931348623157e308", 1.7976931348623157e308),
        ("1e-400", 0.0),
    ],
)
def test_numbers(text: str, expected: float) -> None:
    message = json.dumps(GOOD).replace("1.5", text).encode()
    decoded = decode(ONE, raw(message))
    assert decoded.readings.value.tolist() == [expected]
    assert math.copysign(1, decoded.readings.value[0]) == math.copysign(1, expected)


@pytest.mark.parametrize(
    "text", ["1e400", "-1e400", "Infinity", "-Infinity", "1" * 400, "-" + "9" * 6000]
)
def test_values_beyond_a_float(text: str) -> None:
    message = json.dumps(GOOD).replace("1.5", text).encode()
    assert reasons(decode(ONE, raw(message))) == [
        ("value-not-finite", "value: beyond the range of a 64-bit float")
    ]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("12.5", "a string (input.lenient: true reads it)"),
        (True, "a truth value (input.lenient: true reads it)"),
        ([1], "an array"),
        ({"x": 1}, "an object"),
    ],
)
def test_values_of_another_type(value: object, kind: str) -> None:
    assert reasons(decode(ONE, raw({**GOOD, "value": value}))) == [
        ("wrong-type", f"value: a number or null is needed, not {kind}")
    ]


def test_infinity_in_an_unread_field_does_no_harm() -> None:
    message = json.dumps({**GOOD, "other": math.inf}).encode()
    assert rows(decode(ONE, raw(message))) == [("a/7", NOON, 1.5)]


# ---------------------------------------------------------------- what cannot be used


def without(field: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name != field}


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        (None, "empty-message", "the message has no value"),
        (b"", "empty-message", "the message has no value"),
        (b" ", "invalid-json", "Expecting value at character 1"),
        (b"\xff\xfe", "byte-order-mark", "UTF-16"),
        (b'{"site":"\xff","machine":"b","value":1,"ts":"2026-03-01"}', "invalid-json", "byte 9"),
        (b'{"x":"\xff",' + json.dumps(GOOD).encode()[1:], "invalid-json", "not UTF-8 at byte 6"),
        (json.dumps(GOOD).encode()[:-1], "invalid-json", "at character"),
        (json.dumps(GOOD).encode() + b"{}", "invalid-json", "Extra data"),
        (b"[" * 100_000, "invalid-json", "nested too deeply"),
        (b'{"value":' + b"[" * 100_000, "invalid-json", "nested too deeply"),
        (b'{"x":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001, "invalid-json", "nested too deeply"),
        (b"[]", "not-an-object", "an object is needed, not an array"),
        (b"7", "not-an-object", "an object is needed, not a number"),
        (b"null", "not-an-object", "an object is needed, not null"),
        (b'"text"', "not-an-object", "an object is needed, not a string"),
        (without("site"), "missing-field", "site: not there"),
        (without("value"), "missing-field", "value: not there"),
        (without("ts"), "missing-field", "ts: not there"),
        ({**GOOD, "site": None}, "missing-field", "site: null"),
        ({**GOOD, "ts": None}, "missing-field", "ts: null"),
        ({**GOOD, "site": 1.5}, "wrong-type", "site: a string or a whole number is needed"),
        ({**GOOD, "site": True}, "wrong-type", "site: a string or a whole number is needed"),
        ({**GOOD, "ts": True}, "wrong-type", "ts: a time as text or a number is needed"),
        ({**GOOD, "ts": "yesterday"}, "invalid-timestamp", "ts: not an RFC 3339 time"),
        (
            {**GOOD, "ts": "1772366400"},
            "invalid-timestamp",
            "ts: not an RFC 3339 time such as 2026-03-01T12:00:00Z (input.lenient: true reads it)",
        ),
        ({**GOOD, "ts": "2026-02-30T00:00:00Z"}, "invalid-timestamp", "ts: day "),
        ({**GOOD, "ts": "1989-12-31T23:59:59Z"}, "timestamp-out-of-range", "min_timestamp"),
        ({**GOOD, "ts": 0}, "timestamp-out-of-range", "ts: earlier than min_timestamp"),
        ({**GOOD, "ts": "2262-04-11T23:59:59Z"}, "timestamp-out-of-range", "ts: later than"),
        ({**GOOD, "ts": "9999-01-01T00:00:00Z"}, "timestamp-out-of-range", "ts: a time between"),
        ({**GOOD, "ts": 10**400}, "timestamp-out-of-range", "ts: a time between 1678 and 2262"),
        ({**GOOD, "ts": -(10**400)}, "timestamp-out-of-range", "ts: a time between 1678 and 2262"),
        ({**GOOD, "ts": 1e300}, "timestamp-out-of-range", "ts: a time between 1678 and 2262"),
        ({**GOOD, "ts": math.nan}, "invalid-timestamp", "ts: a time is needed, not NaN"),
        ({**GOOD, "ts": math.inf}, "timestamp-out-of-range", "ts: a time between"),
        ({**GOOD, "site": "x" * 511}, "invalid-series", "513 bytes, more than 512"),
        ({**GOOD, "site": "\ud800"}, "invalid-series", "series: not valid Unicode"),
    ],
)
def test_dead_letters(value: Any, reason: str, detail: str) -> None:
    decoded = decode(ONE, raw(value, offset=3))
    assert len(decoded.readings) == 0
    assert len(decoded.dead) == 1
    letter = decoded.dead[0]
    assert letter.reason == reason
    assert detail in letter.detail
    assert (letter.topic, letter.partition, letter.offset) == ("sensors", 2, 3)
    assert letter.value == raw(value).value


def test_series_ids() -> None:
    config = {**ONE, "series": "{site}"}
    assert reasons(decode(config, raw({**GOOD, "site": ""}))) == [
        ("invalid-series", "series: the series id is empty")
    ]
    assert decode(config, raw({**GOOD, "site": "é" * 256})).readings.series == ["é" * 256]
    assert reasons(decode(config, raw({**GOOD, "site": "é" * 257})))[0][0] == "invalid-series"
    assert decode(config, raw({**GOOD, "site": 10**30})).readings.series == ["1" + "0" * 30]


def test_keys() -> None:
    config = {**ONE, "series": "{key}"}
    assert reasons(decode(config, raw(GOOD, key=None)))[0][0] == "missing-key"
    assert reasons(decode(config, raw(GOOD, key=b"\xff")))[0] == (
        "invalid-key",
        "key: not UTF-8 at byte 0",
    )
    assert reasons(decode(config, raw(GOOD, key=b"")))[0][0] == "invalid-series"
    assert decode(ONE, raw(GOOD, key=None)).dead == []


def test_the_cache_of_series_ids_does_not_confuse_types() -> None:
    config = {**ONE, "series": "{site}", "values": ["value"]}
    del config["value"]
    messages = [raw({**GOOD, "site": site}) for site in (1, "1", True, 1.0, 1)]
    decoded = decode(config, *messages)
    assert decoded.readings.series == ["1/value"] * 3
    assert [letter.reason for letter in decoded.dead] == ["wrong-type"] * 2


# ---------------------------------------------------------------- times


def test_the_kafka_timestamp() -> None:
    config = {**ONE, "timestamp": "kafka"}
    assert rows(decode(config, raw(GOOD, at=NOON_MS + 5)))[0][1] == NOON + 5_000_000
    assert reasons(decode(config, raw(GOOD, at=-1))) == [
        ("invalid-timestamp", "the Kafka message has no timestamp")
    ]
    assert reasons(decode(config, raw(GOOD, at=2**62)))[0] == (
        "timestamp-out-of-range",
        "Kafka timestamp: later than max_future after the message was sent",
    )


def test_the_future_counts_from_the_message() -> None:
    def passes(ahead_of_noon: int, at: int) -> bool:
        decoded = decode(ONE, raw({**GOOD, "ts": NOON + ahead_of_noon}, at=at))
        return decoded.dead == []

    assert passes(DAY, NOON_MS)
    assert not passes(DAY + 1, NOON_MS)
    # no timestamp, an absurd one, one that is still to come: the present counts
    hour = 3600 * 10**9
    for at in (-1, 0, NOON_MS + 7 * 86_400_000):
        assert passes(DAY + hour, at)
        assert not passes(DAY + hour + 1, at)


def test_the_brokers_own_time_counts_before_this_machines_clock() -> None:
    late = NOON_MS + 7 * 86_400_000
    ahead = raw({**GOOD, "ts": NOON + 7 * DAY}, at=late)
    ((reason, detail),) = reasons(decode(ONE, ahead))
    assert reason == "timestamp-out-of-range"
    assert detail == (
        "ts: later than max_future after the present; the message was sent in the future, by "
        "601,200 s: is this machine's clock right?"
    )
    assert decode(ONE, ahead._replace(timestamp_type=LOG_APPEND_TIME)).dead == []


def test_the_problems_of_a_message_are_counted_and_only_a_few_kept() -> None:
    config = {"topic": "t", "series": "{id}", "value": "v", "items": "items", "timestamp": "kafka"}
    count = 20_000
    message = raw({"items": [1] * count + [{}] * count + [{"id": "a", "v": 1}]})
    tracemalloc.start()
    try:
        decoded = decode(config, message)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert decoded.readings.series == ["a"]
    ((reason, detail),) = reasons(decoded)
    assert reason == "not-an-object"
    assert detail.startswith("items[0]: an object is needed, not a number; items[1]: ")
    assert detail.endswith(f"; and {2 * count - 5} more")
    assert peak < 6_000_000, "an exception that is kept takes some 600 bytes"


def test_a_message_that_could_not_be_read_says_why() -> None:
    message = RawMessage("sensors", 2, 7, NOON_MS, None, None, problem="bytes of nothing")
    decoded = decode(ONE, message)
    assert reasons(decoded) == [("unreadable", "bytes of nothing")]
    assert (decoded.dead[0].partition, decoded.dead[0].offset) == (2, 7)


def test_min_timestamp() -> None:
    config = {**ONE, "min_timestamp": "2026-03-01"}
    assert decode(config, raw({**GOOD, "ts": "2026-03-01T00:00:00Z"})).dead == []
    assert len(decode(config, raw({**GOOD, "ts": "2026-02-28T23:59:59.999Z"})).dead) == 1


@pytest.mark.parametrize(
    ("unit", "value", "expected"),
    [
        ("auto", 1_772_366_400, NOON),
        ("auto", 1_772_366_400.25, NOON + 250_000_000),
        ("auto", 1_772_366_400.123456, NOON + 123_456_000),
        ("auto", NOON_MS, NOON),
        ("auto", NOON_MS + 0.5, NOON + 500_000),
        ("auto", NOON_MS * 1000 + 1, NOON + 1_000),
        ("auto", NOON + 1, NOON + 1),
        ("auto", 99_999_999_999, 99_999_999_999_000_000_000 // 1_000_000_000 * 10**9),
        ("s", 100, 100 * 10**9),
        ("s", -1, -(10**9)),
        ("ms", 1_500, 1_500_000_000),
        ("us", 1.5, 2_000),
        ("ns", 12, 12),
        ("ns", 12.9, 12),
        ("rfc3339", "2026-03-01T12:00:00Z", NOON),
    ],
)
def test_units(unit: Any, value: object, expected: int) -> None:
    reader = TimestampReader(unit)
    if not -(2**63) <= expected < 2**63:
        with pytest.raises(ValueError, match="1678 and 2262"):
            reader(value)
    else:
        assert reader(value) == expected


@pytest.mark.parametrize(
    ("unit", "value"), [("ms", "2026-03-01T12:00:00Z"), ("rfc3339", NOON_MS), ("auto", [1])]
)
def test_units_of_another_type(unit: Any, value: object) -> None:
    with pytest.raises(ValueError, match=Reason.WRONG_TYPE):
        TimestampReader(unit)(value)


TIMES = [
    "2026-03-01T12:00:00Z",
    "2026-03-01 12:00:00Z",
    "2026-03-01T12:00:00.5Z",
    "2026-03-01T12:00:00.123456789Z",
    "2026-03-01T12:00:00.1234567891Z",
    "2026-03-01T12:00:00+02:00",
    "2026-03-01T12:00:00.25-11:30",
    "2026-03-01T12:00:00+0200",
    "2026-03-01T12:00:00",
    "2026-03-01T12:00:00.25",
    "2026-07-01 12:00:00",
    "2026-10-25T02:30:00",
    "2026-03-29T02:30:00",
    "2026-03-01T12:00",
    "2026-03-01T12:00Z",
    "2026-03-01",
    "2026-03-01T11:59:60Z",
    "2026-03-01T12:00:00z",
    "2026-03-01T12:00:00.Z",
    "2026-03-01T12:00:00.5\u0660Z",
    "2026-03-01T12:00:00+24:00",
    "2026-03-01T12:00:00.5+02:0",
    "2026-03-01T12:00:00 Z",
    "2026-03-01T12:00:00Z+02:00",
    "2026-03-01T12:00:00-",
    "2026-03-01T12:00:0.5Z",
    "2026-03-01TT2:00:00Z",
    "2026-03-01T12:00:0\u0660Z",
    "26-03-01T12:00:00.5Z",
]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Vienna", "Asia/Kathmandu"])
@pytest.mark.parametrize("text", TIMES)
def test_the_reader_agrees_with_the_plain_parser(text: str, zone: str) -> None:
    reader = TimestampReader("auto", load_zone(zone))
    try:
        expected = parse_timestamp(text, load_zone(zone))
    except ValueError:
        for _ in range(2):
            with pytest.raises(ValueError, match=r"."):
                reader(text)
    else:
        assert [reader(text), reader(text)] == [expected, expected]


# ---------------------------------------------------------------- paths and templates


@pytest.mark.parametrize(
    ("text", "path"),
    [("a", ("a",)), ("a.b", ("a", "b")), (r"a\.b", ("a.b",)), (r"a\\.b", ("a\\", "b")), (".", ())],
)
def test_paths(text: str, path: tuple[str, ...]) -> None:
    assert parse_path(text) == path
    assert format_path(path) == text


@pytest.mark.parametrize("text", ["", "a.", ".a", "a..b"])
def test_bad_paths(text: str) -> None:
    with pytest.raises(ValueError, match="empty"):
        parse_path(text)


def test_find() -> None:
    document = {"a": {"b": [1]}, "n": None}
    assert find(document, ("a", "b")) == [1]
    assert find(document, ("n",)) is None
    assert find(document, ()) is document
    missing = find(document, ("a", "c"))
    assert find(document, ("n", "x")) is missing
    assert find(document, ("a", "b", "0")) is missing


@pytest.mark.parametrize("template", ["", "{", "a}", "{}", "{a", "{a..b}", "{.}", "{{a}"])
def test_bad_templates(template: str) -> None:
    with pytest.raises(ValueError, match="series"):
        InputConfig.model_validate({**ONE, "series": template})


@pytest.mark.parametrize(
    "change",
    [{"value": None}, {"values": ["a"]}, {"value": None, "values": ["a", "a"]}, {"value": "a..b"}],
)
def test_bad_values_setting(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="value"):
        InputConfig.model_validate({**ONE, **change})


def test_a_field_name_of_any_characters() -> None:
    name = 'ü "quoted" \\ $x {0}'
    config = {**ONE, "series": "x", "value": name.replace("\\", "\\\\")}
    assert rows(decode(config, raw({**GOOD, name: 2}))) == [("x", NOON, 2.0)]
