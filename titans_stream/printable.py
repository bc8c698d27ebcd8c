"""Text from outside, made fit for a terminal and a log line.

A series id, a key or a field of a message is anybody's text. What acts on a terminal (escape
sequences, C0 and C1 controls), makes a line of its own (newlines of all kinds) or turns the
direction of what follows (bidirectional controls) is shown as the escape that JSON has for it.
"""

from __future__ import annotations

import re
import unicodedata

_SPACE = "Zs"
_USER = re.compile(r"://(?!/)\S*@")
_QUERY = re.compile(r"(\w://[^\s?]*)\?[^\s'\"]*")
_PARTS = re.compile(r"[\s,;/@:?&=]+")
_SHORTEST = 4
"""A part of a secret that is shorter than this tells too little, and occurs in too many words."""


def printable(text: str) -> str:
    """`text` with everything that is not printable escaped, line ends included.

    JSON stays JSON and means the same: its strings may hold any character as an escape.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _shown(c) else _escape(c) for c in text)


def shown(text: str, most: int = 40) -> str:
    """A printable text of at most `most` characters, longer ones with dots at the end."""
    return printable(text if len(text) <= most else text[: most - 3] + "...")


def _shown(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == _SPACE


def _escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def redacted(text: str, secrets: dict[str, str] | None = None) -> str:
    """`text` without user, password and query of the URLs in it.

    `secrets` maps further texts, and by their parts of some length the addresses and lists they
    may be, to what is shown in their place.
    """
    for secret, shown in (secrets or {}).items():
        parts = {secret, repr(secret)[1:-1], *_PARTS.split(secret)}
        for part in sorted(parts, key=len, reverse=True):
            if part and (part == secret or len(part) >= _SHORTEST):
                text = text.replace(part, shown)
    return _QUERY.sub(r"\1?***", _USER.sub("://***@", text))


_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


def csv_cell(text: str) -> str:
    """A text as the cell of a CSV file that no spreadsheet takes for a formula.

    One that begins as a formula does (`=`, `+`, `-`, `@`, tab, carriage return) gets an apostrophe
    before it, and so does one that has apostrophes there already, so that whoever reads the file
    takes away exactly one. A plain number is no formula and stays.
    """
    if _FORMULA.match(text) and not _NUMBER.fullmatch(text):
        return "'" + text
    return text


def csv_text(cell: str) -> str:
    """The text that `csv_cell` made a cell of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
