"""Tables: the one form of what an evaluation found, printed, drawn and written as JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[Any, Any]
"""Cells by name: text, whole numbers and floats; tables and mappings are for JSON alone."""
Show = Any | Callable[[Row], Any]
"""What a printed column shows of a row: the cell of a name, or what a function makes of the row."""


class Table(dict[Any, Row]):
    """Rows by key: a name, a number such as a budget, or a tuple of them; all have the same cells.

    A cell's type is its column's. NaN is printed as `-` and is null in JSON.
    """

    def text(self, title: str, keys: Sequence[str], columns: Mapping[str, Show]) -> str:
        """The table with a title; `keys` head the columns of the key, `columns` those after it."""
        rows = []
        for key, row in self.items():
            names = key if isinstance(key, tuple) else (key,)
            shown = (show(row) if callable(show) else row[show] for show in columns.values())
            rows.append([*(n if isinstance(n, str) else f"{n:g}" for n in names), *shown])
        return text_table(title, [*keys, *columns], rows)

    def draw(
        self,
        axes: Axes,
        y: Callable[[Row], float],
        error: Callable[[Row], float],
        shift: float = 1.0,
        **style: Any,
    ) -> None:
        """Draw a line of points with error bars over the keys, which are numbers, times `shift`."""
        axes.errorbar(
            [key * shift for key in self],
            [y(row) for row in self.values()],
            yerr=[error(row) for row in self.values()],
            fmt="o-",
            linewidth=1.0,
            markersize=3.5,
            **style,
        )

    def flat(self) -> Table:
        """Of a table of tables: one table whose keys are pairs."""
        return Table(((a, b), row) for a, inner in self.items() for b, row in inner.items())

    def columns(self) -> dict[Any, dict[Any, Any]]:
        """Cells by column, then by key."""
        first: Row = next(iter(self.values()), {})
        return {name: {key: row[name] for key, row in self.items()} for name in first}


def dump(found: Any) -> Any:
    """Tables, mappings and dataclasses (their fields by name) as JSON takes them.

    Floats have six significant digits; NaN and infinity, which JSON lacks, are None.
    """
    if is_dataclass(found):
        return {one.name: dump(getattr(found, one.name)) for one in fields(found)}
    if isinstance(found, Mapping):
        return {str(key): dump(cell) for key, cell in found.items()}
    if isinstance(found, float):
        return float(f"{found:.6g}") if math.isfinite(found) else None
    return found


def text_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str | float]]) -> str:
    """A table with a title; text is set left, numbers right, NaN is `-`."""
    body = [list(row) for row in rows]
    texts = [[_cell(cell) for cell in row] for row in body]
    widths = [max(map(len, column)) for column in zip(columns, *texts, strict=True)]
    right = [any(not isinstance(row[i], str) for row in body) for i in range(len(columns))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(cells, widths, right, strict=True)
        )
        return "  ".join(padded).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([title, line(columns), rule, *map(line, texts)])


def _cell(cell: str | float) -> str:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int):
        return str(cell)
    return "-" if math.isnan(cell) else f"{cell:.3g}" if abs(cell) < 0.1 else f"{cell:.3f}"


def mean(values: Sequence[float]) -> float:
    """Mean of those that are numbers; NaN where none is."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def spread(values: Sequence[float]) -> float:
    """Sample standard deviation; NaN for fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
