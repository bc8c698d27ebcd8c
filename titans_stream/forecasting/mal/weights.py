"""The neural residual of the multi-step forecaster: memory as a layer (MAL).

A token is made of every quarter of a period: how it went beside what the slot memory expected.
The block (`block.py`) reads the tokens; its outputs, through a layer that training starts
at zero, are corrections of the structured head for the steps of the next period. Each band
of steps follows the corrections as far as they have proved right on this series.
docs/forecasting.md measures them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from titans_stream.forecasting.mal.block import (
    PERSISTENT,
    TAPS,
    WIDTH,
    WINDOW,
    BlockState,
    BlockWeights,
    prefix_of,
    turns,
)
from titans_stream.forecasting.mal.residual import (
    BANDS,
    CORRECTIONS,
    INPUTS,
    PENDING,
    Gate,
    Meta,
    Pending,
    ResidualWeights,
)
from titans_stream.memory.rows import ArraySpec
from titans_stream.records import Float64

PREFIX = "forecast.residual."


def state_layout() -> dict[str, ArraySpec]:
    """The arrays of the residual's state, in the order of `residual.Residual`; all zero."""
    f = np.float32
    return {
        "residual_memory": ArraySpec((2, WIDTH, WIDTH), f),
        "residual_tail": ArraySpec((TAPS - 1, 3 * WIDTH), f),
        "residual_window": ArraySpec((2, WINDOW - 1, WIDTH), f),
        "residual_meta": ArraySpec.of(Meta),
        "residual_head": ArraySpec((BANDS, CORRECTIONS), f),
        "residual_gate": ArraySpec.of(Gate, BANDS),
        "residual_pending": ArraySpec.of(Pending, PENDING),
    }


def weight_shapes() -> dict[str, tuple[int, ...]]:
    """The slow weights, by name; all float64. Matrices are [outputs, inputs]."""
    width = WIDTH
    square, vector = (width, width), (width,)
    shapes: dict[str, tuple[int, ...]] = {
        "input": (width, INPUTS + 1),
        "persistent": (PERSISTENT, width),
        "start": square,
        "norm": vector,
        "qkv": (3 * width, width),
        "gates": (3, width + 1),
        "filter": (3 * width, TAPS),
        "out_norm": vector,
        "out_gate": square,
        "out_project": square,
        "attention_norm": vector,
        "attention_qkv": (3 * width, width),
        "attended_norm": vector,
        "attended_gate": square,
        "attended_project": square,
        "last_norm": vector,
        "output": (BANDS * CORRECTIONS, width + 1),
    }
    return {PREFIX + name: shape for name, shape in shapes.items()}


def plain_weights() -> dict[str, Float64]:
    """Weights that correct nothing."""
    return {name: np.zeros(shape) for name, shape in weight_shapes().items()}


def prepare(weights: Mapping[str, Float64]) -> ResidualWeights:
    """The kernels' weights: persistent tokens are read once, what they leave starts all series."""
    own = {
        name.removeprefix(PREFIX): np.array(weights[name], np.float64, order="C")
        for name in weight_shapes()
    }
    blank = np.zeros((PERSISTENT, WIDTH))
    names = [name for name in BlockWeights._fields if name in own]
    block = BlockWeights(
        **{name: own[name] for name in names}, prefix_keys=blank, prefix_values=blank, turns=turns()
    )
    state = BlockState(
        np.zeros((2, WIDTH, WIDTH), np.float32),
        np.zeros((TAPS - 1, 3 * WIDTH), np.float32),
        np.zeros((2, WINDOW - 1, WIDTH), np.float32),
    )
    state.memory[0] = own["start"]
    keys, values = prefix_of(block, own["persistent"], state)
    return ResidualWeights(
        own["input"],
        block._replace(prefix_keys=keys, prefix_values=values),
        state.memory,
        state.tail,
        own["last_norm"],
        own["output"],
        bool(own["output"].any()),
    )
