"""The entry points of an NVIDIA GPU: thread k runs what `threads.py` says.

Functions of this module are compiled by numba-cuda; nothing here depends on a GPU being there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import cuda

from titans_stream.engine.device import threads


def judge(count: int, order: Any, arrivals: Any, clocks: Any, settings: Any, written: Any) -> None:
    """`threads.judge`."""
    k = cuda.grid(1)
    if k < count:
        threads.judge(k, order, arrivals, clocks, settings, written)


def detect(count: int, order: Any, inputs: Any, state: Any, weights: Any, found: Any) -> None:
    """`threads.detect`."""
    k = cuda.grid(1)
    if k < count:
        threads.detect(k, order, inputs, state, weights, found)


def forecast(count: int, order: Any, inputs: Any, states: Any, weights: Any, found: Any) -> None:
    """`threads.forecast`."""
    k = cuda.grid(1)
    if k < count:
        threads.forecast(k, order, inputs, states, weights, found)


def second_stage(
    count: int, order: Any, readings: Any, tables: Any, watches: Any, settings: Any, written: Any
) -> None:
    """`threads.second_stage`."""
    k = cuda.grid(1)
    if k < count:
        threads.second_stage(k, order, readings, tables, watches, settings, written)


def learn_again(count: int, order: Any, inputs: Any, watches: Any) -> None:
    """`threads.learn_again`."""
    k = cuda.grid(1)
    if k < count:
        threads.learn_again(k, order, inputs, watches)


def take_turns(count: int, order: Any, readings: Any, turns: Any, schedule: Any, due: Any) -> None:
    """`threads.take_turns`."""
    k = cuda.grid(1)
    if k < count:
        threads.take_turns(k, order, readings, turns, schedule, due)


def learn(
    count: int, order: Any, batch: Any, states: Any, blank: Any, model: Any, written: Any,
    places: Any, looks: Any, allowed: bool,
) -> None:  # fmt: skip
    """`threads.learn`."""
    k = cuda.grid(1)
    if k < count:
        threads.learn(k, order, batch, states, blank, model, written, places, looks, allowed)


def gather(count: int, move: Any, first: int, width: int) -> None:
    """`threads.gather`."""
    k = cuda.grid(1)
    if k < count:
        threads.gather(k, move, first, width)


def scatter(count: int, move: Any, width: int) -> None:
    """`threads.scatter`."""
    k = cuda.grid(1)
    if k < count:
        threads.scatter(k, move, width)


def fill(count: int, move: Any, width: int) -> None:
    """`threads.fill`."""
    k = cuda.grid(1)
    if k < count:
        threads.fill(k, move, width)


ENTRIES: dict[Callable[..., None], Callable[..., None]] = {
    threads.judge: judge,
    threads.detect: detect,
    threads.forecast: forecast,
    threads.second_stage: second_stage,
    threads.learn_again: learn_again,
    threads.take_turns: take_turns,
    threads.learn: learn,
    threads.gather: gather,
    threads.scatter: scatter,
    threads.fill: fill,
}
"""The entry point of each function of `threads.py`."""
