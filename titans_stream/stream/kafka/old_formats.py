"""The messages of batches of formats 0 and 1, which brokers before Kafka 4 may still hold.

Such a batch is one message, or one whose value holds others, compressed. kafka-python decompresses
whatever it is given, and reads lengths without end where one is negative.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from kafka.record.legacy_records import LegacyRecordBatch

from titans_stream.stream.kafka.decompression import BatchError, decompressed

_PREFIX = struct.Struct(">qi")
"""Offset, and length of what follows."""
_HEAD = (struct.Struct(">Ibb"), struct.Struct(">Ibbq"))
"""By format: checksum, format, attributes and, in format 1, time."""
_LENGTH = struct.Struct(">i")
_COMPRESSION = 0x07
_LZ4 = 3


class Message(NamedTuple):
    """`time` in milliseconds, -1: none; `kind`: 1 where it is the broker's."""

    offset: int
    time: int
    kind: int
    key: bytes | None
    value: bytes | None
    size: int


def read_messages(batch: LegacyRecordBatch, most_bytes: int) -> Iterator[Message]:
    """The messages of a batch of format 0 or 1, decompressed to at most `most_bytes`.

    BatchError where the rest is not as the format says.
    """
    wrapper = _message(memoryview(batch._buffer), 0, batch.magic, batch.timestamp_type or 0)
    if not batch.compression_type:
        yield wrapper
        return
    if wrapper.value is None:
        raise BatchError("a compressed message holds nothing")
    if batch.magic == 0 and batch.compression_type == _LZ4:
        raise BatchError("lz4 in messages of format 0, whose frames are not lz4's, is not read")
    data = memoryview(decompressed(memoryview(wrapper.value), batch.compression_type, most_bytes))
    first = 0
    if batch.magic == 1:  # the last one has the batch's offset, others count from the first
        for start in _starts(data):
            first = batch.base_offset - _PREFIX.unpack_from(data, start)[0]
    previous = -1
    for start in _starts(data):
        found = _message(data, start, batch.magic, wrapper.kind)
        if _HEAD[0].unpack_from(data, start + _PREFIX.size)[2] & _COMPRESSION:
            raise BatchError("a message is compressed twice")
        offset = first + found.offset
        if not previous < offset <= batch.base_offset:
            raise BatchError(f"a message claims offset {offset}")
        previous = offset
        yield found._replace(offset=offset, time=wrapper.time if wrapper.kind else found.time)


def _starts(data: memoryview) -> Iterator[int]:
    """Where messages begin that lie one behind the other."""
    start = 0
    while start < len(data):
        end = _end(data, start)
        yield start
        start = end


def _end(data: memoryview, start: int) -> int:
    if start + _PREFIX.size > len(data):
        raise BatchError("a message is cut off")
    length = _PREFIX.unpack_from(data, start)[1]
    if not 0 <= length <= len(data) - start - _PREFIX.size:
        raise BatchError("a message is longer than its batch")
    return int(start + _PREFIX.size + length)


def _message(data: memoryview, start: int, magic: int, kind: int) -> Message:
    """The message at `start`, with the offset that it claims."""
    end, head = _end(data, start), _HEAD[magic]
    position = start + _PREFIX.size
    if position + head.size > end:
        raise BatchError("a message is shorter than its head")
    time = head.unpack_from(data, position)[3] if magic else -1
    key, position = _bytes(data, position + head.size, end)
    value, position = _bytes(data, position, end)
    return Message(_PREFIX.unpack_from(data, start)[0], time, kind, key, value, end - start)


def _bytes(data: memoryview, position: int, end: int) -> tuple[bytes | None, int]:
    if position + _LENGTH.size > end:
        raise BatchError("a message is shorter than its fields")
    (length,) = _LENGTH.unpack_from(data, position)
    position += _LENGTH.size
    if length < 0:
        return None, position
    if position + length > end:
        raise BatchError("a field is longer than its message")
    return data[position : position + length].tobytes(), position + length
