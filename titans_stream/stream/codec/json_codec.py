"""The codec of JSON messages.

Two ways lead to the same readings. The typed one (json_typed.py) takes the usual message in a
microsecond or two, that for arrays (json_arrays.py) a reading of a long one in a third of that.
Whatever they refuse goes the plain way (json_plain.py), which also finds the reason of a failure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from titans_stream.durations import MILLISECOND
from titans_stream.ids import IdTable
from titans_stream.records import DeadLetter, Readings, concatenate
from titans_stream.stream.codec.codec import Decoded
from titans_stream.stream.codec.json_arrays import ArrayWay, array_way
from titans_stream.stream.codec.json_plain import PlainDecoder, Problems, kafka_time, unwrapped
from titans_stream.stream.codec.json_typed import Names, TypedWay, typed_way
from titans_stream.stream.codec.timestamps import CALENDAR_SINCE, TimestampReader
from titans_stream.stream.codec.values import missing_numbers
from titans_stream.stream.messages import RawMessage
from titans_stream.stream.settings import InputConfig
from titans_stream.times import load_zone

_TOGETHER = 512
"""Messages that are decoded column by column."""
MOST_BYTES = 512 * 2**20
"""Of ids, and of the fields that they are rendered from, that are kept until all are let go
together: 700,000 usual ids with a group, 1.7 million of one field."""


class _Columns:
    """The columns of `Readings` while they grow; None is a missing value."""

    def __init__(self, grouped: bool, table: IdTable) -> None:
        self._table = table
        self.group: list[str] | None = [] if grouped else None
        self.series: list[int] = []
        self.timestamp: list[int] = []
        self.value: list[float | None] = []
        self.partition: list[int] = []
        self.offset: list[int] = []

    def readings(self) -> Readings:
        return Readings(
            series=self._table.column(self.series),
            timestamp=np.array(self.timestamp, dtype=np.int64),
            value=np.array(self.value, dtype=np.float64),
            partition=np.array(self.partition, dtype=np.int32),
            offset=np.array(self.offset, dtype=np.int64),
            group=self.group,
        )


class JsonCodec:
    """Decodes JSON; a `Codec`. `clock` gives nanoseconds since the epoch."""

    def __init__(self, config: InputConfig, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._read_time = TimestampReader(
            config.timestamp.unit,
            load_zone(config.timezone),
            time_format=config.timestamp.format,
            calendar=config.min_timestamp >= CALENDAR_SINCE,
            lenient=config.lenient,
        )
        self._plain = PlainDecoder(config, self._read_time)
        self._table = IdTable()
        self._typed = typed_way(config, self._plain, self._table)
        self._arrays = array_way(config, self._plain, self._read_time, self._table)
        self._cached: list[IdTable | Names] = [self._table]
        for way in (self._typed, self._arrays):
            if way is not None:
                self._cached += [way.names] if way.groups is None else [way.names, way.groups]
        self._earliest = config.min_timestamp
        self._several = len(config.value_names) > 1
        self._grouped = config.group is not None
        self._unwrap = config.lenient
        self._missing = missing_numbers(config)

    def decode(self, messages: Sequence[RawMessage]) -> Decoded:
        """See `Codec`."""
        now = self._clock()
        if sum(each.size for each in self._cached) > MOST_BYTES:
            # codes name another table from here on; columns of the one before keep theirs
            for each in self._cached:
                each.clear()
        columns = _Columns(self._grouped, self._table)
        dead: list[DeadLetter] = []
        if self._arrays is not None:
            readings = self._decode_arrays(self._arrays, messages, now, dead)
        elif self._typed is None:
            for message in messages:
                self._decode_plain(message, now, columns, dead)
            readings = columns.readings()
        elif self._several:
            self._decode_typed(self._typed, messages, now, columns, dead)
            readings = columns.readings()
        else:
            readings = self._decode_together(self._typed, messages, now, dead)
        if len(self._missing):
            readings.value[np.isin(readings.value, self._missing)] = np.nan
        return Decoded(readings, dead)

    def _decode_plain(
        self, message: RawMessage, now: int, columns: _Columns, dead: list[DeadLetter]
    ) -> None:
        readings, problems = self._plain.decode(message, now)
        for series, timestamp, value, group in readings:
            if columns.group is not None:
                columns.group.append(group)
            columns.series.append(self._table.code(series))
            columns.timestamp.append(timestamp)
            columns.value.append(value)
        columns.partition += [message.partition] * len(readings)
        columns.offset += [message.offset] * len(readings)
        if problems.count:
            dead.append(_dead_letter(message, problems))

    def _decode_arrays(
        self, way: ArrayWay, messages: Sequence[RawMessage], now: int, dead: list[DeadLetter]
    ) -> Readings:
        """Readings of messages of arrays, joined message by message."""
        parts: list[Readings] = []
        for message in messages:
            raw = unwrapped(message.value) if self._unwrap else message.value
            try:
                if raw is None or message.problem or not (raw.isascii() or raw.decode()):
                    raise ValueError("no value")
                found = way.decode(message, raw, now)
            except (ValueError, RecursionError):
                columns = _Columns(self._grouped, self._table)
                self._decode_plain(message, now, columns, dead)
                parts.append(columns.readings())
                continue
            n = len(found.series)
            partition = np.full(n, message.partition, np.int32)
            offset = np.full(n, message.offset, np.int64)
            series = self._table.column(found.series)
            parts.append(
                Readings(series, found.timestamp, found.value, partition, offset, found.group)
            )
        return self._whole(parts)

    def _decode_together(
        self, way: TypedWay, messages: Sequence[RawMessage], now: int, dead: list[DeadLetter]
    ) -> Readings:
        """Messages of one value each, some hundred at a time, column by column.

        Where one of them cannot be used that way they are taken one by one.
        """
        parts: list[Readings] = []
        for first in range(0, len(messages), _TOGETHER):
            some = messages[first : first + _TOGETHER]
            try:
                parts.append(self._columns_of(way, some, now))
            except (ValueError, OverflowError, RecursionError):
                columns = _Columns(self._grouped, self._table)
                self._decode_typed(way, some, now, columns, dead)
                parts.append(columns.readings())
        return self._whole(parts)

    def _whole(self, parts: list[Readings]) -> Readings:
        return concatenate(Readings, parts or [_Columns(self._grouped, self._table).readings()])

    def _columns_of(self, way: TypedWay, messages: Sequence[RawMessage], now: int) -> Readings:
        """The readings of messages; ValueError or RecursionError where one has none."""
        n = len(messages)
        if any(one.problem for one in messages):
            raise ValueError("no value")
        raws = [one.value for one in messages]
        if self._unwrap:
            raws = list(map(unwrapped, raws))
        if None in raws:
            raise ValueError("no value")
        for raw in raws:
            if not (raw.isascii() or raw.decode()):  # type: ignore[union-attr]
                raise ValueError("no value")
        documents = list(map(way.parse, raws))  # type: ignore[arg-type]
        keys = list(map(way.get_fields, documents))
        if way.names.needs_message:
            keys = list(map(way.names.message_key, messages, keys))
        series = np.fromiter(map(way.names.__getitem__, keys), np.int64, n)
        groups = None if way.groups is None else list(map(way.groups.__getitem__, keys))
        latest = self._plain.latest_of(messages, now)
        if way.get_time is None:
            sent = np.fromiter((one.timestamp_ms for one in messages), np.int64, n)
            if sent.min() < 0:
                raise ValueError("no timestamp")
            timestamp = sent * MILLISECOND
        else:
            timestamp = self._read_time.column(list(map(way.get_time, documents)))
        if ((timestamp < self._earliest) | (timestamp > latest)).any():
            raise ValueError("out of range")
        return Readings(
            self._table.column(series),
            timestamp,
            np.array(list(map(way.get_value, documents)), np.float64),
            np.fromiter((one.partition for one in messages), np.int32, n),
            np.fromiter((one.offset for one in messages), np.int64, n),
            groups,
        )

    def _decode_typed(
        self,
        way: TypedWay,
        messages: Sequence[RawMessage],
        now: int,
        columns: _Columns,
        dead: list[DeadLetter],
    ) -> None:
        parse, get_fields, get_time, get_value = (
            way.parse,
            way.get_fields,
            way.get_time,
            way.get_value,
        )
        names, groups = way.names, way.groups
        read_time, latest = self._read_time, self._plain.latest
        needs_message, earliest = names.needs_message, self._earliest
        for message in messages:
            raw = unwrapped(message.value) if self._unwrap else message.value
            try:
                if raw is None or message.problem or not (raw.isascii() or raw.decode()):
                    raise ValueError("no value")
                document = parse(raw)
                key = get_fields(document)
                if needs_message:
                    key = names.message_key(message, key)
                series = names[key]
                group: Any = None if groups is None else groups[key]
                timestamp = (
                    kafka_time(message) if get_time is None else read_time(get_time(document))
                )
                if not earliest <= timestamp <= latest(message, now):
                    raise ValueError("out of range")
                value = get_value(document)
            except (ValueError, RecursionError):
                self._decode_plain(message, now, columns, dead)
                continue
            if columns.group is not None:
                if self._several:
                    columns.group += group
                else:
                    columns.group.append(group)
            if self._several:
                count = len(value)
                columns.series += series
                columns.value += value
                columns.timestamp += [timestamp] * count
                columns.partition += [message.partition] * count
                columns.offset += [message.offset] * count
            else:
                columns.series.append(series)
                columns.value.append(value)
                columns.timestamp.append(timestamp)
                columns.partition.append(message.partition)
                columns.offset.append(message.offset)


def _dead_letter(message: RawMessage, problems: Problems) -> DeadLetter:
    """One dead letter for everything that is wrong with a message; the first reason counts."""
    reason = problems.named[0].reason
    details = [
        problem.detail if problem.reason == reason else f"{problem.detail} ({problem.reason})"
        for problem in problems.named
    ]
    more = problems.count - len(details)
    if more:
        details.append(f"and {more} more")
    return DeadLetter(
        reason=str(reason),
        detail="; ".join(details),
        key=message.key,
        value=message.value,
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
    )
