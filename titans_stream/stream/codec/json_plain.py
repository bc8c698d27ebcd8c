"""The plain way from a message to its readings: generic JSON, field by field.

It knows every shape of message and finds the reason of every failure. The typed way
(json_typed.py) gives the same readings faster.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np

from titans_stream.durations import DAY, MILLISECOND, SECOND
from titans_stream.records import Int64
from titans_stream.stream.codec.fields import (
    MISSING,
    Path,
    Reason,
    UnusableError,
    find,
    format_path,
    json_type,
    parse_path,
)
from titans_stream.stream.codec.timestamps import TimestampReader
from titans_stream.stream.codec.values import ReadValue, plain_number, value_readers
from titans_stream.stream.messages import LOG_APPEND_TIME, RawMessage
from titans_stream.stream.settings import InputConfig
from titans_stream.times import MAX_TIMESTAMP, TimeRangeError

Reading = tuple[str, int, float, str]
"""Series id, nanoseconds since the epoch, value (NaN where it is missing), group id or nothing."""

MOST_PROBLEMS = 5
"""So many problems of a message are named; the others are counted."""
_ABSURD = 3_650 * DAY
"""So far ahead of the present is no clock, but another unit."""
_JSON_BEGINS = frozenset(b"\t\n\r") | frozenset(range(0x20, 0x7F))
"""Text in ASCII begins with one of these bytes."""
_MAGIC = b"\0"
_HEADER = 5
"""A schema registry's serializers write a byte 0 and the schema's number in four bytes."""
_OPENING = (b"{", b"[")
_AVRO = b"Obj\1"
_LONGEST_INTEGER = 400
"""More digits than any float has; such a number is read as infinite."""


class Problems:
    """What is wrong with the readings of one message: the first few, and how many there are."""

    def __init__(self) -> None:
        self.named: list[UnusableError] = []
        self.count = 0

    @property
    def full(self) -> bool:
        """Whether further problems are counted only."""
        return len(self.named) >= MOST_PROBLEMS

    def add(self, problem: UnusableError, prefix: str = "") -> None:
        """Take a problem found at the place that `prefix` names."""
        self.count += 1
        if not self.full:
            self.named.append(UnusableError(problem.reason, prefix + problem.detail))


class PlainDecoder:
    """Decodes one message at a time."""

    def __init__(self, config: InputConfig, read_time: TimestampReader) -> None:
        self._template = config.series_template
        self._group_template = config.group_template
        self._values = [(name, parse_path(name)) for name in config.value_names]
        self.read_values: dict[str, ReadValue] = value_readers(config) or dict.fromkeys(
            config.value_names, plain_number
        )
        """How the value of each field is read."""
        self._unwrap = config.lenient
        self._needs_object = all(path for _, path in self._values)
        self._items = None if config.items is None else parse_path(config.items)
        self._time = None if config.timestamp.field is None else parse_path(config.timestamp.field)
        self._read_time = read_time
        self._earliest = config.min_timestamp
        self._earliest_sent = max(config.min_timestamp, 0)
        self._max_future = config.max_future

    def decode(self, message: RawMessage, now: int) -> tuple[list[Reading], Problems]:
        """The readings of a message and what is wrong with those that are none.

        `now` is the present in nanoseconds since the epoch.
        """
        readings: list[Reading] = []
        problems = Problems()
        try:
            if message.problem:
                raise UnusableError(Reason.UNREADABLE, message.problem)
            for prefix, find_field in self._scopes(message, problems):
                self._reading(message, now, prefix, find_field, readings, problems)
        except UnusableError as problem:
            problems.add(problem)
        return readings, problems

    def latest(self, message: RawMessage, now: int) -> int:
        """The latest time that a message may hold: `max_future` after it was sent.

        The message's own Kafka timestamp decides, so that a replay decides the same: always where
        the broker set it, else where it is not later than the present, which decides then, as it
        does where the timestamp is missing or absurd.
        """
        sent = message.timestamp_ms * MILLISECOND
        known = self._is_known(sent, message.timestamp_type == LOG_APPEND_TIME, now)
        return (sent if known else now) + self._max_future

    def _is_known(self, sent: Any, brokers: Any, now: int) -> Any:
        """Whether Kafka timestamps decide: of a message, or arrays of several."""
        known = (sent <= now) | (brokers & (sent <= MAX_TIMESTAMP))
        return known & (sent >= self._earliest_sent)

    def latest_of(self, messages: Sequence[RawMessage], now: int) -> Int64:
        """`latest` of each of N messages. ValueError where one has an absurd time."""
        times = np.fromiter((one.timestamp_ms for one in messages), np.int64, len(messages))
        most = MAX_TIMESTAMP // MILLISECOND
        if times.min(initial=0) < -most or times.max(initial=0) > most:
            raise ValueError("absurd")
        sent = times * MILLISECOND
        kinds = np.fromiter((one.timestamp_type for one in messages), np.int64, len(messages))
        known = self._is_known(sent, kinds == LOG_APPEND_TIME, now)
        latest: Int64 = np.where(known, sent, now) + self._max_future
        return latest

    def _scopes(
        self, message: RawMessage, problems: Problems
    ) -> Iterator[tuple[str, Callable[[Path], Any]]]:
        """For each reading of the message: its place in words, and how its fields are found."""
        document = parse_json(unwrapped(message.value) if self._unwrap else message.value)
        if self._items is None:
            self._check_object("", document)
            yield "", lambda path: find(document, path)
            return
        items = find(document, self._items)
        name = format_path(self._items)
        if items is MISSING:
            self._check_object("", document)
            raise UnusableError(Reason.MISSING_FIELD, f"{name}: not there")
        if type(items) is not list:
            raise UnusableError(
                Reason.WRONG_TYPE, f"{name}: an array is needed, not {json_type(items)}"
            )
        place = "" if name == "." else name
        for index, item in enumerate(items):
            if self._needs_object and problems.full and type(item) is not dict:
                problems.count += 1
                continue
            try:
                self._check_object(f"{place}[{index}]: ", item)
            except UnusableError as problem:
                problems.add(problem)
                continue
            yield f"{place}[{index}].", _item_finder(item, document)

    def _check_object(self, prefix: str, document: object) -> None:
        if self._needs_object and type(document) is not dict:
            detail = f"{prefix}an object is needed, not {json_type(document)}"
            raise UnusableError(Reason.NOT_AN_OBJECT, detail)

    def _reading(
        self,
        message: RawMessage,
        now: int,
        prefix: str,
        find_field: Callable[[Path], Any],
        readings: list[Reading],
        problems: Problems,
    ) -> None:
        """Add the values found in one scope to `readings`, and what is wrong to `problems`."""
        try:
            timestamp = self._timestamp(message, now, find_field)
        except UnusableError as problem:
            problems.add(problem, prefix)
            return
        needed = partial(_needed, find_field)
        for name, path in self._values:
            try:
                series = self.series(message, name, needed)
                group = self.group(message, name, needed)
                value = _present(find_field, path)
                readings.append((series, timestamp, self._value(name, path, value), group))
            except UnusableError as problem:
                problems.add(problem, prefix)

    def _value(self, name: str, path: Path, value: object) -> float:
        try:
            return self.read_values[name](value)
        except UnusableError as problem:
            raise UnusableError(problem.reason, f"{format_path(path)}: {problem.detail}") from None

    def series(self, message: RawMessage, value_name: str, field: Callable[[Path], object]) -> str:
        """The series id of a value; UnusableError where it cannot be rendered."""
        return self._template.render(field, partial(_special, message, value_name))

    def group(self, message: RawMessage, value_name: str, field: Callable[[Path], object]) -> str:
        """The group id of a value, nothing where there are no groups; raises as `series`."""
        if self._group_template is None:
            return ""
        return self._group_template.render(field, partial(_special, message, value_name))

    def _timestamp(self, message: RawMessage, now: int, find_field: Callable[[Path], Any]) -> int:
        if self._time is None:
            name, timestamp = "Kafka timestamp", kafka_time(message)
        else:
            name, value = format_path(self._time), None
            try:
                value = _needed(find_field, self._time)
                timestamp = self._read_time(value)
            except UnusableError as problem:
                if problem.reason in (Reason.MISSING_FIELD, Reason.NOT_AN_OBJECT):
                    raise
                raise UnusableError(problem.reason, f"{name}: {problem.detail}") from problem
            except TimeRangeError as error:
                raise UnusableError(Reason.TIMESTAMP_OUT_OF_RANGE, f"{name}: {error}") from error
            except ValueError as error:
                is_number = isinstance(value, str) and value.strip().replace(".", "", 1).isdecimal()
                hint = " (input.lenient: true reads it)" if is_number and not self._unwrap else ""
                raise UnusableError(Reason.INVALID_TIMESTAMP, f"{name}: {error}{hint}") from error
        if timestamp < self._earliest:
            raise UnusableError(
                Reason.TIMESTAMP_OUT_OF_RANGE, f"{name}: earlier than min_timestamp"
            )
        if timestamp > self.latest(message, now):
            raise UnusableError(
                Reason.TIMESTAMP_OUT_OF_RANGE,
                f"{name}: later than max_future after {_sent(message, now)}",
            )
        return timestamp


def kafka_time(message: RawMessage) -> int:
    """Nanoseconds since the epoch of the Kafka timestamp, in no range; UnusableError without one.

    One that is negative is none, whatever `min_timestamp` is.
    """
    if message.timestamp_ms < 0:
        raise UnusableError(Reason.INVALID_TIMESTAMP, "the Kafka message has no timestamp")
    return message.timestamp_ms * MILLISECOND


def _sent(message: RawMessage, now: int) -> str:
    """The time that `max_future` was counted from, in words."""
    ahead = message.timestamp_ms * MILLISECOND - now
    if not SECOND < ahead < _ABSURD or message.timestamp_type == LOG_APPEND_TIME:
        return "the message was sent"
    return (
        "the present; the message was sent in the future, by "
        f"{ahead / SECOND:,.0f} s: is this machine's clock right?"
    )


def unwrapped(value: bytes | None) -> bytes | None:
    """The JSON after a byte-order mark, or after the header of a schema registry."""
    if value is None:
        return None
    if value.startswith(codecs.BOM_UTF8):
        return value[len(codecs.BOM_UTF8) :]
    if value[:1] == _MAGIC and value[_HEADER : _HEADER + 1] in _OPENING:
        return value[_HEADER:]
    return value


def _refuse_foreign(value: bytes) -> None:
    """UnusableError for what begins like no text: another format, or JSON behind a mark."""
    if value.startswith(codecs.BOM_UTF8):
        raise UnusableError(
            Reason.BYTE_ORDER_MARK,
            "begins with a byte-order mark: input.lenient: true reads what follows",
        )
    if value.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UnusableError(Reason.BYTE_ORDER_MARK, "text in UTF-16: JSON in UTF-8 is needed")
    if value[:1] == _MAGIC and len(value) > _HEADER:
        number = int.from_bytes(value[1:_HEADER], "big")
        told = f"begins with the header of a schema registry (schema {number}): "
        if value[_HEADER : _HEADER + 1] in _OPENING:
            raise UnusableError(
                Reason.SCHEMA_REGISTRY, told + "input.lenient: true reads the JSON that follows"
            )
        raise UnusableError(
            Reason.SCHEMA_REGISTRY,
            told + "Avro and Protobuf are not supported yet, have it converted to JSON",
        )
    raise UnusableError(
        Reason.BINARY_MESSAGE,
        f"begins with byte {value[0]:#04x} and is no JSON: Avro, Protobuf and packed data are "
        "not supported yet",
    )


def parse_json(value: bytes | None) -> Any:
    """The JSON document of a message's bytes.

    The literals NaN and Infinity, which some writers emit, are taken, and numbers beyond the range
    of a float become infinite. UnusableError for anything else that is not JSON in UTF-8.
    """
    if not value:
        raise UnusableError(Reason.EMPTY_MESSAGE, "the message has no value")
    if value[0] not in _JSON_BEGINS or value.startswith(_AVRO):
        _refuse_foreign(value)
    try:
        return msgspec.json.decode(value)
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(value.decode(), parse_int=_integer)
    except RecursionError as error:
        raise UnusableError(Reason.INVALID_JSON, "nested too deeply") from error
    except UnicodeDecodeError as error:
        raise UnusableError(Reason.INVALID_JSON, f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        detail = f"{error.msg} at character {error.pos}"
        raise UnusableError(Reason.INVALID_JSON, detail) from error


def _special(message: RawMessage, value_name: str, name: str) -> str:
    if name == "key":
        return key_text(message.key)
    if name == "value_name":
        return value_name
    return message.topic if name == "topic" else str(message.partition)


def key_text(key: bytes | None) -> str:
    """The key of a message as text; UnusableError where there is none or it is not UTF-8."""
    if key is None:
        raise UnusableError(Reason.MISSING_KEY, "key: the series id needs it, the message has none")
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise UnusableError(Reason.INVALID_KEY, f"key: not UTF-8 at byte {error.start}") from error


def _integer(digits: str) -> float:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else float(digits)


def _item_finder(item: object, document: object) -> Callable[[Path], Any]:
    def find_field(path: Path) -> Any:
        value = find(item, path)
        return find(document, path) if value is MISSING else value

    return find_field


def _present(find_field: Callable[[Path], Any], path: Path) -> Any:
    value = find_field(path)
    if value is MISSING:
        raise UnusableError(Reason.MISSING_FIELD, f"{format_path(path)}: not there")
    return value


def _needed(find_field: Callable[[Path], Any], path: Path) -> Any:
    value = _present(find_field, path)
    if value is None:
        raise UnusableError(Reason.MISSING_FIELD, f"{format_path(path)}: null")
    return value
