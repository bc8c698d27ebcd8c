"""Texts from a file, for people."""

from __future__ import annotations


def shown(text: str, most: int = 40) -> str:
    """A text in one line of at most `most` characters; what acts on a terminal is written out."""
    text = text if len(text) <= most else text[: most - 3] + "..."
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)
