"""`Compute` on a device: columns go there, a thread takes a series' readings, columns return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from titans_stream.detection import judging
from titans_stream.detection.detector import Detector, state_of
from titans_stream.detection.episodes import Episode, EpisodeTimes, Judgement, Settings
from titans_stream.engine.compute import Stepped, Taken
from titans_stream.engine.device import threads
from titans_stream.engine.device.api import Array, Buffers, Device, copied
from titans_stream.engine.device.chains import Chains
from titans_stream.engine.device.forecasts import DeviceLearner
from titans_stream.engine.device.store import DeviceStore
from titans_stream.engine.order import Arrivals, Judgements, OrderSettings
from titans_stream.engine.state import clocks_of, judged_tables, series_state, watches_of
from titans_stream.forecasting.multi.forecaster import MultiStepForecaster
from titans_stream.forecasting.one_step import kernels as one_step
from titans_stream.forecasting.one_step.forecaster import OneStepForecaster
from titans_stream.forecasting.one_step.layout import state_layout as one_step_state
from titans_stream.memory.rows import ArraySpec
from titans_stream.records import Float64, Int64

Columns = TypeVar("Columns", bound=NamedTuple)


class DeviceCompute:
    """Implements `compute.Compute`; the weights of a model are copied once."""

    def __init__(self, device: Device, weights: Mapping[str, Float64]) -> None:
        self._device = device
        self.device = device.name
        self.store = DeviceStore(device, series_state())
        self._buffers = Buffers(device)
        self._chains = Chains(self._buffers, self.store)
        self._detector = copied(device, Detector(weights).weights)
        self._forecaster = copied(device, OneStepForecaster(weights).weights)

    def judge(self, arrivals: Arrivals, settings: OrderSettings) -> Judgements:
        """As `Compute.judge`."""
        count, order = self._chains.order(arrivals.slot)
        n = len(arrivals.slot)
        columns = self._columns(arrivals._replace(slot=order.slots), skip=("slot",))
        judged = Judgements.empty(n)
        room = Judgements(*(self._room(name, column) for name, column in _named(judged)))
        self._device.launch(
            threads.judge, count, order, columns, clocks_of(self.store.arrays), settings, room
        )
        return Judgements(*(self._device.get(column, n) for column in room))

    def step(self, slots: Int64, taken: Taken, settings: Settings) -> Stepped:
        """As `Compute.step`."""
        count, order = self._chains.order(slots)
        n, device, arrays = len(slots), self._device, self.store.arrays
        columns = self._columns(taken)
        inputs = threads.Inputs(columns.seconds, columns.value)
        found = self._scored(order, count, inputs, n)
        readings = judging.Readings(
            columns.time, columns.seconds, columns.value, found.statistic, found.band,
            found.cause,
            columns.interval, columns.gap, columns.rule, columns.grouped,
        )  # fmt: skip
        room = self._events(n)
        device.launch(
            threads.second_stage, count, order, readings, judged_tables(arrays),
            watches_of(arrays), settings, room,
        )  # fmt: skip
        judgement, normal, alert, event = (device.get(column, n) for column in room[:4])
        at = np.flatnonzero(event)
        written = judging.Events(
            judgement, normal, alert, event,
            self._picked(room.episode, Episode, at), self._picked(room.times, EpisodeTimes, at),
        )  # fmt: skip
        statistic, joint, cause, band = (device.get(column, n) for column in found)
        return Stepped(statistic, joint, band, cause, written, len(at))

    def replay(
        self, slots: Int64, times: Int64, seconds: Float64, values: Float64, intervals: Float64
    ) -> None:
        """As `Compute.replay`."""
        count, order = self._chains.order(slots)
        again = self._columns(threads.Again(times, seconds, values, intervals))
        inputs = threads.Inputs(again.seconds, again.value)
        self._scored(order, count, inputs, len(slots))
        watches = watches_of(self.store.arrays)
        self._device.launch(threads.learn_again, count, order, again, watches)

    def learner(self, forecaster: MultiStepForecaster) -> DeviceLearner:
        """As `Compute.learner`."""
        return DeviceLearner(self._device, forecaster)

    def _scored(
        self, order: threads.Chain, count: int, inputs: threads.Inputs, n: int
    ) -> threads.Found:
        """Detector and one-step forecast of N readings of `count` series."""
        room, arrays = self._buffers.room, self.store.arrays
        found = threads.Found(
            room("statistic", (n,), np.float64), room("joint", (n, 2), np.float64),
            room("cause", (n,), np.int8), room("band", (n, 3), np.float64),
        )  # fmt: skip
        launch = self._device.launch
        launch(threads.detect, count, order, inputs, state_of(arrays), self._detector, found)
        launch(threads.forecast, count, order, inputs, _one_step(arrays), self._forecaster, found)
        return found

    def _columns(self, columns: Columns, skip: tuple[str, ...] = ()) -> Columns:
        """Columns of readings on the device."""
        made = {
            name: self._buffers.put(name, np.ascontiguousarray(column))
            for name, column in _named(columns)
            if name not in skip
        }
        return columns._replace(**made)

    def _room(self, name: str, like: Array) -> Any:
        return self._buffers.room(f"judged {name}", like.shape, like.dtype)

    def _events(self, n: int) -> judging.Events:
        room = self._buffers.room

        def records(name: str, kind: Any) -> Any:
            return room(name, (n,), ArraySpec.of(kind).dtype)

        return judging.Events(
            records("judgement", Judgement), room("normal", (n, 3), np.float64),
            room("alert", (n,), np.int8), room("event", (n,), np.int8),
            records("event episode", Episode), records("event times", EpisodeTimes),
        )  # fmt: skip

    def _picked(self, records: Any, kind: Any, at: Int64) -> Array:
        """Records at some readings: few, so they are looked up one by one on the device."""
        dtype = np.dtype(ArraySpec.of(kind).dtype)
        if len(at) == 0:
            return np.empty(0, dtype)
        width = dtype.itemsize // 8
        words = self._device.as_words(records, np.uint64, width)
        out = self._buffers.room("picked", (len(at) * width,), np.uint64)
        places = self._buffers.put("picks", at)
        move = threads.Move(words, places, out)
        self._device.launch(threads.gather, len(at) * width, move, 0, width)
        found: Array = self._device.get(out, len(at) * width).view(dtype)
        return found


def _named(columns: Any) -> list[tuple[str, Array]]:
    return list(zip(columns._fields, columns, strict=True))


def _one_step(arrays: Mapping[str, Any]) -> one_step.State:
    return one_step.State(*(arrays[name] for name in one_step_state()))
