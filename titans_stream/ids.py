"""Columns of ids, most of which repeat: places in a table that has each of them once."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import overload

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]

ENTRY_BYTES = 64
"""What an entry of a large dict takes, its key and value aside."""
_CODE_BYTES = 40
"""A code and a place in a list."""


class Ids(Sequence[str]):
    """N ids: `table[codes[i]]` for `codes` [N].

    What `table` holds at a code never changes while columns of it are about; it may grow.
    """

    __slots__ = ("codes", "table")

    def __init__(self, codes: Int64, table: list[str]) -> None:
        self.codes = codes
        self.table = table

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Ids: ...
    def __getitem__(self, index: int | slice) -> str | Ids:
        if isinstance(index, slice):
            return Ids(self.codes[index], self.table)
        return self.table[int(self.codes[index])]

    def __iter__(self) -> Iterator[str]:
        return map(self.table.__getitem__, self.codes.tolist())

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Ids | list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Ids({list(self)})"

    def take(self, index: Int64) -> Ids:
        """The ids at `index`, in that order."""
        return Ids(self.codes[index], self.table)


class IdTable:
    """Gives each id a code when it is seen first. `size` is in bytes, with the ids."""

    def __init__(self) -> None:
        self.size = 0
        self.names: list[str] = []
        self._codes: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.names)

    def code(self, name: str) -> int:
        """The code of an id."""
        found = self._codes.get(name)
        if found is None:
            found = self._codes[name] = len(self.names)
            self.names.append(name)
            self.size += ENTRY_BYTES + _CODE_BYTES + sys.getsizeof(name)
        return found

    def clear(self) -> None:
        """Begin anew; columns that were made keep what they name."""
        self.names, self._codes, self.size = [], {}, 0

    def column(self, codes: Sequence[int] | Int64) -> Ids:
        """Ids by their codes."""
        return Ids(np.asarray(codes, np.int64), self.names)


def taken(ids: Sequence[str], index: Int64) -> Sequence[str]:
    """The ids at `index`, in that order."""
    return ids.take(index) if isinstance(ids, Ids) else [ids[i] for i in index.tolist()]


def joined(parts: Sequence[Sequence[str]]) -> Sequence[str]:
    """The ids of several columns, one after another."""
    columns = [part for part in parts if isinstance(part, Ids)]
    tables = {id(column.table) for column in columns}
    if len(columns) == len(parts) and len(tables) == 1:
        return Ids(np.concatenate([column.codes for column in columns]), columns[0].table)
    return list(chain.from_iterable(parts))
