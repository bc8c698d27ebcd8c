"""Builds engines, and compiles or loads their kernels before readings wait for them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from titans_stream.detection.rules import AlertConfig
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.model import Model
from titans_stream.engine.rhythm import FIRST_FORECAST
from titans_stream.engine.settings import EngineConfig
from titans_stream.forecasting.settings import ForecastConfig
from titans_stream.records import Readings


@dataclass(frozen=True, slots=True)
class EngineSetup:
    """All that an engine is told beside its model.

    `topic` is named in alerts. `calendar` False: timestamps carry no time of day. `forecast`
    None: no forecasts of many steps, nor the state for them.
    """

    engine: EngineConfig = field(default_factory=EngineConfig)
    alerts: AlertConfig = field(default_factory=AlertConfig)
    forecast: ForecastConfig | None = None
    topic: str = ""
    calendar: bool = True


def build_engine(model: Model, setup: EngineSetup | None = None) -> StreamEngine:
    """A fresh engine; without a setup, one of default settings.

    ValueError names the setting that this machine or the model does not allow.
    """
    setup = setup or EngineSetup()
    return StreamEngine(
        setup.engine,
        setup.alerts,
        model,
        topic=setup.topic,
        calendar=setup.calendar,
        forecast=setup.forecast,
    )


def compile_kernels(
    model: Model, device: str = "cpu", grouped: bool = False, forecasting: bool = False
) -> None:
    """Run a throw-away engine over a few readings.

    `grouped`: with the kernels of groups, beside those of readings that have none; `forecasting`:
    with those of forecasts of many steps.

    The first time on a machine this takes half a minute, with forecasts two; after that the cache
    of `jit.py` makes it a fraction of a second.
    """
    config = EngineConfig.model_validate({"device": device, "slots": 2})
    forecast = ForecastConfig(steps=1, every=1) if forecasting else None
    engine = build_engine(model, EngineSetup(config, forecast=forecast))
    n = FIRST_FORECAST if forecasting else 3
    for group in ("alone", "group") if grouped else ("alone",):
        engine.process(
            Readings(
                [group] * n,
                np.arange(n) * 10**9,
                np.ones(n),
                np.zeros(n, np.int32),
                np.arange(n),
                None if group == "alone" else [group] * n,
            )
        )
