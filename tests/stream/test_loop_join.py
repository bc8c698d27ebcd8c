"""A join that is never answered is begun anew; a sound one is left alone."""

from __future__ import annotations

import asyncio
import threading
from typing import Any
from unittest.mock import MagicMock

import pytest

from titans_stream.stream import loop as loop_module
from titans_stream.stream.loop import Loop
from titans_stream.stream.settings import DeliveryConfig


class DeafConsumer:
    """Assigns nothing at its first `deaf` subscriptions, an empty assignment afterwards."""

    def __init__(self, deaf: int) -> None:
        self.deaf = deaf
        self.calls: list[str] = []
        self.listener: Any = None

    def subscribe(self, topics: list[str], *, listener: Any) -> None:
        self.calls.append("subscribe")
        self.listener = listener

    def unsubscribe(self) -> None:
        self.calls.append("unsubscribe")

    def topics(self) -> set[str]:
        self.calls.append("topics")
        return set()

    def poll(self, timeout_ms: float, max_records: int) -> dict[Any, list[Any]]:
        if self.calls.count("subscribe") > self.deaf:
            asyncio.run(self.listener.on_partitions_assigned([]))
        return {}

    def close(self, *args: object) -> None:
        self.calls.append("close")


def make_loop(consumer: DeafConsumer, stop: threading.Event) -> Loop:
    assignment, output = MagicMock(), MagicMock()
    assignment.new = set()
    assignment.progress = {}
    return Loop(
        consumer,  # type: ignore[arg-type]
        output,
        MagicMock(),
        assignment,
        MagicMock(),
        MagicMock(),
        DeliveryConfig(),
        MagicMock(),
        stop,
        threading.Event(),
        5.0,
    )


@pytest.mark.parametrize(("deaf", "joins"), [(0, 1), (2, 3)])
def test_a_lost_join_is_begun_anew(monkeypatch: pytest.MonkeyPatch, deaf: int, joins: int) -> None:
    monkeypatch.setattr(loop_module, "_JOIN_SECONDS", 0.05)
    stop = threading.Event()
    consumer = DeafConsumer(deaf)
    loop = make_loop(consumer, stop)
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        if turns > 400 or (loop.joining_since is None and turns > 100):
            stop.set()
        stop.wait(0.002)
        Loop._turn(loop)

    monkeypatch.setattr(loop, "_turn", turn)
    loop.run("input")
    assert consumer.calls.count("subscribe") == joins
    assert consumer.calls.count("unsubscribe") == joins - 1
    assert consumer.calls[:2] == ["subscribe", "topics"]
    assert loop.joining_since is None
