"""The chunk-parallel memory against the per-token reference: values, gradients, surprise."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.titans.cases import largest_difference, made_of, random_memory, tokens
from tests.titans.naive import NaiveResult, associative_loss, memory_read, naive_memory
from titans_stream.memory.rule import update
from titans_stream.titans import MemoryConfig, NeuralMemory, Surprise
from titans_stream.titans.recurrence import current_weights

CASES: dict[str, dict[str, Any]] = {
    "exact-matrix": {"depth": 1, "chunk": 1},
    "exact-mlp": {"depth": 2, "chunk": 1},
    "exact-deep": {"depth": 3, "chunk": 1},
    "chunked-matrix": {"depth": 1},
    "chunked-mlp": {"depth": 2},
    "chunked-deep": {"depth": 3, "hidden": 5},
    "deeper": {"depth": 4, "hidden": 4},
    "no-momentum": {"momentum": False},
    "no-forgetting": {"forgetting": False},
    "neither": {"momentum": False, "forgetting": False, "depth": 3},
    "no-convolution": {"convolution": 0},
    "one-tap": {"convolution": 1},
    "gates-per-chunk": {"gates": "chunk"},
    "gates-per-chunk-no-momentum": {"gates": "chunk", "momentum": False, "depth": 1},
    "no-clip": {"clip": None, "theta_max": 0.1},
    "hard-clip": {"clip": 0.05, "depth": 3},
    "no-chunk-clip": {"chunk_clip": None},
    "hard-chunk-clip": {"chunk_clip": 0.1, "depth": 3},
    "chunk-clip-alone": {"chunk_clip": 0.1, "clip": None, "depth": 1},
    "huber": {"huber": 0.3},
    "huber-deep": {"huber": 0.1, "depth": 3, "chunk": 1},
    "floors": {"alpha_floor": 0.4, "theta_floor": 0.3},
    "floors-per-chunk": {"alpha_floor": 0.4, "theta_floor": 0.3, "gates": "chunk", "depth": 1},
    "no-residual": {"residual": False, "depth": 3},
    "one-head": {"heads": 1},
    "one-chunk": {"chunk": 64},
}


@pytest.mark.parametrize("case", CASES)
def test_equals_the_reference_in_values_and_gradients(case: str) -> None:
    memory = random_memory(**CASES[case])
    x = tokens(2, 11, 6).requires_grad_()
    y, state, surprise = memory(x, return_surprise=True)
    expected = naive_memory(memory, x)
    assert_close(y, expected.y)
    assert_surprise(surprise, expected)
    for found, M in zip(current_weights(memory.config, state), expected.M, strict=True):
        assert_close(found, M)
    if memory.config.momentum and 11 % memory.config.chunk == 0:
        for found, S in zip(state.momentum, expected.S, strict=True):
            assert_close(found, S)

    slow = [x, *memory.parameters()]
    for a, b in zip(
        gradients(slow, y, *surprise),
        gradients(slow, expected.y, expected.momentary, expected.loss, expected.past),
        strict=True,
    ):
        assert_close(a, b)


@pytest.mark.parametrize("case", CASES)
def test_whole_chunks_equal_the_reference_too(case: str) -> None:
    """Without surprise whole chunks take their own path, whose backward pass is written out."""
    memory = random_memory(**CASES[case])
    x = tokens(2, 14, 6).requires_grad_()
    y, state = memory(x)
    expected = naive_memory(memory, x)
    assert_close(y, expected.y)
    slow = [x, *memory.parameters()]
    weights, after = current_weights(memory.config, state), expected.M
    for a, b in zip(gradients(slow, y, *weights), gradients(slow, expected.y, *after), strict=True):
        assert_close(a, b)


@pytest.mark.parametrize("case", ["exact-mlp", "chunked-matrix", "chunked-mlp", "chunked-deep"])
def test_float32_is_close_to_the_float64_reference(case: str) -> None:
    exact = random_memory(**CASES[case])
    memory = random_memory(dtype=torch.float32, **CASES[case])
    x = tokens(2, 70, 6)
    x32 = x.float()
    y, _ = memory(x32)
    expected = naive_memory(exact, x).y
    assert_close(y.double(), expected, 1e-4)
    for a, b in zip(
        gradients(list(memory.parameters()), y),
        gradients(list(exact.parameters()), expected),
        strict=True,
    ):
        assert_close(a.double(), b, 1e-4)


def test_every_slow_weight_matters() -> None:
    memory = random_memory(depth=3)
    y, _ = memory(tokens(2, 11, 6))
    for gradient in gradients(list(memory.parameters()), y):
        assert gradient.abs().max() > 1e-6


def test_a_matrix_memory_follows_the_shared_update_rule() -> None:
    memory = random_memory(depth=1, chunk=1, heads=1, clip=1.0)
    x = tokens(2, 9, 6)
    with torch.no_grad():
        y, state = memory(x)
        made, _ = made_of(memory, x, memory.initial_state(2).tail)
        M = memory.initial_state(2).weights[0][:, 0]
        S = torch.zeros_like(M)
        for t in range(9):
            q, k, v, (log_keep, log_eta, theta) = (
                *(part[:, 0, t] for part in made[:3]),
                made.gates[:, 0, t, :3].unbind(-1),
            )
            M, S, _, _ = update(M, S, k, v, 1 - log_keep.exp(), log_eta.exp(), theta, 1.0)
            assert_close((M @ q.unsqueeze(-1)).squeeze(-1), y[:, t])
    assert_close(M, state.weights[0][:, 0])
    assert_close(S, state.momentum[0][:, 0])


def test_two_tokens_by_hand() -> None:
    """D = 1, L_M = 1, C = 1, M_0 = 0: equations 10, 12, 13 and 15 with a pencil.

    The key is 1; v = silu(x w_v); alpha, eta, theta = .1, .5, .2.
    """
    memory = random_memory(width=1, heads=1, depth=1, chunk=1, convolution=0, clip=None)
    with torch.no_grad():
        memory.qkv.weight.copy_(torch.tensor([[50.0], [50.0], [1.0]]))
        memory.gates.weight.zero_()
        memory.gates.bias.copy_(torch.logit(torch.tensor([0.1, 0.5, 0.4], dtype=torch.float64)))
        memory.start[0].zero_()
    y, state, surprise = memory(torch.tensor([[[2.0], [3.0]]]).double(), return_surprise=True)

    v1, v2 = 2 / (1 + torch.tensor(-2.0).exp().item()), 3 / (1 + torch.tensor(-3.0).exp().item())
    u1 = 2 * (0 - v1)
    S1 = 0.5 * 0 - 0.2 * u1
    M1 = 0.9 * 0 + S1
    u2 = 2 * (M1 - v2)
    S2 = 0.5 * S1 - 0.2 * u2
    M2 = 0.9 * M1 + S2
    assert y.flatten().tolist() == pytest.approx([M1, M2], rel=1e-6)
    assert state.weights[0].item() == pytest.approx(M2, rel=1e-6)
    assert state.momentum[0].item() == pytest.approx(S2, rel=1e-6)
    assert surprise.loss[0].tolist() == pytest.approx([v1**2, (M1 - v2) ** 2], rel=1e-6)
    assert surprise.momentary[0].tolist() == pytest.approx([abs(u1), abs(u2)], rel=1e-6)
    assert surprise.past[0].tolist() == pytest.approx([S1, S2], rel=1e-6)


def test_surprise_is_read_before_the_update() -> None:
    memory = random_memory(chunk=1, convolution=0, forgetting=False, momentum=False, theta_max=0.05)
    x = tokens(1, 1, 6).expand(1, 2, 6)
    _, _, surprise = memory(x, return_surprise=True)
    made, _ = made_of(memory, x, memory.initial_state(1).tail)
    at_start = associative_loss(
        [w.unsqueeze(0) for w in memory.start], made.k[:, :, 0], made.v[:, :, 0], True
    )
    assert surprise.loss[0, 0].item() == pytest.approx(at_start.sum().item(), rel=1e-9)
    assert surprise.loss[0, 1] < surprise.loss[0, 0] - 0.01


@pytest.mark.parametrize("swap", [(0, 1), (0, 2), (1, 2)])
def test_the_comparison_notices_swapped_gates(swap: tuple[int, int]) -> None:
    memory = random_memory()
    x = tokens(2, 11, 6)
    expected = naive_memory(memory, x).y
    order = [0, 1, 2]
    order[swap[0]], order[swap[1]] = order[swap[1]], order[swap[0]]
    with torch.no_grad():
        for parameter in (memory.gates.weight, memory.gates.bias):
            parameter.copy_(torch.cat([parameter.chunk(3)[i] for i in order]))
    assert (memory(x)[0] - expected).abs().max() > 1e-3


@pytest.mark.parametrize("chunk", [3, 5])
def test_the_comparison_notices_a_chunk_off_by_one(chunk: int) -> None:
    x = tokens(2, 11, 6)
    expected = naive_memory(random_memory(chunk=4), x).y
    assert (random_memory(chunk=chunk)(x)[0] - expected).abs().max() > 1e-4


def test_a_call_shorter_than_a_chunk_updates_the_memory() -> None:
    memory = random_memory(chunk=16)
    x = tokens(1, 3, 6)
    before = memory.initial_state(1)
    _, state = memory(x)
    assert state.filled.item() == 3
    after = current_weights(memory.config, state)
    assert max((a - b).abs().max() for a, b in zip(after, before.weights, strict=True)) > 1e-2


def test_retrieve_reads_without_learning() -> None:
    memory = random_memory(chunk=4, convolution=0)
    _, state = memory(tokens(2, 6, 6))
    x = tokens(2, 9, 6)[:, -3:]
    kept = state.clone()
    found = memory.retrieve(x, state)
    assert largest_difference(kept, state) == 0
    naive = naive_memory(memory, tokens(2, 6, 6))
    made, _ = made_of(memory, x, state.tail)
    for t in range(3):
        assert_close(found[:, t], memory_read(naive.M, made.q[:, :, t], True).flatten(1))


def test_outputs_depend_on_the_past_alone() -> None:
    memory = random_memory(chunk=4)
    x = tokens(1, 12, 6)
    y, _ = memory(x)
    for t in (0, 3, 4, 11):
        changed = x.clone()
        changed[:, t] += 1.0
        other, _ = memory(changed)
        assert torch.equal(other[:, :t], y[:, :t])
        assert (other[:, t] - y[:, t]).abs().max() > 1e-4


@pytest.mark.parametrize("chunk", [1, 4])
def test_a_broken_token_harms_no_other_whatever_is_said_to_count(chunk: int) -> None:
    memory = random_memory(chunk=chunk)
    x = tokens(2, 9, 6)
    x[0, 3, 1] = float("nan")
    everyone = torch.ones(2, 9, dtype=torch.bool)
    expected, state = memory(x)
    for counts in (everyone, torch.isfinite(x).all(-1)):
        y, after = memory(x, counts=counts)
        assert torch.equal(y, expected)
        assert all(torch.equal(a, b) for a, b in zip(after.weights, state.weights, strict=True))


def test_step_is_forward_of_one_token() -> None:
    memory = random_memory()
    x = tokens(2, 3, 6)
    y, _, surprise = memory(x, return_surprise=True)
    state = None
    for t in range(3):
        y_t, state, found = memory.step(x[:, t], state, return_surprise=True)
        assert_close(y_t, y[:, t])
        for a, b in zip(found, surprise, strict=True):
            assert_close(a, b[:, t])
    assert_close(memory.step(x[:, 0])[0], y[:, 0])


def test_wrong_inputs_are_named() -> None:
    memory = random_memory()
    with pytest.raises(ValueError, match=r"x: shape \[rows, tokens >= 1, 6\] is needed, not"):
        memory(torch.zeros(2, 3, 5))
    with pytest.raises(ValueError, match="x: shape"):
        memory(torch.zeros(2, 0, 6))
    with pytest.raises(ValueError, match="state: it has 3 rows, x has 2"):
        memory(tokens(2, 3, 6), memory.initial_state(3))


def test_reset_gives_an_empty_matrix_memory_and_an_identity_mlp() -> None:
    matrix = NeuralMemory(MemoryConfig(width=4, depth=1, convolution=0)).double()
    mlp = NeuralMemory(MemoryConfig(width=4, depth=2, convolution=0)).double()
    x = tokens(1, 3, 4)
    assert matrix.retrieve(x, matrix.initial_state(1)).abs().max() == 0
    made, _ = made_of(mlp, x, mlp.initial_state(1).tail)
    assert_close(mlp.retrieve(x, mlp.initial_state(1)), made.q[:, 0])


def gradients(slow: list[torch.Tensor], *outputs: torch.Tensor) -> list[torch.Tensor]:
    """Gradients of one fixed random combination of the outputs; zero where there is none."""
    generator = torch.Generator().manual_seed(3)
    total = torch.zeros((), dtype=torch.float64)
    for output in outputs:
        weight = torch.randn(output.shape, generator=generator, dtype=torch.float64)
        total = total + (output * weight.to(output.dtype)).sum()
    found = torch.autograd.grad(total, slow, allow_unused=True)
    return [torch.zeros_like(s) if g is None else g for s, g in zip(slow, found, strict=True)]


def assert_surprise(found: Surprise, expected: NaiveResult) -> None:
    assert_close(found.momentary, expected.momentary)
    assert_close(found.loss, expected.loss)
    assert_close(found.past, expected.past)


def assert_close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-10) -> None:
    """Equal to `tolerance` of the largest value (at least of 1)."""
    assert a.shape == b.shape
    a, b = a.detach(), b.detach()
    assert (a - b).abs().max() <= tolerance * max(1.0, float(b.abs().max()))
