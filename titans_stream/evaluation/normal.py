"""Series without anomalies, on which every alert is a false one.

A root holds CSV files, or folders of them, one set per folder; sets of labelled telemetry may lie
together in a folder `telemetry`. A file with a label column
(`telemetry.py`) gives its rows before the first evaluated or labelled one; any other gives each
of its numeric columns as a series.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import numpy as np

from titans_stream.durations import SECOND
from titans_stream.evaluation.protocol import LabelledSeries
from titans_stream.evaluation.telemetry import TIMES, load_series, numeric_columns
from titans_stream.files.csv_file import CsvFile
from titans_stream.records import Float64, Int64
from titans_stream.synthetic import HELD_OUT, SyntheticSeries, generate

NO_WINDOWS = np.empty((0, 2), dtype=np.int64)
WIDTHS = (2, 4, 8)
"""Channels of made assets."""
INTERVAL = 300 * SECOND


def normal_series(name: str, values: Float64, timestamp: Int64 | None) -> LabelledSeries:
    """A series in which nothing is labelled and every row counts."""
    return LabelledSeries(
        name=name,
        values=values,
        timestamp=timestamp,
        windows=NO_WINDOWS,
        evaluated=np.ones(len(values), dtype=np.bool_),
        train_end=len(values),
    )


def from_synthetic(one: SyntheticSeries) -> LabelledSeries:
    """A made series with its anomalies as windows, every row evaluated."""
    first = int(one.windows[0, 0]) if len(one.windows) else len(one)
    return replace(
        normal_series(one.name, one.value, one.timestamp), windows=one.windows, train_end=first
    )


def made_sets(
    families: Sequence[str] = tuple(HELD_OUT), series: int = 16, length: int = 20_000, seed: int = 1
) -> dict[str, list[LabelledSeries]]:
    """`series` series of each family of the generator, by default of those that decide nothing."""
    return {
        name: [from_synthetic(one) for one in generate((name,), series, length, seed=seed)]
        for name in families
    }


def young_series(series: int = 2_000, seed: int = 2) -> list[LabelledSeries]:
    """Series of 1,000 readings of the families that decide nothing, by turns."""
    return [from_synthetic(one) for one in generate(tuple(HELD_OUT), series, 1_000, seed=seed)]


def made_assets(assets: int, length: int, seed: int = 3) -> list[LabelledSeries]:
    """Assets of 2, 4 and 8 channels by turns, of the families that decide nothing.

    The channels have nothing to do with one another but their timestamps.
    """
    widths = [WIDTHS[i % len(WIDTHS)] for i in range(assets)]
    channels = generate(tuple(HELD_OUT), sum(widths), length, INTERVAL, seed)
    found = []
    for number, (last, width) in enumerate(zip(accumulate(widths), widths, strict=True)):
        mine = channels[last - width : last]
        values = np.column_stack([one.value for one in mine])
        found.append(normal_series(f"{width} channels/{number}", values, mine[0].timestamp))
    return found


def load_normal_sets(root: Path) -> dict[str, list[LabelledSeries]]:
    """The sets under `root`, those in its folder `telemetry` included.

    ValueError where there is no usable file.
    """
    if not root.is_dir():
        raise ValueError(f"root: {root} is no folder")
    folders = [root, *_folders(root), *_folders(root / "telemetry")]
    sets = {folder.name: _load_folder(folder) for folder in folders}
    sets = {name: series for name, series in sets.items() if series}
    if not sets:
        raise ValueError(f"root: no CSV file with series under {root}")
    return sets


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return [folder for folder in sorted(root.iterdir()) if folder.is_dir()]


def _load_folder(folder: Path) -> list[LabelledSeries]:
    found: list[LabelledSeries] = []
    for path in sorted(folder.glob("*.csv")):
        labelled = load_series(path)
        if labelled is None:
            found.extend(_columns(path))
        elif labelled.train_end > 1:
            end = labelled.train_end
            time = None if labelled.timestamp is None else labelled.timestamp[:end]
            found.append(normal_series(labelled.name, labelled.values[:end], time))
    return found


def _columns(path: Path) -> list[LabelledSeries]:
    file = CsvFile(path)
    table = file.read()
    time = next((column for column in TIMES if column in file.header), None)
    stamps = None if time is None else table.times(time)
    columns = numeric_columns(table, [column for column in file.named if column != time])
    return [
        normal_series(f"{path.stem}/{column}", values, stamps) for column, values in columns.items()
    ]
