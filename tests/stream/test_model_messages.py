"""A control message names the model: all partitions change to it, and that is announced."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stream_harness import Kafka, Running, Setup, eventually
from tests.swap_scenario import PARTITIONS, Flow, candidate, check, origins, prepare, start
from titans_stream.control.announcements import Swapped, announced, is_announcement
from titans_stream.control.messages import model_version
from titans_stream.devbroker.broker import DevBroker
from titans_stream.records import ModelRef, Order
from titans_stream.stream.control_client import model_places, standing, swaps
from titans_stream.stream.journal import Entry
from titans_stream.stream.settings import ControlConfig
from titans_stream.stream.switch import SwitchEngine


@pytest.fixture
def setup(broker: DevBroker, tmp_path: Path) -> Setup:
    return prepare(Setup(Kafka(broker.bootstrap).create(), tmp_path, control=True))


class Steered:
    """A worker that takes versions from nowhere else than control messages."""

    def __init__(self, setup: Setup, own: str = "1") -> None:
        self._setup, self._own = setup, own
        self.heard: list[str | None] = []
        self.running, self.switch = start(setup, own, self.resolve, self.steer)

    def steer(self, order: Order) -> None:
        self.heard.append(model_version(order))
        self.switch.offer(candidate(self.heard[-1] or self._own, self._setup.kafka.input), True)

    def resolve(self, key: str) -> object:
        return candidate(key.rpartition("/")[2], self._setup.kafka.input)


def told(setup: Setup) -> list[Swapped]:
    """All announcements, in order."""
    records = setup.kafka.read(setup.kafka.control)
    found = [announced(r.value) for r in records if is_announcement(r.key)]
    assert None not in found
    return [one for one in found if one is not None]


def caught_up(setup: Setup, flow: Flow) -> bool:
    return sum(offset for offset, _ in origins(setup).values()) == flow.count


def test_partitions_change_where_it_is_announced_and_back_when_it_is_undone(setup: Setup) -> None:
    flow = Flow(setup, 300.0)
    one = Steered(setup)
    one.running.wait_for("readings", 600)
    setup.kafka.tell("model", action="model", version="2", by="anna")
    one.running.wait_for("swaps", PARTITIONS)
    after = one.running.worker.metrics.counts["readings"]
    one.running.wait_for("readings", after + 300)
    setup.kafka.tell("model")
    one.running.wait_for("swaps", 2 * PARTITIONS)
    flow.stop()
    one.running.wait_for("readings", flow.count)
    one.running.stop()
    assert one.heard == ["2", None]
    places = {p: [("1", 0, 0)] for p in range(PARTITIONS)}
    for each in told(setup):
        assert each.group_id == setup.group_id and each.topic == setup.kafka.input
        version = each.model.version
        assert each.before == ModelRef("pumps", "1" if version == "2" else "2")
        assert each.state == ("warmed_up" if version == "2" else "taken_up_again")
        places[each.partition].append((version, each.offset, 0))
    assert [[turn[0] for turn in turns] for turns in places.values()] == [["1", "2", "1"]] * 2
    check(setup, flow, places)
    metrics = one.running.worker.metrics
    assert (metrics.counts["control_messages"], metrics.counts["dead_letters"]) == (4, 0)
    entries = [Entry.decode(r.key, r.value) for r in setup.kafka.read(setup.kafka.journal)]
    assert sorted((e.partition.partition, e.number, e.id) for e in entries) == [
        (0, 1, "model"), (0, 2, "model"), (1, 1, "model"), (1, 2, "model"),
    ]  # fmt: skip


def test_a_restart_stays_with_what_the_message_named(setup: Setup) -> None:
    flow = Flow(setup, 300.0)
    one = Steered(setup)
    one.running.wait_for("readings", 600)
    setup.kafka.tell("model", action="model", version="2")
    one.running.wait_for("swaps", PARTITIONS)
    one.running.stop()
    before = told(setup)
    again = Steered(setup)
    again.running.wait(lambda: again.heard == ["2"])
    flow.stop()
    eventually(lambda: caught_up(setup, flow))
    again.running.stop()
    assert again.running.worker.metrics.counts["swaps"] == 0
    assert {origin.model for _, origin in origins(setup).values()} == {"pumps/2"}
    assert told(setup) == before
    check(setup, flow, {e.partition: [("1", 0, 0), ("2", e.offset, 0)] for e in before})


def test_a_change_that_nobody_asked_for_by_message_is_announced_too(setup: Setup) -> None:
    flow = Flow(setup, 300.0)
    one = Steered(setup)
    one.running.wait_for("readings", 400)
    one.switch.offer(candidate("2", setup.kafka.input))
    one.running.wait_for("swaps", PARTITIONS)
    flow.stop()
    one.running.wait_for("readings", flow.count)
    one.running.stop()
    config = ControlConfig(topic=setup.kafka.control, journal=setup.kafka.journal)
    changes = swaps(setup.clients(), config, setup.group_id)
    assert [(e.partition, e.model.version) for e in changes] == [(0, "2"), (1, "2")]
    assert swaps(setup.clients(), config, "others") == []
    setup.kafka.tell("model", action="model", version="2")
    setup.kafka.tell("budget:*", action="budget", series="*", false_alarms_per_series_per_day=1.0)
    model, budget = standing(setup.clients(), config)
    assert sorted(model_places(changes, model).values()) == sorted(e.offset for e in changes)
    assert model_places(changes, budget) == {}


def test_nothing_changes_while_it_is_not_known_what_the_message_names() -> None:
    switch = SwitchEngine(candidate("1", "t"), lambda key: None, lambda order: None)
    switch.choose(0, "pumps/1")
    assert not switch.choosing
    switch.steer(Order("model", '{"action":"model","version":"2"}'))
    assert switch.choosing
    switch.offer(candidate("2", "t"))
    assert switch.accept() and not switch.choosing
    switch.refuse("pumps/2")
    switch.offer(candidate("2", "t"))
    assert not switch.accept(), "it was refused"
    switch.offer(candidate("2", "t"), insist=True)
    assert switch.accept() and switch.target.key == "pumps/2"
    switch.steer(Order("model", ""))
    switch.stay()
    assert not switch.choosing


def test_a_worker_whose_model_cannot_change_passes_it_over(setup: Setup) -> None:
    running = Running(setup.worker())
    running.wait(running.worker.ready.is_set)
    setup.kafka.tell("model", action="model", version="2")
    running.wait_for("control_messages", PARTITIONS)
    running.stop()
    assert told(setup) == []
