"""16,384 tokens: no underflow, no NaN, the same as a plain loop; training stays finite."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.titans.cases import made_of, random_memory, tokens
from titans_stream.titans import LMM, MAC, MAG, LMMConfig, MACConfig, MAGConfig, MemoryConfig

LONG = 16_384


def with_gates(memory: Any, alpha: float, eta: float, theta: float) -> Any:
    """Constant gates, given before the sigmoid."""
    with torch.no_grad():
        memory.gates.weight.zero_()
        memory.gates.bias.copy_(
            torch.tensor([alpha, eta, theta]).repeat_interleave(memory.config.heads)
        )
    return memory


@pytest.mark.parametrize(
    "gates",
    [(-60.0, 0.0, -3.0), (-8.0, 2.0, -3.0), (0.0, -9.0, 0.0), (9.0, 9.0, 3.0), (60.0, 60.0, 0.0)],
    ids=["none-forgotten", "slow", "half-forgotten", "all-forgotten", "saturated"],
)
def test_a_matrix_memory_equals_a_plain_loop(gates: tuple[float, float, float]) -> None:
    memory = with_gates(random_memory(depth=1, heads=1, chunk=64, clip=0.5), *gates)
    x = tokens(1, LONG, 6)
    with torch.no_grad():
        y, _ = memory(x)
        made, _ = made_of(memory, x, memory.initial_state(1).tail)
        expected = plain_loop(memory, *(part[0, 0] for part in made))
    torch.testing.assert_close(y[0], expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


def plain_loop(memory: Any, q: Tensor, k: Tensor, v: Tensor, gates: Tensor) -> Tensor:
    """Equations 13 to 16 for L_M = 1: gradients at the chunk's start, one token at a time."""
    M = memory.start[0][0].detach()
    S, start, ys = torch.zeros_like(M), M, []
    keep, eta, theta = gates[:, 0].exp(), gates[:, 1].exp(), gates[:, 2]
    for t in range(LONG):
        if t % memory.config.chunk == 0:
            start, written = M, torch.zeros_like(M)
        u = 2 * torch.outer(start @ k[t] - v[t], k[t])
        u = u * (memory.config.clip / u.norm().clamp_min(memory.config.clip))
        bound = memory.config.chunk_clip / written.norm().clamp_min(memory.config.chunk_clip)
        written = written + theta[t] * u
        S = eta[t] * S - bound * theta[t] * u
        M = keep[t] * M + S
        ys.append(M @ q[t])
    return torch.stack(ys)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("alpha", [-60.0, -6.0, 60.0])
def test_float32_stays_finite_in_values_and_gradients(depth: int, alpha: float) -> None:
    memory = random_memory(dtype=torch.float32, depth=depth, heads=1, chunk=64, clip=1.0)
    with_gates(memory, alpha, 1.0, -4.0)
    y, state = memory(tokens(1, LONG, 6, torch.float32))
    y.square().mean().backward()
    assert torch.isfinite(y).all()
    assert all(torch.isfinite(t).all() for t in state.tensors().values())
    assert all(torch.isfinite(p.grad).all() for p in memory.parameters())


def test_float32_drifts_little_over_a_long_sequence() -> None:
    settings: dict[str, Any] = {"depth": 2, "heads": 1, "chunk": 64, "clip": 1.0}
    exact = with_gates(random_memory(**settings), -5.0, 0.0, -4.0)
    rough = with_gates(random_memory(dtype=torch.float32, **settings), -5.0, 0.0, -4.0)
    x = tokens(1, LONG, 6)
    with torch.no_grad():
        y, _ = exact(x)
        other, _ = rough(x.float())
    assert (other.double() - y)[:, -1000:].norm() < 1e-3 * y[:, -1000:].norm()


def test_with_floors_closed_gates_keep_the_memory_as_it_is() -> None:
    """Below the floors nothing is forgotten or learned, however long; with sigmoids alone it is."""

    def change(floor: float) -> float:
        settings: dict[str, Any] = {"depth": 2, "momentum": False, "chunk": 64}
        memory = random_memory(
            dtype=torch.float32, **settings, alpha_floor=floor, theta_floor=floor
        )
        with_gates(memory, -5.0, 0.0, -5.0)
        before = memory.initial_state(1)
        with torch.no_grad():
            _, after = memory(tokens(1, LONG, 6, torch.float32))
        return max(
            float((a - b).abs().max().detach())
            for a, b in zip(after.weights, before.weights, strict=True)
        )

    assert change(0.01) == 0.0
    assert change(0.0) > 0.1


def layer_of(name: str, depth: int, width: int = 16) -> nn.Module:
    memory = MemoryConfig(width=width, heads=2, depth=depth, chunk=8)
    if name == "lmm":
        return LMM(LMMConfig(memory=memory))
    if name == "mag":
        return MAG(MAGConfig(memory=memory, attention_heads=2, window=4))
    return MAC(MACConfig(memory=memory, attention_heads=2, segment=16))


def train_recall(layer: nn.Module, steps: int, autocast: bool, width: int = 16) -> list[float]:
    """Losses by step of recalling 4 of 8 pairs shown before; pairs are new in every sequence."""
    torch.manual_seed(1)
    embed, head = nn.Embedding(24, width), nn.Linear(width, 12)
    everything = nn.ModuleList([embed, layer, head])
    optimiser = torch.optim.AdamW(everything.parameters(), lr=3e-3)
    losses = []
    for _ in range(steps):
        keys = torch.stack([torch.randperm(12)[:8] for _ in range(16)])
        values = torch.randint(0, 12, (16, 8))
        asked = torch.randint(0, 8, (16, 4))
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            shown = embed(keys) + embed(12 + values)
            y, _ = layer(torch.cat([shown, embed(keys.gather(1, asked))], 1))
            logits = head(y[:, -4:])
        loss = nn.functional.cross_entropy(
            logits.float().flatten(0, 1), values.gather(1, asked).flatten()
        )
        optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(everything.parameters(), 1.0)
        assert torch.isfinite(loss), f"loss at step {len(losses)}"
        assert torch.isfinite(norm), f"gradient at step {len(losses)}"
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("name", ["lmm", "mac"])
def test_training_learns_recall(name: str) -> None:
    losses = train_recall(layer_of(name, 2), 250, autocast=False)
    assert sum(losses[:10]) / 10 > 2.4
    assert sum(losses[-20:]) / 20 < 2.3


def test_training_in_bfloat16_autocast_stays_finite_and_keeps_the_state_in_float32() -> None:
    layer = layer_of("mac", 4)
    train_recall(layer, 30, autocast=True)
    with torch.autocast("cpu", torch.bfloat16):
        _, state = layer(torch.randn(1, 20, 16))
    floats = [t for t in state.tensors().values() if t.is_floating_point()]
    assert {t.dtype for t in floats} == {torch.float32}


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(("name", "depth"), [("lmm", 2), ("lmm", 4), ("mac", 2), ("mac", 4)])
def test_ten_thousand_steps_in_bfloat16_stay_finite(name: str, depth: int) -> None:
    losses = train_recall(layer_of(name, depth), 10_000, autocast=True)
    assert sum(losses[-100:]) / 100 < 1.0
