"""Compile or load the engine's kernels before readings wait for them."""

from __future__ import annotations

import numpy as np

from titans_stream.detection.rules import AlertConfig
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.model import Model
from titans_stream.engine.rhythm import FIRST_FORECAST
from titans_stream.engine.settings import EngineConfig
from titans_stream.forecasting.settings import ForecastConfig
from titans_stream.records import Readings


def compile_kernels(
    model: Model, device: str = "cpu", grouped: bool = False, forecasting: bool = False
) -> None:
    """Run a throw-away engine over a few readings.

    `grouped`: with the kernels of groups; `forecasting`: with those of forecasts of many steps.

    The first time on a machine this takes half a minute, with forecasts two; after that the cache
    of `jit.py` makes it a fraction of a second.
    """
    config = EngineConfig.model_validate({"device": device, "slots": 1})
    forecast = ForecastConfig(steps=1, every=1) if forecasting else None
    engine = StreamEngine(config, AlertConfig(), model, forecast=forecast)
    n = FIRST_FORECAST if forecasting else 3
    engine.process(
        Readings(
            ["compile"] * n,
            np.arange(n) * 10**9,
            np.ones(n),
            np.zeros(n, np.int32),
            np.arange(n),
            ["compile"] * n if grouped else None,
        )
    )
