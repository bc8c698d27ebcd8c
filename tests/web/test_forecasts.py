"""Forecasts are kept by series, within a limit of bytes."""

from __future__ import annotations

from titans_stream.records import Forecast, ModelRef, Source
from titans_stream.stream.encoding import encode_forecast
from titans_stream.web.forecasts import Forecasts


def message(series: str, median: float) -> bytes:
    made = Forecast(
        series, "2026-03-01T00:00:00Z", ["2026-03-01T00:01:00Z"], [median],
        {"0.1": [median - 1]}, None, ModelRef("base", "1"), Source("in", 0, 1),
    )  # fmt: skip
    return encode_forecast(made).value


def test_the_newest_forecast_of_a_series_is_kept() -> None:
    kept = Forecasts(10_000)
    kept.take("a", message("a", 1.0))
    kept.take("a", message("a", 2.0))
    found = kept.of("a")
    assert found is not None and found.median == [2.0]
    assert kept.of("b") is None
    kept.take("c", b"{not json")
    assert kept.of("c") is None


def test_beyond_the_limit_the_oldest_go() -> None:
    size = len(message("s00", 1.5))
    kept = Forecasts(10 * size)
    for i in range(25):
        kept.take(f"s{i:02d}", message(f"s{i:02d}", 1.5))
    assert len(kept) == 10
    assert kept.of("s14") is None and kept.of("s15") is not None
