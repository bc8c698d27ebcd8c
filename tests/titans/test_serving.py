"""The serving backends against the memory itself, and against one another."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.titans.cases import largest_difference, random_memory, tokens
from titans_stream.titans.kernels_cpu import Found, Rule, serve_steps
from titans_stream.titans.serving import kernel_table, serve, serving_state
from titans_stream.titans.tokens_cpu import Served

REPO = Path(__file__).resolve().parents[2]
EXACT: dict[str, Any] = {"chunk": 1, "width": 16, "heads": 2, "hidden": 80, "clip": 1.0}


def table(memory: Any, rows: int, backend: Any = "auto") -> Any:
    """A table of rows that have read different things, in a backend's layout."""
    with torch.no_grad():
        _, state = memory(tokens(rows, 5, memory.config.width, torch.float32))
    return serving_state(state, backend)


def agree(memory: Any, backend: Any, count: int = 1) -> None:
    """Serve rows 6, 0 and 3 of 7; compare outputs, surprise and all rows with the memory itself."""
    state, rows = table(memory, 7, backend), torch.tensor([6, 0, 3])
    x = tokens(3, count, memory.config.width, torch.float32).flip(0)
    with torch.no_grad():
        y, after, surprise = memory(x, state.gather(rows), return_surprise=True)
    expected = state.clone()
    expected.scatter_(rows, after)
    found, seen = serve(memory, x, state, rows, backend)
    torch.testing.assert_close(found, y, rtol=1e-5, atol=1e-5)
    for a, b in zip(seen, surprise, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    assert largest_difference(state, expected) < 1e-5


@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("backend", ["torch", "numba", "auto"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"clip": None, "theta_max": 0.05},
        {"residual": False},
        {"forgetting": False},
        {"convolution": 0},
        {"convolution": 1, "heads": 1},
        {"hidden": 64},
        {"hidden": 32},
        {"alpha_floor": 0.4, "theta_floor": 0.3},
    ],
    ids=[
        "default",
        "no-clip",
        "no-residual",
        "no-forgetting",
        "no-convolution",
        "one-tap",
        "whole-blocks",
        "no-blocks",
        "floors",
    ],
)
def test_backends_equal_the_memory(settings: dict[str, Any], backend: str, count: int) -> None:
    agree(random_memory(dtype=torch.float32, **EXACT | settings), backend, count)


@pytest.mark.parametrize(
    "settings",
    [{"depth": 1, "hidden": None}, {"depth": 3}, {"momentum": False}, {"chunk": 4}],
    ids=["matrix", "deep", "no-momentum", "chunked"],
)
def test_plain_torch_serves_every_configuration(settings: dict[str, Any]) -> None:
    memory = random_memory(dtype=torch.float32, **EXACT | settings)
    agree(memory, "torch", 3)
    agree(memory, "auto", 3)
    with pytest.raises(ValueError, match="backend: numba needs a memory of depth 2 with chunk 1"):
        agree(memory, "numba")


@pytest.mark.parametrize("settings", [{"hidden": 24}, {"width": 12}], ids=["hidden", "width"])
def test_sizes_that_do_not_fill_vectors_are_served_by_torch(settings: dict[str, Any]) -> None:
    memory = random_memory(dtype=torch.float32, **EXACT | settings)
    agree(memory, "auto", 2)
    with pytest.raises(ValueError, match="numba needs multiples of 4 as head width and of 16 as"):
        agree(memory, "numba")


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("chunk", [1, 4])
def test_no_rows_are_served_too(backend: Any, chunk: int) -> None:
    memory = random_memory(chunk=chunk).float()
    state = serving_state(memory.initial_state(3), backend)
    none = torch.zeros(0, dtype=torch.int64)
    y, surprise = serve(memory, tokens(2, 5, 6)[:0].float(), state, none, backend)
    assert y.shape[:2] == surprise.loss.shape == (0, 5)


def test_kernels_ask_for_their_layout() -> None:
    memory = random_memory(dtype=torch.float32, **EXACT)
    state = memory.initial_state(2).detach()
    x, rows = tokens(2, 1, 16, torch.float32), torch.arange(2)
    with pytest.raises(ValueError, match="backend: numba needs a state made by serving_state"):
        serve(memory, x, state, rows, "numba")
    serve(memory, x, state, rows, "auto")
    half = serving_state(state.to(dtype=torch.float16))
    with pytest.raises(ValueError, match="backend: numba needs a memory and a state in float32"):
        serve(memory, x, half, rows, "numba")


@pytest.mark.parametrize("settings", [{}, {"chunk": 4}], ids=["exact", "chunked"])
def test_a_half_precision_table_is_computed_in_float32(settings: dict[str, Any]) -> None:
    memory = random_memory(dtype=torch.float32, **EXACT | settings)
    whole, rows = table(memory, 4), torch.arange(4)
    half = serving_state(whole.to(dtype=torch.float16))
    x = tokens(4, 3, 16, torch.float32)
    y, _ = serve(memory, x, whole, rows, "torch")
    rough, _ = serve(memory, x, half, rows)
    assert half.weights[0].dtype == torch.float16
    assert 1e-7 < (rough - y).norm() / y.norm() < 3e-3


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_several_tokens_at_once_equal_one_at_a_time(backend: Any) -> None:
    memory = random_memory(dtype=torch.float32, **EXACT)
    one, many = table(memory, 4), table(memory, 4)
    x, rows = tokens(4, 8, 16, torch.float32), torch.arange(4)
    y, surprise = serve(memory, x, many, rows, backend)
    for t in range(8):
        y_t, surprise_t = serve(memory, x[:, t : t + 1], one, rows, backend)
        torch.testing.assert_close(y_t, y[:, t : t + 1], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(surprise_t.past, surprise.past[:, t : t + 1])
    assert largest_difference(one, many) < 1e-6


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_row_is_the_same_in_any_company(backend: Any) -> None:
    memory = random_memory(dtype=torch.float32, **EXACT)
    x = tokens(150, 1, 16, torch.float32)
    together, alone = table(memory, 150), table(memory, 150)
    everyone = torch.randperm(150)
    y, _ = serve(memory, x[everyone], together, everyone, backend)
    for place in (0, 77, 149):
        row = everyone[place : place + 1]
        y_alone, _ = serve(memory, x[row], alone, row, backend)
        torch.testing.assert_close(y_alone[0], y[place], rtol=1e-6, atol=1e-6)


def test_the_kernel_computes_a_row_bitwise_alike_in_any_company() -> None:
    memory = random_memory(dtype=torch.float32, **EXACT)

    def run(rows: list[int]) -> tuple[Any, Any]:
        state, index = table(memory, 9), torch.tensor(rows)
        generator = torch.Generator().manual_seed(2)
        q, k, v = (torch.randn(9, 2, 3, 8, generator=generator)[index] for _ in range(3))
        gates = torch.rand(9, 2, 3, 3, generator=generator)[index]
        y, surprise = torch.empty(len(rows), 2, 3, 8), torch.empty(len(rows), 2, 3, 3)
        given = Served(*(t.numpy() for t in (q, k, v, gates)))
        found = Found(y.numpy(), surprise.numpy())
        serve_steps(kernel_table(state).numpy(), index.numpy(), given, Rule(1.0, True), found)
        return state, y

    everyone, y = run([4, 8, 0, 1, 7, 2, 3, 6, 5])
    for place, row in ((0, 4), (3, 1), (8, 5)):
        alone, y_alone = run([row])
        assert torch.equal(y_alone[0], y[place])
        assert torch.equal(alone.weights[0][row], everyone.weights[0][row])
        assert torch.equal(alone.momentum[1][row], everyone.momentum[1][row])


def test_the_kernel_flushes_denormals() -> None:
    memory = random_memory(dtype=torch.float32, **EXACT)
    state = table(memory, 3)
    for part in (*state.weights, *state.momentum):
        part[0] = 1e-38
    with torch.no_grad():
        memory.gates.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 0.0, -99.0, -99.0]))
    serve(memory, torch.zeros(1, 1, 16), state, torch.tensor([0]), "numba")
    assert all((part[0] == 0).all() for part in state.momentum)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_a_broken_token_is_served_without_a_write(backend: Any) -> None:
    memory = random_memory(dtype=torch.float32, **EXACT)
    state, rows = table(memory, 3), torch.tensor([0, 1])
    x = tokens(2, 3, 16, torch.float32)
    x[1, 1, 5] = torch.inf
    with torch.no_grad():
        expected, after, found = memory(x, state.gather(rows), return_surprise=True)
    y, surprise = serve(memory, x, state, rows, backend)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    assert largest_difference(state.gather(rows), after) < 1e-5
    for a, b in zip(surprise, found, strict=True):
        assert b[1, 1] == a[1, 1] == 0
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="Triton is missing (a CPU build of torch): the CUDA kernel cannot be interpreted",
)
def test_the_triton_kernel_equals_the_memory_in_the_interpreter() -> None:
    """In a process of its own: Triton reads TRITON_INTERPRET when it is imported."""
    check = (
        "import torch; torch.set_num_threads(1)\n"
        "from tests.titans.cases import random_memory\n"
        "from tests.titans.test_serving import EXACT, agree\n"
        "for settings in ({}, {'clip': None, 'theta_max': .05}, {'residual': False}):\n"
        "    memory = random_memory(dtype=torch.float32, **EXACT | settings)\n"
        "    agree(memory, 'triton', 1)\n"
        "    agree(memory, 'triton', 4)\n"
        "print('agreed')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", check],
        cwd=REPO,
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "agreed", done.stderr[-2000:]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: the CUDA kernel is interpreted")
def test_the_triton_kernel_equals_the_memory_on_a_gpu() -> None:
    memory = random_memory(dtype=torch.float32, **EXACT)
    host, x = table(memory, 7), tokens(3, 4, 16, torch.float32)
    rows = torch.tensor([6, 0, 3])
    y, surprise = serve(memory, x, host, rows, "torch")
    device = serving_state(table(memory, 7).to("cuda"))
    found, seen = serve(memory.to("cuda"), x.cuda(), device, rows.cuda(), "triton")
    torch.testing.assert_close(found.cpu(), y, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(seen.loss.cpu(), surprise.loss, rtol=1e-5, atol=1e-5)
    assert largest_difference(device.to("cpu"), host) < 1e-5
