"""Templates of series and group ids, such as `{site}/{machine}/{channel}`.

A name in braces is a field path of the message (fields.py), or one of `{key}`, `{topic}`,
`{partition}`, `{value_name}`. A field that has one of these names is written with a leading
dot, `{.key}`. Literal braces are doubled.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

from titans_stream.stream.codec.fields import Path, Reason, UnusableError, format_path, parse_path

SPECIAL_NAMES = ("key", "topic", "partition", "value_name")
MAX_SERIES_BYTES = 512
"""Longest series or group id, in UTF-8."""

_Kind = Literal["text", "special", "field"]
_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")


class SeriesTemplate:
    """A parsed template. ValueError where it cannot be parsed or names nothing.

    `what` is made of it, a series or a group: the word for error messages.
    """

    def __init__(self, text: str, what: str = "series") -> None:
        if not text:
            raise ValueError(f"the template of the {what} id is empty")
        self.text = text
        self._what = what
        self.parts = [self._part(token) for token in _TOKEN.finditer(text)]
        self.fields: tuple[Path, ...] = tuple(
            dict.fromkeys(part for kind, part in self.parts if kind == "field")
        )
        """The field paths that the template names, each once."""

    def _part(self, token: re.Match[str]) -> tuple[_Kind, Any]:
        literal, name = token[0], token[1]
        if name is None:
            if literal in ("{", "}"):
                raise ValueError(f"{self.text!r}: a lone brace; literal braces are doubled")
            return "text", {"{{": "{", "}}": "}"}.get(literal, literal)
        if name in SPECIAL_NAMES:
            return "special", name
        if name in ("", "."):
            raise ValueError(f"{self.text!r}: a name is needed between braces")
        return "field", parse_path(name.removeprefix("."))

    def uses(self, name: str) -> bool:
        """Whether the template names `{key}`, `{topic}`, `{partition}` or `{value_name}`."""
        return ("special", name) in self.parts

    def render(self, field: Callable[[Path], object], special: Callable[[str], str]) -> str:
        """The id that one reading has.

        `field` gives the value at a path, `special` the text of a special name. UnusableError
        for a value that is neither text nor a whole number, and for an id that is empty or
        longer than MAX_SERIES_BYTES.
        """
        texts = []
        for kind, part in self.parts:
            if kind == "field":
                texts.append(_field_text(part, field(part), self._what))
            else:
                texts.append(part if kind == "text" else special(part))
        return _checked("".join(texts), self._what)


def _field_text(path: Path, value: object, what: str) -> str:
    if type(value) is str:
        return value
    if type(value) is int:
        return format(value, "d")
    raise UnusableError(
        Reason.WRONG_TYPE,
        f"{format_path(path)}: a string or a whole number is needed for the {what} id",
    )


def _checked(text: str, what: str) -> str:
    """`text` if it can be an id, else UnusableError."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise UnusableError(Reason.INVALID_SERIES, f"{what}: not valid Unicode") from error
    if size == 0:
        raise UnusableError(Reason.INVALID_SERIES, f"{what}: the {what} id is empty")
    if size > MAX_SERIES_BYTES:
        raise UnusableError(
            Reason.INVALID_SERIES,
            f"{what}: the {what} id has {size} bytes, more than {MAX_SERIES_BYTES}",
        )
    return text
