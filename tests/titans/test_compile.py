"""Compiled chunks, and what is imported without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.titans.cases import (
    VARIANTS,
    largest_difference,
    random_memory,
    random_variant,
    tokens,
)
from tests.titans.naive import naive_memory
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


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("memory", "mal") else pytest.param(name, marks=pytest.mark.slow)
        for name in ("memory", *VARIANTS)
    ],
)
def test_every_module_is_one_graph_with_and_without_a_state(name: str) -> None:
    settings: dict[str, Any] = {"depth": 1, "chunk": 2}
    layer = random_memory(**settings) if name == "memory" else random_variant(name, **settings)
    x = tokens(2, 5, 6 if name == "memory" else 8)
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    y, state = compiled(x)
    expected, after = layer(x)
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
    first = torch.tensor([0])  # one row ahead of the other
    after = after.detach()
    after.scatter_(first, layer(x[:1, :1], after.gather(first))[1].detach())
    given = after.clone()
    y, state = compiled(x[:, :2], given)
    expected, after = layer(x[:, :2], given)
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
    assert largest_difference(state, after) < 1e-9


def test_second_derivatives_are_those_of_the_reference() -> None:
    """Plain autograd goes through everything, twice too."""
    memory = random_memory(depth=2, heads=1)
    x = tokens(1, 6, 6).requires_grad_()

    def twice(y: torch.Tensor) -> torch.Tensor:
        (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    torch.testing.assert_close(
        twice(memory(x)[0]), twice(naive_memory(memory, x).y), rtol=1e-8, atol=1e-8
    )
