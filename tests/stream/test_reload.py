"""Rules and budgets that change while the worker runs."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.stream_harness import ExactEngine, Kafka, Message, Running, Setup, eventually
from titans_stream.commands.reloading import Reloading
from titans_stream.commands.swapping import Swapping
from titans_stream.config import Connector, load_connector
from titans_stream.detection.rules import AlertConfig
from titans_stream.devbroker.broker import DevBroker
from titans_stream.lifecycle.model_cache import ModelCache
from titans_stream.records import Engine, ModelRef
from titans_stream.stream.metrics import Metrics
from titans_stream.stream.switch import Candidate, SwitchEngine

CONNECTOR = """name: c
kafka: {bootstrap_servers: localhost:9092}
input: {topic: in, series: "{s}", value: v, timestamp: t}
output: {alerts: out}
alerts: {false_alarms_per_series_per_day: 0.1}
"""


def test_the_change_is_made_between_two_turns_and_recovered(
    broker: DevBroker, tmp_path: Path
) -> None:
    """Values of 50 alert under the second threshold alone; a restart knows what was when."""
    setup = Setup(Kafka(broker.bootstrap).create(), tmp_path)

    def send(*values: float) -> None:
        now = time.time_ns() // 1_000_000
        setup.kafka.produce([Message("a", v, 0, now + i) for i, v in enumerate(values)])

    def worker(threshold: float) -> tuple[Running, SwitchEngine]:
        engine = ExactEngine(setup.kafka.input, threshold=threshold)
        switch = SwitchEngine(Candidate(ModelRef("exact", "1"), engine), lambda key: None)
        return Running(setup.worker(switch)), switch

    def change(engine: Engine) -> None:
        assert isinstance(engine, ExactEngine)
        engine.threshold = 20.0

    running, switch = worker(100.0)
    send(1, 50, 1)
    running.wait_for("messages", 3)
    switch.offer_change(change)
    running.wait_for("reloads", 1)
    eventually(lambda: setup.snapshots().offsets(setup.kafka.input, 0) == [3])
    send(50, 1)
    running.wait_for("messages", 5)
    running.wait(lambda: setup.kafka.committed(setup.group_id)[0] == 5)
    # as after a crash: the snapshot of the change is what a recovery begins with
    offsets = setup.snapshots().offsets(setup.kafka.input, 0)
    running.stop()
    assert offsets == [3]
    setup.snapshots().discard(setup.kafka.input, 0, after=3)
    again, _ = worker(20.0)
    send(50)
    again.wait_for("messages", 1)
    again.stop()
    assert again.worker.metrics.counts["replayed_messages"] == 2
    told = [each[:3] for each in setup.kafka.alerts_by_series()["a"]]
    assert told == [("a@3", "opened", 4), ("a@3", "resolved", 5), ("a@5", "opened", 6)]


class Taken:
    """What a `Reloading` gave on."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "c.yaml"
        self.path.write_text(CONNECTOR)
        self.connectors: list[Connector] = []
        self.metrics = Metrics()
        self.reloading = Reloading(
            self.path, load_connector(self.path), self.connectors.append, self.metrics
        )


def test_only_other_rules_are_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    taken = Taken(tmp_path)
    taken.reloading.read()
    assert taken.connectors == []
    taken.path.write_text(CONNECTOR.replace("0.1", "2"))
    taken.reloading.read()
    taken.reloading.read()
    assert [c.alerts.false_alarms_per_series_per_day for c in taken.connectors] == [2.0]
    taken.path.write_text(CONNECTOR.replace("0.1", "2").replace("alerts: out", "alerts: other"))
    taken.reloading.read()
    assert len(taken.connectors) == 1
    assert "changed, but taken by a restart only: output" in caplog.text


@pytest.mark.parametrize(
    "text", ["alerts: [", CONNECTOR.replace("0.1", "-1"), CONNECTOR + "alertz: {}\n", ""]
)
def test_a_wrong_file_changes_nothing(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    taken = Taken(tmp_path)
    taken.path.write_text(text)
    taken.reloading.read()
    assert taken.connectors == []
    assert taken.metrics.counts["failed_reloads"] == 1
    assert taken.metrics.reloaded is not None
    assert not taken.metrics.reloaded[1]
    assert "the old rules go on: " in caplog.text
    assert "c.yaml" in caplog.text


def test_a_model_that_is_offered_meanwhile_has_the_new_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be built with the old ones while the file is read, or wait for the loop to take it."""
    building, go_on = threading.Event(), threading.Event()

    class Built:
        def __init__(self, budget: float) -> None:
            self.budget = budget

        def change_alerts(self, alerts: AlertConfig) -> None:
            self.budget = alerts.false_alarms_per_series_per_day

    def slow_engine(connector: Connector, model: object) -> Built:
        found = Built(connector.alerts.false_alarms_per_series_per_day)
        building.set()
        assert go_on.wait(10)
        return found

    monkeypatch.setattr("titans_stream.commands.swapping.connector_engine", slow_engine)
    monkeypatch.setattr("titans_stream.commands.swapping.StreamEngine", Built)
    path = tmp_path / "c.yaml"
    path.write_text(CONNECTOR)
    first = Candidate(ModelRef("m", "1"), Built(0.1))  # type: ignore[arg-type]
    switch = Swapping(load_connector(path), first, ModelCache(tmp_path))
    model = SimpleNamespace(ref=ModelRef("m", "2"))
    offering = threading.Thread(target=switch._offer, args=(model,), daemon=True)
    offering.start()
    assert building.wait(10)
    path.write_text(CONNECTOR.replace("0.1", "2"))
    reloading = threading.Thread(target=switch.reload, args=(load_connector(path),), daemon=True)
    reloading.start()
    reloading.join(0.3)
    if switch.engine.change_due:  # a turn of the loop that comes in between
        switch.engine.make_change()
    go_on.set()
    offering.join(10)
    reloading.join(10)
    if switch.engine.change_due:
        switch.engine.make_change()
    assert switch.engine.accept()
    assert first.engine.budget == switch.engine.target.engine.budget == 2.0  # type: ignore[attr-defined]


def test_a_signal_or_a_changed_file_has_it_read(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGHUP)
    try:
        taken = Taken(tmp_path)
        taken.reloading.start(watch=False)
        taken.path.write_text(CONNECTOR.replace("0.1", "2"))
        time.sleep(1.5)
        assert taken.connectors == [], "not asked for"
        os.kill(os.getpid(), signal.SIGHUP)
        eventually(lambda: len(taken.connectors) == 1, 10)
        taken.reloading.stop()
        watched = Taken(tmp_path)
        watched.reloading.start(watch=True)
        watched.path.write_text(CONNECTOR.replace("0.1", "33"))
        eventually(lambda: len(watched.connectors) == 1, 10)
        watched.reloading.stop()
    finally:
        signal.signal(signal.SIGHUP, before)
