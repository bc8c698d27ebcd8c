"""The kernels compile for GPUs, and need little local memory there.

PTX can be made on any machine; that a kernel compiles, and how much of a thread's memory it
declares, says whether a GPU could run it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from titans_stream.forecasting.multi import kernels
from titans_stream.forecasting.multi.clock import Reading, ticks_since
from titans_stream.forecasting.multi.forecaster import (
    MultiStepForecaster,
    plain_weights,
    state_layout,
    states_of,
)
from titans_stream.forecasting.multi.points import look
from titans_stream.forecasting.multi.state import Batch, Model, State, new_work, state_of
from titans_stream.forecasting.one_step import kernels as one_step
from titans_stream.forecasting.one_step import layout as one_step_layout
from titans_stream.forecasting.period.finder import check, put
from titans_stream.forecasting.period.state import workspace
from titans_stream.records import Float64, Int64, Records

pytest.importorskip("numba_cuda", reason="numba-cuda is for Linux")
from titans_stream import jit_cuda

pytestmark = pytest.mark.timeout(1_200)
CAPABILITY = (9, 0)
VECTOR = np.zeros(1)
COUNTS = np.zeros(1, np.int64)
BATCH = Batch(COUNTS, VECTOR, VECTOR, VECTOR, COUNTS, COUNTS, COUNTS, VECTOR)
STATES = states_of({name: spec.rows(1) for name, spec in state_layout().items()})
MODEL = MultiStepForecaster(plain_weights(), (0.1, 0.9)).model


def _one_step(
    slots: Int64,
    values: Float64,
    calendar: Float64,
    states: one_step.State,
    weights: one_step.Weights,
    out: Float64,
) -> None:
    work = one_step.new_work()
    state = one_step.state_of(states, slots[0])
    one_step.step(state, weights, values[0], calendar[0], work, out[0])


def _put(batch: Batch, states: State, due: Int64) -> None:
    state = state_of(states, batch.slots[0])
    due[0] = put(state.finder, batch.values[0])


def _check(batch: Batch, states: State, spaces: Records) -> None:
    state = state_of(states, batch.slots[0])
    check(state.finder, batch.values[0], batch.values[0], spaces[0])


def _learn(batch: Batch, states: State, model: Model) -> None:
    work = new_work()
    state = state_of(states, batch.slots[0])
    reading = Reading(
        batch.values[0], batch.seconds[0], batch.interval[0], float(batch.timestamps[0])
    )
    ticks = ticks_since(state.series.meta, reading)
    kernels.learn(state.series, state.finder, model.shared, work.read, reading, ticks, model.fixed)
    kernels.follow(state.series, state.intervals, state.residual, model, work, reading, ticks)


def _forecast(
    batch: Batch, states: State, model: Model, median: Float64, quantiles: Float64
) -> None:
    work = new_work()
    state = state_of(states, batch.slots[0])
    ready = look(state.series, model.shared, work.read)
    kernels.publish(
        state, model, work, ready, batch.ahead, batch.shifts, batch.values, median, quantiles
    )


def _arguments(name: str) -> tuple[object, ...]:
    layout = one_step_layout
    one: list[Any] = [spec.rows(1) for spec in layout.state_layout().values()]
    matrix = np.zeros((1, layout.TIME_FEATURES))
    return {
        "one step": (
            COUNTS,
            VECTOR,
            matrix,
            one_step.State(*one),
            one_step.Weights(*(np.zeros(shape) for shape in layout.weight_shapes().values())),
            matrix,
        ),
        "put": (BATCH, STATES, COUNTS),
        "check": (BATCH, STATES, workspace()),
        "learn": (BATCH, STATES, MODEL),
        "forecast": (BATCH, STATES, MODEL, VECTOR, matrix),
    }[name]


@pytest.mark.parametrize(
    ("name", "kernel", "most"),
    [
        ("one step", _one_step, 300),
        ("put", _put, 0),
        pytest.param("check", _check, 2_500, marks=pytest.mark.slow),
        pytest.param("learn", _learn, 16_000, marks=pytest.mark.slow),
        ("forecast", _forecast, 2_500),
    ],
)
def test_a_kernel_compiles_for_a_gpu_within_its_local_memory(
    name: str, kernel: Callable[..., None], most: int
) -> None:
    jit_cuda.compile_without_device(CAPABILITY)
    types = tuple(jit_cuda.type_of(value) for value in _arguments(name))
    code = jit_cuda.ptx(kernel, types, CAPABILITY)
    assert jit_cuda.local_bytes(code) <= most
