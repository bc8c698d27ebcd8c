"""Labelled telemetry: loaders, and the scores of detectors on a set of series.

A set is a folder of CSV files, one per series:

- `label` (or `anomaly`, `is_anomaly`): 1 inside a labelled anomaly. Required; files without it
  are skipped.
- `timestamp` (or `datetime`, `date`, `time`): optional, RFC 3339 or alike; naive times are UTC.
- `split`: optional, `train` or `test`; rows of the split `test` are evaluated. Without it, rows
  from `SKIP_ROWS` on (from the middle on in a series shorter than twice that).
- `changepoint`: ignored. Every other numeric column is a value; several are one asset, scored
  jointly.

The delimiter is a comma or a semicolon. A root holds sets as folders, or files as one set.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from titans_stream.evaluation.protocol import LabelledSeries, runs
from titans_stream.records import Float64, Int64

SKIP_ROWS = 400
"""First evaluated row of a series that names no split."""

LABELS = ("label", "anomaly", "is_anomaly")
TIMES = ("timestamp", "datetime", "date", "time")
IGNORED = ("split", "changepoint")


def read_table(path: Path) -> pd.DataFrame:
    """A CSV file with commas or semicolons. ValueError names a file that cannot be read."""
    try:
        with path.open(encoding="utf-8") as file:
            header = file.readline()
        return pd.read_csv(path, sep=";" if header.count(";") > header.count(",") else ",")
    except (UnicodeDecodeError, pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise ValueError(f"{path.name}: {error}") from error


def load_series(path: Path, name: str | None = None) -> LabelledSeries | None:
    """Read one file; None where it has no label column. ValueError names file and column."""
    table = read_table(path)
    label = next((column for column in LABELS if column in table), None)
    if label is None:
        return None
    time = next((column for column in TIMES if column in table), None)
    columns = [c for c in table.columns if c not in (label, time, *IGNORED)]
    values = _values(path, table, columns)
    rows = len(table)
    if "split" in table:
        evaluated = (table["split"] == "test").to_numpy(dtype=np.bool_)
    else:
        evaluated = np.arange(rows) >= min(SKIP_ROWS, rows // 2)
    flags = pd.to_numeric(table[label], errors="coerce").fillna(0).to_numpy() > 0
    first = int(evaluated.argmax()) if evaluated.any() else rows
    return LabelledSeries(
        name=name or path.stem,
        values=values,
        timestamp=None if time is None else nanoseconds(path, table[time]),
        windows=runs(flags),
        evaluated=evaluated,
        train_end=first if not flags[:first].any() else int(flags.argmax()),
    )


def _values(path: Path, table: pd.DataFrame, columns: Sequence[str]) -> Float64:
    if not columns:
        raise ValueError(f"{path.name}: no value column beside the label")
    arrays = []
    for column in columns:
        numbers = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64)
        if len(numbers) and np.isnan(numbers).all():
            raise ValueError(f"{path.name}: column {column!r} holds no numbers")
        arrays.append(numbers)
    return arrays[0] if len(arrays) == 1 else np.column_stack(arrays)


def nanoseconds(path: Path, column: pd.Series[str]) -> Int64:
    """A column of times as int64 nanoseconds, UTC. ValueError names file and column."""
    try:
        times = pd.to_datetime(column, utc=True)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path.name}: column {column.name!r}: {error}") from error
    return times.dt.tz_localize(None).to_numpy("datetime64[ns]").astype(np.int64)


def load_set(folder: Path, prefix: str = "") -> list[LabelledSeries]:
    """All labelled series of one folder, in the order of their file names."""
    found = []
    for path in sorted(folder.glob("*.csv")):
        series = load_series(path, prefix + path.stem)
        if series is not None:
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
