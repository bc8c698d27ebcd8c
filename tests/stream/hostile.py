"""Record batches made by hand, as no client library would make them, and a way to store them."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence

import crc32c

HEADER = struct.Struct(">qiibIhiqqqhii")


def varint(number: int) -> bytes:
    number = ((number << 1) ^ (number >> 63)) & (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(content: bytes | None) -> bytes:
    return varint(-1) if content is None else varint(len(content)) + content


def record(
    value: bytes | None,
    *,
    headers: Sequence[tuple[bytes, bytes | None]] = (),
    offset: int = 0,
    key: bytes | None = None,
) -> bytes:
    body = b"\0" + varint(0) + varint(offset) + field(key) + field(value) + varint(len(headers))
    for name, content in headers:
        body += field(name) + field(content)
    return varint(len(body)) + body


def batch(
    content: bytes,
    count: int = 1,
    *,
    attributes: int = 0,
    last: int | None = None,
    at: int | None = None,
    base: int = 0,
) -> bytes:
    """A batch of format 2 with a right checksum; `last`: its last offset within the batch."""
    now = int(time.time() * 1000) if at is None else at
    last = count - 1 if last is None else last
    length = HEADER.size - 12 + len(content)
    head = HEADER.pack(base, length, -1, 2, 0, attributes, last, now, now, -1, -1, -1, count)
    data = bytearray(head + content)
    struct.pack_into(">I", data, 17, crc32c.crc32c(memoryview(data)[21:]))
    return bytes(data)


def store(bootstrap: str, topic: str, data: bytes, partition: int = 0) -> int:
    """Write a batch with a ProduceRequest of version 3; the broker's error code."""
    host, port = bootstrap.rsplit(":", 1)
    name = topic.encode()
    body = struct.pack(">hhii", -1, 1, 10_000, 1) + struct.pack(">h", len(name)) + name
    body += struct.pack(">iii", 1, partition, len(data)) + data
    frame = struct.pack(">hhih", 0, 3, 7, 1) + b"t" + body
    with socket.create_connection((host, int(port)), 10) as connection:
        connection.sendall(struct.pack(">i", len(frame)) + frame)
        file = connection.makefile("rb")
        (length,) = struct.unpack(">i", file.read(4))
        answer = file.read(length)
    (code,) = struct.unpack_from(">h", answer, 4 + 4 + 2 + len(name) + 4 + 4)
    return int(code)
