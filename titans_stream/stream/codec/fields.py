"""Paths into a decoded JSON message, and why a message cannot be used.

`a.b` is the field `b` of the object `a`; a dot that belongs to a name is written `\\.`. The
path `.` is the message itself.
"""

from __future__ import annotations

import enum
from typing import Any, Final

Path = tuple[str, ...]


class Reason(enum.StrEnum):
    """Why a message, one reading of it, or output about it is a dead letter (docs/messages.md)."""

    UNREADABLE = "unreadable"
    EMPTY_MESSAGE = "empty-message"
    INVALID_JSON = "invalid-json"
    BYTE_ORDER_MARK = "byte-order-mark"
    SCHEMA_REGISTRY = "schema-registry"
    BINARY_MESSAGE = "binary-message"
    NOT_AN_OBJECT = "not-an-object"
    MISSING_FIELD = "missing-field"
    WRONG_TYPE = "wrong-type"
    UNKNOWN_STATE = "unknown-state"
    VALUE_NOT_FINITE = "value-not-finite"
    MISSING_KEY = "missing-key"
    INVALID_KEY = "invalid-key"
    INVALID_SERIES = "invalid-series"
    INVALID_TIMESTAMP = "invalid-timestamp"
    TIMESTAMP_OUT_OF_RANGE = "timestamp-out-of-range"
    TOO_MANY_SERIES = "too-many-series"
    OUTPUT_TOO_LARGE = "output-too-large"
    INVALID_CONTROL = "invalid-control"


class UnusableError(ValueError):
    """A message or reading that cannot be used; `detail` names the field."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class _Missing(enum.Enum):
    MISSING = 0


MISSING: Final = _Missing.MISSING
"""What `find` returns for a field that is not there."""


def parse_path(text: str) -> Path:
    """The names along a dotted path; `.` is the empty path. ValueError for an empty name."""
    if text == ".":
        return ()
    names = [""]
    escaped = False
    for character in text:
        if escaped:
            names[-1] += character if character in ".\\" else "\\" + character
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == ".":
            names.append("")
        else:
            names[-1] += character
    if escaped:
        names[-1] += "\\"
    if "" in names:
        raise ValueError(f"{text!r} is not a field path: a name between dots is empty")
    return tuple(names)


def format_path(path: Path) -> str:
    """The text that `parse_path` reads."""
    return ".".join(name.replace("\\", "\\\\").replace(".", "\\.") for name in path) or "."


def find(document: Any, path: Path) -> Any:
    """The value at `path`, or MISSING."""
    for name in path:
        if type(document) is not dict:
            return MISSING
        document = document.get(name, MISSING)
    return document


def json_type(value: object) -> str:
    """The JSON name of a value's type, with its article, for messages."""
    names = {
        bool: "a truth value",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "an array",
        dict: "an object",
        type(None): "null",
    }
    return names[type(value)]
