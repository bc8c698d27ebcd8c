"""What the development broker promises beside Kafka's behaviour: its folder, limits and end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from broker_clients import Clients, Member, batch, eventually, nothing_more, only, take, values
from kafka import OffsetAndMetadata, errors

from titans_stream.devbroker.broker import DevBroker
from titans_stream.devbroker.journal import Journal
from titans_stream.devbroker.log import PartitionLog, parse_batch

BATCH_BYTES = len(batch([b"0"]))


@pytest.fixture
def folder_broker(tmp_path: Path) -> Iterator[DevBroker]:
    broker = DevBroker(data_dir=tmp_path / "data")
    yield broker
    broker.stop()


@pytest.fixture
def clients(folder_broker: DevBroker) -> Iterator[Clients]:
    folder_broker.start()
    made = Clients(folder_broker.bootstrap)
    yield made
    folder_broker.stop()
    folder_broker.start()  # so that clients close at once
    made.close()


def send(clients: Clients, topic: str, *payloads: bytes) -> None:
    producer = clients.producer()
    for payload in payloads:
        producer.send(topic, payload).get(10)


def read_committed(clients: Clients, topic: str, count: int) -> list[bytes]:
    reader = clients.committed_reader(topic)
    records = values(take(reader, count))
    assert nothing_more(reader, 0.3)
    return records


# --- where it listens


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.com", ""])
def test_it_refuses_addresses_that_others_can_reach(host: str) -> None:
    with pytest.raises(ValueError, match=r"^host: .*loopback"):
        DevBroker(host=host)


def test_it_says_that_it_is_for_development(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), DevBroker(host="localhost") as broker:
        assert broker.bootstrap.startswith("127.0.0.1:")
    assert "development only" in caplog.text


def test_a_taken_port_is_an_oserror_and_a_free_one_is_kept() -> None:
    with DevBroker() as first:
        second = DevBroker(port=first.port)
        with pytest.raises(OSError, match="in use"):
            second.start()
        port = first.port
    with first:
        assert first.port == port
    with pytest.raises(RuntimeError, match="no port"):
        _ = DevBroker().bootstrap


def test_nonsense_on_a_connection_ends_that_connection_only() -> None:
    with DevBroker(topics={"t": 1}) as broker:
        for nonsense in (b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x08" + b"\xff" * 8, b"\0\0\0\0"):
            with socket.create_connection((broker.host, broker.port), timeout=5) as sock:
                sock.sendall(nonsense)
                assert sock.recv(100) == b""
        with closing(Clients(broker.bootstrap)) as clients:
            send(clients, "t", b"fine")
            assert values(take(clients.consumer("t"), 1)) == [b"fine"]


def test_it_runs_in_an_event_loop_and_ends_when_cancelled() -> None:
    async def scenario() -> tuple[bytes, bool]:
        broker, started = DevBroker(), asyncio.Event()
        task = asyncio.create_task(broker.serve(started.set))
        await started.wait()
        broker.create_topic("t", 2)
        reader, writer = await asyncio.open_connection(broker.host, broker.port)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        left = await reader.read()
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(broker.host, broker.port)
        return left, task.done()

    assert asyncio.run(scenario()) == (b"", True)


def test_run_forever_ends_by_ctrl_c() -> None:
    code = (
        "from titans_stream.devbroker.broker import DevBroker\n"
        "b = DevBroker()\n"
        "b.run_forever(lambda: print(b.bootstrap, flush=True))\n"
        "print('ended')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    with closing(Clients(address)) as clients:
        send(clients, "auto-created", b"x")
    os.kill(process.pid, signal.SIGINT)
    assert process.communicate(timeout=10)[0] == "ended\n"
    assert process.returncode == 0


# --- topics and limits


def test_topics_are_made_before_or_after_the_start() -> None:
    broker = DevBroker(topics={"before": 3}, auto_create=False)
    with broker, closing(Clients(broker.bootstrap)) as clients:
        broker.create_topic("after", 2)
        broker.create_topic("after", 2)
        with pytest.raises(ValueError, match="'after' has 2 partitions, not 5"):
            broker.create_topic("after", 5)
        with pytest.raises(ValueError, match="topic name 'no/slash'"):
            broker.create_topic("no/slash")
        consumer = clients.consumer()
        assert consumer.partitions_for_topic("before") == {0, 1, 2}
        assert consumer.partitions_for_topic("after") == {0, 1}
        with pytest.raises(errors.KafkaTimeoutError):
            clients.producer(max_block_ms=300).send("never-made", b"x")


def test_topics_are_made_when_clients_ask_for_them() -> None:
    broker = DevBroker(default_partitions=4)
    with broker, closing(Clients(broker.bootstrap)) as clients:
        send(clients, "asked-for", b"x")
        assert clients.consumer().partitions_for_topic("asked-for") == {0, 1, 2, 3}


def test_the_message_limit_can_be_set() -> None:
    broker = DevBroker(max_message_bytes=1000)
    with broker, closing(Clients(broker.bootstrap)) as clients:
        send(clients, "t", b"x" * 900)
        with pytest.raises(errors.MessageSizeTooLargeError):
            send(clients, "t", b"x" * 1000)


def test_the_oldest_records_go_when_a_limit_is_set(tmp_path: Path) -> None:
    broker = DevBroker(retention_bytes=50 * BATCH_BYTES, data_dir=tmp_path)
    with broker, closing(Clients(broker.bootstrap)) as clients:
        producer = clients.producer(linger_ms=0)
        for i in range(100):
            producer.send("t", b"%d" % (i % 10)).get(10)
        first = clients.consumer("t").beginning_offsets([only("t")])[only("t")]
        assert 45 <= first <= 55
        assert take(clients.consumer("t"), 1)[0].offset == first
    with broker, closing(Clients(broker.bootstrap)) as clients:
        again = clients.consumer("t").beginning_offsets([only("t")])[only("t")]
        assert first <= again <= 55
        assert clients.consumer("t").end_offsets([only("t")]) == {only("t"): 100}


# --- groups and transactions that time out


def test_a_member_that_vanishes_loses_its_partitions() -> None:
    broker = DevBroker(topics={"t": 2})
    with broker, closing(Clients(broker.bootstrap)) as clients:
        settings = {"group": "g", "session_timeout_ms": 1000}
        one = clients.member("t", **settings)
        vanishing = Clients(broker.bootstrap)
        two = Member(
            vanishing.consumer(
                "t", max_poll_interval_ms=1100, heartbeat_interval_ms=200, **settings
            )
        )
        assert eventually(lambda: len(one.assigned) == 1 and len(two.assigned) == 1)
        two.stop()
        assert eventually(lambda: one.assigned == {0, 1}, 10)
        vanishing.close()


def test_a_transaction_that_takes_too_long_is_aborted() -> None:
    broker = DevBroker(topics={"t": 1})
    with broker, closing(Clients(broker.bootstrap)) as clients:
        producer = clients.transactional(transaction_timeout_ms=300)
        producer.begin_transaction()
        producer.send("t", b"too late").get(10)
        reader = clients.committed_reader("t")
        assert reader.end_offsets([only("t")]) == {only("t"): 0}
        assert eventually(lambda: reader.end_offsets([only("t")]) == {only("t"): 2}, 5)
        with pytest.raises(errors.ProducerFencedError):
            producer.commit_transaction()
        assert nothing_more(reader)


def test_an_idempotent_producer_outlives_cut_connections() -> None:
    broker = DevBroker(topics={"t": 1})
    with broker, closing(Clients(broker.bootstrap)) as clients:
        producer = clients.producer(linger_ms=1)
        for i in range(2000):
            producer.send("t", b"%d" % i)
            if i % 400 == 200:
                broker.drop_connections()
                time.sleep(0.05)
        producer.flush(30)
        assert values(take(clients.consumer("t"), 2000)) == [b"%d" % i for i in range(2000)]


# --- the folder


def test_everything_is_there_after_a_restart(folder_broker: DevBroker, clients: Clients) -> None:
    folder_broker.create_topic("two", 2)
    send(clients, "one", b"a", b"b", b"c")
    producer = clients.transactional("tx")
    for outcome in ("commit", "abort"):
        producer.begin_transaction()
        producer.send("two", outcome.encode(), partition=1)
        position = {only("one"): OffsetAndMetadata(2 if outcome == "commit" else 3)}
        producer.send_offsets_to_transaction(position, "g")
        getattr(producer, f"{outcome}_transaction")()
    clients.admin().delete_records({only("one"): 1})
    folder_broker.stop()
    folder_broker.start()

    assert clients.consumer().partitions_for_topic("two") == {0, 1}
    assert values(take(clients.consumer("one"), 2)) == [b"b", b"c"]
    assert read_committed(clients, "two", 1) == [b"commit"]
    assert clients.consumer(group="g").committed(only("one")) == 2
    producer.begin_transaction()
    producer.send("two", b"later", partition=1)
    producer.commit_transaction()
    assert read_committed(clients, "two", 2) == [b"commit", b"later"]


def test_a_kill_within_a_transaction_loses_and_shows_nothing(
    folder_broker: DevBroker, clients: Clients
) -> None:
    send(clients, "t", b"before")
    producer = clients.transactional("tx")
    producer.begin_transaction()
    producer.send("t", b"first half").get(10)
    folder_broker.kill()
    folder_broker.start()
    assert read_committed(clients, "t", 1) == [b"before"]
    producer.send("t", b"second half")
    producer.commit_transaction()
    assert read_committed(clients, "t", 3) == [b"before", b"first half", b"second half"]

    producer.begin_transaction()
    producer.send("t", b"orphan").get(10)
    folder_broker.kill()
    folder_broker.start()
    successor = clients.transactional("tx")
    successor.begin_transaction()
    successor.send("t", b"after").get(10)
    successor.commit_transaction()
    committed = [b"before", b"first half", b"second half", b"after"]
    assert read_committed(clients, "t", 4) == committed


def test_a_decided_commit_is_finished_after_a_crash(
    folder_broker: DevBroker, clients: Clients, tmp_path: Path
) -> None:
    producer = clients.transactional("tx")
    producer.begin_transaction()
    producer.send("t", b"decided").get(10)
    path = tmp_path / "data" / "topics" / "t-0.log"
    before_the_marker = path.stat().st_size
    producer.commit_transaction()
    folder_broker.kill()
    with path.open("r+b") as file:
        file.truncate(before_the_marker)
    folder_broker.start()
    assert read_committed(clients, "t", 1) == [b"decided"]


def test_a_torn_tail_is_cut_off(
    folder_broker: DevBroker, clients: Clients, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    send(clients, "t", b"0", b"1", b"2")
    clients.consumer(group="g").commit({only("t"): OffsetAndMetadata(1)})
    folder_broker.kill()
    path = tmp_path / "data" / "topics" / "t-0.log"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 5)
    with (tmp_path / "data" / "journal.jsonl").open("ab") as journal:
        journal.write(b'{"kind": "offsets", "group": "g", "posit')
    folder_broker.start()
    assert "cut at byte" in caplog.text
    assert "journal.jsonl: torn" in caplog.text
    assert values(take(clients.consumer("t"), 2)) == [b"0", b"1"]
    assert clients.consumer(group="g").committed(only("t")) == 1
    send(clients, "t", b"new")
    folder_broker.kill()
    folder_broker.start()
    assert values(take(clients.consumer("t"), 3)) == [b"0", b"1", b"new"]


def test_another_number_of_partitions_than_the_folder_has_is_refused(tmp_path: Path) -> None:
    with DevBroker(data_dir=tmp_path, topics={"t": 2}):
        pass
    with pytest.raises(ValueError, match="topics: 't' has 2 partitions, not 3"):
        DevBroker(data_dir=tmp_path, topics={"t": 3}).start()


def test_a_deleted_topic_leaves_no_records_and_no_offsets(
    folder_broker: DevBroker, clients: Clients
) -> None:
    send(clients, "t", b"old")
    consumer = clients.consumer(group="g")
    consumer.commit({only("t"): OffsetAndMetadata(1)})
    clients.admin().delete_topics(["t"])
    folder_broker.kill()
    folder_broker.start()
    send(clients, "t", b"new")
    assert values(take(clients.consumer("t"), 1)) == [b"new"]
    assert consumer.committed(only("t")) is None


# --- the log alone


def test_a_sequence_wraps_after_the_largest_int32() -> None:
    log = PartitionLog(None, max_message_bytes=1000)
    last = 2**31 - 1
    made = [
        parse_batch(batch([b"x"] * count, producer_id=1, epoch=0, sequence=sequence))
        for count, sequence in [(2, last - 1), (1, 0), (3, last - 1)]
    ]
    assert [log.append(each) for each in made[:2]] == [0, 2]
    assert log.append(made[1]) == 2, "a repeat"
    with pytest.raises(errors.OutOfOrderSequenceNumberError):
        log.append(made[2])


def test_every_prefix_of_a_log_file_is_read_as_its_whole_batches(tmp_path: Path) -> None:
    sizes = [len(batch([b"x" * n])) for n in (1, 40, 3)]
    whole = PartitionLog(tmp_path / "whole", max_message_bytes=1000)
    for n in (1, 40, 3):
        whole.append(parse_batch(batch([b"x" * n])))
    whole.close()
    content = (tmp_path / "whole").read_bytes()
    assert len(content) == sum(sizes)
    for end in range(len(content) + 1):
        path = tmp_path / "part"
        path.write_bytes(content[:end])
        log = PartitionLog(path, max_message_bytes=1000)
        log.close()
        expected = sum(end >= sum(sizes[: i + 1]) for i in range(3))
        assert log.end_offset == expected
        assert path.stat().st_size == sum(sizes[:expected])


def test_a_journal_keeps_what_was_appended(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.replace([{"kind": "a", "n": 1}])
    journal.append("b", n=2)
    journal.close()
    journal.append("c", n=3)
    assert Journal(path).read() == [{"kind": "a", "n": 1}, {"kind": "b", "n": 2}]
    assert Journal(None).read() == []
