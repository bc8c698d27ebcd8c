"""The detector's state and weights as its kernels see them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from titans_stream.detection import layout
from titans_stream.detection.layout import Core
from titans_stream.jit import njit, scratch
from titans_stream.records import Float32, Float64, Int16, Records

_inputs = scratch(layout.LAGS + layout.TIME_FEATURES)
_key = scratch(layout.KEY)
_counted = scratch(layout.RING, np.float32)


class State(NamedTuple):
    """The arrays of `layout.state_layout()`, [slots, ...]."""

    core: Records
    history: Float64
    memory: Float64
    cells: Int16
    next_value: Float64
    transitions: Int16
    blocks: Int16


class Series(NamedTuple):
    """The state of one series: a row of each array of `State`."""

    core: Core
    history: Float64
    memory: Float64
    cells: Int16
    next_value: Float64
    transitions: Int16
    blocks: Int16


class Weights(NamedTuple):
    """Slow weights of the keys A and T, and the weights of the RING newest blocks, float32."""

    key_a_weight: Float64
    key_a_bias: Float64
    key_t_weight: Float64
    key_t_bias: Float64
    blocks: Float32


class Space(NamedTuple):
    """Scratch space: a key's inputs and the key; what each block counts, [RING] float32."""

    inputs: Float64
    key: Float64
    counted: Float32


@njit(inline="always")
def new_space() -> Space:
    """Scratch space for any series."""
    return Space(_inputs(), _key(), _counted())


@njit(inline="always")
def series_of(state: State, slot: int) -> Series:
    """The state of the series in a slot."""
    return Series(
        state.core[slot], state.history[slot], state.memory[slot], state.cells[slot],
        state.next_value[slot], state.transitions[slot], state.blocks[slot],
    )  # fmt: skip
