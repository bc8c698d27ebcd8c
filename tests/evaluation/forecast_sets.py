"""Sets of series for the tests of forecasts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from titans_stream.durations import SECOND
from titans_stream.evaluation.forecasting_contest import ContestSeries
from titans_stream.evaluation.forecasting_data import ForecastSet
from titans_stream.evaluation.forecasting_metrics import ForecastModel
from titans_stream.records import Float64

HOUR = 3600 * SECOND


def waves(rows: int = 900, series: int = 2, seed: int = 0) -> ForecastSet:
    """Noisy daily cycles, hourly, in units of their own."""
    rng = np.random.default_rng(seed)
    t = np.arange(rows)[:, None]
    values = np.sin(2 * np.pi * (t + 3 * np.arange(series)) / 24)
    values = 10 * np.arange(1, series + 1) + 2 * values + 0.4 * rng.standard_normal(values.shape)
    return ForecastSet(
        name="waves",
        columns=tuple(f"s{d}" for d in range(series)),
        values=values,
        timestamp=np.arange(rows, dtype=np.int64) * HOUR,
        train_end=rows * 6 // 10,
        test_start=rows * 8 // 10,
        season=24,
    )


def one_block(model: ForecastModel, data: ForecastSet, origin: int, steps: int) -> Float64:
    (block,) = model.blocks(data, np.array([origin]), steps)
    return block.median[0]


def write_series(path: Path, series: ContestSeries, column: str, offset: str = "Z") -> Path:
    """One series as a CSV file, its times with `offset` behind them."""
    stamps = np.datetime_as_string(series.times.astype("datetime64[ns]"), unit="s")
    lines = [f"{t}{offset},{v:.3f}" for t, v in zip(stamps, series.values, strict=True)]
    path.write_text(f"ts,{column}\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_csv(path: Path, data: ForecastSet) -> Path:
    assert data.timestamp is not None
    times = np.datetime_as_string(data.timestamp.astype("datetime64[ns]"), unit="s")
    rows = [
        ",".join([str(time), "x", *map(str, values)])
        for time, values in zip(times, data.values.tolist(), strict=True)
    ]
    header = ",".join(["Date", "note", *data.columns])
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path
