"""A small plant as the engine sees it, for looking at the page: real scores and alerts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.engine.streams import MODEL as ENGINE_MODEL
from tests.web.samples import MINUTE, MODEL, alert, connector, service
from titans_stream.engine.build import EngineSetup, build_engine
from titans_stream.records import Forecast, Readings, Source
from titans_stream.stream.encoding import encode_forecast
from titans_stream.times import format_timestamp
from titans_stream.web.control import Control
from titans_stream.web.service import Service

N = 700
END = 1_772_366_400 * 1_000_000_000
"""Time of the newest reading: 2026-03-01T12:00:00Z."""
HOSTILE = (
    "<img src=x onerror=\"window.harm='series'\">/°C",
    "plant/</script><script>window.harm='script'</script>",
    "plant/${window.harm='template'}/javascript:alert(1)",
)
"""Ids that a producer may send."""
WORDS = "<b onmouseover=\"window.harm='words'\">7 °C</b><svg onload=\"window.harm='svg'\">"


def plant(folder: Path, control: Control | None = None) -> Service:
    """A service that knows four series, two of them in trouble, and what means harm."""
    alerts = {"false_alarms_per_series_per_day": 2.0, "no_data_after": "never"}
    one = service(connector(folder, alerts=alerts), ENGINE_MODEL, control=control)
    names = ["vienna/press-7/oil", "vienna/press-7/current", "graz/mill-2/flow", "graz/mill-2/rpm"]
    rng = np.random.default_rng(11)
    k = np.arange(N)
    wave = np.sin(k / 40.0)
    values = np.stack(
        [
            61 + 3 * wave + rng.normal(0, 0.4, N),
            14 + 0.8 * wave + rng.normal(0, 0.1, N),
            120 + rng.normal(0, 2, N),
            900 + 20 * wave + rng.normal(0, 4, N),
        ]
    )
    values[0, N - 25 :] += 14
    values[1, N - 20 :] += 3
    values[2, 400:404] -= 60
    time = np.repeat(END - (N - 1 - k) * MINUTE, 4)
    engine = build_engine(ENGINE_MODEL, EngineSetup(alerts=one.store.connector.alerts, topic="in"))
    found = engine.process(
        Readings(names * N, time, values.T.ravel(), np.zeros(4 * N, np.int32), np.arange(4 * N))
    )
    one.store.take_scores(found.scores, MODEL)
    for each in found.alerts:
        one.store.take_alert(each)
    _forecast(one, names[3])
    for i, name in enumerate(HOSTILE):
        made = alert(f"harm-{i}", name, 0, explanation=WORDS, rate_per_day=1.5, channels=[])
        one.store.take_alert(made)
    one.reader.progress.problem = ""
    return one


def _forecast(one: Service, name: str) -> None:
    ahead = np.arange(1, 61)
    middle = 900 + 20 * np.sin((N - 1 + ahead) / 40.0)
    made = Forecast(
        name, format_timestamp(END), [format_timestamp(END + i * MINUTE) for i in ahead.tolist()],
        middle.tolist(),
        {
            str(level): (middle + wide * np.sqrt(ahead)).tolist()
            for level, wide in ((0.025, -3.0), (0.1, -1.8), (0.9, 1.8), (0.975, 3.0))
        },
        None, MODEL, Source("in", 0, 1),
    )  # fmt: skip
    one.store.take_forecast(name, encode_forecast(made).value)
