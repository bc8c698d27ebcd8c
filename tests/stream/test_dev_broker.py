"""What the development broker promises beside Kafka's behaviour: its address, limits and end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import closing
from typing import Any

import pytest
from broker_clients import Clients, Member, batch, eventually, nothing_more, only, take, values
from kafka import OffsetAndMetadata, errors
from kafka.protocol.consumer import FetchRequest

from titans_stream.devbroker import server
from titans_stream.devbroker.broker import DevBroker
from titans_stream.devbroker.log import PartitionLog, parse_batch

BATCH_BYTES = len(batch([b"0"]))


def send(clients: Clients, topic: str, *payloads: bytes) -> None:
    producer = clients.producer()
    for payload in payloads:
        producer.send(topic, payload).get(10)


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


def waiting_fetch(topic: str) -> Any:
    """A request that waits for a day."""
    day = 86_400_000
    partition = FetchRequest.FetchTopic.FetchPartition
    parts = [partition(partition=0, fetch_offset=0, partition_max_bytes=2**20)]
    request = FetchRequest[4](
        replica_id=-1,
        max_wait_ms=day,
        min_bytes=2**20,
        max_bytes=2**20,
        isolation_level=0,
        topics=[FetchRequest.FetchTopic(topic=topic, partitions=parts)],
    )
    request.with_header(correlation_id=1, client_id="test")
    return request.encode(header=True, framed=True)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts files as Linux tells them")
def test_clients_that_are_gone_hold_no_connection() -> None:
    with DevBroker(topics={"t": 1}) as broker:
        before = open_files()
        for _ in range(20):
            with socket.create_connection((broker.host, broker.port), timeout=5) as sock:
                sock.sendall(waiting_fetch("t"))
        assert eventually(lambda: open_files() <= before, 10)


def test_a_frame_that_does_not_come_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "FRAME_SECONDS", 0.2)
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.5)
    with DevBroker() as broker:
        for begun in (b"\x05\xf5\xe1\x00" + b"x" * 100, b""):
            with socket.create_connection((broker.host, broker.port), timeout=5) as sock:
                sock.sendall(begun)
                assert sock.recv(100) == b""


def test_bad_frames_are_logged_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    null_list = struct.pack(">hhihhii", 0, 3, 1, -1, -1, 1, 1000) + b"\xff\xff\xff\xff"
    with DevBroker() as broker:
        for frame in (null_list, *[b"\xff" * 8] * 50):
            with socket.create_connection((broker.host, broker.port), timeout=5) as sock:
                sock.sendall(struct.pack(">i", len(frame)) + frame)
                assert sock.recv(100) == b""
    told = [record for record in caplog.records if "closed" in record.message]
    assert 1 <= len(told) <= 10
    assert not any(record.exc_info for record in caplog.records), "no traceback"


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


def test_the_oldest_records_go_when_a_limit_is_set() -> None:
    broker = DevBroker(retention_bytes=50 * BATCH_BYTES)
    with broker, closing(Clients(broker.bootstrap)) as clients:
        producer = clients.producer(linger_ms=0)
        for i in range(100):
            producer.send("t", b"%d" % (i % 10)).get(10)
        first = clients.consumer("t").beginning_offsets([only("t")])[only("t")]
        assert 45 <= first <= 55
        assert take(clients.consumer("t"), 1)[0].offset == first


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
        producer = clients.transactional(transaction_timeout_ms=2_000)
        producer.begin_transaction()
        producer.send("t", b"too late").get(10)
        reader = clients.committed_reader("t")
        assert reader.end_offsets([only("t")]) == {only("t"): 0}
        assert eventually(lambda: reader.end_offsets([only("t")]) == {only("t"): 2}, 20)
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


def test_a_deleted_topic_leaves_no_records_and_no_offsets() -> None:
    broker = DevBroker(topics={"t": 1})
    with broker, closing(Clients(broker.bootstrap)) as clients:
        send(clients, "t", b"old")
        consumer = clients.consumer(group="g")
        consumer.commit({only("t"): OffsetAndMetadata(1)})
        clients.admin().delete_topics(["t"])
        broker.create_topic("t")
        send(clients, "t", b"new")
        assert values(take(clients.consumer("t"), 1)) == [b"new"]
        assert consumer.committed(only("t")) is None


def test_after_a_kill_it_starts_empty_on_the_same_port() -> None:
    broker = DevBroker(topics={"t": 1})
    with broker, closing(Clients(broker.bootstrap)) as clients:
        port = broker.port
        send(clients, "t", b"old")
        broker.kill()
        broker.start()
        assert broker.port == port
        assert clients.consumer().end_offsets([only("t")]) == {only("t"): 0}


# --- the log alone


def test_a_sequence_wraps_after_the_largest_int32() -> None:
    log = PartitionLog(max_message_bytes=1000)
    last = 2**31 - 1
    made = [
        parse_batch(batch([b"x"] * count, producer_id=1, epoch=0, sequence=sequence))
        for count, sequence in [(2, last - 1), (1, 0), (3, last - 1)]
    ]
    assert [log.append(each) for each in made[:2]] == [0, 2]
    assert log.append(made[1]) == 2, "a repeat"
    with pytest.raises(errors.OutOfOrderSequenceNumberError):
        log.append(made[2])
