"""A clock that was set back is told from old data that come again; neither is scored."""

from __future__ import annotations

import logging
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from titans_stream.records import Scores, Status
from titans_stream.stream.late_clocks import LateClocks
from titans_stream.stream.messages import RawMessage

NOW = 1_772_366_400_000


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.clocks = LateClocks(lambda: self.now)
        self.offset = 0

    def send(
        self, reading_ms: int, sent_ms: int, status: Status = Status.LATE, series: str = "a"
    ) -> None:
        """One reading, of `reading_ms`, in a message of `sent_ms`."""
        self.offset += 1
        message = RawMessage("in", 3, self.offset, sent_ms, None, b"")
        columns: dict[str, Any] = dict.fromkeys((f.name for f in fields(Scores)), np.zeros(1))
        columns |= {
            "series": [series], "status": np.array([status], np.int8),
            "timestamp": np.array([reading_ms * 10**6]), "partition": np.array([3]),
            "offset": np.array([self.offset]),
        }  # fmt: skip
        self.clocks.take([message], Scores(**columns), lambda partition: partition.partition)


def test_readings_that_keep_pace_with_their_messages_are_a_clock_set_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    world = World()
    hour = 3_600_000
    for minute in range(19):
        world.send(NOW - hour + minute * 60_000, NOW + minute * 60_000)
    assert not caplog.messages
    world.send(NOW - hour + 19 * 60_000, NOW + 19 * 60_000)
    assert len(caplog.messages) == 1
    assert "series 'a': its readings are late, but keep pace" in caplog.messages[0]
    assert "input.clock_reset: after 20 follows" in caplog.messages[0]
    for minute in range(20, 40):
        world.send(NOW - hour + minute * 60_000, NOW + minute * 60_000)
    assert len(caplog.messages) == 1, "said once in ten minutes"


def test_old_data_that_come_again_are_no_clock(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    world = World()
    for minute in range(200):
        world.send(NOW - 10**9 + minute * 60_000, NOW + minute * 50)
    assert not caplog.messages


def test_a_reading_in_time_or_without_a_message_time_ends_or_hides_the_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    world = World()
    for minute in range(100):
        world.send(NOW + minute * 60_000, NOW + minute * 60_000)
        if minute % 15 == 14:
            world.send(NOW + minute * 60_000, NOW + minute * 60_000, Status.SCORED)
        world.send(NOW + minute * 60_000, -1, series="b")
    assert not caplog.messages
