"""No message makes the decoder raise, and each one is accounted for."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from titans_stream.stream.codec.codec import Decoded
from titans_stream.stream.codec.fields import Reason
from titans_stream.stream.codec.json_codec import JsonCodec
from titans_stream.stream.messages import LOG_APPEND_TIME, RawMessage
from titans_stream.stream.settings import InputConfig

NOON_MS = 1_772_366_400_000
NOON = NOON_MS * 1_000_000

CONFIGS: list[dict[str, Any]] = [
    {"topic": "t", "series": "{site}/{m.id}", "value": "v", "timestamp": "ts"},
    {"topic": "t", "series": "{key}/{site}", "value": "v", "timestamp": "ts"},
    {"topic": "t", "series": "{key}", "value": ".", "timestamp": "kafka"},
    {"topic": "t", "series": "{site}", "values": ["v", "m.id"], "timestamp": "ts"},
    {"topic": "t", "series": "{site}", "value": "v", "items": "r", "timestamp": "ts"},
    {"topic": "t", "series": "{site}", "value": "v", "items": ".", "timestamp": "kafka"},
    {
        "topic": "t",
        "series": "{site}",
        "value": "v",
        "timestamp": {"field": "ts", "unit": "rfc3339"},
        "timezone": "Europe/Vienna",
    },
    {"topic": "t", "series": "{site}", "value": "v", "timestamp": "ts", "lenient": True},
    {
        "topic": "t",
        "series": "{site}",
        "values": ["v", "x"],
        "timestamp": "ts",
        "types": {"x": "boolean", "v": {"type": "state", "states": {"on": 2, "": 3}}},
        "missing_values": [1, "off"],
    },
]
REASONS = {str(reason) for reason in Reason}

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([NOON_MS, "2026-03-01T12:00:00Z", "2026-03-01 12:00:00.5", 1e400, 10**400])
    | st.sampled_from(["on", "off", "NaN", "+Inf", " 1.5 ", "1e400", "1", str(NOON_MS), 20260301])
)
names = st.sampled_from(["site", "v", "ts", "m", "id", "r", "x"])
documents = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=6),
    max_leaves=20,
)
likely = st.fixed_dictionaries(
    {"site": st.text(max_size=4), "v": st.floats() | leaves, "ts": leaves},
    optional={"m": st.fixed_dictionaries({"id": leaves}), "r": st.lists(documents, max_size=4)},
)
payloads = (
    st.none()
    | st.binary(max_size=200)
    | (documents | likely).map(lambda document: json.dumps(document).encode())
    | likely.map(lambda document: b"\xef\xbb\xbf" + json.dumps(document).encode())
    | likely.map(lambda document: b"\0\0\0\0\7" + json.dumps(document).encode())
)
SENT = st.sampled_from([-(2**63), -1, 0, NOON_MS - 5, NOON_MS, 2**62, 2**63 - 1])
messages = st.builds(
    RawMessage,
    topic=st.just("t"),
    partition=st.integers(0, 3),
    offset=st.integers(0, 2**40),
    timestamp_ms=SENT,
    key=st.none() | st.binary(max_size=6),
    value=payloads,
    timestamp_type=st.sampled_from([0, LOG_APPEND_TIME]),
)


def decoder(config: dict[str, Any]) -> JsonCodec:
    return JsonCodec(InputConfig.model_validate(config), clock=lambda: NOON)


def plain_decoder(config: dict[str, Any]) -> JsonCodec:
    """A decoder that takes the plain way alone."""
    result = decoder(config)
    result._typed = result._arrays = None
    return result


def assert_same(mine: Decoded, plain: Decoded) -> None:
    assert mine.dead == plain.dead
    assert mine.readings.series == plain.readings.series
    assert mine.readings.group == plain.readings.group
    for column in ("timestamp", "value", "partition", "offset"):
        left, right = getattr(mine.readings, column), getattr(plain.readings, column)
        assert left.dtype == right.dtype
        assert left.tobytes() == right.tobytes(), column


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@settings(max_examples=150, deadline=None)
@given(batch=st.lists(messages, max_size=5))
def test_any_message_ends_as_readings_or_a_dead_letter(
    config: dict[str, Any], batch: list[RawMessage]
) -> None:
    decoded = decoder(config).decode(batch)
    plain = plain_decoder(config).decode(batch)
    assert decoded.dead == plain.dead
    assert decoded.readings.series == plain.readings.series
    for column in ("timestamp", "value", "partition", "offset"):
        mine, theirs = getattr(decoded.readings, column), getattr(plain.readings, column)
        assert mine.tobytes() == theirs.tobytes(), column
    for letter in decoded.dead:
        assert letter.reason in REASONS
        assert letter.detail
    if "items" not in config:
        used = {(p, o) for p, o in zip(*_places(decoded.readings), strict=True)}
        used |= {(letter.partition, letter.offset) for letter in decoded.dead}
        assert used == {(m.partition, m.offset) for m in batch}


ARRAYS: list[dict[str, Any]] = [
    {"items": "r", "series": "{site}/{m.id}", "value": "v", "timestamp": "ts"},
    {"items": "r", "series": "{site}", "group": "{x}", "value": "m.v", "timestamp": "m.ts"},
    {"items": "m.r", "series": "{key}", "value": "v", "timestamp": "kafka", "lenient": True},
    {"items": ".", "series": "{partition}-{site}", "value": "v", "timestamp": "ts"},
    {"items": "r", "series": "{site}", "value": "v", "timestamp": {"field": "ts", "unit": "ms"}},
]
numbers = st.integers(-5, 5) | st.floats(-1e6, 1e6) | st.none()
times = st.sampled_from(
    [NOON_MS, NOON_MS + 7, NOON_MS / 1000 + 0.25, NOON_MS // 1000, "2026-03-01T12:00:00Z", 20260301]
)
sites = st.sampled_from(["a", "b", 3])
fits = st.fixed_dictionaries(
    {},
    optional={
        "site": sites, "v": numbers, "ts": times, "x": sites,
        "m": st.fixed_dictionaries({}, optional={"id": sites, "v": numbers, "ts": times}),
    },
)  # fmt: skip
rows = st.lists(fits | st.just({"site": "a", "v": 1.5, "ts": NOON_MS, "m": {"id": 1}}), max_size=5)


@pytest.mark.parametrize("config", ARRAYS, ids=str)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_arrays_are_decoded_alike_by_both_ways(config: dict[str, Any], data: st.DataObject) -> None:
    """A field may be in the reading, in the message, in both or missing."""
    batch = []
    for offset in range(data.draw(st.integers(1, 3))):
        items: Any = data.draw(rows | leaves)
        document: Any = items
        if config["items"] != ".":
            document = dict(data.draw(fits))
            holder = document
            if config["items"] == "m.r":
                holder = document.setdefault("m", {})
            holder["r"] = items
        value = json.dumps(document).encode()
        batch.append(RawMessage("t", 1, offset, NOON_MS, b"k", value))
    config = {"topic": "t", **config}
    mine, plain = decoder(config).decode(batch), plain_decoder(config).decode(batch)
    assert_same(mine, plain)


SINGLE: list[dict[str, Any]] = [
    {"topic": "t", "series": "{site}/{x}", "value": "v", "timestamp": "ts"},
    {"topic": "t", "series": "{key}/{site}", "group": "{x}", "value": "v", "timestamp": "kafka"},
    {"topic": "t", "series": "{site}", "value": "m.v", "timestamp": "ts", "lenient": True},
    *(
        {
            "topic": "t",
            "series": "{site}",
            "value": "v",
            "timestamp": t,
            "min_timestamp": "1900-01-01",
        }
        for t in ("ts", "kafka")
    ),
]
usual = st.fixed_dictionaries(
    {
        "site": sites,
        "x": sites,
        "v": numbers,
        "ts": times,
        "m": st.fixed_dictionaries({"v": numbers}),
    }
)


@pytest.mark.parametrize("config", SINGLE, ids=str)
@settings(max_examples=100, deadline=None)
@given(
    documents=st.lists(usual, max_size=6), odd=st.lists(messages, max_size=1),
    sent=SENT, kind=st.sampled_from([0, LOG_APPEND_TIME]),
)  # fmt: skip
def test_messages_are_decoded_together_as_they_are_one_by_one(
    config: dict[str, Any], documents: list[Any], odd: list[RawMessage], sent: int, kind: int
) -> None:
    batch = [
        RawMessage("t", i % 3, i, sent, b"k", json.dumps(document).encode(), kind)
        for i, document in enumerate(documents)
    ]
    batch[1:1] = odd
    together, plain = decoder(config).decode(batch), plain_decoder(config).decode(batch)
    assert_same(together, plain)


def test_usual_messages_are_decoded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    one = decoder(SINGLE[0])
    monkeypatch.setattr(one, "_decode_typed", None)
    value = json.dumps({"site": "a", "x": "b", "v": 1.5, "ts": NOON_MS}).encode()
    batch = [RawMessage("t", 0, i, NOON_MS, None, value) for i in range(1_500)]
    found = one.decode(batch).readings
    assert found.series == ["a/b"] * 1_500
    assert found.offset.tolist() == list(range(1_500))


def test_arrays_take_the_typed_way(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"topic": "t", "items": "r", "series": "{gw}/{s}", "value": "v", "timestamp": "ts"}
    one = decoder(config)
    monkeypatch.setattr(one, "_plain", None)
    items = [{"s": k, "v": None if k == 2 else k / 2, "ts": NOON_MS + k} for k in range(4)]
    value = json.dumps({"gw": "g", "r": items}).encode()
    found = one.decode([RawMessage("t", 1, 9, NOON_MS, None, value)]).readings
    assert found.series == ["g/0", "g/1", "g/2", "g/3"]
    assert found.timestamp.tolist() == [(NOON_MS + k) * 1_000_000 for k in range(4)]
    np.testing.assert_array_equal(found.value, [0.0, 0.5, np.nan, 1.5])


def _places(readings: Any) -> tuple[list[int], list[int]]:
    return readings.partition.tolist(), readings.offset.tolist()


# ---------------------------------------------------------------- exact accounting

BIG = b"x" * 1_000_000


def good(rng: random.Random) -> tuple[dict[str, Any], float]:
    """A message that can be used, and its value."""
    value = rng.choice([rng.gauss(0, 1), rng.randrange(-(10**6), 10**6), None, 1e308])
    document: dict[str, Any] = {
        "site": rng.choice(["a", "wien-ü", 7]),
        "machine": f"m{rng.randrange(50)}",
        "value": value,
        "ts": rng.choice([NOON_MS + rng.randrange(10**6), "2026-03-01T12:00:00.5Z"]),
    }
    if rng.random() < 0.3:
        document["unknown"] = rng.choice([[1, [2]], {"a": None}, "text", 1e300, "\u0000"])
    return document, math.nan if value is None else float(value)


def as_bytes(change: Callable[[dict[str, Any], random.Random], None]) -> Callable[..., bytes]:
    def build(rng: random.Random) -> bytes:
        document, _ = good(rng)
        change(document, rng)
        return json.dumps(document).encode()

    return build


def truncated(rng: random.Random) -> bytes:
    text = json.dumps(good(rng)[0]).encode()
    return text[: rng.randrange(1, len(text))]


def random_bytes(rng: random.Random) -> bytes:
    return b"\xff" + rng.randbytes(rng.randrange(100))


def deep(rng: random.Random) -> bytes:
    depth = rng.randrange(20_000, 100_000)
    text = json.dumps(good(rng)[0]).encode()[:-1]
    return rng.choice([b"[" * depth, text + b',"deep":' + b"[" * depth + b"]" * depth + b"}"])


BAD: dict[str, Callable[[random.Random], bytes | None]] = {
    "tombstone": lambda _: None,
    "empty": lambda _: b"",
    "random bytes": random_bytes,
    "truncated": truncated,
    "two documents": lambda rng: json.dumps(good(rng)[0]).encode() * 2,
    "not an object": lambda rng: rng.choice([b"1", b"null", b"[]", b'"a"', b"true", b"NaN"]),
    "no value": as_bytes(lambda d, _: d.pop("value")),
    "no site": as_bytes(lambda d, _: d.pop("site")),
    "null machine": as_bytes(lambda d, _: d.update(machine=None)),
    "no time": as_bytes(lambda d, _: d.pop("ts")),
    "wrong value": as_bytes(
        lambda d, rng: d.update(value=rng.choice(["1.5", True, [], {}, [1], {"v": 1}]))
    ),
    "wrong site": as_bytes(lambda d, rng: d.update(site=rng.choice([1.5, False, [], {}]))),
    "infinite": as_bytes(lambda d, rng: d.update(value=rng.choice([math.inf, -math.inf]))),
    "huge": as_bytes(lambda d, rng: d.update(value=10 ** rng.randrange(309, 4000))),
    "wrong time": as_bytes(
        lambda d, rng: d.update(ts=rng.choice(["noon", "", "2026-99-01T00:00:00Z", [], True]))
    ),
    "absurd time": as_bytes(
        lambda d, rng: d.update(ts=rng.choice([0, -5, 10**30, 1e300, "1970-01-01", 4102444800]))
    ),
    "long id": as_bytes(lambda d, rng: d.update(site="x" * rng.randrange(600, 5000))),
    "lone surrogate": as_bytes(lambda d, _: d.update(site="\ud800")),
}
RARE: dict[str, Callable[[random.Random], bytes]] = {
    "deep": deep,
    "1 MB site": lambda _: b'{"site":"' + BIG + b'","machine":"m","value":1,"ts":1772366400}',
    "1 MB without end": lambda _: b'{"site":"' + BIG,
    "1 MB value": lambda _: b'{"site":"a","machine":"m","value":"' + BIG + b'","ts":1772366400}',
}


def account(count: int, seed: int) -> None:
    """Decode `count` messages in polls of any size; every one must be where it belongs."""
    rng = random.Random(seed)
    decode = decoder({**CONFIGS[0], "series": "{site}/{machine}", "value": "value"}).decode
    done, kinds = 0, set()
    while done < count:
        poll: list[RawMessage] = []
        values: dict[int, tuple[str, float]] = {}
        bad: dict[int, bytes | None] = {}
        for offset in range(done, min(count, done + rng.randrange(1, 3_000))):
            key = rng.choice([None, b"k", b"\xff"])
            draw = rng.random()
            content: bytes | None
            if draw < 0.6:
                document, value = good(rng)
                content = json.dumps(document, ensure_ascii=rng.random() < 0.5).encode()
                values[offset] = (f"{document['site']}/{document['machine']}", value)
            else:
                recipes = RARE if draw > 0.999 else BAD
                kind = rng.choice(list(recipes))
                kinds.add(kind)
                content = bad[offset] = recipes[kind](rng)
            poll.append(RawMessage("t", 1, offset, NOON_MS, key, content))
        decoded = decode(poll)
        done += len(poll)
        assert [letter.offset for letter in decoded.dead] == list(bad)
        assert [letter.value for letter in decoded.dead] == list(bad.values())
        readings = decoded.readings
        assert readings.offset.tolist() == list(values)
        assert readings.series == [series for series, _ in values.values()]
        for mine, (_, value) in zip(readings.value.tolist(), values.values(), strict=True):
            assert mine == value or (math.isnan(mine) and math.isnan(value))
    assert kinds == {*BAD, *RARE}


def test_20_000_messages_are_accounted_for() -> None:
    account(20_000, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_1_000_000_messages_are_accounted_for() -> None:
    account(1_000_000, seed=2)
