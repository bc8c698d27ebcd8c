"""From the default start nothing diverges: depths 1 to 4, C 1 to 256, up to 16,384 tokens."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from titans_stream.titans import MemoryConfig, NeuralMemory

LENGTHS = [
    pytest.param(1024, id="1k"),
    pytest.param(16_384, id="16k", marks=[pytest.mark.slow, pytest.mark.timeout(3000)]),
]


def started(depth: int, chunk: int, seed: int = 0, theta: float | None = None) -> NeuralMemory:
    """A memory as it is drawn, its steps theta at the start optionally set by hand."""
    torch.manual_seed(seed)
    memory = NeuralMemory(MemoryConfig(width=16, depth=depth, chunk=chunk))
    if theta is not None:
        with torch.no_grad():
            share = torch.tensor(theta / memory.config.theta_max)
            memory.gates.bias[2:] = torch.logit(share)
    return memory


def one_pass(memory: NeuralMemory, x: Tensor) -> tuple[float, float]:
    """Largest output and the norm of the slow weights' gradients."""
    y, _ = memory(x)
    y.float().square().mean().backward()
    gradient = torch.cat([p.grad.float().flatten() for p in memory.parameters()])
    return float(y.detach().float().abs().max()), float(gradient.norm())


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("chunk", [16, 64, 256])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_outputs_and_gradients_stay_small_at_the_start(depth: int, chunk: int, length: int) -> None:
    for seed in range(3 if length < 10_000 else 1):
        largest, gradient = one_pass(started(depth, chunk, seed), torch.randn(1, length, 16))
        assert largest < 3.0
        assert gradient < 1.0


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_exact_steps_are_stable_too(depth: int) -> None:
    largest, gradient = one_pass(started(depth, 1), torch.randn(1, 512, 16))
    assert largest < 3.0
    assert gradient < 5.0


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_wide_open_steps_are_bounded_by_the_chunk(depth: int) -> None:
    """theta = .2 at C = 64 and keys that resemble one another.

    Unbounded, outputs pass 2e2, 5e2 and 1e4 by depth, gradients 1e7, 1e10 and 1e14.
    """
    largest, gradient = one_pass(started(depth, 64, theta=0.2), torch.randn(1, 1024, 16))
    assert largest < 50.0
    assert gradient < 1e6


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("depth", "chunk"), [(1, 256), (2, 16), (3, 64), (4, 64)])
def test_bfloat16_weights_and_autocast_stay_finite(depth: int, chunk: int, length: int) -> None:
    memory = started(depth, chunk)
    x = torch.randn(1, length, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert one_pass(memory, x)[0] < 3.0
    low = started(depth, chunk).to(torch.bfloat16)
    largest, gradient = one_pass(low, x.to(torch.bfloat16))
    assert largest < 3.0
    assert gradient < 1.0


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("depth", "chunk"), [(1, 64), (2, 256), (3, 64), (4, 16), (4, 64)])
def test_three_hundred_steps_of_training_stay_finite(depth: int, chunk: int, seed: int) -> None:
    """The next token of a noisy cycle is predicted, at a large learning rate."""
    memory = started(depth, chunk, seed)
    optimiser = torch.optim.AdamW(memory.parameters(), lr=1e-2)
    cycle = torch.randn(7, 16).repeat(80, 1)
    losses = []
    for _ in range(300):
        x = cycle[:513] + 0.3 * torch.randn(2, 513, 16)
        loss = (memory(x[:, :-1])[0] - x[:, 1:]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(memory.parameters(), 1.0)
        assert torch.isfinite(norm)
        optimiser.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-20:]) < 0.9 * sum(losses[:20])
