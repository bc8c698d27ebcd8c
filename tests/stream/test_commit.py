"""What an aborted transaction leaves behind: nothing, in the next transaction either."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from broker_clients import Clients, eventually, only, take, values
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata

from titans_stream.devbroker.broker import DevBroker
from titans_stream.stream.commit import ExactlyOnceOutput, OutputState
from titans_stream.stream.kafka.client import KafkaClients
from titans_stream.stream.kafka.deadline import Deadline
from titans_stream.stream.kafka.errors import AbortedError, FatalError, UnansweredError
from titans_stream.stream.kafka.settings import KafkaConfig


@pytest.fixture(params=["dev", pytest.param("kafka", marks=pytest.mark.kafka)])
def clients(request: pytest.FixtureRequest) -> Iterator[Clients]:
    if request.param == "kafka":
        made = Clients(request.getfixturevalue("kafka_bootstrap"))
        yield made
        made.close()
        return
    with DevBroker() as broker:
        made = Clients(broker.bootstrap)
        yield made
        made.close()


def test_refused_offsets_are_not_committed_with_the_next_transaction(clients: Clients) -> None:
    """A member that lost its partitions, and then joined again with fewer, commits only these."""
    source, target = clients.topic(2), clients.topic()
    group = f"group-of-{source}"
    consumer = clients.consumer(source, group=group, enable_auto_commit=False)
    take(consumer, 1, 3.0)
    now = consumer.group_metadata()
    assert now.generation_id > 0
    stale = ConsumerGroupMetadata(group, now.generation_id, "no-member-any-more", None)
    output = ExactlyOnceOutput(
        KafkaClients(KafkaConfig(bootstrap_servers=clients.bootstrap)), group, "", 10.0, 30.0
    )
    try:
        output.begin()
        output.send(target, b"k", b"refused")
        with pytest.raises(AbortedError, match="UnknownMemberId"):
            output.commit({only(source, 1): OffsetAndMetadata(120, "", -1)}, stale, Deadline(10.0))
        output.abort()
        assert output.state is OutputState.IDLE
        output.begin()
        output.send(target, b"k", b"accepted")
        output.commit({only(source, 0): OffsetAndMetadata(7, "", -1)}, now, Deadline(10.0))
        assert eventually(lambda: consumer.committed(only(source, 0)) == 7)
        assert consumer.committed(only(source, 1)) is None
        assert values(take(clients.committed_reader(target), 2, 2.0)) == [b"accepted"]
    finally:
        output.close(5.0)


def test_a_dead_broker_holds_nobody_up_and_leaves_no_thread_behind() -> None:
    broker = DevBroker().start()
    made = Clients(broker.bootstrap)
    source, target = made.topic(), made.topic()
    made.close()
    member = ConsumerGroupMetadata("g", 1, "m", None)
    threads = threading.active_count()
    clients = KafkaClients(KafkaConfig(bootstrap_servers=broker.bootstrap))
    output = ExactlyOnceOutput(clients, "g", "", 1.0, 30.0)
    output.begin()
    output.send(target, b"k", b"v")
    broker.kill()
    begun = time.monotonic()
    with pytest.raises(AbortedError, match=r"did not end within .* s; is Kafka reachable"):
        output.commit({only(source, 0): OffsetAndMetadata(1, "", -1)}, member, Deadline(1.0))
    for _ in range(3):
        with pytest.raises(UnansweredError, match="no new producer: cannot reach Kafka"):
            output.abort()
        assert output.state is OutputState.ABORTED
    assert time.monotonic() - begun < 60, "nowhere near kafka-python's limits"
    assert eventually(lambda: threading.active_count() <= threads)
    output.close(0.0)


@pytest.mark.parametrize("given", ["", "mine"])
def test_a_fenced_output_recovers_but_from_a_twin_with_a_given_name(
    clients: Clients, given: str
) -> None:
    name = given and f"{given}-{clients.topic()}"
    opened = KafkaClients(KafkaConfig(bootstrap_servers=clients.bootstrap))
    output = ExactlyOnceOutput(opened, "g", name, 10.0, 30.0)
    target = clients.topic()
    try:
        for again in (False, True):
            output.begin()
            output.send(target, b"k", b"v")
            opened.producer(output._id).init_transactions(10.0)
            kind = FatalError if given and again else AbortedError
            with pytest.raises(kind, match="fenced"):
                output.commit({}, ConsumerGroupMetadata("g", 1, "m", None), Deadline(10.0))
            output.abort()
            assert output.state is OutputState.IDLE
    finally:
        output.close(5.0)
