"""Memories and variants to test, with all slow weights drawn at random."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from titans_stream.titans import (
    LMM,
    MAC,
    MAG,
    MAL,
    LMMConfig,
    MACConfig,
    MAGConfig,
    MALConfig,
    MemoryConfig,
    NeuralMemory,
)

VARIANTS = ("lmm", "mac", "mag", "mal")


def randomised(module: nn.Module, dtype: torch.dtype = torch.float64, std: float = 0.5) -> Any:
    """The module with every slow weight drawn from N(0, std), so that none hides another."""
    module = module.to(dtype)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(std * noise)
    return module


def random_memory(dtype: torch.dtype = torch.float64, **settings: Any) -> NeuralMemory:
    defaults: dict[str, Any] = {"width": 6, "heads": 2, "depth": 2, "chunk": 4, "clip": 2.0}
    return randomised(NeuralMemory(MemoryConfig(**defaults | settings)), dtype)


def random_variant(
    name: str, dtype: torch.dtype = torch.float64, persistent: int = 3, **memory: Any
) -> Any:
    """A variant of width 8 whose window, segment and chunk are all different."""
    settings: dict[str, Any] = {"width": 8, "heads": 2, "depth": 2, "chunk": 4, "clip": 2.0}
    inner = MemoryConfig(**settings | memory)
    layer = {
        "lmm": lambda: LMM(LMMConfig(memory=inner, persistent=persistent)),
        "mac": lambda: MAC(
            MACConfig(memory=inner, attention_heads=2, segment=6, persistent=persistent)
        ),
        "mag": lambda: MAG(
            MAGConfig(memory=inner, attention_heads=2, window=5, persistent=persistent)
        ),
        "mal": lambda: MAL(
            MALConfig(memory=inner, attention_heads=2, window=5, persistent=persistent)
        ),
    }[name]()
    return randomised(layer, dtype)


def tokens(rows: int, count: int, width: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(11)
    return torch.randn(rows, count, width, generator=generator, dtype=torch.float64).to(dtype)


def made_of(memory: NeuralMemory, x: Tensor, tail: Tensor) -> Any:
    """The memory's tokens of x, all of which count, and the next tail."""
    everyone = torch.ones(x.shape[:2], dtype=torch.bool)
    return memory.tokens(x, memory.qkv(x), tail, everyone)


def largest_difference(a: Any, b: Any) -> float:
    """Largest absolute difference over all tensors of two states (or dicts of tensors)."""
    a, b = (x if isinstance(x, dict) else x.tensors() for x in (a, b))
    assert a.keys() == b.keys()
    differences = [(a[n].double() - b[n].double()).detach().abs().max() for n in a if a[n].numel()]
    return float(max(differences))
