"""A model: the slow weights that all series share, checked against what the engine needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from titans_stream.detection import layout as detection_layout
from titans_stream.forecasting.multi import forecaster as multi_step
from titans_stream.forecasting.one_step import layout as one_step_layout
from titans_stream.records import Float64, ModelRef


@dataclass(frozen=True, slots=True)
class Model:
    """Slow weights by name, float64, with what is known of their training.

    `card` is JSON: how and on what the model was trained; nothing in it changes a score.
    """

    ref: ModelRef
    weights: Mapping[str, Float64]
    card: Mapping[str, Any] = field(default_factory=dict)


def weight_shapes() -> dict[str, tuple[int, ...]]:
    """Every slow weight of a model, by name."""
    return {
        **detection_layout.weight_shapes(),
        **one_step_layout.weight_shapes(),
        **multi_step.weight_shapes(),
    }


def make_model(
    ref: ModelRef, weights: Mapping[str, Any], card: Mapping[str, Any] | None = None
) -> Model:
    """Check names, shapes and finiteness; ValueError names the weight that is wrong."""
    shapes = weight_shapes()
    for name in weights:
        if name not in shapes:
            raise ValueError(f"model {ref.name}: unknown weight {name!r}")
    checked: dict[str, Float64] = {}
    for name, shape in shapes.items():
        if name not in weights:
            raise ValueError(f"model {ref.name}: weight {name!r} is missing")
        array = np.ascontiguousarray(weights[name], dtype=np.float64)
        if array.shape != shape:
            raise ValueError(
                f"model {ref.name}: weight {name!r} has shape {array.shape}, needs {shape}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"model {ref.name}: weight {name!r} holds values that are not finite")
        checked[name] = array
    return Model(ref, checked, dict(card or {}))


def untrained_weights(seed: int) -> dict[str, Float64]:
    """Random slow weights: normal projections of gain 1.5, gates almost closed to forgetting.

    Those of forecasts of many steps are not random, which would be none at all, but plain.
    """
    rng = np.random.default_rng(seed)
    weights: dict[str, Float64] = {}
    plain = multi_step.plain_weights()
    for name, shape in weight_shapes().items():
        if name in plain:
            weights[name] = plain[name]
        elif name.endswith("weight") and not name.endswith("gate_weight"):
            weights[name] = rng.standard_normal(shape) * 1.5 / np.sqrt(shape[0])
        elif name.endswith("gate_weight"):
            weights[name] = np.zeros(shape)
        elif name.endswith("gate_bias"):
            weights[name] = np.array([-6.0, 2.0, -4.0])
        else:
            weights[name] = 0.5 * rng.standard_normal(shape)
    return weights
