"""Reads the messages of record batches so that no batch can stop, blind or exhaust a reader.

kafka-python ends on the first record that it cannot parse, believes every offset that a batch
claims, and decompresses whatever it is given. Here a record that cannot be read gives a message
that says so (`Record.checksum` holds the problem; the worker makes it a dead letter) and reading
goes on behind it:

- a batch is decompressed to at most `most_bytes` (decompression.py, old_formats.py);
- header keys need not be UTF-8;
- an offset must rise within its batch. A batch from which nothing was compacted away gives each
  record the offset of its place, whatever the record claims: so the broker counts;
- the position never goes back, and nothing is believed of a batch whose checksum is wrong. It ends
  what is read of an answer: the broker tells what was aborted behind it with the next one.
"""

from __future__ import annotations

import functools
import logging
import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord, Fetcher, IsolationLevel
from kafka.errors import KafkaError, UnsupportedCodecError
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.util import decode_varint

from titans_stream.stream.kafka import spans
from titans_stream.stream.kafka.decompression import BatchError, decompressed
from titans_stream.stream.kafka.old_formats import Message, read_messages

log = logging.getLogger(__name__)

_UNREADABLE = (
    ArithmeticError,
    EOFError,
    KafkaError,
    LookupError,
    OSError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What parsing bytes raises that are not as the format says."""
_PLACES = 1_024
"""Records of a batch that are looked for at once."""

Headers = list[tuple[str, bytes | None]]


class Record(NamedTuple):
    """What kafka-python's fetcher wants of a record; `checksum` holds the problem, if any."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    size_in_bytes: int
    checksum: str | None = None


_NO_HEADERS: Headers = []
_RECORD = functools.partial(tuple.__new__, Record)
_CONSUMER_RECORD = functools.partial(tuple.__new__, ConsumerRecord)
"""They make a record of a tuple of its fields, faster than by its name."""


def install(fetcher: Fetcher, most_bytes: int) -> None:
    """Have a consumer's fetcher read batches through this module."""
    failed: dict[TopicPartition, int] = {}
    # compiled now, not at the first message
    spans.find(np.frombuffer(b"", np.uint8), 0, np.empty((0, spans.COLUMNS), np.int64))

    def partition_records(
        fetch_offset: int, tp: TopicPartition, records: MemoryRecords, **settings: Any
    ) -> Any:
        checks = settings.pop("check_crcs", True)
        batches = _Batches(records, tp, most_bytes, failed if checks else None)
        return _PartitionRecords(fetch_offset, tp, batches, check_crcs=False, **settings)

    fetcher.PartitionRecords = partition_records


class _PartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """kafka-python's, but that what it does for each record takes a third of the time."""

    def _unpack_records(
        self, tp: TopicPartition, records: _Batches, *_deserializers: None
    ) -> Iterator[ConsumerRecord]:
        topic, partition = tp
        batch = records.next_batch()
        last, reached = None, int(self.fetch_offset)
        while batch is not None:
            last = batch
            batch.wanted = reached
            if batch.magic == 2 and self._is_passed_over(batch):
                self.next_fetch_offset = max(reached, batch.next_offset)
            else:
                epoch = self.leader_epoch
                for offset, time, kind, key, value, headers, _, problem in batch:
                    self.next_fetch_offset = offset + 1
                    yield _CONSUMER_RECORD(
                        (
                            topic, partition, epoch, offset, time, kind, key, value, headers,
                            problem, -1, -1, -1,
                        )
                    )  # fmt: skip
            reached = max(reached, self.next_fetch_offset)
            batch = records.next_batch()
        if last is not None and last.magic == 2 and not last.problem:
            # a batch keeps its last offset where the record of it was compacted away
            reached = max(reached, last.next_offset)
        self.next_fetch_offset = reached
        self.drain()

    def _is_passed_over(self, batch: Any) -> bool:
        """Whether a batch holds nothing to read: markers of brokers, or what was aborted."""
        if batch.problem:
            return False  # what it says of itself may be wrong, too
        self.leader_epoch = batch.leader_epoch
        if self.isolation_level == IsolationLevel.READ_COMMITTED and batch.has_producer_id():
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if self._contains_abort_marker(batch):
                self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return True
        return bool(batch.is_control_batch)


class _Batches:
    """The batches of one answer of the broker, as the fetcher walks through them.

    `failed`: the offset of a partition's batch whose checksum was wrong at the last reading, None
    for no check. Such a batch is fetched once more before it is given up, and ends the answer.
    """

    def __init__(
        self,
        records: MemoryRecords,
        partition: TopicPartition,
        most_bytes: int,
        failed: dict[TopicPartition, int] | None,
    ) -> None:
        self._records: MemoryRecords | None = records
        self._partition = partition
        self._most_bytes = most_bytes
        self._failed = failed

    def next_batch(self) -> Any:
        """The next batch, None at the end."""
        batch = None if self._records is None else self._records.next_batch()
        if batch is None:
            return None
        problem = ""
        if self._failed is not None and not batch.validate_crc():
            if self._failed.get(self._partition) != batch.base_offset:
                self._failed[self._partition] = batch.base_offset
                log.warning(
                    "%s partition %d: the batch at offset %d has a wrong checksum; reading again",
                    *self._partition,
                    batch.base_offset,
                )
                return None
            problem = "its checksum is wrong"
            self._records = None
        return _Batch(batch, self._partition, self._most_bytes, problem)


class _Batch:
    """A batch of kafka-python's whose records are read here.

    `problem`: why nothing of it can be believed, empty: it can. `wanted`: the first offset that was
    not read yet.
    """

    def __init__(
        self, batch: Any, partition: TopicPartition, most_bytes: int, problem: str
    ) -> None:
        self._batch = batch
        self._partition = partition
        self._most_bytes = most_bytes
        self.problem = problem
        self.wanted = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)  # the record of a control batch, which only brokers write

    def __iter__(self) -> Iterator[Record]:
        last = self._batch.base_offset - 1
        try:
            if self.problem:
                last = max(last, self.wanted - 1)
                raise BatchError(self.problem)
            for record in self._read():
                last = record.offset
                yield record
        except UnsupportedCodecError:
            raise  # a library to install, no fault of the batch
        except _UNREADABLE as error:
            yield self._unreadable(last + 1, error)

    def _read(self) -> Iterator[Record]:
        if self._batch.magic >= 2:
            return read_records(self._batch, self._partition, self._most_bytes)
        return map(_of_old_format, read_messages(self._batch, self._most_bytes))

    def _unreadable(self, first: int, error: Exception) -> Record:
        """The message that stands for all offsets of the batch from `first` on.

        For one of them where its end is not to be believed: behind it the rest is read anew.
        """
        batch = self._batch
        last = max(first, batch.last_offset if batch.magic >= 2 else batch.base_offset)
        if self.problem and batch.magic >= 2 and batch.records_count != batch.last_offset_delta + 1:
            last = first
        text = str(error) or type(error).__name__
        problem = f"offsets {first} to {last} of their batch cannot be read: {text}"
        log.error("%s partition %d: %s; passed over", *self._partition, problem)
        return Record(last, -1, 0, None, None, [], 0, problem)


def _of_old_format(message: Message) -> Record:
    """A message of a batch of format 0 or 1."""
    return Record(*message[:5], [], message.size)


def read_records(
    batch: DefaultRecordBatch, partition: TopicPartition, most_bytes: int
) -> Iterator[Record]:
    """The records of a batch of format 2, one at a time.

    BatchError, IndexError or ValueError where the rest of the batch is not as the format says.
    """
    data = decompressed(memoryview(batch._buffer)[batch._pos :], batch.compression_type, most_bytes)
    whole = batch.records_count == batch.last_offset_delta + 1
    base, last, previous, warned = batch.base_offset, batch.last_offset_delta, -1, False
    for place, record in enumerate(_records(data, batch)):
        delta = record.offset - base
        if whole and delta != place:
            if not warned:
                log.warning(
                    "%s partition %d: the message at offset %d claims offset %d; its place counts",
                    *partition,
                    base + place,
                    base + delta,
                )
            delta, warned = place, True
            record = record._replace(offset=base + place)
        if not previous < delta <= last:
            raise BatchError(f"a record claims offset {base + delta}")
        previous = delta
        yield record


def _records(data: bytes, batch: DefaultRecordBatch) -> Iterator[Record]:
    """The records in `data`, with the offsets that they claim."""
    numbers, position, left = np.frombuffer(data, np.uint8), 0, batch.records_count
    places = np.empty((min(max(left, 0), _PLACES), spans.COLUMNS), np.int64)
    kind, base, first = batch.timestamp_type, batch.base_offset, batch.first_timestamp
    latest = batch.max_timestamp if kind else None
    while left > 0:
        count, position = spans.find(numbers, position, places[:left])
        left -= count
        for start, end, delay, delta, key_at, key_end, value_at, value_end, more in places[
            :count
        ].tolist():
            if more == spans.NO_HEADERS:
                yield _RECORD(
                    (
                        base + delta,
                        first + delay if latest is None else latest,
                        kind,
                        None if key_at < 0 else data[key_at:key_end],
                        None if value_at < 0 else data[value_at:value_end],
                        _NO_HEADERS,
                        end - start,
                        None,
                    )
                )
            else:
                yield _record(data, start, end, batch)
        if left > 0 and count < len(places):
            decode_varint(data, position)  # where that is the trouble, it says so
            raise BatchError("a record is longer than its batch")


def _record(data: bytes, start: int, end: int, batch: DefaultRecordBatch) -> Record:
    """The record in `data[start:end]`, with the offset that it claims."""
    time_delta, position = decode_varint(data, start + 1)
    offset, position = decode_varint(data, position)
    kind = batch.timestamp_type
    offset += batch.base_offset
    time = batch.max_timestamp if kind else batch.first_timestamp + time_delta
    try:
        key, position = _bytes(data, position, end)
        value, position = _bytes(data, position, end)
        headers = _headers(data, position, end)
    except BatchError as error:
        return Record(offset, time, kind, None, None, [], end - start, str(error))
    return Record(offset, time, kind, key, value, headers, end - start)


def _bytes(data: bytes, position: int, end: int) -> tuple[bytes | None, int]:
    length, position = decode_varint(data, position)
    if length < 0:
        return None, position
    if position + length > end:
        raise BatchError("a field is longer than its record")
    return data[position : position + length], position + length


def _headers(data: bytes, position: int, end: int) -> Headers:
    count, position = decode_varint(data, position)
    if not 0 <= count <= end - position:
        raise BatchError(f"a record claims {count} headers")
    headers: Headers = []
    for _ in range(count):
        key, position = _bytes(data, position, end)
        value, position = _bytes(data, position, end)
        headers.append(((key or b"").decode(errors="replace"), value))
    return headers
