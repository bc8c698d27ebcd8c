"""`Learner` on a device: forecasts of many steps are learned and made where their state lies.

A thread takes the readings of its series in order. The finder of periods needs much space for a
check, which one reading in a hundred or fewer brings; so a first launch has none and stops each
series before a reading that may bring one, and the series that stopped go on to their end in
launches that have it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from titans_stream.engine import rhythm
from titans_stream.engine.device import threads
from titans_stream.engine.device.api import Buffers, Device, copied
from titans_stream.engine.device.chains import Chains
from titans_stream.engine.device.store import DeviceStore
from titans_stream.engine.forecasts import forecast_state, turns_of
from titans_stream.forecasting.multi.forecaster import (
    Forecasts,
    LocalSeconds,
    MultiStepForecaster,
    Plan,
    states_of,
)
from titans_stream.forecasting.multi.state import Batch, Written
from titans_stream.forecasting.period.state import Workspace
from titans_stream.memory.rows import dtype_of
from titans_stream.records import Float64, Int64

CHECKS = 4_096
"""Series at most of which periods are looked for at once."""
CHECK_BYTES = int(dtype_of(Workspace).itemsize)
"""Space of one of them."""


class DeviceLearner:
    """Implements `engine.forecasts.Learner`; weights and a new series' state are copied once."""

    def __init__(self, device: Device, forecaster: MultiStepForecaster) -> None:
        self._device = device
        self.store = DeviceStore(device, forecast_state())
        self._forecaster = forecaster
        self._model = copied(device, forecaster.model)
        self._blank = copied(device, forecaster.blank)
        self._buffers = Buffers(device)
        self._chains = Chains(self._buffers, self.store)
        self._spaces = device.empty((CHECKS,), dtype_of(Workspace))
        self._steps = 0
        self._quantiles: Any = None

    def take_turns(
        self, slots: Int64, times: Int64, values: Float64, paces: Float64,
        schedule: rhythm.Schedule,
    ) -> tuple[Float64, Int64]:  # fmt: skip
        """As `Learner.take_turns`."""
        n = len(slots)
        count, order = self._chains.order(slots)
        put, room = self._buffers.put, self._buffers.room
        readings = threads.Paced(put("times", times), put("values", values), put("paces", paces))
        due = threads.Due(room("interval", (n,), np.float64), room("steps", (n,), np.int64))
        turns = turns_of(self.store.arrays)
        self._device.launch(threads.take_turns, count, order, readings, turns, schedule, due)
        return self._device.get(due.interval, n), self._device.get(due.steps, n)

    def learn(
        self, slots: Int64, values: Float64, seconds: Float64, interval: Float64, times: Int64,
        steps: Int64, local: LocalSeconds | None,
    ) -> Forecasts:  # fmt: skip
        """As `Learner.learn`."""
        plan = self._forecaster.plan(slots, values, seconds, interval, times, steps, local)
        launch, get = self._device.launch, self._device.get
        count, order = self._chains.order(slots)
        written = self._room(plan)
        looks = threads.Looks(self._spaces, self._buffers.room("stopped", (count,), np.int64))
        arguments = (
            self._batch(plan.batch, order), states_of(self.store.arrays), self._blank, self._model,
            written, self._places(steps), looks,
        )  # fmt: skip
        launch(threads.learn, count, order, *arguments, False)
        rest = get(looks.stopped, count)
        rest = rest[rest >= 0]
        for first in range(0, len(rest), CHECKS):
            part = rest[first : first + CHECKS]
            later = order._replace(heads=self._buffers.put("later", part))
            launch(threads.learn, len(part), later, *arguments, True)
        made, levels = int(plan.first[-1]), len(plan.written.quantiles)
        return plan.forecasts(
            Written(
                get(written.median, made),
                np.ascontiguousarray(get(written.quantiles, levels)[:, :made]),
                plan.written.spreads,
                get(written.periods, len(plan.at)),
            )
        )

    def _batch(self, batch: Batch, order: threads.Chain) -> Batch:
        moved = {
            name: self._buffers.put(f"batch {name}", np.ascontiguousarray(column))
            for name, column in zip(batch._fields, batch, strict=True)
            if name != "slots"
        }
        return Batch(slots=order.slots, **moved)

    def _places(self, steps: Int64) -> threads.Places:
        """How many forecasts, and steps of them, are made before each reading."""
        due = np.maximum(steps, 0)
        made: Int64 = np.cumsum(due > 0) - (due > 0)
        filled: Int64 = np.cumsum(due) - due
        return threads.Places(self._buffers.put("made", made), self._buffers.put("filled", filled))

    def _room(self, plan: Plan) -> Written:
        """Room for forecasts; of quantiles it is wider than what is asked for."""
        steps, levels = len(plan.written.median), len(plan.written.quantiles)
        if self._quantiles is None or steps > self._steps:
            self._quantiles = None  # let go before the larger one is made
            self._steps = max(1_024, steps + steps // 4)
            self._quantiles = self._device.empty((levels, self._steps), np.float64)
        room = self._buffers.room
        return Written(
            room("median", (steps,), np.float64), self._quantiles,
            room("spreads", (steps,), np.float64), room("periods", (len(plan.at), 2), np.float64),
        )  # fmt: skip
