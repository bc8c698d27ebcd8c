"""A worker that starts while a broker of its cluster is down: it waits, gives up, or is stopped."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.errors import (
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    NotControllerError,
    SaslAuthenticationFailedError,
    TopicAuthorizationFailedError,
)

from tests.stream_harness import Kafka, Running, Setup, eventually, expected_alerts, stream
from titans_stream.devbroker.broker import DevBroker
from titans_stream.stream.kafka.deadline import call_within
from titans_stream.stream.kafka.errors import (
    ConnectError,
    FatalError,
    StoppedError,
    UnansweredError,
)
from titans_stream.stream.worker import WorkerState


@pytest.fixture
def setup(broker: DevBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    monkeypatch.setattr("titans_stream.stream.worker._ASK_AGAIN", 0.05)
    return Setup(Kafka(broker.bootstrap).create(), tmp_path)


class Faults:
    """Fails calls of the admin client's `method` before they reach the broker."""

    def __init__(
        self, patch: pytest.MonkeyPatch, method: str, fault: Callable[[int], KafkaError | None]
    ) -> None:
        self.calls = 0
        call = getattr(KafkaAdminClient, method)

        def faulty(admin: Any, *arguments: Any, **settings: Any) -> Any:
            self.calls += 1
            error = fault(self.calls)
            if error is not None:
                raise error
            return call(admin, *arguments, **settings)

        patch.setattr(KafkaAdminClient, method, faulty)


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("describe_topics", NodeNotReadyError(3)),
        ("describe_topics", KafkaConnectionError("111 ECONNREFUSED")),
        ("create_topics", NotControllerError("the controller is not known")),
    ],
)
def test_a_broker_that_is_down_at_the_start_is_waited_for(
    setup: Setup,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    method: str,
    error: KafkaError,
) -> None:
    messages = stream(40)
    setup.kafka.produce(messages)
    setup.control = method == "create_topics"
    faults = Faults(monkeypatch, method, lambda call: error if call <= 2 else None)
    running = Running(setup.worker())
    running.wait_for("messages", 40)
    running.stop()
    assert faults.calls > 2
    told = [r for r in caplog.records if r.getMessage().startswith("waiting for Kafka")]
    assert [r.levelno for r in told] == [logging.WARNING] * 2
    assert setup.kafka.alerts_by_series() == expected_alerts(messages, setup.kafka.input)


def test_a_broker_that_stays_down_ends_the_start_after_give_up_after(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.delivery["give_up_after"] = "300ms"
    faults = Faults(monkeypatch, "describe_topics", lambda call: NodeNotReadyError(3))
    running = Running(setup.worker())
    running.join()
    assert isinstance(running.error, FatalError)
    assert not isinstance(running.error, UnansweredError)
    assert re.match(r"nothing worked for \d+ s: describe topics: ", str(running.error))
    assert faults.calls > 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (TopicAuthorizationFailedError("t"), "no permission for topic t"),
        (SaslAuthenticationFailedError("wrong password"), "authentication failed: wrong password"),
    ],
)
def test_what_the_user_has_to_mend_ends_the_start_at_once(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, error: KafkaError, told: str
) -> None:
    faults = Faults(monkeypatch, "describe_topics", lambda call: error)
    running = Running(setup.worker())
    running.join()
    assert isinstance(running.error, ConnectError)
    assert str(running.error) == told
    assert faults.calls == 1


def test_a_topic_that_may_not_be_made_ends_the_start_at_once(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.control = True
    error = TopicAuthorizationFailedError("no")
    faults = Faults(monkeypatch, "create_topics", lambda call: error)
    running = Running(setup.worker())
    running.join()
    assert isinstance(running.error, ConnectError)
    assert "cannot be created: no; make it with one partition" in str(running.error)
    assert faults.calls == 1


def test_a_start_that_waits_between_two_checks_can_be_stopped(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("titans_stream.stream.worker._ASK_AGAIN", 3_600.0)
    faults = Faults(monkeypatch, "describe_topics", lambda call: NodeNotReadyError(3))
    running = Running(setup.worker())
    eventually(lambda: faults.calls == 1)
    running.stop()
    assert running.worker.state is WorkerState.STOPPED


def test_a_start_that_waits_for_an_answer_can_be_stopped(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answered = threading.Event(), threading.Event()

    def hang(call: int) -> KafkaError:
        asked.set()
        answered.wait()
        return NodeNotReadyError(3)

    Faults(monkeypatch, "describe_topics", hang)
    running = Running(setup.worker())
    assert asked.wait(90)
    running.stop()
    try:
        assert running.worker.state is WorkerState.STOPPED
        assert not answered.is_set()
    finally:
        answered.set()


def test_a_call_is_given_up_at_a_stop() -> None:
    stop, ended = threading.Event(), threading.Event()
    assert call_within(60, "sum", lambda: 1 + 1, stop) == 2
    stop.set()
    with pytest.raises(StoppedError, match=r"^stopped: wait$"):
        call_within(60, "wait", ended.wait, stop)
    ended.set()
