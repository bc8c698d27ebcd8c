"""Tells a person at a terminal how far long work is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")

_EVERY = 0.1
"""Seconds between two looks of the person."""


def told(
    items: Iterable[Item], unit: str, size: Callable[[Item], int], quiet: bool = False
) -> Iterable[Item]:
    """Hand items on; a line of the terminal says how many of `unit` went by, and how fast.

    Items that can be had several times still can, each time with such a line, which is gone at
    the end. Nothing is shown where standard error is no terminal.
    """
    return items if quiet or not sys.stderr.isatty() else _Told(items, unit, size)


@dataclass(frozen=True, slots=True)
class _Told(Generic[Item]):
    items: Iterable[Item]
    unit: str
    size: Callable[[Item], int]

    def __iter__(self) -> Iterator[Item]:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (
            SpinnerColumn(),
            TextColumn("{task.completed:,.0f} " + self.unit + ", {task.fields[rate]:,.0f}/s"),
            TimeElapsedColumn(),
        )
        begun = shown = time.monotonic()
        count = 0
        with Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress:
            task = progress.add_task("", total=None, rate=0.0)
            for item in self.items:
                yield item
                count += self.size(item)
                now = time.monotonic()
                if now - shown >= _EVERY:
                    shown = now
                    progress.update(task, completed=count, rate=count / max(now - begun, 1e-9))
