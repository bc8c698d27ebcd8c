"""Polls grow while messages lie in wait, and stay short."""

from __future__ import annotations

import pytest

from titans_stream.stream import poll_size
from titans_stream.stream.poll_size import FIRST, LEAST, MOST, PollSize


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poll_size.time, "monotonic", lambda: 100.0)


def took(size: PollSize, messages: int, seconds: float) -> None:
    size.took({"a": range(messages - 1), "b": [0]}, 100.0 - seconds)


def test_a_backlog_is_read_in_larger_polls_until_turns_take_long() -> None:
    size = PollSize(None)
    assert size.most == FIRST
    for _ in range(10):
        took(size, size.most, 0.05)
    assert size.most == MOST
    took(size, size.most, 0.3)
    assert size.most == MOST, "neither quick nor slow"
    took(size, size.most, 0.9)
    assert size.most == MOST // 2
    for _ in range(10):
        took(size, size.most, 5.0)
    assert size.most == LEAST
    took(size, size.most, 0.4)
    assert size.most == LEAST
    took(size, 10, 0.4)
    assert size.most == LEAST, "a short poll does not say that long ones are quick"
    took(size, size.most, 0.01)
    assert size.most == 2 * LEAST


def test_a_poll_that_is_not_full_asks_for_no_more() -> None:
    size = PollSize(None)
    for _ in range(10):
        took(size, size.most - 1, 0.01)
    assert size.most == FIRST


def test_what_is_not_committed_is_tried_again_with_fewer_until_it_is() -> None:
    size = PollSize(None)
    for _ in range(5):
        took(size, size.most, 0.05)
    for expected in (10_000, 5_000, 2_500, 1_250, 625, 500, 500):
        size.failed()
        assert size.most == expected
        took(size, size.most, 0.05)
        assert size.most == expected, "a quick replay does not make it grow again"
    size.committed()
    for _ in range(5):
        took(size, size.most, 0.05)
    assert size.most == 2 * LEAST
    for _ in range(9):
        size.committed()
        took(size, size.most, 0.05)
    assert size.most == MOST


def test_a_setting_is_kept() -> None:
    size = PollSize(50)
    for seconds in (0.01, 5.0):
        took(size, 50, seconds)
        assert size.most == 50
    size.failed()
    assert size.most == 50
