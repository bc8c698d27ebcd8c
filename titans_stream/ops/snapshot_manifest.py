"""What a partition's manifest says: which snapshots there are, and who may write the next one."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from titans_stream.stream.recovery import Saved

NAME = "manifest.json"
SUFFIX, LEFT = ".snapshot", ".left"
"""Ends of the names of objects: snapshots, and states that were left for another model's."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A snapshot: object `name` of `size` bytes with a checksum; 0: it is not known.

    `onto` names the one on which it stands; nothing: it has all series. `left`: it is the state of
    a model that was left. `about` is its header, for people.
    """

    name: str
    offset: int
    schema: str
    size: int
    checksum: int = 0
    onto: str = ""
    left: bool = False
    about: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """`entries` in the order of writing. `writer` is the name of who claimed it last, the
    `epoch`-th to do so."""

    epoch: int = 0
    writer: str = ""
    entries: tuple[Entry, ...] = ()
    format: Literal[2] = 2

    def encode(self) -> bytes:
        """As a document."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)

    @classmethod
    def decode(cls, document: bytes) -> Manifest:
        """Read a document; ValueError for what is none."""
        return msgspec.json.decode(document, type=cls)

    def find(self, name: str) -> Entry | None:
        """The entry of an object."""
        return next((entry for entry in self.entries if entry.name == name), None)

    def chain(self, entry: Entry) -> list[Entry]:
        """An entry and those on which it stands, in turn. ValueError where one is missing."""
        found = [entry]
        while found[-1].onto:
            below = self.find(found[-1].onto)
            if below is None or below in found:
                raise ValueError(f"{found[-1].onto}, on which it stands, is not in the manifest")
            found.append(below)
        return found

    def saved(self, entry: Entry) -> Saved:
        """How an entry is stored."""
        *deltas, base = self.chain(entry)
        size = sum(each.size for each in deltas)
        return Saved(entry.name, entry.size, len(deltas), size, base.size)

    def without(self, names: Iterable[str]) -> Manifest:
        """A manifest without some objects."""
        gone = set(names)
        return replace(self, entries=tuple(e for e in self.entries if e.name not in gone))

    def superfluous(
        self, keep: int, at_most: int, damaged: Collection[str] = frozenset()
    ) -> set[str]:
        """Objects that are not needed for the newest `keep` snapshots at offsets up to `at_most`.

        What is damaged, or stands on it, is none of the `keep`: else the sound ones would have to
        go, one damage after the other.
        Where more than one is kept, one of them does not share its base with the newest: a damage
        of that base leaves it. Of states that were left the newest is needed.
        """
        old = sorted(
            (e for e in self.entries if not e.left and e.offset <= at_most), key=lambda e: e.offset
        )
        sound = [entry for entry in old if not set(self._stands_on(entry)) & set(damaged)]
        points = sound[-keep:]
        bases = {self._base(entry) for entry in points}
        if keep > 1 and len(bases) == 1:
            others = [entry for entry in sound if self._base(entry) not in bases]
            points += others[-1:]
        needed = {name for entry in points for name in self._stands_on(entry)}
        lefts = [entry.name for entry in self.entries if entry.left]
        gone = ({entry.name for entry in old} | set(lefts[:-1])) - needed
        return {entry.name for entry in self.entries if gone & set(self._stands_on(entry))}

    def _stands_on(self, entry: Entry) -> list[str]:
        try:
            return [each.name for each in self.chain(entry)]
        except ValueError:
            return [entry.name]

    def _base(self, entry: Entry) -> str:
        return self._stands_on(entry)[-1]


def is_of_first_format(name: str) -> bool:
    """Whether an object has a name that only earlier releases gave."""
    return name.count(".") == 1 or (name.endswith(LEFT) and "-" not in name)


def age_of(name: str) -> Any:
    """What objects are sorted by, the oldest first, when nothing else tells."""
    number = name.partition(".")[0]
    return (int(number) if number.isdecimal() else -1, name)
