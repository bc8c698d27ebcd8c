"""Titans (arXiv 2501.00663): the neural long-term memory and its four variants, in torch."""

from titans_stream.titans.memory import NeuralMemory
from titans_stream.titans.recurrence import MemoryConfig, MemoryState, Surprise
from titans_stream.titans.variants import (
    LMM,
    MAC,
    MAG,
    MAL,
    LMMConfig,
    MACConfig,
    MAGConfig,
    MALConfig,
)

__all__ = [
    "LMM",
    "MAC",
    "MAG",
    "MAL",
    "LMMConfig",
    "MACConfig",
    "MAGConfig",
    "MALConfig",
    "MemoryConfig",
    "MemoryState",
    "NeuralMemory",
    "Surprise",
]
