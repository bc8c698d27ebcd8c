"""What the page tells of the workers' group."""

from __future__ import annotations

from pathlib import Path

from kafka import TopicPartition

from tests.stream_harness import Kafka, Running, Setup, stream
from titans_stream.devbroker.broker import DevBroker
from titans_stream.stream.kafka.groups import GroupMember, GroupUse
from titans_stream.web.health import GroupHistory


def group(state: str, **shares: list[int]) -> GroupUse:
    members = tuple(
        GroupMember(name, "kafka-python", "10.0.0.7", frozenset({"in"}),
                    tuple(TopicPartition("in", number) for number in numbers))
        for name, numbers in shares.items()
    )  # fmt: skip
    return GroupUse(state, members, frozenset({"in"}))


def test_only_moves_of_partitions_count_as_rebalances() -> None:
    seen = GroupHistory()
    for one, rebalances in (
        (group("Stable", a=[0, 1, 2]), 0),
        (group("Stable", a=[0, 1, 2]), 0),
        (group("PreparingRebalance", a=[], b=[]), 0),
        (group("Stable", a=[0, 1], b=[2]), 1),
        (group("Stable", b=[2], a=[1, 0]), 1),
        (group("Stable", c=[0, 1], b=[2]), 2),
        (group("Empty"), 3),
    ):
        seen.look(one)
        assert seen.view()["rebalances"] == rebalances
    assert seen.view()["last_rebalance"] >= seen.view()["watched_since"]
    assert seen.view()["members"] == []


def test_the_broker_tells_who_has_what(tmp_path: Path) -> None:
    with DevBroker(auto_create=False) as broker:
        setup = Setup(Kafka(broker.bootstrap).create(), tmp_path)
        setup.kafka.produce(stream(20))
        setup.input = {"start": "earliest"}
        running = Running(setup.worker())
        running.wait_for("messages", 20)
        seen = GroupHistory()
        seen.look(setup.clients().group_use(setup.group_id))
        running.stop()
        (worker,) = seen.view()["members"]
        assert worker["partitions"] == {setup.kafka.input: [0, 1]}
        assert (worker["host"], seen.view()["state"]) == ("127.0.0.1", "Stable")
        seen.look(setup.clients().group_use(setup.group_id))
        assert (seen.view()["rebalances"], seen.view()["state"]) == (1, "Empty")
