"""Runs of whole chunks by the compiled kernels against plain torch in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from titans_stream.titans import MemoryConfig, NeuralMemory
from titans_stream.titans.chunk_runs import fits

CASES: dict[str, dict[str, Any]] = {
    "default": {},
    "wide": {"width": 64, "hidden": 128, "chunk": 64},
    "two-heads": {"heads": 2, "hidden": 64, "chunk": 32},
    "columns-left-over": {"hidden": 80},
    "matrix": {"depth": 1},
    "deep": {"depth": 3},
    "deeper": {"depth": 4, "theta_max": 0.1},
    "no-residual": {"depth": 3, "residual": False},
    "no-momentum": {"momentum": False},
    "no-forgetting": {"forgetting": False},
    "neither": {"momentum": False, "forgetting": False, "depth": 3},
    "gates-per-chunk": {"gates": "chunk"},
    "no-clip": {"clip": None, "theta_max": 0.1},
    "hard-clip": {"clip": 0.05, "depth": 3},
    "floors": {"alpha_floor": 0.4, "theta_floor": 0.3},
}


def pair(settings: dict[str, Any]) -> tuple[NeuralMemory, NeuralMemory]:
    """The same memory in float32, which the kernels take, and in float64."""
    config = MemoryConfig(**{"width": 32, "chunk": 16} | settings)
    memory = NeuralMemory(config)
    with torch.no_grad():
        for weight in memory.parameters():
            weight.add_(0.3 * torch.randn_like(weight) / max(weight.shape[-1], 1) ** 0.5)
    exact = NeuralMemory(config).double()
    exact.load_state_dict({name: value.double() for name, value in memory.state_dict().items()})
    return memory, exact


def outcome(memory: NeuralMemory, x: Tensor) -> list[Tensor]:
    """Outputs, weights, momentum after x, and the gradients of a sum of them all."""
    x = x.to(memory.dtype).requires_grad_()
    y, state = memory(x)
    outputs = [y, *state.weights, *state.momentum]
    towards = torch.Generator().manual_seed(1)
    total = sum(
        (o * torch.randn(o.shape, generator=towards, dtype=torch.float64)).sum() for o in outputs
    )
    slow = [x, *memory.parameters()]
    gradients = torch.autograd.grad(total, slow, allow_unused=True)
    return [*(o.detach() for o in outputs), *(g for g in gradients if g is not None)]


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_equal_plain_torch(case: str) -> None:
    memory, exact = pair(CASES[case])
    assert fits(torch.zeros(1), [32], memory.config.chunk)
    x = torch.randn(2, 3 * memory.config.chunk + 5, memory.config.width)
    for found, expected in zip(outcome(memory, x), outcome(exact, x), strict=True):
        scale = float(expected.abs().max())
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=2e-5 * scale)


def test_cuts_within_and_between_chunks_change_nothing() -> None:
    memory, _ = pair({})
    x = torch.randn(2, 100, 32)
    with torch.no_grad():
        whole, after = memory(x)
        parts, state = [], None
        for part in x.split([7, 41, 16, 36], 1):
            y, state = memory(part, state)
            parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(state.weights[0], after.weights[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("logit", [-200.0, -1.0, 3.0, 200.0])
def test_strong_forgetting_over_a_long_sequence_stays_finite(logit: float) -> None:
    """Gates from no forgetting to all of it at once; products of them underflow to zero."""
    memory, exact = pair({"chunk": 64, "theta_max": 0.05})
    for each in (memory, exact):
        with torch.no_grad():
            each.gates.bias.copy_(torch.tensor([logit, 2.0, -1.0]))
    x = torch.randn(1, 4096, 32)
    found, expected = outcome(memory, x), outcome(exact, x)
    assert all(part.isfinite().all() for part in found)
    early = slice(0, 512)  # what is never forgotten carries its rounding along
    torch.testing.assert_close(
        found[0][:, early].double(), expected[0][:, early], rtol=1e-3, atol=1e-3
    )


def test_rows_in_two_threads_are_what_they_are_in_one() -> None:
    memory, _ = pair({})
    x = torch.randn(5, 64, 32)
    one = outcome(memory, x)
    torch.set_num_threads(2)
    two = outcome(memory, x)
    torch.set_num_threads(1)
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])


def test_what_does_not_fit_is_left_to_plain_torch() -> None:
    assert not fits(torch.zeros(1, dtype=torch.float64), [16], 16)
    assert not fits(torch.zeros(1), [16, 24, 16], 16)
    assert not fits(torch.zeros(1), [16], 8)
    assert not fits(torch.zeros(1, device="meta"), [16], 16)
