"""Kafka timestamps that are missing or of no time, by every way that messages are decoded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from titans_stream.stream.codec.codec import Decoded
from titans_stream.stream.codec.json_codec import JsonCodec
from titans_stream.stream.messages import LOG_APPEND_TIME, RawMessage
from titans_stream.stream.settings import InputConfig

NOON_MS = 1_772_366_400_000
WAYS = ("together", "one by one", "plain", "arrays")
EARLY = "1900-01-01"


def decode(way: str, at: int, kind: int = 0, **config: Any) -> Decoded:
    """A message with the Kafka timestamp `at`; its field `ts` is noon."""
    document: Any = {"s": "a", "v": 1.5, "ts": NOON_MS}
    base: dict[str, Any] = {"topic": "t", "series": "{s}", "value": "v", "timestamp": "kafka"}
    if way == "arrays":
        document, base = {"r": [document]}, {**base, "items": "r"}
    codec = JsonCodec(
        InputConfig.model_validate({**base, **config}), clock=lambda: NOON_MS * 1_000_000
    )
    if way == "plain":
        codec._typed = codec._arrays = None
    batch = [RawMessage("t", 0, 0, at, b"k", json.dumps(document).encode(), timestamp_type=kind)]
    if way == "one by one":
        batch.append(RawMessage("t", 0, 1, NOON_MS, b"k", b"{"))
    found = codec.decode(batch)
    return Decoded(found.readings, [letter for letter in found.dead if letter.offset == 0])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [0, LOG_APPEND_TIME])
@pytest.mark.parametrize("earliest", [EARLY, "2000-01-01"])
@pytest.mark.parametrize("at", [-1, -2, -(2**63)])
def test_a_message_without_one_has_no_time(way: str, kind: int, earliest: str, at: int) -> None:
    found = decode(way, at, kind, min_timestamp=earliest)
    (letter,) = found.dead
    assert letter.reason == "invalid-timestamp"
    assert letter.detail.endswith("the Kafka message has no timestamp")
    assert found.readings.timestamp.tolist() == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("at", [2**62, 2**63 - 1, 2**63 // 1_000_000 + 1])
def test_a_brokers_time_that_is_none_is_a_dead_letter(way: str, at: int) -> None:
    found = decode(way, at, LOG_APPEND_TIME)
    assert [letter.reason for letter in found.dead] == ["timestamp-out-of-range"]
    assert found.readings.timestamp.tolist() == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("at", [0, NOON_MS, 2 * NOON_MS])
def test_a_brokers_time_is_the_readings(way: str, at: int) -> None:
    found = decode(way, at, LOG_APPEND_TIME, min_timestamp=EARLY)
    assert found.dead == []
    assert found.readings.timestamp.tolist() == [at * 1_000_000]
    assert found.readings.timestamp.dtype == "int64"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("at", [-1, -(2**63), 2**62])
@pytest.mark.parametrize("kind", [0, LOG_APPEND_TIME])
def test_where_it_is_none_the_present_limits_the_readings_own(way: str, at: int, kind: int) -> None:
    found = decode(way, at, kind, timestamp="ts", min_timestamp=EARLY)
    assert found.dead == []
    assert found.readings.timestamp.tolist() == [NOON_MS * 1_000_000]
