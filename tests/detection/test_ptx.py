"""The engine's kernels compile for a GPU, and with how much local memory a thread."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is for Linux")

from numba import cuda

from titans_stream import jit_cuda
from titans_stream.detection import episodes, judging, kernels
from titans_stream.detection import layout as L
from titans_stream.detection.arrays import new_space, series_of
from titans_stream.detection.detector import Detector, state_of
from titans_stream.detection.rules import AlertConfig
from titans_stream.detection.watch_state import state_layout
from titans_stream.engine import order, rhythm
from titans_stream.engine.model import untrained_weights
from titans_stream.engine.state import (
    alert_settings,
    clock_state,
    clocks_of,
    judged_state,
    judged_tables,
    rule_of,
    watches_of,
)
from titans_stream.memory.rows import ArraySpec

CAPABILITY = (9, 0)
jit_cuda.compile_without_device(CAPABILITY)
INDEX = np.zeros(1, np.int64)
FLAGS = np.zeros(1, np.int8)
NUMBERS = np.zeros(1)
COLUMNS = np.zeros((1, 12))


def _detect(slots, values, calendar, state, weights, statistic, channels, joint):
    i = cuda.grid(1)
    if i < slots.shape[0]:
        statistic[i] = kernels.score(
            series_of(state, slots[i]), weights, new_space(), values[i], calendar[i], channels[i],
            joint[i],
        )  # fmt: skip


def _judge(arrivals, clocks, settings, written):
    order.judge(arrivals, clocks, settings, written)


def _second_stage(slots, readings, tables, watches, settings, written):
    judging.run(slots, readings, tables, watches, settings, written)


def _turns(slots, times, values, paces, turns, schedule, interval, steps):
    rhythm.take_turns(slots, times, values, paces, turns, schedule, interval, steps)


def rows(specs: dict[str, ArraySpec]) -> dict[str, np.ndarray]:
    return {name: spec.rows(1) for name, spec in specs.items()}


def second_stage() -> tuple[object, ...]:
    one = ArraySpec.of
    config = AlertConfig()
    readings = judging.Readings(
        INDEX, NUMBERS, NUMBERS, NUMBERS, COLUMNS, FLAGS, NUMBERS, FLAGS, rule_of(config, "a"),
        FLAGS,
    )  # fmt: skip
    written = judging.Events(
        one(episodes.Judgement).rows(1), COLUMNS, FLAGS, FLAGS,
        one(episodes.Episode).rows(1), one(episodes.EpisodeTimes).rows(1),
    )  # fmt: skip
    tables = judged_tables(rows(judged_state()))
    watches = watches_of(rows(state_layout()))
    return INDEX, readings, tables, watches, alert_settings(config), written


CALLS = {
    "detect": (
        _detect,
        lambda: (
            INDEX, NUMBERS, np.zeros((1, 10)), state_of(rows(L.state_layout())),
            Detector(untrained_weights(0))._weights, NUMBERS, COLUMNS, COLUMNS,
        ),
        2_000,
    ),
    "judge": (
        _judge,
        lambda: (
            order.Arrivals(INDEX, INDEX, NUMBERS, FLAGS), clocks_of(rows(clock_state())),
            order.OrderSettings(0.0, 5.0, 10**18, True, 0), order.Judgements.empty(1),
        ),
        64,
    ),
    "second stage": (_second_stage, second_stage, 256),
    "turns": (
        _turns,
        lambda: (
            INDEX, INDEX, NUMBERS, NUMBERS, rhythm.Turns(*rows(rhythm.state_layout()).values()),
            rhythm.Schedule(0.0, 1, 1, 0.0, 100), NUMBERS, INDEX,
        ),
        64,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_kernel_compiles_for_a_gpu_within_its_local_memory(name: str) -> None:
    kernel, arguments, bound = CALLS[name]
    code = jit_cuda.ptx(kernel, tuple(map(jit_cuda.type_of, arguments())), CAPABILITY)
    assert ".entry" in code
    assert jit_cuda.local_bytes(code) <= bound
