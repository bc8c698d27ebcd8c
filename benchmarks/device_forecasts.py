"""The section of `benchmarks.device` on forecasts of many steps: right, and how fast."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from titans_stream.engine.device.api import Device
from titans_stream.engine.device.forecasts import DeviceLearner
from titans_stream.engine.device.store import DeviceStore
from titans_stream.engine.forecasts import HostLearner, Learner, forecast_state
from titans_stream.engine.model import Model
from titans_stream.engine.store import HostStore
from titans_stream.forecasting.multi.forecaster import Forecasts, MultiStepForecaster

START = 1_700_000_000
HOUR = 3_600
FIRST = 400
"""Readings that each series has had: two weeks, by which a day is known."""
STEPS = 24


class Check(Protocol):
    """What of `benchmarks.device.Check` is used here."""

    device: Device
    small: bool
    model: Model
    base: int

    def row(self, name: str, **cells: object) -> None:
        """Print and keep a line."""

    def timed(self, call: object, runs: int = 5) -> float:
        """Median seconds of a call."""


def learn(learner: Learner, slots: np.ndarray, base: int, number: int, steps: int) -> Forecasts:
    """Reading `number` of the series in `slots`; series k and k + base are alike."""
    rng = np.random.default_rng(number)
    values = 20.0 + 3.0 * np.sin(number * 2 * np.pi / 24 + np.arange(base))
    values += 0.3 * rng.standard_normal(base)
    n = len(slots)
    times = np.full(n, (START + HOUR * number) * 10**9)
    return learner.learn(
        slots, values[slots % base], times / 1e9, np.full(n, HOUR * 1e9), times,
        np.full(n, steps), None,
    )  # fmt: skip


def copied(check: Check, host: HostLearner, series: int) -> DeviceLearner:
    """The state of the base series over and over in a device's rows."""
    made = DeviceLearner(check.device, MultiStepForecaster(check.model.weights, [0.1, 0.5, 0.9]))
    fill(made.store, host.store, check.base, series)
    return made


def fill(store: DeviceStore, base: HostStore, count: int, series: int) -> None:
    """The `count` rows of a host's store over and over in as many as there are series."""
    store.reserve(series)
    for name, array in base.arrays.items():
        for first in range(0, series, 64 * count):
            slots = np.arange(first, min(series, first + 64 * count))
            store.write(name, slots, array[slots % count])


def section_forecasts(check: Check, sizes: list[int]) -> None:
    """Equality with the CPU, of copies and of divided calls, and rates, at each of `sizes`."""
    base = check.base
    host = HostLearner(MultiStepForecaster(check.model.weights, [0.1, 0.5, 0.9]))
    host.store.reserve(base)
    few = np.arange(base)
    for number in range(FIRST):
        learn(host, few, base, number, 0)
    n = 4 * base
    everyone = np.arange(n)
    whole, parts = copied(check, host, n), copied(check, host, n)
    worst, copies, divided = 0.0, True, True
    for number in range(FIRST, FIRST + (100 if check.small else 400)):
        steps = STEPS if number % 20 == 0 else 0
        wanted = learn(host, few, base, number, steps)
        found = learn(whole, everyone, base, number, steps)
        got = [learn(parts, part, base, number, steps) for part in np.array_split(everyone, 3)]
        if not steps:
            continue
        apart = np.abs(found.median[: base * STEPS] - wanted.median) / (1 + np.abs(wanted.median))
        worst = max(worst, float(np.nanmax(apart)))
        each = found.quantiles.reshape(3, 4, -1)
        copies &= all(each[:, k].tobytes() == each[:, 0].tobytes() for k in range(4))
        divided &= np.concatenate([one.median for one in got]).tobytes() == found.median.tobytes()
    check.row("forecasts: against the CPU", off=worst)
    check.row("forecasts: bit for bit", copies=copies, divided=divided)
    row = sum(spec.nbytes for spec in forecast_state().values())
    for size in sizes:
        if row * size > 0.8 * check.device.free_bytes:
            check.row(f"forecasts, {size:,} series", left_out="no room for that many")
            continue
        made, slots = copied(check, host, size), np.arange(size)
        times = iter(range(FIRST, FIRST + 1_000))
        plain = check.timed(lambda m=made, s=slots, t=times: learn(m, s, base, next(t), 0))
        some = slots[: max(1, size // 10)]
        made_too = check.timed(lambda m=made, s=some, t=times: learn(m, s, base, next(t), STEPS))
        check.row(
            f"forecasts, {size:,} series", M_learned_s=size / plain / 1e6,
            M_learned_with_24_steps_s=len(some) / made_too / 1e6,
        )  # fmt: skip
        del made
