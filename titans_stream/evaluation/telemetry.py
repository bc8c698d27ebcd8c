"""Labelled telemetry: loaders, and the scores of detectors on a set of series.

A set is a folder of CSV files, one per series:

- `label` (or `anomaly`, `is_anomaly`): 1 inside a labelled anomaly. Required; files without it
  are left out, with a line in the log.
- `timestamp` (or `datetime`, `date`, `time`): optional, as `score` reads it: RFC 3339 or alike, or
  a number since 1970; times without offset are UTC.
- `split`: optional, `train` or `test`; rows of the split `test` are evaluated. Without it, rows
  from `SKIP_ROWS` on (from the middle on in a series shorter than twice that).
- `changepoint`: ignored. Every other numeric column is a value; several are one asset, scored
  jointly.

The delimiter is a comma, a semicolon or a tab. A root holds sets as folders, or files as one set.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from titans_stream.evaluation.protocol import LabelledSeries, runs
from titans_stream.files.csv_file import CsvChunk, CsvFile
from titans_stream.files.remarks import log_remarks
from titans_stream.records import Float64

log = logging.getLogger(__name__)

SKIP_ROWS = 400
"""First evaluated row of a series that names no split."""

LABELS = ("label", "anomaly", "is_anomaly")
TIMES = ("timestamp", "datetime", "date", "time", "ts")
IGNORED = ("split", "changepoint")


def load_series(path: Path, name: str | None = None) -> LabelledSeries | None:
    """Read one file; None where it has no label column. ValueError names file and column."""
    file = CsvFile(path)
    label = next((column for column in LABELS if column in file.header), None)
    if label is None:
        return None
    time = next((column for column in TIMES if column in file.header), None)
    table = file.read()
    rows = len(table)
    if "split" in table.columns:
        evaluated = np.array([cell == "test" for cell in table.columns["split"]])
    else:
        evaluated = np.arange(rows) >= min(SKIP_ROWS, rows // 2)
    flags = table.known_numbers(label) > 0
    first = int(evaluated.argmax()) if evaluated.any() else rows
    values = _values(table, [c for c in file.named if c not in (label, time, *IGNORED)])
    log_remarks(file)
    return LabelledSeries(
        name=name or path.stem,
        values=values,
        timestamp=None if time is None else table.times(time),
        windows=runs(flags),
        evaluated=evaluated,
        train_end=first if not flags[:first].any() else int(flags.argmax()),
    )


def _values(table: CsvChunk, columns: Sequence[str]) -> Float64:
    if not columns:
        raise ValueError(f"{table.file}: no value column beside the label")
    arrays = [table.known_numbers(column) for column in columns]
    for column, numbers in zip(columns, arrays, strict=True):
        if np.isnan(numbers).all():
            raise ValueError(f"{table.file}: column {column!r} holds no numbers")
    return arrays[0] if len(arrays) == 1 else np.column_stack(arrays)


def numeric_columns(table: CsvChunk, columns: Sequence[str]) -> dict[str, Float64]:
    """Those of `columns` that hold numbers, missing values and nothing else, or truth values."""
    found = {}
    for column in columns:
        try:
            found[column] = table.numbers(column)
        except ValueError:
            cells = [cell.strip().lower() for cell in table.columns[column]]
            if set(cells) <= {"true", "false"}:
                found[column] = np.array([float(cell == "true") for cell in cells])
    return found


def load_set(folder: Path, prefix: str = "") -> list[LabelledSeries]:
    """All labelled series of one folder, in the order of their file names."""
    found = []
    for path in sorted(folder.glob("*.csv")):
        series = load_series(path, prefix + path.stem)
        if series is None:
            log.warning("%s: left out: it has no column %s", path.name, ", ".join(LABELS))
        else:
            found.append(series)
    return found


def load_sets(root: Path) -> dict[str, list[LabelledSeries]]:
    """The sets under `root`: each of its folders, or `root` itself where it holds the files.

    ValueError where there is no labelled series at all.
    """
    if not root.is_dir():
        raise ValueError(f"root: {root} is no folder")
    folders = [folder for folder in sorted(root.iterdir()) if folder.is_dir()]
    sets = {folder.name: load_set(folder) for folder in folders} or {}
    sets = {name: series for name, series in sets.items() if series}
    own = load_set(root)
    if own:
        sets[root.name] = own
    if not sets:
        raise ValueError(f"root: no CSV file with a label column under {root}")
    return sets
