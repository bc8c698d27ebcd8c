"""Batches that are not as they should be: none of them stops, blinds or exhausts a worker."""

from __future__ import annotations

import gzip
import json
import logging
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hostile import batch, record, store
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka import TopicPartition
from kafka.consumer.fetcher import IsolationLevel
from kafka.record import MemoryRecords
from kafka.record.memory_records import MemoryRecordsBuilder
from kafka.record.util import decode_varint

from tests.stream_harness import Kafka, Message, Running, Setup
from titans_stream.devbroker.broker import DevBroker
from titans_stream.stream.kafka.batches import (
    _record,
    _records,
    install,
    read_records,
)
from titans_stream.stream.kafka.decompression import BatchError, decompressed
from titans_stream.stream.messages import RawMessage, raw_messages

NAME = TopicPartition("in", 0)
GZIP = 1
ATTRIBUTES = 21
"""Where the attributes of a batch of format 2 lie: the first that its checksum covers."""
ROOM = 2**20


@pytest.fixture(scope="module")
def broker() -> Iterator[DevBroker]:
    with DevBroker(auto_create=False) as running:
        yield running


@pytest.fixture
def setup(broker: DevBroker, tmp_path: Path) -> Setup:
    return Setup(Kafka(broker.bootstrap).create(partitions=1), tmp_path)


def reading(i: int) -> bytes:
    return json.dumps({"s": "a", "v": float(i)}).encode()


def good(i: int) -> Message:
    return Message("a", float(i), 0, 1_700_000_000_000 + i)


POISON = {
    "a header key in latin-1": (
        batch(record(reading(1), headers=[("größe".encode("latin-1"), b"x")])),
        None,
    ),
    "the same, compressed": (
        batch(gzip.compress(record(reading(1), headers=[(b"\xff\xfe", None)])), attributes=GZIP),
        None,
    ),
    "bytes behind gzip": (batch(gzip.compress(record(reading(1))) + b"zz", attributes=GZIP), None),
    "no gzip at all": (batch(b"\x1f\x8bgarbage", attributes=GZIP), "offsets 3 to 3"),
    "gzip cut off": (batch(gzip.compress(record(reading(1)))[:-9], attributes=GZIP), "cut off"),
    "a compression that does not exist": (batch(record(reading(1)), attributes=5), "compression 5"),
    "a key longer than its record": (batch(b"\x10\0\0\0\x7e\0\0\0\0"), "longer than its record"),
    "a record longer than its batch": (batch(b"\x7e\0\0\0\x01"), "longer than its batch"),
    "too many headers": (batch(b"\x10\0\0\0\x01\x01\x7e\0\0"), "claims 63 headers"),
}


@pytest.mark.parametrize("name", POISON)
def test_a_batch_that_cannot_be_read_is_stepped_over(
    setup: Setup, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad, problem = POISON[name]
    topic = setup.kafka.input
    setup.kafka.produce([good(i) for i in range(3)])
    assert store(setup.kafka.bootstrap, topic, bad) == 0
    setup.kafka.produce([good(10 + i) for i in range(2)])
    running = Running(setup.worker())
    running.wait_for("messages", 6)
    running.stop()
    assert setup.kafka.committed(setup.group_id, 1) == {0: 6}
    letters = setup.kafka.read(setup.kafka.dead)
    counts = running.worker.metrics.counts
    if problem is None:
        assert (letters, counts["readings"]) == ([], 6)
        return
    assert counts["readings"] == 5
    (headers,) = [dict(letter.headers) for letter in letters]
    assert headers["titans.reason"] == b"unreadable"
    assert problem in headers["titans.detail"].decode()
    assert (headers["titans.topic"], headers["titans.offset"]) == (topic.encode(), b"3")
    assert any("partition 0 offset 3" in text for text in caplog.messages)


def test_an_offset_that_lies_moves_no_position(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    topic = setup.kafka.input
    setup.kafka.produce([good(i) for i in range(3)])
    assert store(setup.kafka.bootstrap, topic, batch(record(reading(1), offset=100))) == 0
    running = Running(setup.worker())
    running.wait_for("messages", 4)
    running.stop()
    assert setup.kafka.committed(setup.group_id, 1) == {0: 4}, "not 104"
    assert "at offset 3 claims offset 103" in caplog.text
    setup.kafka.produce([good(10 + i) for i in range(5)])
    again = Running(setup.worker())
    again.wait_for("messages", 5)
    again.stop()
    assert setup.kafka.committed(setup.group_id, 1) == {0: 9}


def test_a_bomb_is_a_dead_letter_and_takes_no_memory(setup: Setup) -> None:
    setup.client = {"max_batch_bytes": ROOM}
    bomb = batch(gzip.compress(record(b"0" * 100 * ROOM)), attributes=GZIP)
    assert len(bomb) < ROOM
    assert store(setup.kafka.bootstrap, setup.kafka.input, bomb) == 0
    setup.kafka.produce([good(1)])
    tracemalloc.start()
    try:
        running = Running(setup.worker())
        running.wait_for("messages", 2)
        running.stop()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * ROOM
    (letter,) = setup.kafka.read(setup.kafka.dead)
    assert b"more than 1,048,576 bytes decompressed" in dict(letter.headers)["titans.detail"]


def offsets(data: bytes) -> list[int]:
    found = read_records(MemoryRecords(data).next_batch(), NAME, ROOM)
    return [each.offset for each in found]


@pytest.mark.parametrize("magic", [0, 1, 2])
def test_each_format_of_messages_is_read(magic: int) -> None:
    builder = MemoryRecordsBuilder(magic, 0, ROOM, offset=7)
    for i in range(3):
        builder.append(1_000 + i, b"k", b"%d" % i)
    builder.close()
    fetcher = SimpleNamespace(PartitionRecords=None)
    install(fetcher, ROOM)
    found = fetcher.PartitionRecords(8, NAME, MemoryRecords(bytes(builder.buffer())))
    time = -1 if magic == 0 else 1_001
    assert raw_messages(found.take(1)) == [RawMessage("in", 0, 8, time, b"k", b"1", [])]
    assert found.next_fetch_offset == 9
    assert [one.value for one in found.take()] == [b"2"]
    assert found.next_fetch_offset == 10
    assert not found


def test_what_was_aborted_is_passed_over() -> None:
    data = b""
    for number, producer in enumerate((1, 2)):
        builder = MemoryRecordsBuilder(2, 0, ROOM, number, True, producer, 0, 0)
        builder.append(0, None, b"%d" % producer)
        builder.close()
        data += bytes(builder.buffer())
    fetcher = SimpleNamespace(PartitionRecords=None)
    install(fetcher, ROOM)
    aborted = [SimpleNamespace(producer_id=1, first_offset=0)]
    for level, values in (
        (IsolationLevel.READ_COMMITTED, [b"2"]),
        (IsolationLevel.READ_UNCOMMITTED, [b"1", b"2"]),
    ):
        found = fetcher.PartitionRecords(
            0, NAME, MemoryRecords(data), isolation_level=level, aborted_transactions=aborted
        )
        assert [one.value for one in found.take()] == values
        assert found.next_fetch_offset == 2


def test_a_compacted_batch_keeps_the_offsets_of_what_is_left() -> None:
    content = record(b"1", offset=1) + record(b"2", offset=4)
    assert offsets(batch(content, 2, last=6, base=10)) == [11, 14]


@pytest.mark.parametrize("deltas", [(4, 1), (1, 1), (1, 7), (-1, 2)])
def test_a_compacted_batch_ends_where_an_offset_cannot_be(deltas: tuple[int, int]) -> None:
    content = b"".join(record(b"1", offset=delta) for delta in deltas)
    with pytest.raises(BatchError, match="claims offset"):
        offsets(batch(content, 2, last=6, base=10))


def test_a_whole_batch_counts_places(caplog: pytest.LogCaptureFixture) -> None:
    content = b"".join(record(b"1", offset=delta) for delta in (0, 7, 1, -5))
    with caplog.at_level(logging.WARNING):
        assert offsets(batch(content, 4, base=10)) == [10, 11, 12, 13]
    assert len(caplog.records) == 1, "once a batch"


def test_a_wrong_checksum_is_read_once_more_and_then_passed_over(setup: Setup) -> None:
    data = bytearray(batch(record(reading(1))))
    assert store(setup.kafka.bootstrap, setup.kafka.input, bytes(data)) == 0
    setup.kafka.produce([good(1)])
    clients = setup.clients()
    consumer: Any = clients.consumer(None)
    name = TopicPartition(setup.kafka.input, 0)
    fetcher, parse = consumer._fetcher, consumer._fetcher.PartitionRecords

    def damaged(offset: int, name: Any, records: Any, **settings: Any) -> Any:
        content = bytearray(records._buffer)
        content[70] ^= offset == 0
        return parse(offset, name, MemoryRecords(bytes(content)), **settings)

    fetcher.PartitionRecords = damaged
    consumer.assign([name])
    consumer.seek(name, 0)
    found: list[Any] = []
    for _ in range(50):
        for records in consumer.poll(200, 100).values():
            found += records
        if len(found) == 2:
            break
    consumer.close(False, 1_000)
    assert [each.offset for each in found] == [0, 1]
    assert (
        found[0].checksum == "offsets 0 to 0 of their batch cannot be read: its checksum is wrong"
    )
    assert found[1].checksum is None


def fetched(data: bytes, offset: int = 0, again: bool = True, **settings: Any) -> tuple[Any, Any]:
    """What a consumer takes of an answer and where it goes on; `again`: at the second fetch."""
    fetcher = SimpleNamespace(PartitionRecords=None)
    install(fetcher, ROOM)
    for _ in range(1 + again):
        found = fetcher.PartitionRecords(offset, NAME, MemoryRecords(data), **settings)
        taken = found.take()
    return taken, found.next_fetch_offset


COMMITTED = {"isolation_level": IsolationLevel.READ_COMMITTED}
WRONG = "offsets 0 to 0 of their batch cannot be read: its checksum is wrong"


def transactional(key: bytes | None, offset: int = 0) -> bytearray:
    builder = MemoryRecordsBuilder(2, 0, ROOM, 0, True, 1, 0, 0)
    builder.append(0, key, b"1")
    builder.close()
    data: bytearray = builder.buffer()
    data[:8] = offset.to_bytes(8, "big")
    return data


@pytest.mark.parametrize("key", [b"k", None])
def test_a_damaged_batch_is_not_believed_to_be_a_marker(key: bytes | None) -> None:
    data = transactional(key)
    data[ATTRIBUTES + 1] |= 0x20
    taken, then = fetched(bytes(data), **COMMITTED)
    assert [one.checksum for one in taken] == [WRONG]
    assert then == 1
    plain = bytearray(batch(record(reading(1))))
    plain[ATTRIBUTES + 1] |= 0x20
    taken, then = fetched(bytes(plain))
    assert ([one.checksum for one in taken], then) == ([WRONG], 1)


def test_behind_a_damaged_batch_the_broker_tells_anew_what_was_aborted() -> None:
    """The damaged one may have been the marker that ends an aborted transaction."""
    damaged = transactional(b"k", 1)
    damaged[-1] ^= 1
    data = bytes(transactional(b"k") + damaged + transactional(b"k", 2))
    aborted = [SimpleNamespace(producer_id=1, first_offset=0)]
    taken, then = fetched(data, aborted_transactions=aborted, **COMMITTED)
    assert [one.offset for one in taken] == [1]
    assert "checksum" in taken[0].checksum
    assert then == 2
    taken, then = fetched(bytes(transactional(b"k", 2)), 2, **COMMITTED)
    assert ([one.value for one in taken], then) == ([b"1"], 3)


def test_the_position_never_goes_back() -> None:
    taken, then = fetched(batch(record(b"1"), last=-5, base=10), 10)
    assert [one.offset for one in taken] == [10]
    assert then == 11
    marker = batch(record(b"\0" * 6, key=b"\0\0\0\1"), attributes=0x20, last=-5, base=10)
    assert fetched(marker, 10) == ([], 10)
    taken, then = fetched(batch(record(b"1"), base=10) + batch(record(b"2"), base=3), 10)
    assert then == 11


@pytest.mark.parametrize("bit", [0x80, 0x10])
def test_no_offset_of_a_damaged_batch_is_believed(bit: int) -> None:
    """The last offset may be any: each offset is given up for itself until the next batch."""
    data = bytearray(batch(record(b"1") + record(b"2", offset=1), 2, base=10))
    data[ATTRIBUTES + 2] ^= bit
    for wanted in (10, 11):
        taken, then = fetched(bytes(data), wanted)
        assert [one.offset for one in taken] == [wanted]
        assert f"offsets {wanted} to {wanted}" in taken[0].checksum
        assert then == wanted + 1


def old(magic: int, messages: list[bytes], base: int, packed: bytes | None = None) -> bytes:
    """A gzip batch of format 0 or 1 whose last message has the offset `base`."""
    inner = b""
    for place, value in enumerate(messages):
        offset = place if magic else base - len(messages) + 1 + place
        inner += message(magic, offset, value)
    return message(magic, base, gzip.compress(inner) if packed is None else packed, GZIP)


def message(magic: int, offset: int, value: bytes, attributes: int = 0) -> bytes:
    time = b"" if magic == 0 else (5).to_bytes(8, "big")
    body = bytes([magic, attributes]) + time + b"\xff" * 4 + len(value).to_bytes(4, "big") + value
    body = zlib.crc32(body).to_bytes(4, "big") + body
    return offset.to_bytes(8, "big", signed=True) + len(body).to_bytes(4, "big") + body


@pytest.mark.parametrize("magic", [0, 1])
def test_compressed_messages_of_old_formats_are_read_and_bounded(magic: int) -> None:
    taken, then = fetched(old(magic, [b"a", b"b", b"c"], 12), 11)
    time = 5 if magic else -1
    assert [(one.offset, one.value, one.timestamp) for one in taken] == [
        (11, b"b", time),
        (12, b"c", time),
    ]
    assert then == 13
    bomb = old(magic, [b"0" * 40 * ROOM], 12)
    tracemalloc.start()
    try:
        taken, then = fetched(bomb, 12)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * ROOM
    assert [(one.offset, then) for one in taken] == [(12, 13)]
    assert "more than 1,048,576 bytes decompressed" in taken[0].checksum


OLD_POISON = {
    "longer than its batch": message(1, 0, b"a")[:-1],
    "cut off": message(1, 0, b"a") + b"\0" * 5,
    "is longer": (0).to_bytes(8, "big") + (-12).to_bytes(4, "big", signed=True) + b"\0" * 30,
    "compressed twice": message(1, 0, gzip.compress(message(1, 0, b"a")), GZIP),
    "shorter than its head": b"\0" * 12,
    "claims offset": message(1, 7, b"a") + message(1, 3, b"a"),
}


@pytest.mark.parametrize("problem", OLD_POISON)
def test_a_batch_of_an_old_format_that_cannot_be_read_is_passed_over(problem: str) -> None:
    taken, then = fetched(old(1, [], 12, gzip.compress(OLD_POISON[problem])), 12)
    assert [one.value for one in taken] == [None]
    assert problem in taken[0].checksum
    assert then == 13


def test_gzip_of_many_members_is_refused() -> None:
    """Each costs a copy of what follows it: a megabyte of empty ones took over a second."""
    members = gzip.compress(b"") * 99 + gzip.compress(b"1")
    assert decompressed(memoryview(members), GZIP, ROOM) == b"1"
    with pytest.raises(BatchError, match="more than 100 members"):
        decompressed(memoryview(members + gzip.compress(b"")), GZIP, ROOM)


def xerial(*blocks: bytes) -> bytes:
    head = b"\x82SNAPPY\0\0\0\0\1\0\0\0\1"
    return head + b"".join(len(block).to_bytes(4, "big") + block for block in blocks)


def test_each_compression_is_read_and_bounded() -> None:
    lz4 = pytest.importorskip("lz4.frame", reason="a dependency since codecs are supported")
    snappy = pytest.importorskip("snappy", reason="a dependency since codecs are supported")
    zstd = pytest.importorskip("zstandard", reason="a dependency since codecs are supported")
    content = b"0123456789" * 1_000
    packed = {
        1: [gzip.compress(content), gzip.compress(content[:50]) + gzip.compress(content[50:])],
        2: [
            snappy.compress(content),
            xerial(snappy.compress(content[:70]), snappy.compress(content[70:])),
        ],
        3: [lz4.compress(content)],
        4: [zstd.ZstdCompressor().compress(content)],
    }
    for compression, versions in packed.items():
        for data in versions:
            assert decompressed(memoryview(data), compression, len(content)) == content
            with pytest.raises(BatchError, match="more than 9,999 bytes"):
                decompressed(memoryview(data), compression, len(content) - 1)
            if compression != 4:  # zstd gives what there is; the record that is cut off tells
                with pytest.raises(BatchError):
                    decompressed(memoryview(data[:-3]), compression, ROOM)


@settings(deadline=None)
@given(st.data())
def test_the_compiled_pass_reads_what_the_plain_one_reads(data: st.DataObject) -> None:
    """Whole records, some with headers, and the bytes of some changed or cut off."""
    texts = st.none() | st.binary(max_size=90)
    parts = [
        record(
            data.draw(texts), key=data.draw(texts), offset=place,
            headers=data.draw(st.lists(st.tuples(st.binary(max_size=3), texts), max_size=2)),
        )
        for place in range(data.draw(st.integers(1, 4)))
    ]  # fmt: skip
    content = bytearray(b"".join(parts))
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
        content[at] = data.draw(st.integers(0, 255))
    content = content[: len(content) - data.draw(st.sampled_from([0, 0, 1, 5]))]
    found = MemoryRecords(batch(bytes(content), len(parts))).next_batch()
    assert read(_records(bytes(content), found)) == read(one_by_one(bytes(content), found))


def read(records: Iterator[Any]) -> list[Any]:
    """What comes, and how it ends; which error it is that a broken length gives is no matter."""
    got: list[Any] = []
    try:
        got.extend(records)
    except (ValueError, IndexError):
        got.append("unreadable")
    return got


def one_by_one(data: bytes, batch: Any) -> Iterator[Any]:
    position = 0
    for _ in range(batch.records_count):
        length, start = decode_varint(data, position)
        position = start + length
        if length < 0 or position > len(data):
            raise BatchError("a record is longer than its batch")
        yield _record(data, start, position, batch)
