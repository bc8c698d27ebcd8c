"""Configurations say what is wrong with them and cannot be changed."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from titans_stream.titans import LMMConfig, MACConfig, MAGConfig, MALConfig, MemoryConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0}, "width"),
        ({"width": 6, "heads": 4}, "heads: 4 heads do not divide the width 6"),
        ({"width": 6, "depth": 0}, "depth"),
        ({"width": 6, "depth": 1, "hidden": 4}, "hidden: a memory of depth 1 is a matrix"),
        ({"width": 6, "chunk": 0}, "chunk"),
        ({"width": 6, "gates": "segment"}, "gates"),
        ({"width": 6, "theta_max": 0.0}, "theta_max"),
        ({"width": 6, "alpha_floor": 1.0}, "alpha_floor"),
        ({"width": 6, "theta_floor": -0.1}, "theta_floor"),
        ({"width": 6, "clip": 0.0}, "clip"),
        ({"width": 6, "wide": 1}, "wide"),
    ],
)
def test_a_wrong_memory_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MemoryConfig(**settings)


@pytest.mark.parametrize("config", [MACConfig, MAGConfig, MALConfig])
def test_attention_heads_must_divide_the_width_into_even_parts(config: Any) -> None:
    memory = MemoryConfig(width=12)
    assert config(memory=memory, attention_heads=3).attention_heads == 3
    with pytest.raises(ValidationError, match="attention_heads: 4 heads do not divide the width"):
        config(memory=memory, attention_heads=4)


def test_configs_are_frozen() -> None:
    config = LMMConfig(memory=MemoryConfig(width=4))
    with pytest.raises(ValidationError, match="frozen"):
        config.persistent = 3  # type: ignore[misc]


def test_layer_shapes_follow_depth_and_hidden_width() -> None:
    assert MemoryConfig(width=8, heads=2, depth=1).layer_shapes == [(4, 4)]
    assert MemoryConfig(width=8, heads=2, depth=2).layer_shapes == [(8, 4), (4, 8)]
    assert MemoryConfig(width=8, depth=3, hidden=5).layer_shapes == [(5, 8), (5, 5), (8, 5)]


def test_a_config_survives_json() -> None:
    config = MALConfig(memory=MemoryConfig(width=8, clip=None), window=7)
    assert MALConfig.model_validate_json(config.model_dump_json()) == config
