"""The typed way for arrays of readings: a message's readings as columns, one column after another.

A field is looked up in the reading first, then in the message around it. Whatever does not fit
(another type, a field that is missing, a time that is out of range) sends the whole message the
plain way, which gives the readings that can be used and names the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np

from titans_stream.ids import IdTable
from titans_stream.records import Float64, Int64
from titans_stream.stream.codec.fields import Path, parse_path
from titans_stream.stream.codec.json_plain import PlainDecoder, kafka_time
from titans_stream.stream.codec.json_typed import (
    ID,
    LENIENT_VALUE,
    TIME,
    VALUE,
    Names,
    Tree,
    id_fields,
    plant,
)
from titans_stream.stream.codec.timestamps import TimestampReader
from titans_stream.stream.codec.values import ReadValue, value_readers
from titans_stream.stream.messages import RawMessage
from titans_stream.stream.settings import InputConfig

Get = Callable[[Any], Any]


class ArrayColumns(NamedTuple):
    """The readings of one message, in order; `series` are codes, `group` None without groups."""

    series: Int64
    group: list[str] | None
    timestamp: Int64
    value: Float64


@dataclass(frozen=True, slots=True)
class _Field:
    """Where a field is: in a reading, and in the message (None: the message is the array)."""

    item: Get
    document: Get | None

    def column(self, items: list[Any], document: Any) -> tuple[list[Any], bool]:
        """The field of each reading, and whether it is one value for all of them.

        ValueError where it is missing.
        """
        found = list(map(self.item, items))
        if msgspec.UNSET not in found:
            return found, False
        around = msgspec.UNSET if self.document is None else self.document(document)
        if around is msgspec.UNSET:
            raise ValueError("a field is missing")
        if all(one is msgspec.UNSET for one in found):
            return [around], True
        return [around if one is msgspec.UNSET else one for one in found], False


class ArrayWay:
    """Decodes the arrays of one connector; see `array_way`."""

    def __init__(
        self,
        config: InputConfig,
        plain: PlainDecoder,
        read_time: TimestampReader,
        parse: Callable[[bytes], Any],
        get_items: Get,
        fields: dict[Path, _Field],
        table: IdTable,
    ) -> None:
        self._parse = parse
        self._get_items = get_items
        self._ids = [fields[path] for path in id_fields(config)]
        self._time = None
        if config.timestamp.field is not None:
            self._time = fields[parse_path(config.timestamp.field)]
        (name,) = config.value_names
        self._value = fields[parse_path(name)]
        readers = value_readers(config)
        self._read_value: ReadValue | None = None if readers is None else readers[name]
        self._read_time = read_time
        self.names = Names(config, plain.series, table)
        self.groups = None if config.group is None else Names(config, plain.group)
        self._earliest = config.min_timestamp
        self._latest = plain.latest

    def decode(self, message: RawMessage, raw: bytes, now: int) -> ArrayColumns:
        """The readings of a message; ValueError or RecursionError sends it the plain way."""
        document = self._parse(raw)
        items = self._get_items(document)
        n = len(items)
        if n == 0:
            none: list[str] = []
            groups = None if self.groups is None else none
            times = np.empty(0, np.int64)
            return ArrayColumns(times, groups, times, np.empty(0))
        keys = self._keys(message, items, document)
        series = np.fromiter(map(self.names.__getitem__, keys), np.int64, n)
        group = None
        if self.groups is not None:
            group = list(map(self.groups.__getitem__, keys))
        timestamp = self._times(message, items, document)
        if timestamp.min() < self._earliest or timestamp.max() > self._latest(message, now):
            raise ValueError("out of range")
        values, alike = self._value.column(items, document)
        if self._read_value is not None:
            values = list(map(self._read_value, values))
        value = np.array(values, np.float64)
        if np.isinf(value).any():
            raise ValueError("not finite")
        return ArrayColumns(series, group, timestamp, np.repeat(value, n) if alike else value)

    def _keys(self, message: RawMessage, items: list[Any], document: Any) -> list[Any]:
        """What names look up, by reading."""
        n = len(items)
        columns: list[Any] = []
        for field in self._ids:
            column, alike = field.column(items, document)
            columns.append(repeat(column[0], n) if alike else column)
        keys: list[Any]
        if not columns:
            keys = [None] * n
        elif len(columns) == 1:
            keys = list(columns[0])
        else:
            keys = list(zip(*columns, strict=True))
        if self.names.needs_message:
            keys = [self.names.message_key(message, key) for key in keys]
        return keys

    def _times(self, message: RawMessage, items: list[Any], document: Any) -> Int64:
        n = len(items)
        if self._time is None:
            return np.full(n, kafka_time(message))
        column, alike = self._time.column(items, document)
        times = self._read_time.column(column)
        return np.repeat(times, n) if alike else times


def array_way(
    config: InputConfig, plain: PlainDecoder, read_time: TimestampReader, table: IdTable
) -> ArrayWay | None:
    """The typed way for a connector with `items`; None for shapes that only the plain way knows.

    Those are readings of several values, a reading that is the value itself, and what
    `json_typed.typed_way` leaves to it.
    """
    if config.items is None or len(config.value_names) != 1:
        return None
    kind = VALUE if value_readers(config) is None else LENIENT_VALUE
    wanted: list[tuple[Path, Any]] = [(path, ID) for path in id_fields(config)]
    wanted.append((parse_path(config.value_names[0]), kind))
    if config.timestamp.field is not None:
        wanted.append((parse_path(config.timestamp.field), TIME))
    inside: Tree = {}
    if not all(plant(inside, path, kind) for path, kind in wanted):
        return None
    item_attributes: dict[Path, str] = {}
    item = _optional(inside, (), "", item_attributes)
    where = parse_path(config.items)
    if not where:
        fields = {
            path: _Field(_get(item_attributes[path]), None) for path in item_attributes
        }  # fmt: skip
        parse = msgspec.json.Decoder(list[item]).decode  # type: ignore[valid-type]
        return ArrayWay(config, plain, read_time, parse, lambda document: document, fields, table)
    around: Tree = {}
    if not all(plant(around, path, kind) for path, kind in wanted):
        return None
    if not plant(around, where, list[item]):  # type: ignore[valid-type]
        return None
    attributes: dict[Path, str] = {}
    document = _optional(around, (), "", attributes, where)
    fields = {
        path: _Field(_get(item_attributes[path]), _get(attributes[path])) for path, _ in wanted
    }
    parse = msgspec.json.Decoder(document).decode
    return ArrayWay(config, plain, read_time, parse, attrgetter(attributes[where]), fields, table)


def _optional(
    tree: Tree, path: Path, prefix: str, attributes: dict[Path, str], needed: Path = ()
) -> Any:
    """A structure of a tree whose fields may be missing, but for those on the way to `needed`."""
    members: list[tuple[str, Any, Any]] = []
    for index, (name, kind) in enumerate(tree.items()):
        attribute, place = f"f{index}", (*path, name)
        attributes[place] = prefix + attribute
        if isinstance(kind, dict):
            kind = _optional(kind, place, f"{prefix}{attribute}.", attributes, needed)
        if needed[: len(place)] == place:
            members.append((attribute, kind, msgspec.field(name=name)))
        else:
            unset = msgspec.field(name=name, default=msgspec.UNSET)
            members.append((attribute, kind | msgspec.UnsetType, unset))
    return msgspec.defstruct("Around" if needed else "Item", members, gc=False, kw_only=True)


def _get(attribute: str) -> Get:
    """Follows an attribute; UNSET where an object on the way is missing."""
    first, *rest = attribute.split(".")
    get = attrgetter(first)
    if not rest:
        return get

    def follow(structure: Any) -> Any:
        found = get(structure)
        for name in rest:
            if found is msgspec.UNSET:
                return found
            found = getattr(found, name)
        return found

    return follow
