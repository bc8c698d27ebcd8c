"""Cost of the multi-step forecaster on one core: a reading, a forecast, and state per series.

    python -m benchmarks.forecaster [--series 1 1000 10000] [--seconds 6] [--json FILE]

A call holds one reading of each series (for one series: 1,000 readings), hourly with a daily
period, past the warm-up, so that every reading goes the whole way with the base model: finder of
periods, memory, learning from matured targets, residual, intervals. Forecasts have 96 or 720
steps and four quantiles. Compared in the same run with seasonal naive in numpy (a ring of 24
values a series, one write a reading and one gather a forecast, no quantiles) and with what the
memory allows: the time to read and write a series' whole state once, which a reading does not
need to do.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from titans_stream.forecasting.multi.forecaster import MultiStepForecaster, state_layout
from titans_stream.lifecycle.loading import load_model
from titans_stream.records import Float64, Int64

HOUR = 3_600
START = 19_723 * 86_400
LEVELS = (0.025, 0.1, 0.9, 0.975)
WARM_UP = 900
"""Readings of each series before the clock starts: the far heads learn from the 792nd on."""
ONE_SERIES = 1_000
PERIOD = 24


class Stream:
    """Calls of one reading per series, or of ONE_SERIES readings of a single one."""

    def __init__(self, series: int) -> None:
        self.series = series
        self.per_call = ONE_SERIES if series == 1 else 1
        self.t = 0
        self._rng = np.random.default_rng(series)
        self._phase = self._rng.uniform(0.0, 6.3, series)
        self.arrays = {name: spec.rows(series) for name, spec in state_layout().items()}
        self._forecaster = MultiStepForecaster(load_model("base").weights, LEVELS)

    def batch(self) -> tuple[Int64, Float64, Float64]:
        """Slots, values and seconds of the next call."""
        t = np.repeat(self.t + np.arange(self.per_call), self.series)
        self.t += self.per_call
        slots = np.tile(np.arange(self.series), self.per_call)
        values = 20 + 3 * np.sin(t * 2 * np.pi / PERIOD + self._phase[slots])
        return slots, values + self._rng.standard_normal(len(t)), START + float(HOUR) * t

    def take(self, batch: tuple[Int64, Float64, Float64], steps: int) -> None:
        """Learn a call; `steps` > 0: then forecast every reading's future so far."""
        slots, values, seconds = batch
        self._forecaster.run(
            self.arrays, slots, values, seconds, np.full(len(slots), HOUR * 1e9),
            (seconds * 1e9).astype(np.int64), np.full(len(slots), steps),
        )  # fmt: skip


class SeasonalNaive:
    """The value a period ago, in numpy."""

    def __init__(self, series: int) -> None:
        self._ring = np.zeros((series, PERIOD))

    def take(self, batch: tuple[Int64, Float64, Float64], steps: int) -> None:
        """As `Stream.take`."""
        slots, values, seconds = batch
        at = (seconds // HOUR).astype(np.int64)
        self._ring[slots, at % PERIOD] = values
        if steps:
            ahead = (at[:, None] + 1 + np.arange(steps)) % PERIOD
            self._ring[slots[:, None], ahead]


def timed(
    take: Callable[[tuple[Int64, Float64, Float64], int], None],
    stream: Stream,
    steps: int,
    seconds: float,
) -> float:
    """Microseconds of processor time a reading, the median of three stretches."""
    figures = []
    for _ in range(3):
        spent, done = 0.0, 0
        while spent < seconds / 3:
            some = [stream.batch() for _ in range(1 if steps else 20)]
            begun = time.process_time()
            for batch in some:
                take(batch, steps)
            spent += time.process_time() - begun
            done += sum(len(batch[0]) for batch in some)
        figures.append(1e6 * spent / done)
    return float(np.median(figures))


def bandwidth_bound(series: int) -> float:
    """Microseconds to read and write the whole state of a series once."""
    state = np.zeros((series, sum(spec.nbytes for spec in state_layout().values()) // 8))
    best = np.inf
    for _ in range(5):
        begun = time.perf_counter()
        np.add(state, 1.0, out=state)
        best = min(best, time.perf_counter() - begun)
    return 1e6 * float(best) / series


def measure(series: int, seconds: float) -> dict[str, float]:
    """Costs of one number of series, in microseconds, and bytes."""
    stream, naive = Stream(series), SeasonalNaive(series)
    while stream.t < WARM_UP:
        stream.take(stream.batch(), 0)
    stream.take(stream.batch(), 96)
    reading = timed(stream.take, stream, 0, seconds)
    return {
        "us_per_reading": reading,
        "us_per_forecast_96": timed(stream.take, stream, 96, seconds) - reading,
        "us_per_forecast_720": timed(stream.take, stream, 720, seconds) - reading,
        "naive_us_per_reading": timed(naive.take, stream, 0, seconds / 3),
        "naive_us_per_forecast_96": timed(naive.take, stream, 96, seconds / 3),
        "bandwidth_us": bandwidth_bound(max(series, 1_000)),
        "state_bytes": float(sum(spec.nbytes for spec in state_layout().values())),
    }


def main() -> int:
    """Parse arguments, run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, nargs="+", default=[1, 1_000, 10_000])
    parser.add_argument("--seconds", type=float, default=6.0, help="processor time per figure")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results = {f"{n} series": measure(n, args.seconds) for n in args.series}
    print(
        f"{'us on one core':16}{'reading':>10}{'96 steps':>10}{'720 steps':>11}"
        f"{'naive: reading':>16}{'96 steps':>10}{'state once':>12}{'state, KB':>11}"
    )
    for name, row in results.items():
        print(
            f"{name:16}{row['us_per_reading']:10.2f}{row['us_per_forecast_96']:10.2f}"
            f"{row['us_per_forecast_720']:11.2f}{row['naive_us_per_reading']:16.3f}"
            f"{row['naive_us_per_forecast_96']:10.2f}{row['bandwidth_us']:12.2f}"
            f"{row['state_bytes'] / 1024:11.1f}"
        )
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
