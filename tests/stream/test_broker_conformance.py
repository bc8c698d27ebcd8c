"""One suite for two brokers: what clients see of the development broker is what Kafka shows them.

Every test runs against the embedded broker and, where one is there, against a real Apache Kafka.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import confluent_kafka
import confluent_kafka.admin
import pytest
from broker_clients import (
    Clients,
    batch,
    eventually,
    nothing_more,
    only,
    take,
    values,
)
from kafka import ConsumerGroupMetadata, KafkaProducer, OffsetAndMetadata, errors
from kafka.admin import NewTopic
from kafka.protocol.consumer import FetchRequest
from kafka.protocol.producer import InitProducerIdRequest, ProduceRequest

from titans_stream.devbroker.broker import DevBroker


@pytest.fixture(scope="module", params=["dev", pytest.param("kafka", marks=pytest.mark.kafka)])
def bootstrap(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "kafka":
        yield request.getfixturevalue("kafka_bootstrap")
    else:
        with DevBroker(auto_create=False) as broker:
            yield broker.bootstrap


@pytest.fixture
def clients(bootstrap: str) -> Iterator[Clients]:
    made = Clients(bootstrap)
    yield made
    made.close()


def new_group() -> str:
    return f"group-{uuid.uuid4().hex[:12]}"


# --- records


def test_records_come_back_in_order_with_all_their_fields(clients: Clients) -> None:
    topic = clients.topic(partitions=3)
    producer = clients.producer()
    sent: dict[int, list[tuple[Any, ...]]] = {0: [], 1: [], 2: []}
    for i in range(300):
        key, value = b"key-%d" % (i % 7), None if i % 50 == 0 else b"value-%d" % i
        headers, timestamp = [("n", b"%d" % i)], 1_700_000_000_000 + i
        future = producer.send(topic, value, key, headers, timestamp_ms=timestamp)
        meta = future.get(10) if i < 7 else future
        row = (key, value, headers, timestamp)
        if i < 7:
            sent[meta.partition].append((meta.offset, *row))
        else:
            home = next(p for p, rows in sent.items() if any(r[1] == key for r in rows))
            sent[home].append((len(sent[home]), *row))
    producer.flush()

    reader = confluent_kafka.Consumer(
        {"bootstrap.servers": clients.bootstrap, "group.id": new_group()}
    )
    reader.assign([confluent_kafka.TopicPartition(topic, p, 0) for p in range(3)])
    seen: dict[int, list[tuple[Any, ...]]] = {0: [], 1: [], 2: []}
    for message in reader.consume(300, timeout=10):
        assert message.error() is None
        row = (message.key(), message.value(), message.headers(), message.timestamp()[1])
        seen[message.partition()].append((message.offset(), *row))
    reader.close()
    assert seen == sent
    assert sum(map(len, sent.values())) == 300


def test_a_consumer_starts_at_earliest_latest_or_an_offset(clients: Clients) -> None:
    topic = clients.topic()
    producer = clients.producer()
    for i in range(5):
        producer.send(topic, b"%d" % i)
    producer.flush()
    assert values(take(clients.consumer(topic), 5)) == [b"0", b"1", b"2", b"3", b"4"]

    late = clients.consumer(topic, auto_offset_reset="latest")
    assert late.position(only(topic)) == 5
    late.seek(only(topic), 3)
    assert values(take(late, 2)) == [b"3", b"4"]
    assert late.beginning_offsets([only(topic)]) == {only(topic): 0}
    assert late.end_offsets([only(topic)]) == {only(topic): 5}


def test_offsets_are_found_by_timestamp(clients: Clients) -> None:
    topic = clients.topic()
    producer = clients.producer()
    for stamp in (1000, 3000, 2000, 5000):
        producer.send(topic, b"x", timestamp_ms=stamp).get(10)
    for stamp in (6000, 7000):  # two in one batch
        producer.send(topic, b"x", timestamp_ms=stamp)
    producer.flush()
    consumer = clients.consumer(topic)

    def find(stamp: int) -> tuple[int, int] | None:
        found = consumer.offsets_for_times({only(topic): stamp})[only(topic)]
        return (found.offset, found.timestamp) if found else None

    assert find(0) == (0, 1000)
    assert find(1001) == (1, 3000)
    assert find(3000) == (1, 3000)
    assert find(3001) == (3, 5000)
    assert find(6500) == (5, 7000)
    assert find(7001) is None


def test_compressed_batches_pass_through(clients: Clients) -> None:
    topic = clients.topic()
    producer = clients.producer(compression_type="gzip", linger_ms=50)
    for i in range(50):
        producer.send(topic, b"abc" * 100 + b"%d" % i, timestamp_ms=1000 + i)
    producer.flush()
    consumer = clients.consumer(topic)
    assert values(take(consumer, 50)) == [b"abc" * 100 + b"%d" % i for i in range(50)]
    assert consumer.offsets_for_times({only(topic): 1030})[only(topic)].offset == 30


def test_a_too_large_message_is_refused(clients: Clients) -> None:
    topic = clients.topic()
    producer = clients.producer(max_request_size=4_000_000)
    with pytest.raises(errors.MessageSizeTooLargeError):
        producer.send(topic, b"x" * 1_200_000).get(10)
    assert clients.producer().send(topic, b"x" * 1_000_000).get(10).offset == 0
    assert len(take(clients.consumer(topic), 1)[0].value) == 1_000_000


def test_deleted_records_are_out_of_range(clients: Clients) -> None:
    topic = clients.topic()
    producer = clients.producer()
    for i in range(10):
        producer.send(topic, b"%d" % i).get(10)
    clients.admin().delete_records({only(topic): 6})
    consumer = clients.consumer(topic)
    assert consumer.beginning_offsets([only(topic)]) == {only(topic): 6}
    assert values(take(consumer, 4)) == [b"6", b"7", b"8", b"9"]
    strict = clients.consumer(topic, auto_offset_reset="none")
    strict.seek(only(topic), 2)
    with pytest.raises(errors.OffsetOutOfRangeError):
        take(strict, 1)


# --- single requests


def produce(clients: Clients, topic: str, records: bytes, transactional_id: Any = None) -> Any:
    part = ProduceRequest.TopicProduceData.PartitionProduceData(index=0, records=records)
    data = ProduceRequest.TopicProduceData(name=topic, partition_data=[part])
    message = ProduceRequest[8](
        transactional_id=transactional_id, acks=-1, timeout_ms=5000, topic_data=[data]
    )
    return clients.request(message).responses[0].partition_responses[0]


def fetch(clients: Clients, topic: str, offset: int, **limits: Any) -> tuple[Any, float]:
    """The answer for partition 0, and the seconds it took."""
    wanted = {"max_wait_ms": 0, "min_bytes": 1, "max_bytes": 2**20, "isolation_level": 0} | limits
    part = FetchRequest.FetchTopic.FetchPartition(
        partition=0, fetch_offset=offset, partition_max_bytes=wanted["max_bytes"]
    )
    topics = [FetchRequest.FetchTopic(topic=topic, partitions=[part])]
    began = time.monotonic()
    answer = clients.request(FetchRequest[11](topics=topics, session_epoch=-1, **wanted))
    return answer.responses[0].partitions[0], time.monotonic() - began


def new_producer_id(clients: Clients) -> int:
    answer = clients.request(
        InitProducerIdRequest[1](transactional_id=None, transaction_timeout_ms=1000)
    )
    assert answer.error_code == 0
    return int(answer.producer_id)


def test_an_empty_transactional_id_is_refused(clients: Clients) -> None:
    message = InitProducerIdRequest[1](transactional_id="", transaction_timeout_ms=1000)
    assert clients.request(message).error_code == errors.InvalidRequestError.errno


def test_repeats_of_an_idempotent_producer_are_stored_once(clients: Clients) -> None:
    topic = clients.topic()
    pid = new_producer_id(clients)
    first = batch([b"a", b"b"], producer_id=pid, epoch=0, sequence=0)
    second = batch([b"c"], producer_id=pid, epoch=0, sequence=2)
    answers = [produce(clients, topic, each) for each in (first, second, first, second)]
    assert [(a.error_code, a.base_offset) for a in answers] == [(0, 0), (0, 2), (0, 0), (0, 2)]
    assert values(take(clients.consumer(topic), 3)) == [b"a", b"b", b"c"]


def test_gaps_and_old_epochs_are_refused(clients: Clients) -> None:
    topic = clients.topic()
    pid = new_producer_id(clients)
    codes = [
        produce(
            clients, topic, batch([b"x"], producer_id=pid, epoch=epoch, sequence=seq)
        ).error_code
        for epoch, seq in [(1, 0), (1, 2), (0, 0), (2, 1), (1, 1)]
    ]
    assert codes == [
        0,
        errors.OutOfOrderSequenceNumberError.errno,
        errors.InvalidProducerEpochError.errno,
        errors.OutOfOrderSequenceNumberError.errno,
        0,
    ]


def test_bad_batches_are_refused(clients: Clients) -> None:
    topic = clients.topic()
    good = batch([b"value"])
    torn = bytearray(good)
    torn[-3] ^= 1
    assert produce(clients, topic, bytes(torn)).error_code == errors.CorruptRecordError.errno
    missing = f"missing-{uuid.uuid4().hex}"
    assert produce(clients, missing, good).error_code == errors.UnknownTopicOrPartitionError.errno
    assert produce(clients, topic, good).base_offset == 0


def test_a_fetch_waits_for_data_and_keeps_its_limits(clients: Clients) -> None:
    topic = clients.topic()
    empty, seconds = fetch(clients, topic, 0, max_wait_ms=300)
    assert (empty.error_code, empty.high_watermark, 0.25 < seconds < 1.5) == (0, 0, True)
    batches = [batch([b"%d" % i * 200]) for i in range(4)]
    for each in batches:
        produce(clients, topic, each)
    size = len(batches[0])
    one, _ = fetch(clients, topic, 1, max_bytes=1)
    assert len(one.records) == size
    two, _ = fetch(clients, topic, 1, max_bytes=2 * size)
    assert len(two.records) == 2 * size
    rest, seconds = fetch(clients, topic, 1, max_wait_ms=5000)
    assert (len(rest.records), rest.high_watermark, seconds < 1) == (3 * size, 4, True)
    _, seconds = fetch(clients, topic, 1, min_bytes=10**6, max_wait_ms=300)
    assert 0.25 < seconds < 1.5
    beyond, _ = fetch(clients, topic, 9)
    assert beyond.error_code == errors.OffsetOutOfRangeError.errno


def test_a_waiting_consumer_gets_a_new_record_at_once(clients: Clients) -> None:
    topic = clients.topic()
    producer = clients.producer()
    consumer = clients.consumer(topic, fetch_max_wait_ms=5000)
    producer.send(topic, b"first").get(10)
    assert len(take(consumer, 1)) == 1
    delays = []
    for _ in range(10):
        began = time.monotonic()
        producer.send(topic, b"next")
        while not consumer.poll(timeout_ms=5000):
            pass
        delays.append(time.monotonic() - began)
    assert sorted(delays)[5] < 0.05, delays


# --- transactions


def test_a_transaction_is_visible_only_after_its_commit(clients: Clients) -> None:
    topic = clients.topic()
    producer, plain = clients.transactional(), clients.producer()
    committed, everything = clients.committed_reader(topic), clients.consumer(topic)
    producer.begin_transaction()
    for i in range(3):
        producer.send(topic, b"tx-%d" % i)
    producer.flush()
    plain.send(topic, b"plain").get(10)
    assert values(take(everything, 4)) == [b"tx-0", b"tx-1", b"tx-2", b"plain"]
    assert nothing_more(committed), "an open transaction holds back what follows it"
    assert committed.end_offsets([only(topic)]) == {only(topic): 0}

    producer.commit_transaction()
    assert values(take(committed, 4)) == [b"tx-0", b"tx-1", b"tx-2", b"plain"]
    assert committed.end_offsets([only(topic)]) == {only(topic): 5}, "the marker has an offset"


def test_aborted_records_are_hidden_from_readers_of_committed_ones(clients: Clients) -> None:
    topic = clients.topic()
    first, second = clients.transactional(), clients.transactional()
    first.begin_transaction()
    second.begin_transaction()
    for i in range(3):
        first.send(topic, b"aborted-%d" % i).get(10)
        second.send(topic, b"kept-%d" % i).get(10)
    first.abort_transaction()
    second.commit_transaction()
    first.begin_transaction()
    first.send(topic, b"later")
    first.commit_transaction()

    kept = [b"kept-0", b"kept-1", b"kept-2", b"later"]
    assert values(take(clients.committed_reader(topic), 4)) == kept
    reader = confluent_kafka.Consumer(
        {"bootstrap.servers": clients.bootstrap, "group.id": new_group()}
    )  # librdkafka reads committed records by default
    reader.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
    assert [m.value() for m in reader.consume(4, timeout=10)] == kept
    reader.close()
    assert len(take(clients.consumer(topic), 7)) == 7
    answer, _ = fetch(clients, topic, 0, isolation_level=1)
    assert [a.first_offset for a in answer.aborted_transactions] == [0]
    assert (answer.last_stable_offset, answer.high_watermark) == (10, 10)


def test_a_new_holder_of_a_transactional_id_fences_the_old_one(clients: Clients) -> None:
    topic = clients.topic()
    name = f"tx-{uuid.uuid4().hex}"
    old = clients.transactional(name)
    old.begin_transaction()
    old.send(topic, b"old").get(10)
    new = clients.transactional(name)
    new.begin_transaction()
    new.send(topic, b"new").get(10)
    with pytest.raises(errors.ProducerFencedError):
        old.commit_transaction()
    new.commit_transaction()
    reader = clients.committed_reader(topic)
    assert values(take(reader, 1)) == [b"new"]
    assert nothing_more(reader)


def test_a_fenced_producer_cannot_begin_again(clients: Clients) -> None:
    topic = clients.topic()
    name = f"tx-{uuid.uuid4().hex}"
    old = clients.transactional(name)
    clients.transactional(name)
    old.begin_transaction()
    with pytest.raises(errors.KafkaError) as raised:
        old.send(topic, b"old").get(10)
        old.commit_transaction()
    assert isinstance(raised.value, errors.ProducerFencedError)


def consume_transform_produce(clients: Clients, group: str, source: str, target: str) -> tuple:
    """A consumer in a group that has read two records, and a transaction that answers them."""
    consumer = clients.consumer(source, group=group, enable_auto_commit=False)
    plain = clients.producer()
    for i in range(2):
        plain.send(source, b"%d" % i).get(10)
    assert len(take(consumer, 2)) == 2
    producer: KafkaProducer = clients.transactional()
    producer.begin_transaction()
    producer.send(target, b"answer")
    return consumer, producer


def test_offsets_commit_with_their_transaction(clients: Clients) -> None:
    source, target, group = clients.topic(), clients.topic(), new_group()
    consumer, producer = consume_transform_produce(clients, group, source, target)
    offsets = {only(source): OffsetAndMetadata(2, "note", -1)}
    producer.send_offsets_to_transaction(offsets, consumer.group_metadata())
    producer.abort_transaction()
    assert consumer.committed(only(source)) is None
    producer.begin_transaction()
    producer.send(target, b"answer again")
    producer.send_offsets_to_transaction(offsets, consumer.group_metadata())
    producer.commit_transaction()
    assert eventually(lambda: consumer.committed(only(source)) == 2), "soon: markers come later"
    assert consumer.committed(only(source), metadata=True).metadata == "note"
    assert values(take(clients.committed_reader(target), 1)) == [b"answer again"]


def test_offsets_of_a_stale_generation_are_refused(clients: Clients) -> None:
    source, target, group = clients.topic(), clients.topic(), new_group()
    consumer, producer = consume_transform_produce(clients, group, source, target)
    now = consumer.group_metadata()
    stale = ConsumerGroupMetadata(now.group_id, now.generation_id - 1, now.member_id, None)
    with pytest.raises(errors.CommitFailedError):
        producer.send_offsets_to_transaction({only(source): OffsetAndMetadata(2)}, stale)
    producer.abort_transaction()
    stranger = ConsumerGroupMetadata(now.group_id, now.generation_id, "nobody", None)
    producer.begin_transaction()
    with pytest.raises(errors.CommitFailedError):
        producer.send_offsets_to_transaction({only(source): OffsetAndMetadata(2)}, stranger)
    producer.abort_transaction()
    assert consumer.committed(only(source)) is None
    assert nothing_more(clients.committed_reader(target))


def test_librdkafka_consumes_transforms_and_produces(clients: Clients) -> None:
    source, target, group = clients.topic(2), clients.topic(), new_group()
    where = {"bootstrap.servers": clients.bootstrap}
    plain = confluent_kafka.Producer(where)
    for i in range(100):
        plain.produce(source, b"%d" % i, partition=i % 2)
    assert plain.flush(10) == 0
    consumer = confluent_kafka.Consumer(
        where | {"group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    )
    consumer.subscribe([source])
    producer = confluent_kafka.Producer(where | {"transactional.id": f"tx-{group}"})
    producer.init_transactions(10)
    read: list[bytes] = []
    while len(read) < 100:
        messages = consumer.consume(25, timeout=5)
        assert messages
        producer.begin_transaction()
        for message in messages:
            assert message.error() is None
            read.append(message.value())
            producer.produce(target, message.value())
        positions = consumer.position(consumer.assignment())
        producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata(), 10)
        producer.commit_transaction(10)
    parts = [confluent_kafka.TopicPartition(source, p) for p in range(2)]
    assert [p.offset for p in consumer.committed(parts, timeout=10)] == [50, 50]
    consumer.close()
    written = values(take(clients.committed_reader(target), 100))
    assert written == read
    assert sorted(map(int, written)) == list(range(100))


# --- groups


def test_offsets_outlive_the_consumer(clients: Clients) -> None:
    topic, group = clients.topic(), new_group()
    producer = clients.producer()
    for i in range(6):
        producer.send(topic, b"%d" % i)
    producer.flush()
    first = clients.consumer(topic, group=group, enable_auto_commit=False)
    take(first, 6)
    first.commit({only(topic): OffsetAndMetadata(4, "here", -1)})
    first.close()
    second = clients.consumer(topic, group=group)
    assert values(take(second, 2)) == [b"4", b"5"]
    stored = clients.admin().list_group_offsets([group])
    assert stored[group][only(topic)].offset == 4


def test_two_members_share_partitions_until_one_leaves(clients: Clients) -> None:
    topic, group = clients.topic(partitions=4), new_group()
    one = clients.member(topic, group=group, commit=True)
    two = clients.member(topic, group=group)
    assert eventually(lambda: len(one.assigned) == 2 and len(two.assigned) == 2)
    mine, others = set(one.assigned), set(two.assigned)
    assert mine | others == {0, 1, 2, 3}
    producer = clients.producer()
    for i in range(4):
        producer.send(topic, b"%d" % i, partition=i).get(10)
    assert eventually(lambda: {int(v) for v in one.values} == mine)
    assert eventually(lambda: {int(v) for v in two.values} == others)
    described = next(iter(clients.admin().describe_groups([group]).values()))
    assert (described["group_state"], len(described["members"])) == ("Stable", 2)

    one.values.clear()
    two.leave()
    assert eventually(lambda: one.assigned == {0, 1, 2, 3})
    assert eventually(lambda: {int(v) for v in one.values} == others), "not committed: read again"


def test_commits_from_outside_of_a_group_with_members_are_refused(clients: Clients) -> None:
    topic, group = clients.topic(partitions=2), new_group()
    member = clients.member(topic, group=group)
    assert eventually(lambda: member.assigned == {0, 1})
    outsider = clients.consumer(group=group, enable_auto_commit=False)
    outsider.assign([only(topic)])
    with pytest.raises(errors.CommitFailedError):
        outsider.commit({only(topic): OffsetAndMetadata(1)})
    member.leave()
    outsider.commit({only(topic): OffsetAndMetadata(1)})
    assert outsider.committed(only(topic)) == 1


def test_a_static_member_is_fenced_by_its_namesake(clients: Clients) -> None:
    topic, group = clients.topic(partitions=2), new_group()
    old = clients.member(topic, group=group, group_instance_id="sensor")
    assert eventually(lambda: old.assigned == {0, 1})
    new = clients.member(topic, group=group, group_instance_id="sensor", commit=True)
    assert eventually(lambda: new.assigned == {0, 1})
    old.stop()
    with pytest.raises(errors.FencedInstanceIdError):
        old.consumer.commit({only(topic): OffsetAndMetadata(1)})
    clients.producer().send(topic, b"x", partition=0).get(10)
    assert eventually(lambda: clients.consumer(group=group).committed(only(topic)) == 1)


# --- administration


def test_topics_are_made_described_and_deleted(clients: Clients) -> None:
    admin = clients.admin()
    name = f"test-{uuid.uuid4().hex}"
    admin.create_topics([NewTopic(name, 3, -1, topic_configs={"max.message.bytes": "2000"})])
    admin.wait_for_topics([name])
    assert name in admin.list_topics()
    assert len(admin.describe_topics([name])[0]["partitions"]) == 3
    with pytest.raises(errors.TopicAlreadyExistsError):
        admin.create_topics([NewTopic(name, 3, -1)])
    with pytest.raises(errors.InvalidTopicError):
        admin.create_topics([NewTopic("no/slashes", 1, -1)])
    with pytest.raises(errors.InvalidPartitionsError):
        admin.create_topics([NewTopic(f"{name}-none", 0, -1)])
    with pytest.raises(errors.MessageSizeTooLargeError):
        clients.producer().send(name, b"x" * 3000).get(10)
    admin.delete_topics([name])
    assert eventually(lambda: name not in admin.list_topics(), 5)
    with pytest.raises(errors.UnknownTopicOrPartitionError):
        admin.delete_topics([name])


def test_settings_are_described(clients: Clients) -> None:
    topic = clients.topic()
    where = {"bootstrap.servers": clients.bootstrap}
    resource = confluent_kafka.admin.ConfigResource("topic", topic)
    admin = confluent_kafka.admin.AdminClient(where)
    settings = admin.describe_configs([resource])[resource].result(10)
    assert 1_000_000 < int(settings["max.message.bytes"].value) < 1_100_000
    assert settings["cleanup.policy"].value == "delete"
