"""Readings that the engine refuses become dead letters of their messages."""

from __future__ import annotations

import numpy as np

from titans_stream.records import Readings
from titans_stream.stream.messages import RawMessage
from titans_stream.stream.refusals import refusals


def test_a_message_with_refused_readings_is_one_dead_letter() -> None:
    messages = [RawMessage("t", 0, at, -1, b"key", b"value %d" % at) for at in (5, 6, 7)]
    readings = Readings(
        ["a", "b", "c", "d"], np.zeros(4, np.int64), np.zeros(4), np.zeros(4, np.int32),
        np.array([5, 6, 6, 7]),
    )  # fmt: skip
    letters = refusals(messages, readings, np.array([1, 2, 3]))
    assert [(x.reason, x.value, x.offset, x.key) for x in letters] == [
        ("too-many-series", b"value 6", 6, b"key"),
        ("too-many-series", b"value 7", 7, b"key"),
    ]
    assert letters[0].detail.startswith("series 'b' and 1 other(s) is new and the partition has")
