"""The typed way from a message to its readings: a structure made from the connector.

The structure holds just the fields that the connector names, so that decoding skips all others
and checks types in the same pass.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import msgspec

from titans_stream.ids import ENTRY_BYTES, IdTable
from titans_stream.stream.codec.fields import Path, parse_path
from titans_stream.stream.codec.json_plain import PlainDecoder
from titans_stream.stream.codec.series_template import SeriesTemplate
from titans_stream.stream.codec.values import ReadValue, value_readers
from titans_stream.stream.messages import RawMessage
from titans_stream.stream.settings import InputConfig

ID = str | int
TIME = str | int | float
VALUE = float | None
LENIENT_VALUE = float | str | bool | None

_UNFIT = re.compile(r'["\\\x00-\x1f]')
"""Characters that msgspec does not take in the name of a field."""

Render = Callable[[RawMessage, str, Callable[[Path], object]], str]
"""Makes an id of a message, the name of a value, and the fields by path."""

Tree = dict[str, Any]
"""Field names to types, or to the trees of the objects in them."""


class Names(dict[Any, Any]):
    """Ids by the fields that they are rendered from, rendered by `render` when first seen.

    One id per key, or a tuple of them where a message has several values. Mappings for series and
    group ids of one connector have the same keys. With a `table` the ids are codes in it.

    `size` is in bytes, with keys and ids but for those in the table; what others hold, too, counts
    in full. Nothing is let go but by `clear`, which is the owner's to call: a key can be as long as
    a message, and stays where the message turns out to be unusable.
    """

    def __init__(self, config: InputConfig, render: Render, table: IdTable | None = None) -> None:
        super().__init__()
        self.size = 0
        self._render = render
        self._table = table
        self._fields = id_fields(config)
        self._value_names = config.value_names
        templates = _templates(config)
        self._uses = {
            name: any(template.uses(name) for template in templates)
            for name in ("key", "topic", "partition")
        }
        self.needs_message = any(self._uses.values())
        """Whether keys hold more than fields: see `message_key`."""

    def message_key(self, message: RawMessage, fields: Any) -> Any:
        """The key of a message in this mapping, when the template names key, topic or partition."""
        uses = self._uses
        return (
            fields,
            message.topic if uses["topic"] else "",
            message.partition if uses["partition"] else 0,
            message.key if uses["key"] else None,
        )

    def __missing__(self, key: Any) -> Any:
        fields, topic, partition, message_key = key if self.needs_message else (key, "", 0, None)
        texts = (fields,) if len(self._fields) == 1 else fields
        by_path = dict(zip(self._fields, texts, strict=True)) if self._fields else {}
        message = RawMessage(topic, partition, 0, 0, message_key, None)
        ids: tuple[Any, ...] = tuple(
            self._render(message, name, by_path.__getitem__) for name in self._value_names
        )
        self.size += ENTRY_BYTES + _size(key)
        if self._table is None:
            self.size += _size(ids)
        else:
            ids = tuple(map(self._table.code, ids))
        result = self[key] = ids[0] if len(ids) == 1 else ids
        return result

    def clear(self) -> None:
        """Forget all keys; codes of a table that is cleared, too, are no longer given."""
        super().clear()
        self.size = 0


def _size(part: Any) -> int:
    """Bytes of a key or an id; those of a tuple with what it holds."""
    size = sys.getsizeof(part)
    return size + sum(map(_size, part)) if type(part) is tuple else size


@dataclass(frozen=True, slots=True)
class TypedWay:
    """Accessors compiled for one connector.

    `parse` raises ValueError or RecursionError for a message that does not fit. `get_fields` gives
    the fields of series and group id, one alone or several as a tuple; `get_value` the value, or
    the tuple of several, and raises ValueError for one that is none.
    """

    parse: Callable[[bytes], Any]
    get_fields: Callable[[Any], Any]
    get_time: Callable[[Any], Any] | None
    get_value: Callable[[Any], Any]
    names: Names
    groups: Names | None


def _templates(config: InputConfig) -> list[SeriesTemplate]:
    group = config.group_template
    return [config.series_template] if group is None else [config.series_template, group]


def id_fields(config: InputConfig) -> tuple[Path, ...]:
    """The fields that series and group id are rendered from, each once."""
    return tuple(dict.fromkeys(path for template in _templates(config) for path in template.fields))


def typed_way(config: InputConfig, plain: PlainDecoder, table: IdTable) -> TypedWay | None:
    """The typed way for a connector; None for shapes that only the plain way knows.

    Series ids are codes in `table`.

    Those are arrays of readings (json_arrays.py), a message that is the value itself, a field that
    is named twice for different things, and names of unusual characters.
    """
    if config.items is not None:
        return None
    fields = id_fields(config)
    time = None if config.timestamp.field is None else parse_path(config.timestamp.field)
    values = [parse_path(name) for name in config.value_names]
    tree: Tree = {}
    readers = value_readers(config)
    kind = VALUE if readers is None else LENIENT_VALUE
    wanted: list[tuple[Path, Any]] = [(path, ID) for path in fields]
    wanted += [(path, kind) for path in values]
    if time is not None:
        wanted.append((time, TIME))
    if not all(plant(tree, path, kind) for path, kind in wanted):
        return None
    attributes: dict[Path, str] = {}
    structure = _structure(tree, (), "", attributes)
    return TypedWay(
        parse=msgspec.json.Decoder(structure).decode,
        get_fields=_getter([attributes[path] for path in fields]),
        get_time=None if time is None else attrgetter(attributes[time]),
        get_value=_value_getter([attributes[path] for path in values], readers),
        names=Names(config, plain.series, table),
        groups=None if config.group is None else Names(config, plain.group),
    )


def plant(tree: Tree, path: Path, kind: Any) -> bool:
    """Add a leaf to the tree; False where that cannot be."""
    if not path or any(_UNFIT.search(name) for name in path):
        return False
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):
            return False
    return bool(tree.setdefault(path[-1], kind) == kind)


def _structure(tree: Tree, path: Path, prefix: str, attributes: dict[Path, str]) -> Any:
    """A msgspec structure of the tree; notes the attribute of each path."""
    members: list[tuple[str, Any, Any]] = []
    for index, (name, kind) in enumerate(tree.items()):
        attribute = f"f{index}"
        attributes[(*path, name)] = prefix + attribute
        if isinstance(kind, dict):
            kind = _structure(kind, (*path, name), f"{prefix}{attribute}.", attributes)
        members.append((attribute, kind, msgspec.field(name=name)))
    return msgspec.defstruct("Message", members, gc=False)


def _getter(attributes: list[str]) -> Callable[[Any], Any]:
    return attrgetter(*attributes) if attributes else lambda _: None


def _value_getter(
    attributes: list[str], readers: dict[str, ReadValue] | None
) -> Callable[[Any], Any]:
    get = _getter(attributes)
    if readers is None:
        return get
    if len(readers) == 1:
        (read,) = readers.values()
        return lambda document: read(get(document))
    each = tuple(readers.values())
    return lambda document: [read(value) for read, value in zip(each, get(document), strict=True)]
