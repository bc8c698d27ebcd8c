"""A change of the model in a running worker, on the embedded broker."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.stream_harness import ExactEngine, Kafka, Message, Running, Setup, eventually
from tests.swap_scenario import Flow, candidate, check, origins, prepare, start
from titans_stream.devbroker.broker import DevBroker
from titans_stream.ops.storage import Snapshots
from titans_stream.records import ModelRef, Readings, Results
from titans_stream.stream.kafka.errors import AbortedError
from titans_stream.stream.swap import Swapper
from titans_stream.stream.switch import Candidate, SwitchEngine


@pytest.fixture
def setup(broker: DevBroker, tmp_path: Path) -> Setup:
    return prepare(Setup(Kafka(broker.bootstrap).create(), tmp_path))


def finish(running: Running, flow: Flow) -> None:
    flow.stop()
    running.wait_for("readings", flow.count)
    running.stop()


def test_nothing_is_lost_or_doubled_and_scores_are_those_of_a_warmed_up_engine(
    setup: Setup,
) -> None:
    flow = Flow(setup, 300.0)
    running, switch = start(setup, "1")
    running.wait_for("readings", 900)
    switch.offer(candidate("2", setup.kafka.input))
    running.wait_for("swaps", 2)
    after = running.worker.metrics.counts["readings"]
    running.wait_for("readings", after + 300)
    finish(running, flow)
    told = origins(setup)
    assert {origin.model for _, origin in told.values()} == {"pumps/2"}
    places = {p: [("1", 0, 0), ("2", swapped_at(running, setup, p), 0)] for p in told}
    check(setup, flow, places)
    assert running.worker.metrics.counts["aborts"] == 0


def swapped_at(running: Running, setup: Setup, partition: int) -> int:
    """Where a partition changed: what its snapshot notes as the end of the warm-up."""
    del running
    stored = setup.snapshots().load(
        setup.kafka.input, partition, 10**9, candidate("2", "").engine.state_schema
    )
    assert stored is not None
    return int(stored.notes["start"])


def test_a_restart_without_snapshots_recovers_the_new_model_from_the_journal(
    setup: Setup, tmp_path: Path
) -> None:
    flow = Flow(setup, 300.0)
    running, switch = start(setup, "1")
    running.wait_for("readings", 600)
    switch.offer(candidate("2", setup.kafka.input))
    running.wait_for("swaps", 2)
    running.worker.stop()
    running.join()
    at = {p: swapped_at(running, setup, p) for p in range(2)}
    told = origins(setup)
    assert all(origin.snapshot is None or origin.model == "pumps/2" for _, origin in told.values())
    for part in tmp_path.iterdir():
        shutil.rmtree(part) if part.is_dir() else part.unlink()
    asked: list[str] = []

    def resolve(key: str) -> Candidate:
        asked.append(key)
        return candidate(key.rpartition("/")[2], setup.kafka.input)

    again, _ = start(setup, "1", resolve)
    # the worker's own model is the old one: the partition goes on with what its offset names,
    # and then changes to the worker's
    again.wait_for("swaps", 2)
    finish_second(again, setup, flow)
    assert asked == ["pumps/2"]
    back = origins(setup)
    assert {origin.model for _, origin in back.values()} == {"pumps/1"}
    places = {}
    for p in range(2):
        stored = setup.snapshots().load(
            setup.kafka.input, p, 10**9, candidate("1", "").engine.state_schema
        )
        assert stored is not None
        places[p] = [("1", 0, 0), ("2", at[p], 0), ("1", int(stored.notes["start"]), 0)]
    check(setup, flow, places)


def finish_second(running: Running, setup: Setup, flow: Flow) -> None:
    flow.stop()
    eventually(lambda: sum(offset for offset, _ in origins(setup).values()) == flow.count)
    running.stop()


def test_an_abort_in_the_change_goes_back_to_the_old_model_and_changes_again(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, failed = Swapper.change, []

    def change(self: Swapper, lanes: Any) -> Any:
        ended = plain(self, lanes)
        if not failed:
            failed.append(len(lanes))
            raise AbortedError("test")
        return ended

    monkeypatch.setattr(Swapper, "change", change)
    flow = Flow(setup, 300.0)
    running, switch = start(setup, "1")
    running.wait_for("readings", 600)
    switch.offer(candidate("2", setup.kafka.input))
    running.wait_for("swaps", 2)
    finish_second(running, setup, flow)
    assert failed
    assert running.worker.metrics.counts["aborts"] == 1
    check(
        setup,
        flow,
        {p: [("1", 0, 0), ("2", swapped_at(running, setup, p), 0)] for p in range(2)},
    )


class Broken(ExactEngine):
    """An engine that cannot take readings."""

    def process(self, readings: Readings) -> Results:
        raise ValueError("no idea")


def test_a_model_that_fails_is_refused_and_the_old_one_goes_on(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    flow = Flow(setup, 300.0)
    running, switch = start(setup, "1")
    running.wait_for("readings", 300)
    switch.offer(Candidate(ModelRef("pumps", "9"), Broken(setup.kafka.input)))
    running.wait_for("refused_models", 1)
    switch.offer(Candidate(ModelRef("pumps", "9"), Broken(setup.kafka.input)))
    after = running.worker.metrics.counts["readings"]
    running.wait_for("readings", after + 300)
    finish(running, flow)
    assert "model pumps/9 is refused, the old one goes on: ValueError: no idea" in caplog.text
    assert running.worker.metrics.counts["refused_models"] == 1
    assert running.worker.metrics.counts["swaps"] == 0
    check(setup, flow, {p: [("1", 0, 0)] for p in range(2)})


@dataclass
class Plain:
    """Messages of one series in order, sent now."""

    kafka: Kafka

    def send(self, *values: float) -> None:
        now = time.time_ns() // 1_000_000
        self.kafka.produce([Message("a", value, 0, now + i) for i, value in enumerate(values)])


def exact(version: str, topic: str) -> Candidate:
    return Candidate(ModelRef("exact", version), ExactEngine(topic, schema=f"exact-{version}"))


def told_alerts(setup: Setup) -> list[tuple[str, str, int]]:
    """Status, episode and how many readings the model's state had seen, in order."""
    alerts = [json.loads(record.value) for record in setup.kafka.read(setup.kafka.alerts)]
    return [(a["status"], a["alert_id"], a["readings"]) for a in alerts]


def swapped_to(running: Running, switch: SwitchEngine, candidate: Candidate) -> None:
    done = running.worker.metrics.counts["swaps"]
    switch.offer(candidate)
    running.wait_for("swaps", done + 2)


def test_open_episodes_end_with_the_model_and_those_of_the_warm_up_stay_unsaid(
    broker: DevBroker, tmp_path: Path
) -> None:
    setup = Setup(Kafka(broker.bootstrap).create(), tmp_path)
    plain, topic = Plain(setup.kafka), setup.kafka.input
    plain.send(1, 200, 1, 200, 200)
    switch = SwitchEngine(exact("1", topic), lambda key: None)
    running = Running(setup.worker(switch))
    running.wait_for("messages", 5)
    swapped_to(running, switch, exact("2", topic))
    plain.send(1, 1, 300)
    running.wait_for("messages", 8)
    running.stop()
    alerts = [json.loads(record.value) for record in setup.kafka.read(setup.kafka.alerts)]
    told = [(a["status"], a["alert_id"], a["source"]["offset"]) for a in alerts]
    assert told == [
        ("opened", "a@1", 1), ("resolved", "a@1", 2), ("opened", "a@3", 3),
        ("resolved", "a@3", 3), ("opened", "a@7", 7),
    ]  # fmt: skip
    assert alerts[3]["explanation"] == "ended by the change to model exact version 2"
    assert alerts[4]["readings"] == 8, "the new state has seen the whole history"


def test_the_way_back_takes_up_the_state_that_was_left(
    broker: DevBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """The old model's memory is longer than any warm-up, which is of four messages here."""

    def full(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(Snapshots, "save", full)  # a restart has what was left alone
    setup = Setup(Kafka(broker.bootstrap).create(), tmp_path, swap={"most_messages": 4})
    plain, topic = Plain(setup.kafka), setup.kafka.input

    def left(version: str) -> int:
        stored = setup.snapshots().load(topic, 0, 10**9, f"exact-{version}")
        return -1 if stored is None else stored.offset

    plain.send(1, 200, 1, 1, 200)  # an episode is open
    switch = SwitchEngine(exact("1", topic), lambda key: None)
    running = Running(setup.worker(switch))
    running.wait_for("messages", 5)
    swapped_to(running, switch, exact("2", topic))
    eventually(lambda: left("1") == 5)
    plain.send(1, 300)  # the first ends the old model's episode unheard
    running.wait_for("messages", 7)
    swapped_to(running, switch, exact("1", topic))
    eventually(lambda: left("2") == 7)
    plain.send(1, 400)
    running.wait_for("messages", 9)
    told = [
        ("opened", "a@1", 2), ("resolved", "a@1", 3), ("opened", "a@4", 5),
        ("resolved", "a@4", 5), ("opened", "a@6", 6), ("resolved", "a@6", 6),
        ("opened", "a@8", 9),
    ]  # fmt: skip
    running.stop()
    assert told_alerts(setup) == told

    again_switch = SwitchEngine(exact("1", topic), lambda key: None)
    again = Running(setup.worker(again_switch))
    again.wait(again.worker.ready.is_set)
    plain.send(1, 500)
    again.wait_for("messages", 2)
    told += [("resolved", "a@8", 10), ("opened", "a@10", 11)]
    assert "no snapshot fits" not in caplog.text
    # and forward again, from what was left on the way back
    swapped_to(again, again_switch, exact("2", topic))
    plain.send(1, 600)
    again.wait_for("messages", 4)
    again.stop()
    told += [("resolved", "a@10", 11), ("opened", "a@12", 12)]
    assert told_alerts(setup) == told


def test_a_state_that_does_not_fit_is_passed_over(
    broker: DevBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    setup = Setup(Kafka(broker.bootstrap).create(), tmp_path)
    plain, topic = Plain(setup.kafka), setup.kafka.input
    plain.send(1, 1, 1)
    switch = SwitchEngine(exact("1", topic), lambda key: None)
    running = Running(setup.worker(switch))
    running.wait_for("messages", 3)
    swapped_to(running, switch, exact("2", topic))
    eventually(lambda: setup.snapshots().load(topic, 0, 10**9, "exact-1") is not None)

    def restore(*_: object) -> None:
        raise ValueError("no idea")

    monkeypatch.setattr(ExactEngine, "restore", restore)
    swapped_to(running, switch, exact("1", topic))
    plain.send(400)
    running.wait_for("messages", 4)
    running.stop()
    assert "the state that was kept of model exact/1 does not fit and is passed over" in caplog.text
    assert told_alerts(setup) == [("opened", "a@3", 4)]


def test_a_model_that_alerts_too_much_is_refused(
    broker: DevBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    setup = Setup(Kafka(broker.bootstrap).create(), tmp_path)
    Plain(setup.kafka).send(*([1.0, 50.0] * 600))
    switch = SwitchEngine(
        Candidate(ModelRef("exact", "1"), ExactEngine(setup.kafka.input)), lambda key: None
    )
    running = Running(setup.worker(switch))
    running.wait_for("messages", 1200)
    eager = ExactEngine(setup.kafka.input, threshold=10.0, schema="exact-2")
    switch.offer(Candidate(ModelRef("exact", "2"), eager))
    running.wait_for("refused_models", 1)
    running.stop()
    assert "more than swap.most_alerts_per_1000 (20)" in caplog.text
    assert setup.kafka.alerts_by_series() == {}
