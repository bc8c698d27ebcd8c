"""Compiled chunks, and what is imported without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.titans.cases import random_memory, random_variant, tokens
from titans_stream.titans import compile_chunks

REPO = Path(__file__).resolve().parents[2]


def outcome(layer: Any, x: torch.Tensor) -> list[torch.Tensor]:
    """y and the gradients of every slow weight."""
    y, _ = layer(x)
    return [y, *torch.autograd.grad(y.square().sum(), list(layer.parameters()))]


def compare(layer: Any, x: torch.Tensor, **options: Any) -> int:
    """Compare `layer` before and after compiling; how many graphs were compiled."""
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    plain = outcome(layer, x)
    compile_chunks(layer, **options)
    for found, expected in zip(outcome(layer, x), plain, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"] - before)


@pytest.mark.parametrize("name", ["memory", "mal"])
def test_compiled_chunks_equal_plain_ones(name: str) -> None:
    layer = random_memory(depth=3) if name == "memory" else random_variant(name)
    x = tokens(2, 17, 6 if name == "memory" else 8)
    assert compare(layer, x, backend="aot_eager", fullgraph=True) > 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_chunks_compiled_to_machine_code_equal_plain_ones() -> None:
    assert compare(random_memory(depth=2), tokens(2, 17, 6), fullgraph=True) > 0


@pytest.mark.parametrize("module", ["config", "vectors", "tokens_cpu", "kernels_cpu"])
def test_configurations_and_kernels_are_imported_without_torch(module: str) -> None:
    code = f"import sys, titans_stream.titans.{module}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=REPO, check=True)
