"""What does not fit into its topic: frames are split, other output is a dead letter."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from tests.stream_harness import MODEL, ExactEngine
from titans_stream.records import Alert, Forecast, Readings, Results, Source
from titans_stream.stream.encoding import decode_scores
from titans_stream.stream.kafka.errors import ConnectError
from titans_stream.stream.metrics import Metrics
from titans_stream.stream.outbox import LEAST_LIMIT, Outbox

TOPICS = {
    "input.topic": "in",
    "output.alerts": "alerts",
    "output.scores": "scores",
    "output.forecasts": "forecasts",
    "output.dead_letter": "dead",
}


class Sent:
    """An output that keeps what it is given."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes, bytes, dict[str, bytes]]] = []

    def send(self, topic: str, key: Any, value: Any, headers: Any = None) -> None:
        self.messages.append((topic, key, value, dict(headers or [])))

    def of(self, topic: str) -> list[tuple[bytes, bytes, dict[str, bytes]]]:
        return [each[1:] for each in self.messages if each[0] == topic]


class Box:
    def __init__(self, **limits: int) -> None:
        self.sent = Sent()
        self.metrics = Metrics()
        everything = dict.fromkeys(TOPICS.values(), 1_048_588) | limits
        self.outbox = Outbox(self.sent, TOPICS, everything, MODEL, self.metrics)  # type: ignore[arg-type]


def results(series: list[str], value: float = 500.0) -> Results:
    count = len(series)
    return ExactEngine("in").process(
        Readings(
            series,
            np.arange(count, dtype=np.int64),
            np.full(count, value),
            np.full(count, 3, np.int32),
            np.arange(70, 70 + count, dtype=np.int64),
        )
    )


def large_alert() -> Alert:
    (alert,) = results(["a"]).alerts
    return dataclasses.replace(alert, explanation="x" * 9_000)


def large_forecast() -> Forecast:
    times = ["2026-03-01T12:00:00Z"] * 400
    return Forecast("a", times[0], times, [1.5] * 400, {}, None, MODEL, Source("in", 3, 70))


@pytest.mark.parametrize("kind", ["alerts", "forecasts"])
def test_what_cannot_be_split_is_a_dead_letter_that_names_its_reading(kind: str) -> None:
    box = Box(**{kind: 8_000})
    if kind == "alerts":
        (small,) = results(["b"]).alerts
        box.outbox.alerts([large_alert(), small], {})
    else:
        small_one = dataclasses.replace(large_forecast(), timestamps=[], median=[])
        box.outbox.forecasts([large_forecast(), small_one])
    assert [len(value) < 8_000 for _, value, _ in box.sent.of(kind)] == [True]
    ((key, value, headers),) = box.sent.of("dead")
    assert key == b"a"
    assert json.loads(value)["series_id"] == "a"
    assert headers["titans.reason"] == b"output-too-large"
    assert headers["titans.detail"].startswith(f"{kind}: ".encode())
    assert headers["titans.detail"].endswith(f"topic {kind} takes 8,000".encode())
    assert (headers["titans.topic"], headers["titans.partition"]) == (b"in", b"3")
    assert headers["titans.offset"] == b"70"
    assert box.metrics.counts[kind] == 1
    assert box.metrics.counts["dead_letters"] == 1


def test_frames_are_split_down_to_a_row_and_that_is_a_dead_letter() -> None:
    box = Box(scores=LEAST_LIMIT)
    names = ["s" * 20] * 40 + ["l" * 4_000] + ["s" * 20] * 40
    box.outbox.scores(results(names).scores, "in")
    frames = [decode_scores(value).scores for _, value, _ in box.sent.of("scores")]
    offsets = [offset for frame in frames for offset in frame.offset.tolist()]
    assert offsets == [*range(70, 110), *range(111, 151)]
    assert all(len(value) <= LEAST_LIMIT for _, value, _ in box.sent.of("scores"))
    ((key, value, headers),) = box.sent.of("dead")
    assert (key, headers["titans.offset"]) == (b"3", b"110")
    assert decode_scores(value).scores.series == ["l" * 4_000]


def test_a_topic_that_refuses_what_it_told_gets_less_until_nothing_is_left() -> None:
    box = Box(alerts=20_000, dead=30_000)
    box.outbox.alerts([large_alert()], {})
    assert len(box.sent.of("alerts")) == 1
    box.outbox.shrink("alerts")
    box.outbox.shrink("alerts")
    box.outbox.alerts([large_alert()], {})
    assert len(box.sent.of("alerts")) == 1
    ((_, value, _),) = box.sent.of("dead")
    assert len(value) > 9_000, "the other topics' limits are as they were"
    box.outbox.shrink("alerts")
    with pytest.raises(ConnectError, match=r"^topic alerts takes no message of 4,096 bytes"):
        box.outbox.shrink("alerts")
