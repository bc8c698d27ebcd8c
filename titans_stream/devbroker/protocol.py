"""Kafka's wire protocol for the development broker, by kafka-python's own message classes.

A request is a frame: a length (int32), a header (api key, version, correlation id, client id) and
a body. kafka-python decodes requests and encodes responses; its message classes are internal to
it, which is why its version is pinned.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from kafka import errors


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and in which version of the request."""

    client_id: str
    version: int


Handler = Callable[[Any, Caller], Awaitable[dict[str, Any] | None]]
"""Takes a decoded request; returns the fields of the response, with dicts for what is nested, or
None for no response. A kafka.errors.BrokerResponseError becomes the response's error code."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One kind of request: its classes, the versions served, and who answers.

    Below version `fenced_from`, clients know a fenced producer by INVALID_PRODUCER_EPOCH only
    (KIP-588).
    """

    request: Any
    response: Any
    min_version: int
    max_version: int
    handler: Handler
    fenced_from: int = 0

    def code(self, error: Exception, version: int) -> int:
        """The error code that a client of this version understands."""
        if isinstance(error, errors.ProducerFencedError) and version < self.fenced_from:
            return int(errors.InvalidProducerEpochError.errno)
        return code_of(error)


@dataclass(frozen=True, slots=True)
class RequestFrame:
    """A request's header and its undecoded body."""

    api_key: int
    version: int
    correlation_id: int
    client_id: str
    body: memoryview


def read_header(frame: bytes, is_flexible: Callable[[int, int], bool]) -> RequestFrame:
    """Split a frame (without its length) into header and body.

    `is_flexible(api_key, version)` tells whether tagged fields follow the header (KIP-482).
    ValueError, IndexError or struct.error where the frame is malformed.
    """
    api_key, version, correlation_id, length = struct.unpack_from(">hhih", frame)
    position = 10
    client_id = ""
    if length >= 0:
        client_id = frame[position : position + length].decode()
        position += length
    if is_flexible(api_key, version):
        count, position = _read_varint(frame, position)
        for _ in range(count):
            _, position = _read_varint(frame, position)
            size, position = _read_varint(frame, position)
            position += size
    body = memoryview(frame)[position:]
    return RequestFrame(api_key, version, correlation_id, client_id, body)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def encode_response(
    operation: Operation, version: int, correlation_id: int, values: dict[str, Any]
) -> bytes:
    """A framed response with these fields; those left out have the schema's defaults."""
    response = operation.response(version=version, **_fields(operation.response, values))
    response.with_header(correlation_id=correlation_id)
    encoded: bytes = response.encode(header=True, framed=True)
    return encoded


def _fields(container: Any, values: dict[str, Any]) -> dict[str, Any]:
    """The values, with the dicts in lists turned into the schema's containers."""
    built = {}
    for name, value in values.items():
        kind = container.fields[name]
        nested = value is not None and kind.is_struct_array()
        built[name] = (
            [kind.data_class(**_fields(kind.data_class, each)) for each in value]
            if nested
            else value
        )
    return built


def code_of(error: Exception) -> int:
    """The protocol's number of a kafka.errors.BrokerResponseError."""
    number: int = error.errno  # type: ignore[attr-defined]
    return number


def outcome(action: Callable[[], object]) -> int:
    """Do something; the error code that it ends with, 0 for none."""
    try:
        action()
    except errors.BrokerResponseError as error:
        return code_of(error)
    return 0
