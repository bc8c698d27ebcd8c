"""What a worker says of itself: its sign of life, its line a minute, and a Kafka that is silent."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from kafka import TopicPartition

from tests.stream_harness import Kafka, Running, Setup, stream
from titans_stream.devbroker.broker import DevBroker
from titans_stream.records import EngineFigures
from titans_stream.stream import silence as silence_module
from titans_stream.stream.kafka.errors import ConnectError
from titans_stream.stream.metrics import Metrics
from titans_stream.stream.settings import DeliveryConfig
from titans_stream.stream.silence import Silence, SilenceThread
from titans_stream.stream.watch import ALIVE_SECONDS, Watch, Watched


class World:
    def __init__(self, **delivery: object) -> None:
        self.now = 1_000.0
        self.answered = 1_000.0
        self.beats = 0
        self.metrics = Metrics()
        self.engine = MagicMock()
        self.engine.series_count.return_value = 12
        self.engine.series_warning.return_value = ""
        self.engine.figures.return_value = EngineFigures(2, 5, 1.25, 3)
        self.assignment = MagicMock()
        self.assignment.progress = {}
        watched = Watched(
            self.engine, self.assignment, self.metrics, lambda: self.answered, self.beat
        )
        self.watch = Watch(watched, DeliveryConfig.model_validate(delivery), lambda: self.now)

    def beat(self) -> None:
        self.beats += 1

    def look(self, seconds: float, uncommitted: float | None = None) -> int:
        """Signs of life after some seconds; `uncommitted`: for so long there is a transaction."""
        self.now += seconds
        before = self.beats
        self.watch.look(None if uncommitted is None else self.now - uncommitted)
        return self.beats - before


def test_life_is_work_that_is_done() -> None:
    world = World()
    assert world.look(1.0) == 1
    assert world.look(0.1) == 0, "looked at a moment ago"
    assert world.look(ALIVE_SECONDS) == 0, "no answer of Kafka and no message"
    world.metrics.last_message = world.now
    assert world.look(1.0) == 1, "messages come"
    world.answered = world.now
    assert world.look(1.0, uncommitted=ALIVE_SECONDS) == 1
    assert world.look(1.0, uncommitted=ALIVE_SECONDS + 1.0) == 0, "a commit is overdue"
    assert world.look(1.0) == 1, "an idle topic of a Kafka that answers"
    assert world.metrics.counts["expired_series"] == 3


def test_a_line_a_minute_says_how_the_work_goes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = World()
    world.look(59.0)
    assert not caplog.messages
    world.metrics.counts.update(readings=1_200, late_readings=3, dead_letters=1)
    world.metrics.lag[TopicPartition("in", 0)] = 7
    world.metrics.last_snapshot = world.now - 4.0
    world.look(1.0)
    assert caplog.messages == [
        "20.0 readings/s, 7 messages behind, 12 series, 2 open alerts; 5 opened since the start "
        "where 1.2 false are due; 3 late, 0 duplicate, 0 missing, 1 dead letters; "
        "last snapshot 5 s ago"
    ]
    caplog.clear()
    progress = SimpleNamespace(replaying=True, resume=900, position=400)
    world.assignment.progress = {TopicPartition("in", 3): progress}
    world.look(60.0)
    assert caplog.messages[0].startswith("0.0 readings/s, 7 messages behind")
    assert caplog.messages[1:] == ["in partition 3: 500 messages of the replay are left"]
    progress.replaying = False
    world.look(60.0)
    assert caplog.messages[-1] == "in partition 3: the replay is over"


def test_no_line_where_none_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = World(report_every=0)
    for _ in range(5):
        world.look(60.0)
    assert not caplog.messages


def test_a_silence_is_told_at_growing_distances_and_once_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    last = 100.0
    silence = Silence("host:1", lambda: last)
    for tenth in range(1, 1_000):
        silence.look(100.0 + tenth / 10)
    assert caplog.messages == [
        f"Kafka at host:1 has not answered for {seconds} s; waiting for it, nothing is lost"
        for seconds in (5, 10, 20, 40, 80)
    ]
    caplog.clear()
    last = 199.5
    for tenth in range(1_000, 1_030):
        silence.look(100.0 + tenth / 10)
    assert caplog.messages == ["Kafka answers again, after 100 s"]
    silence.look(204.6)
    assert caplog.messages[-1].startswith("Kafka at host:1 has not answered for 5 s")


def test_a_group_that_waits_for_a_member_that_is_gone_is_no_silent_kafka(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As after kill -9: the answer to a join comes when the dead member's session has ended."""
    caplog.set_level(logging.WARNING)
    joining = True
    silence = Silence("host:1", lambda: 100.0, lambda: joining)
    silence.look(106.0)
    joining = False
    silence.look(112.0)
    assert caplog.messages == [
        "no answer to joining the group for 6 s: Kafka at host:1 waits for members that are gone "
        "until their sessions end (kafka.consumer.session_timeout_ms), or does not answer; nothing "
        "is lost",
        "Kafka at host:1 has not answered for 12 s; waiting for it, nothing is lost",
    ]


def test_a_worker_that_has_joined_says_so_to_its_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []

    class Told(Silence):
        def look(self, now: float) -> None:
            told.append(self._joining())

    monkeypatch.setattr(silence_module, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr("titans_stream.stream.worker.Silence", Told)
    with DevBroker(auto_create=False) as broker:
        setup = Setup(Kafka(broker.bootstrap).create(), tmp_path)
        running = Running(setup.worker())
        running.wait(running.worker.ready.is_set)
        # a join may be over before the watch looks for the first time
        told.clear()
        running.wait(lambda: len(told) > 3)
        assert not any(told)
        running.stop()


def test_a_worker_says_that_kafka_is_silent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(silence_module, "_LOOK_SECONDS", 0.05)
    broker = DevBroker(auto_create=False).start()
    setup = Setup(Kafka(broker.bootstrap).create(), tmp_path)
    beats: list[float] = []
    setup.kafka.produce(stream(20))
    worker = setup.worker()
    worker._signals = replace(worker._signals, heartbeat=lambda: beats.append(time.monotonic()))
    running = Running(worker)
    running.wait_for("commits", 1)
    assert beats, "a sign of life"
    broker.stop()
    stopped = time.monotonic()
    wanted = f"Kafka at {broker.bootstrap} has not answered for 5 s; waiting for it"
    running.wait(lambda: any(wanted in message for message in caplog.messages), 20)
    assert all(beat < stopped + ALIVE_SECONDS + 1.0 for beat in beats)
    worker.stop()


def unseen_before_the_join(setup: Setup) -> Running:
    """A worker whose check before the join sees nobody, since all join in the same moment."""
    worker = setup.worker()
    check, calls = worker._check_group, []

    def late() -> None:
        calls.append(1)
        if len(calls) > 1:
            check()

    worker._check_group = late  # type: ignore[method-assign]
    return Running(worker)


def test_copies_of_a_connector_that_start_together_are_recognised(tmp_path: Path) -> None:
    with DevBroker(auto_create=False) as broker:
        kafkas = [Kafka(broker.bootstrap).create() for _ in range(2)]
        name = {"group_id": "same"}
        running = [
            unseen_before_the_join(Setup(kafka, tmp_path / kafka.prefix, input=name))
            for kafka in kafkas
        ]
        deadline = time.monotonic() + 60
        while all(one.error is None for one in running) and time.monotonic() < deadline:
            time.sleep(0.1)
        for one in running:
            one.worker.stop()
            one.join(60)
        errors = [one.error for one in running if one.error is not None]
        assert errors, "one of them at least is told"
        for error in errors:
            assert isinstance(error, ConnectError)
            assert "another connector has this name" in str(error)


def test_the_thread_ends_with_its_worker() -> None:
    silence = MagicMock()
    thread = SilenceThread(silence, threading.Event())
    thread.close()
    assert not thread._thread.is_alive()
