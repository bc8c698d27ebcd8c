"""What forecasts of a file's own last tenth would have been worth, beside naive ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from titans_stream.durations import DAY
from titans_stream.files.csv_readings import CsvReadings
from titans_stream.records import Forecast
from titans_stream.times import parse_timestamp

LAST = 0.1
"""Share of a series' readings that is forecast again."""
NAIVE = {"last value": 0, "day before": DAY, "week before": 7 * DAY}


@dataclass
class Backtest:
    """Reads along while a file is forecast, and compares.

    Naive forecasts repeat the last value, the day or the week before; the latter two need a reading
    at just that time. A step counts where all of those that a series has know it.
    """

    _values: dict[str, dict[int, float]] = field(default_factory=lambda: defaultdict(dict))

    def readings(self, chunks: Iterable[CsvReadings]) -> Iterator[CsvReadings]:
        """The same readings, taken down."""
        for chunk in chunks:
            readings = chunk.readings
            times, values = readings.timestamp.tolist(), readings.value.tolist()
            for name, time, value in zip(readings.series, times, values, strict=True):
                if np.isfinite(value):
                    self._values[name][time] = value
            yield chunk

    def lines(self, forecasts: Iterable[Forecast]) -> list[str]:
        """What to print of forecasts that are made along a file."""
        made = defaultdict(list)
        for forecast in forecasts:
            made[forecast.series_id].append(forecast)
        means: list[dict[str, float]] = []
        count = 0
        for name, of_series in made.items():
            errors, compared = self._errors(name, of_series)
            if compared:
                means.append({which: float(np.mean(errors[which])) for which in errors})
                count += compared
        if not means:
            return ["backtest: no forecast of the last tenth has readings to compare with"]
        names = [name for name in ("forecast", *NAIVE) if all(name in one for one in means)]
        shown = ", ".join(f"{n} {np.mean([one[n] for one in means]):.4g}" for n in names)
        ratios = [one["forecast"] / min(one[n] for n in NAIVE if n in one) for one in means]
        return [
            f"backtest: {count:,} forecasts in the last tenth of {len(means):,} series; "
            f"mean absolute error: {shown}",
            f"backtest: error over that of each series' best naive forecast: "
            f"{np.mean(ratios):.2f} on average, {max(ratios):.2f} at most",
        ]

    def _errors(self, name: str, forecasts: list[Forecast]) -> tuple[dict[str, list[float]], int]:
        """Absolute errors of the steps that count, and of how many forecasts they are."""
        values = self._values[name]
        times = sorted(values)
        late = times[int((1.0 - LAST) * (len(times) - 1)) :]
        naive = [
            (which, length)
            for which, length in NAIVE.items()
            if 2 * sum(time - length in values for time in late) > len(late)
        ]
        errors: dict[str, list[float]] = defaultdict(list)
        compared = 0
        for forecast in forecasts:
            origin = parse_timestamp(forecast.origin)
            if origin < late[0]:
                continue
            before = len(errors["forecast"])
            for text, median in zip(forecast.timestamps, forecast.median, strict=True):
                time = parse_timestamp(text)
                copied = [
                    time - (-(-(time - origin) // length) * length if length else time - origin)
                    for _, length in naive
                ]
                if not all(one in values for one in (time, *copied)):
                    continue
                errors["forecast"].append(abs(values[time] - median))
                for (which, _), one in zip(naive, copied, strict=True):
                    errors[which].append(abs(values[time] - values[one]))
            compared += len(errors["forecast"]) > before
        for which, _ in naive:
            if sum(errors[which]) == 0.0:  # a constant that is copied: no ratio
                del errors[which]
        return errors, compared if len(errors) > 1 else 0
