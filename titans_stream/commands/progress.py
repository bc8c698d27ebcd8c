"""Tells a person at a terminal how far long work is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

Item = TypeVar("Item")

_EVERY = 0.1
"""Seconds between two looks of the person."""


def told(
    items: Iterable[Item],
    unit: str,
    size: Callable[[Item], int],
    quiet: bool = False,
    total: int | None = None,
) -> Iterable[Item]:
    """Hand items on; a line of the terminal says how many of `unit` went by, and how fast.

    Where the `total` of them is known there is a bar, with percent and the time that is left.
    Items that can be had several times still can, each time with such a line, which is gone at
    the end. Nothing is shown where standard error is no terminal.
    """
    return items if quiet or not sys.stderr.isatty() else _Told(items, unit, size, total)


@dataclass(frozen=True, slots=True)
class _Told(Generic[Item]):
    items: Iterable[Item]
    unit: str
    size: Callable[[Item], int]
    total: int | None

    def _columns(self) -> list[ProgressColumn]:
        from rich.progress import (
            BarColumn,
            SpinnerColumn,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        rate = ", {task.fields[rate]:,.0f}/s"
        if self.total is None:
            counted = TextColumn("{task.completed:,.0f} " + self.unit + rate)
            return [SpinnerColumn(), counted, TimeElapsedColumn()]
        counted = TextColumn("{task.completed:,.0f} / {task.total:,.0f} " + self.unit + rate)
        return [BarColumn(), TaskProgressColumn(), counted, TimeRemainingColumn()]

    def __iter__(self) -> Iterator[Item]:
        from rich.console import Console
        from rich.progress import Progress

        begun = shown = time.monotonic()
        count = 0
        console = Console(file=sys.stderr)
        with Progress(*self._columns(), console=console, transient=True) as progress:
            task = progress.add_task("", total=self.total, rate=0.0)
            for item in self.items:
                yield item
                count += self.size(item)
                now = time.monotonic()
                if now - shown >= _EVERY:
                    shown = now
                    progress.update(task, completed=count, rate=count / max(now - begun, 1e-9))
