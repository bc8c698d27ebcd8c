"""Titans (arXiv 2501.00663): the neural long-term memory and its four variants, in torch.

Names are looked up when they are first used, so that a configuration or a compiled kernel can be
imported without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from titans_stream.titans.config import (
        LMMConfig,
        MACConfig,
        MAGConfig,
        MALConfig,
        MemoryConfig,
    )
    from titans_stream.titans.memory import NeuralMemory, compile_chunks
    from titans_stream.titans.model import LanguageModel, StackState
    from titans_stream.titans.recurrence import MemoryState, Surprise
    from titans_stream.titans.variants import LMM, MAC, MAG, MAL

_HOMES = {
    "config": ("LMMConfig", "MACConfig", "MAGConfig", "MALConfig", "MemoryConfig"),
    "memory": ("NeuralMemory", "compile_chunks"),
    "model": ("LanguageModel", "StackState"),
    "recurrence": ("MemoryState", "Surprise"),
    "variants": ("LMM", "MAC", "MAG", "MAL"),
}

__all__ = [
    "LMM",
    "MAC",
    "MAG",
    "MAL",
    "LMMConfig",
    "LanguageModel",
    "MACConfig",
    "MAGConfig",
    "MALConfig",
    "MemoryConfig",
    "MemoryState",
    "NeuralMemory",
    "StackState",
    "Surprise",
    "compile_chunks",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
