"""What a codec keeps of the ids it has rendered: bounded in bytes, and right after it is let go."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from titans_stream.stream.codec import json_codec
from titans_stream.stream.codec.json_codec import JsonCodec
from titans_stream.stream.messages import RawMessage
from titans_stream.stream.settings import InputConfig

NOON_MS = 1_772_366_400_000
BOUND = 200_000
POLL = 100


def codec_of(config: dict[str, Any]) -> JsonCodec:
    config = {"topic": "t", "value": "v", "timestamp": "kafka", **config}
    return JsonCodec(InputConfig.model_validate(config), clock=lambda: NOON_MS * 1_000_000)


def polls(fields: Callable[[int], Any], count: int) -> Iterator[list[RawMessage]]:
    """Messages of `count` different numbers, POLL at a time; each has a key of its own."""
    for first in range(0, count, POLL):
        yield [
            RawMessage("t", 0, i, NOON_MS, b"k%d" % i, json.dumps(fields(i)).encode())
            for i in range(first, first + POLL)
        ]


CASES: dict[str, tuple[dict[str, Any], Callable[[int], Any], int]] = {
    "a new series each": ({"series": "{s}"}, lambda i: {"s": f"s{i}", "v": 1}, 4_000),
    "long series": ({"series": "{s}"}, lambda i: {"s": f"{i:0500}", "v": 1}, 1_000),
    "a new group each": (
        {"series": "{s}", "group": "{g}"}, lambda i: {"s": "a", "g": f"g{i}", "v": 1}, 4_000,
    ),
    "a new key each": (
        {"series": "{s}", "group": "{key}"}, lambda i: {"s": "a", "v": 1}, 4_000,
    ),
    "groups in arrays": (
        {"items": "r", "series": "{s}", "group": "{g}"},
        lambda i: {"r": [{"s": "a", "g": f"g{i}", "v": 1}]}, 4_000,
    ),
    "groups that are too long": (
        {"series": "{s}", "group": "{g}"}, lambda i: {"s": "a", "g": f"{i:0600}", "v": 1}, 2_000,
    ),
    "series that are too long": (
        {"series": "{s}", "group": "{g}"}, lambda i: {"s": f"{i:0600}", "g": "a", "v": 1}, 2_000,
    ),
    "long times of a format": (
        {"series": "{s}", "timestamp": {"field": "t", "format": "%Y-%m-%d %H:%M"}},
        lambda i: {"s": "a", "v": 1, "t": f"2026-03-01{' ' * (200 + i)}12:00"}, 1_000,
    ),
    "several values": (
        {"series": "{s}", "value": None, "values": ["v", "w"]},
        lambda i: {"s": f"s{i}", "v": 1, "w": 2}, 2_000,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_no_messages_make_it_grow(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_codec, "MOST_BYTES", BOUND)
    config, fields, count = CASES[case]
    codec = codec_of(config)
    codec.decode(next(polls(fields, POLL)))
    tracemalloc.start()
    try:
        started = tracemalloc.get_traced_memory()[0]
        held = []
        for messages in polls(fields, count):
            codec.decode(messages)
            largest = sum(len(message.value or b"") for message in messages)
            del messages
            held.append(tracemalloc.get_traced_memory()[0] - started - 2 * largest)
    finally:
        tracemalloc.stop()
    assert max(held) < 2 * BOUND, "what a poll adds comes on top"


def test_what_it_is_reckoned_to_keep_is_no_less_than_what_it_keeps() -> None:
    for config, fields, count in CASES.values():
        codec = codec_of(config)
        codec.decode(next(polls(lambda i: {"s": "a", "g": "a", "v": 1, "w": 1, "r": []}, POLL)))
        tracemalloc.start()
        try:
            for messages in polls(fields, count):
                codec.decode(messages)
            del messages
            held = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        reckoned = sum(each.size for each in codec._cached)
        assert 0.9 * held - 50_000 < reckoned < 3.0 * held + 50_000, config


def test_ids_are_the_same_after_it_was_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_codec, "MOST_BYTES", 60_000)
    for items in (None, "r"):
        codec = codec_of({"series": "{s}/{key}", "group": "{s}", "items": items})

        def fields(i: int, items: str | None = items) -> Any:
            inner = {"s": f"s{i % 700}", "v": 1}
            return inner if items is None else {"r": [inner]}

        found, begun = [], 0
        for messages in polls(fields, 2_000):
            before = codec._table.names
            found.append(codec.decode(messages).readings)
            begun += codec._table.names is not before
        assert begun > 3
        series = [name for each in found for name in each.series]
        assert series == [f"s{i % 700}/k{i}" for i in range(2_000)]
        groups = [name for each in found for name in each.group or ()]
        assert groups == [f"s{i % 700}" for i in range(2_000)]
