"""Writes forecasts as CSV, one row per step."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import TextIO

from titans_stream.files.csv_readings import ASSUMED_INTERVAL
from titans_stream.records import Forecast
from titans_stream.times import parse_timestamp

COLUMNS = ("series_id", "origin", "timestamp", "step", "median")


class ForecastWriter:
    """Writes rows to an open text file, the header first.

    `timed` False: the file has no times, and origin and timestamp are numbers of the series'
    readings, counted from 1.
    """

    def __init__(self, out: TextIO, levels: Sequence[float], timed: bool) -> None:
        self._writer = csv.writer(out, lineterminator="\n")
        self._levels = [str(level) for level in levels]
        self._timed = timed
        self._writer.writerow([*COLUMNS, *(f"q{level}" for level in self._levels)])

    def write(self, forecast: Forecast) -> None:
        """Write all steps of a forecast."""
        origin, *times = map(self._time, [forecast.origin, *forecast.timestamps])
        columns = [forecast.quantiles[level] for level in self._levels]
        self._writer.writerows(
            [forecast.series_id, origin, time, step, repr(median), *map(repr, quantiles)]
            for step, (time, median, *quantiles) in enumerate(
                zip(times, forecast.median, *columns, strict=True), start=1
            )
        )

    def _time(self, text: str) -> str:
        return text if self._timed else str(parse_timestamp(text) // ASSUMED_INTERVAL + 1)
