"""Publishes readings to a connector's input topic, in the shape that the connector reads.

For `replay` of a recorded file, for demos and for benchmarks.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from typing import Any

import orjson
from kafka.errors import KafkaError

from titans_stream.durations import MILLISECOND, SECOND
from titans_stream.stream.codec.fields import Path, format_path, parse_path
from titans_stream.stream.codec.timestamps import SPREADSHEET_EPOCH, UNIT_NANOSECONDS
from titans_stream.stream.kafka.client import KafkaClients
from titans_stream.stream.kafka.errors import ConnectError
from titans_stream.stream.kafka.producer import close_producer
from titans_stream.stream.kafka.translation import translated
from titans_stream.stream.settings import InputConfig
from titans_stream.times import EPOCH, format_timestamp, load_zone

_MOST_UNSENT = 10_000
_FLUSH_SECONDS = 60.0
_NAME = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")


@dataclass(frozen=True, slots=True)
class Row:
    """One message to be: its time, its values by value field, and what names its series.

    A value that is None, NaN or not there goes out as null, which is a missing value. `fields`
    gives a text for each name in the templates of series and group, as `series_fields` finds it.
    """

    timestamp: int
    values: Mapping[str, float | None]
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast rows go out.

    `rate`: so many messages a second. `speedup`: so many times as fast as they were recorded.
    Neither: as fast as it goes.
    """

    rate: float | None = None
    speedup: float | None = None

    def __post_init__(self) -> None:
        for name in ("rate", "speedup"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}: a positive number is needed, not {value}")
        if self.rate is not None and self.speedup is not None:
            raise ValueError("only one of rate and speedup can be given")

    def due(self, index: int, elapsed: int) -> float:
        """Seconds after the start at which a message is due; `elapsed` is nanoseconds of its own
        time since the first."""
        if self.rate is not None:
            return index / self.rate
        return elapsed / SECOND / self.speedup if self.speedup is not None else 0.0


@dataclass(frozen=True, slots=True)
class Published:
    """What was published, and in how many seconds."""

    messages: int
    readings: int
    seconds: float


def series_fields(config: InputConfig, series_id: str) -> dict[str, str]:
    """The texts of the template's names that render to `series_id`.

    ValueError where the template cannot give this id. A template that is one name takes any id.
    """
    return _fields_of(config.series, series_id)


def _fields_of(template: str, series_id: str) -> dict[str, str]:
    names: list[str] = []
    pattern = ""
    position = 0
    for token in _NAME.finditer(template):
        pattern += re.escape(template[position : token.start()])
        position = token.end()
        if token[1] is None:
            pattern += re.escape(token[0][0])
        elif token[1] in names:
            pattern += f"(?P=n{names.index(token[1])})"
        else:
            pattern += f"(?P<n{len(names)}>.+?)"
            names.append(token[1])
    pattern += re.escape(template[position:])
    found = re.fullmatch(pattern, series_id, re.DOTALL)
    if found is None:
        raise ValueError(f"input.series: {template!r} cannot give the series id {series_id!r}")
    return dict(zip(names, found.groups(), strict=True))


class MessageBuilder:
    """Builds messages that the `Codec` of the same input decodes to the same readings."""

    def __init__(self, config: InputConfig) -> None:
        self._config = config
        self._template = config.series_template
        group = config.group_template
        self._fields = (
            self._template.fields if group is None else (*self._template.fields, *group.fields)
        )
        templates = [self._template] if group is None else [self._template, group]
        self._uses_key = any(template.uses("key") for template in templates)
        self._zone = load_zone(config.timezone)
        self._values = {name: parse_path(name) for name in config.value_names}
        self._items = None if config.items is None else parse_path(config.items)
        self._time = None if config.timestamp.field is None else parse_path(config.timestamp.field)

    def build(self, row: Row) -> tuple[bytes, bytes]:
        """Key and value. ValueError where the row lacks a name of the template."""
        document: dict[str, Any] = {}
        for path in self._fields:
            _put(document, path, self._named(row, format_path(path)))
        if self._time is not None:
            _put(document, self._time, self._timestamp(row.timestamp))
        for name, path in self._values.items():
            value = row.values.get(name)
            _put(document, path, None if value is None or not math.isfinite(value) else value)
        return self._key(row), orjson.dumps(self._enclosed(document))

    def _key(self, row: Row) -> bytes:
        """The series id; of several values in a message, what their ids have in common."""
        if self._uses_key:
            return self._named(row, "key").encode()
        only = self._config.value or ""
        special = {"topic": self._config.topic, "partition": "", "value_name": only}
        text = self._template.render(
            lambda path: self._named(row, format_path(path)), special.__getitem__
        )
        return (text if only else text.removesuffix("/")).encode()

    def _named(self, row: Row, name: str) -> str:
        for each in (name, "." + name):
            if each in row.fields:
                return row.fields[each]
        raise ValueError(f"{name}: the series template needs it, the row does not have it")

    def _timestamp(self, timestamp: int) -> str | int | float:
        unit, time_format = self._config.timestamp.unit, self._config.timestamp.format
        if time_format is not None or unit in ("calendar", "days"):
            local = (EPOCH + timedelta(microseconds=timestamp // 1_000)).astimezone(self._zone)
            if time_format is not None:
                return local.strftime(time_format)
            if unit == "calendar":
                return int(local.strftime("%Y%m%d%H%M%S"))
            return SPREADSHEET_EPOCH + (local.replace(tzinfo=UTC) - EPOCH) / timedelta(days=1)
        if unit in ("auto", "rfc3339"):
            return format_timestamp(timestamp)
        whole, rest = divmod(timestamp, UNIT_NANOSECONDS[unit])
        return whole if rest == 0 else timestamp / UNIT_NANOSECONDS[unit]

    def _enclosed(self, document: dict[str, Any]) -> Any:
        if self._items is None:
            return document
        if not self._items:
            return [document]
        outer: dict[str, Any] = {}
        _put(outer, self._items, [document])
        return outer


def publish(
    clients: KafkaClients,
    config: InputConfig,
    rows: Iterable[Row],
    pace: Pace | None = None,
    stop: threading.Event | None = None,
) -> Published:
    """Publish rows, keyed by series.

    Where the connector takes times from Kafka, a row's time is the message's Kafka timestamp.
    Else Kafka sets it: a topic's retention would soon delete messages as old as their readings.
    ConnectError where the topic is missing or may not be written.
    """
    if not config.topic:
        raise ConnectError("input.topic: needed to publish; topics and topic_pattern name several")
    info = clients.topics([config.topic])[config.topic]
    if info is None:
        raise ConnectError(
            f"input.topic: topic {config.topic} does not exist on {clients.servers}; "
            "create it first"
        )
    pace = pace if pace is not None else Pace()
    stop = stop if stop is not None else threading.Event()
    builder = MessageBuilder(config)
    failures: list[KafkaError] = []
    producer = clients.producer()
    messages = readings = 0
    begun = time.monotonic()
    first: int | None = None
    try:
        with translated("publish"):
            for row in rows:
                first = row.timestamp if first is None else first
                wait = begun + pace.due(messages, row.timestamp - first) - time.monotonic()
                if stop.wait(wait) if wait > 0 else stop.is_set():
                    break
                key, value = builder.build(row)
                stamp = None
                if config.timestamp.field is None:
                    stamp = max(row.timestamp // MILLISECOND, 0)
                future = producer.send(config.topic, value, key, None, None, stamp)
                future.add_errback(failures.append)
                messages += 1
                readings += len(row.values)
                if messages % _MOST_UNSENT == 0:
                    producer.flush(_FLUSH_SECONDS)
                if failures:
                    break
            producer.flush(_FLUSH_SECONDS)
            if failures:
                raise failures[0]
    finally:
        close_producer(producer, 1.0)
    return Published(messages, readings, time.monotonic() - begun)


def _put(document: dict[str, Any], path: Path, value: object) -> None:
    """Set the field at a path, making the objects on the way."""
    for name in path[:-1]:
        document = document.setdefault(name, {})
    document[path[-1]] = value
