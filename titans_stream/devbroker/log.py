"""A partition's log of the development broker, in memory.

The unit is Kafka's record batch, version 2 (KIP-98): a 61-byte header and records, stored as the
producer sent them; the broker only writes the base offset, which the checksum does not cover.
"""

from __future__ import annotations

import asyncio
import bisect
import logging
import struct
import time
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import crc32c
from kafka import errors
from kafka.record import MemoryRecords

log = logging.getLogger(__name__)

HEADER = struct.Struct(">qiibIhiqqqhii")
"""Base offset, length, leader epoch, magic, CRC, attributes, last offset delta, first and last
timestamp (ms), producer id, producer epoch, base sequence, number of records."""
LENGTH_FROM = 12
"""The length field counts the bytes from here on."""
CHECKSUM_FROM = 21
TRANSACTIONAL = 0x10
CONTROL = 0x20
MAX_SEQUENCE = 2**31 - 1
BATCHES_REMEMBERED = 5
"""Per producer, for spotting repeats: Kafka's limit of requests in flight."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A record batch and the header fields that the broker uses. Timestamps are epoch ms."""

    data: bytes
    base_offset: int
    last_offset: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    transactional: bool
    control: bool

    @property
    def last_sequence(self) -> int:
        """The sequence number of the last record; it wraps after 2**31 - 1."""
        return (self.base_sequence + self.last_offset - self.base_offset) % (MAX_SEQUENCE + 1)


def parse_batch(data: bytes) -> Batch:
    """Check and read one record batch.

    Raises kafka.errors CorruptRecordError (length, checksum), UnsupportedForMessageFormatError
    (older than version 2) or InvalidRecordError (offsets do not match the number of records).
    """
    if len(data) < HEADER.size:
        raise errors.CorruptRecordError("shorter than a header")
    (base, length, _, magic, crc, attributes, delta, _, newest, pid, epoch, sequence, count) = (
        HEADER.unpack_from(data)
    )
    if magic != 2:
        raise errors.UnsupportedForMessageFormatError(f"record format {magic}")
    if length != len(data) - LENGTH_FROM:
        raise errors.CorruptRecordError("not one whole batch")
    if crc != crc32c.crc32c(memoryview(data)[CHECKSUM_FROM:]):
        raise errors.CorruptRecordError("checksum")
    if count < 1 or delta != count - 1:
        raise errors.InvalidRecordError(f"{count} records, last offset delta {delta}")
    transactional, control = bool(attributes & TRANSACTIONAL), bool(attributes & CONTROL)
    return Batch(data, base, base + delta, newest, pid, epoch, sequence, transactional, control)


def control_batch(producer_id: int, producer_epoch: int, commit: bool) -> bytes:
    """The marker that ends a transaction in a partition: one control record (KIP-98)."""
    record = b"\x20\x00\x00\x00\x08" + struct.pack(">hh", 0, int(commit))
    record += b"\x0c" + struct.pack(">hi", 0, 0) + b"\x00"
    now = int(time.time() * 1000)
    length = HEADER.size - LENGTH_FROM + len(record)
    attributes = TRANSACTIONAL | CONTROL
    ids = (producer_id, producer_epoch, -1, 1)
    data = bytearray(HEADER.pack(0, length, 0, 2, 0, attributes, 0, now, now, *ids) + record)
    struct.pack_into(">I", data, CHECKSUM_FROM - 4, crc32c.crc32c(memoryview(data)[CHECKSUM_FROM:]))
    return bytes(data)


_UNREADABLE = (
    errors.KafkaError,
    ArithmeticError,
    EOFError,
    LookupError,
    OSError,
    ValueError,
    zlib.error,
)


@dataclass(slots=True)
class ProducerState:
    """What a partition knows of one producer id: its epoch and its last batches."""

    epoch: int
    recent: deque[Batch] = field(default_factory=lambda: deque(maxlen=BATCHES_REMEMBERED))


@dataclass(frozen=True, slots=True)
class AbortedTransaction:
    """A transaction that readers of committed records must skip."""

    producer_id: int
    first_offset: int
    last_offset: int


class PartitionLog:
    """The batches of one partition, in offset order."""

    def __init__(self, *, max_message_bytes: int, retention_bytes: int | None = None) -> None:
        self.max_message_bytes = max_message_bytes
        self.retention_bytes = retention_bytes
        self.start_offset = 0
        self.end_offset = 0
        self.waiters: set[asyncio.Event] = set()
        self.open_transactions: dict[int, int] = {}
        self._batches: list[Batch] = []
        self._last_offsets: list[int] = []
        self._size = 0
        self._producers: dict[int, ProducerState] = {}
        self._aborted: list[AbortedTransaction] = []

    @property
    def stable_offset(self) -> int:
        """The last stable offset: every transaction below it has ended."""
        return min(self.open_transactions.values(), default=self.end_offset)

    def append(self, batch: Batch) -> int:
        """Store a producer's batch; the offset of its first record.

        A batch of an idempotent producer that is already stored is not stored again. Raises
        kafka.errors as Kafka does: MessageSizeTooLargeError, InvalidProducerEpochError,
        OutOfOrderSequenceNumberError, InvalidRecordError.
        """
        if len(batch.data) > self.max_message_bytes:
            raise errors.MessageSizeTooLargeError(
                f"{len(batch.data)} bytes, at most {self.max_message_bytes}"
            )
        if batch.control:
            raise errors.InvalidRecordError("clients write no control records")
        stored = self._find_repeat(batch)
        return stored.base_offset if stored else self._store(batch).base_offset

    def end_transaction(self, producer_id: int, producer_epoch: int, commit: bool) -> None:
        """Write the marker that ends a producer's transaction in this partition."""
        self._store(parse_batch(control_batch(producer_id, producer_epoch, commit)))

    def read(
        self, offset: int, max_bytes: int, *, committed: bool, oversize: bool
    ) -> tuple[bytes, int]:
        """Batches from the one that holds an offset on, and the offset behind them.

        They come whole and fit into max_bytes, but for the first one if `oversize`. With
        `committed`, nothing at or beyond the last stable offset. OffsetOutOfRangeError outside
        of the log.
        """
        if not self.start_offset <= offset <= self.end_offset:
            raise errors.OffsetOutOfRangeError(f"{offset}")
        limit = self.stable_offset if committed else self.end_offset
        first = bisect.bisect_left(self._last_offsets, offset)
        parts: list[bytes] = []
        size, reached = 0, offset
        for batch in self._batches_from(first):
            fits = size + len(batch.data) <= max_bytes or (oversize and not parts)
            if batch.base_offset >= limit or not fits:
                break
            parts.append(batch.data)
            size += len(batch.data)
            reached = batch.last_offset + 1
        return b"".join(parts), reached

    def aborted_between(self, first: int, end: int) -> list[AbortedTransaction]:
        """Aborted transactions with records in [first, end), by first offset."""
        hit = (a for a in self._aborted if a.last_offset >= first and a.first_offset < end)
        return sorted(hit, key=lambda aborted: aborted.first_offset)

    def find_timestamp(self, timestamp: int, committed: bool) -> tuple[int, int] | None:
        """Offset and timestamp of the first record not older than a timestamp (epoch ms).

        Records of a codec that this process cannot read are found by their batch.
        """
        limit = self.stable_offset if committed else self.end_offset
        for batch in self._batches:
            if batch.base_offset >= limit:
                return None
            if batch.max_timestamp >= timestamp and batch.last_offset >= self.start_offset:
                return self._find_in_batch(batch, timestamp)
        return None

    def delete_before(self, offset: int) -> None:
        """Move the log's start (-1: to its end). OffsetOutOfRangeError beyond its end."""
        offset = self.end_offset if offset == -1 else offset
        if not 0 <= offset <= self.end_offset:
            raise errors.OffsetOutOfRangeError(f"{offset}")
        self.start_offset = max(self.start_offset, offset)
        self._drop(bisect.bisect_left(self._last_offsets, self.start_offset))

    def _batches_from(self, index: int) -> Iterator[Batch]:
        return (self._batches[i] for i in range(index, len(self._batches)))

    def _find_in_batch(self, batch: Batch, timestamp: int) -> tuple[int, int]:
        try:
            for record in MemoryRecords(batch.data).next_batch():
                if record.timestamp >= timestamp and record.offset >= self.start_offset:
                    return int(record.offset), int(record.timestamp)
        except _UNREADABLE:
            log.debug("records that cannot be read: the batch's first offset is used")
        return max(batch.base_offset, self.start_offset), batch.max_timestamp

    def _find_repeat(self, batch: Batch) -> Batch | None:
        """The stored batch that this one repeats; raises if it is of the wrong epoch or order."""
        state = self._producers.get(batch.producer_id) if batch.producer_id >= 0 else None
        if state is None:
            return None
        if batch.producer_epoch < state.epoch:
            raise errors.InvalidProducerEpochError(f"{batch.producer_epoch} < {state.epoch}")
        if batch.producer_epoch > state.epoch or not state.recent:
            if batch.base_sequence != 0:
                raise errors.OutOfOrderSequenceNumberError("a new epoch starts at 0")
            return None
        sequences = (batch.base_sequence, batch.last_sequence)
        for stored in state.recent:
            if (stored.base_sequence, stored.last_sequence) == sequences:
                return stored
        expected = (state.recent[-1].last_sequence + 1) % (MAX_SEQUENCE + 1)
        if batch.base_sequence != expected:
            raise errors.OutOfOrderSequenceNumberError(
                f"sequence {batch.base_sequence} after {expected - 1}"
            )
        return None

    def _store(self, batch: Batch) -> Batch:
        first = self.end_offset
        placed = struct.pack(">q", first) + batch.data[8:]
        last = first + batch.last_offset - batch.base_offset
        batch = replace(batch, data=placed, base_offset=first, last_offset=last)
        self._index(batch)
        self._retain()
        for waiter in self.waiters:
            waiter.set()
        return batch

    def _index(self, batch: Batch) -> None:
        self._batches.append(batch)
        self._last_offsets.append(batch.last_offset)
        self._size += len(batch.data)
        self.end_offset = batch.last_offset + 1
        if batch.producer_id < 0:
            return
        state = self._producers.get(batch.producer_id)
        if state is None or state.epoch != batch.producer_epoch:
            state = self._producers[batch.producer_id] = ProducerState(batch.producer_epoch)
        if batch.control:
            self._index_marker(batch)
            return
        state.recent.append(batch)
        if batch.transactional:
            self.open_transactions.setdefault(batch.producer_id, batch.base_offset)

    def _index_marker(self, batch: Batch) -> None:
        first = self.open_transactions.pop(batch.producer_id, None)
        (kind,) = struct.unpack_from(">h", batch.data, HEADER.size + 7)
        if first is not None and kind == 0:
            aborted = AbortedTransaction(batch.producer_id, first, batch.last_offset)
            self._aborted.append(aborted)

    def _retain(self) -> None:
        """Drop the oldest batches once the log is a tenth above its limit."""
        if self.retention_bytes is None or self._size <= self.retention_bytes * 1.1:
            return
        size, count, stable = self._size, 0, self.stable_offset
        while size > self.retention_bytes and self._batches[count].last_offset < stable - 1:
            size -= len(self._batches[count].data)
            count += 1
        if count:
            self.start_offset = max(self.start_offset, self._batches[count - 1].last_offset + 1)
            self._drop(count)

    def _drop(self, count: int) -> None:
        self._size -= sum(len(batch.data) for batch in self._batches[:count])
        del self._batches[:count], self._last_offsets[:count]
        self._aborted = [a for a in self._aborted if a.last_offset >= self.start_offset]
