"""Tables as text, and numbers as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

Cell = str | float | int


def text_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
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


def _cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int):
        return str(cell)
    return "-" if math.isnan(cell) else f"{cell:.3g}" if abs(cell) < 0.1 else f"{cell:.3f}"


def number(value: float) -> float | None:
    """`value` for JSON, which has no NaN and no infinity; six significant digits."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def mean(values: Sequence[float]) -> float:
    """Mean of those that are numbers; NaN where none is."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def spread(values: Sequence[float]) -> float:
    """Sample standard deviation; NaN for fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
