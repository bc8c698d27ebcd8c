"""Late, duplicate and missing readings are counted, and told where they are many."""

from __future__ import annotations

import logging
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from titans_stream.records import Scores, Status
from titans_stream.stream.dropped import DropWatch
from titans_stream.stream.metrics import Metrics


def scores(**counts: int) -> Scores:
    """So many readings of each status, by its label."""
    status = np.concatenate(
        [np.full(count, Status[name.upper()], np.int8) for name, count in counts.items()]
    )
    columns: dict[str, Any] = dict.fromkeys((f.name for f in fields(Scores)), np.zeros(len(status)))
    return Scores(**columns | {"series": ["a"] * len(status), "status": status})


class World:
    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.WARNING)
        self.now = 0.0
        self.metrics = Metrics()
        self.watch = DropWatch(self.metrics, lambda: self.now)
        self._caplog = caplog

    def lines(self) -> list[str]:
        found = self._caplog.messages
        self._caplog.clear()
        return found

    def counts(self) -> list[int]:
        names = ("late_readings", "duplicate_readings", "missing_readings")
        return [self.metrics.counts[name] for name in names]


@pytest.fixture
def world(caplog: pytest.LogCaptureFixture) -> World:
    return World(caplog)


def test_few_are_counted_and_not_told(world: World) -> None:
    world.watch.take(scores(scored=180, late=20, duplicate=3, warming_up=7, missing=5))
    world.watch.take(scores(late=1, scored=20))
    assert world.counts() == [21, 3, 5]
    assert world.lines() == []


def test_many_are_told_with_the_remedy_once_a_minute(world: World) -> None:
    world.watch.take(scores(scored=100, late=50))
    assert world.lines() == [], "too few to tell a share"
    world.watch.take(scores(scored=100, late=50))
    assert world.lines() == [
        "100 of the last 300 readings are late and were not scored: a later reading of their "
        "series came before; raise engine.max_out_of_orderness, or tell the sensors apart in "
        "input.series"
    ]
    world.now = 59.0
    world.watch.take(scores(late=500))
    assert world.lines() == []
    world.now = 61.0
    world.watch.take(scores(late=500, duplicate=500))
    late, duplicate = world.lines()
    assert late.startswith("500 of the last 1000 readings are late")
    assert duplicate.startswith("500 of the last 1000 readings are duplicate")
    assert duplicate.endswith("tell the sensors apart in input.series, or send finer times")
    assert world.counts() == [1100, 500, 0]


def test_an_earlier_time_is_forgotten(world: World) -> None:
    world.watch.take(scores(late=150))
    world.now = 60.0
    world.watch.take(scores(scored=190, late=10))
    assert world.lines() == []
