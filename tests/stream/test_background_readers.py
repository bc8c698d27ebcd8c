"""Threads that read logs beside the loop: an answer that cannot be read does not end them."""

from __future__ import annotations

import struct
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.errors import KafkaConnectionError

from tests.stream_harness import eventually
from titans_stream.stream.control_topic import ControlTopic
from titans_stream.stream.settings import OutputConfig
from titans_stream.stream.swap_reader import History
from titans_stream.web.reader import Reach, Reader

ORDER = (b"freeze:a", b'{"action":"freeze","series":"a"}')


class OneMessage:
    """A consumer of a topic with one message; `errors` are raised by its first polls."""

    def __init__(self, errors: list[Exception]) -> None:
        self._errors = errors
        self._at = 0

    def topics(self) -> set[str]:
        return {"control"}

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {0}

    def assign(self, names: list[Any]) -> None: ...

    def seek(self, name: Any, offset: int) -> None:
        self._at = offset

    def position(self, name: Any) -> int:
        return self._at

    def beginning_offsets(self, names: list[Any], timeout_ms: float) -> dict[Any, int]:
        return dict.fromkeys(names, 0)

    def end_offsets(self, names: list[Any], timeout_ms: float) -> dict[Any, int]:
        return dict.fromkeys(names, 1)

    def offsets_for_times(self, times: dict[Any, int], timeout_ms: float) -> dict[Any, None]:
        return dict.fromkeys(times)

    def poll(self, timeout_ms: float, most: int) -> dict[Any, list[Any]]:
        if self._errors:
            raise self._errors.pop()
        if self._at:
            return {}
        self._at = 1
        key, value = ORDER
        return {"": [SimpleNamespace(partition=0, offset=0, key=key, value=value)]}

    def close(self, *arguments: Any) -> None: ...


def test_the_page_reads_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("titans_stream.web.reader._PAUSE", 0.01)
    failed = [struct.error("unpack"), IndexError(), KafkaConnectionError()]
    heard: list[str] = []
    stop = threading.Event()

    def consumer(group: None) -> OneMessage:
        heard.append(reader.progress.problem)
        if failed:
            raise failed.pop()
        stop.set()
        return OneMessage([])

    reader = Reader(
        SimpleNamespace(consumer=consumer),  # type: ignore[arg-type]
        OutputConfig(alerts="alerts"),
        SimpleNamespace(),  # type: ignore[arg-type]
        Reach(),
        stop,
    )
    reader.start()
    reader.join()
    assert stop.is_set()
    assert heard == ["not connected yet", "KafkaConnectionError", "IndexError", "unpack"]


@pytest.mark.parametrize("error", [IndexError("7"), struct.error("unpack"), ValueError("crc")])
def test_the_control_topic_is_read_on(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("titans_stream.stream.control_topic._PAUSE", 0.01)
    errors = [error]
    topic = ControlTopic(lambda: OneMessage(errors), "control")  # type: ignore[arg-type, return-value]
    try:
        eventually(topic.read.is_set)
        eventually(lambda: len(topic.messages) == 1)
        assert f"control topic control: {error}; trying again" in caplog.text
    finally:
        topic.close()


def test_a_lane_hears_of_it() -> None:
    """Else it would wait for its history for ever, and the model would never change."""
    consumer = OneMessage([struct.error("unpack requires a buffer of 8 bytes")])
    history = History(
        lambda: consumer,  # type: ignore[arg-type, return-value]
        TopicPartition("in", 0),
        1,
        10**9,
        100,
        lambda: SimpleNamespace(offset=0),  # type: ignore[arg-type, return-value]
    )
    eventually(lambda: history.error is not None)
    assert history.error == "unpack requires a buffer of 8 bytes"
    history.close()
