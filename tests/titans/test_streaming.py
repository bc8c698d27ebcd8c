"""State in, state out: any cutting, any mixture of rows, constant size, save and move."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.titans.cases import (
    VARIANTS,
    largest_difference,
    random_memory,
    random_variant,
    tokens,
)
from titans_stream.titans.recurrence import current_weights

COUNT = 23
SEQUENCE = ("memory", *VARIANTS)


def make(name: str, **memory: Any) -> tuple[Any, int]:
    if name == "memory":
        return random_memory(**memory), 6
    return random_variant(name, **memory), 8


@st.composite
def cuttings(draw: st.DrawFn) -> list[int]:
    cuts: list[int] = []
    while sum(cuts) < COUNT:
        cuts.append(draw(st.integers(1, COUNT - sum(cuts))))
    return cuts


@pytest.mark.parametrize("gates", ["token", "chunk"])
@pytest.mark.parametrize("name", SEQUENCE)
@settings(max_examples=8, deadline=None)
@given(cuts=cuttings())
def test_any_cutting_gives_the_same(name: str, gates: str, cuts: list[int]) -> None:
    layer, width = make(name, gates=gates)
    x = tokens(2, COUNT, width)
    with torch.no_grad():
        y, end, surprise = layer(x, return_surprise=True)
        state, ys, surprises = None, [], []
        for part in x.split(cuts, 1):
            out, state, found = layer(part, state, return_surprise=True)
            ys.append(out)
            surprises.append(found)
    torch.testing.assert_close(torch.cat(ys, 1), y, rtol=1e-10, atol=1e-11)
    assert largest_difference(state, end) < 1e-10
    for column, whole in zip(zip(*surprises, strict=True), surprise, strict=True):
        torch.testing.assert_close(torch.cat(column, 1), whole, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("settings_", [{"depth": 1, "chunk": 1}, {"depth": 3, "momentum": False}])
@pytest.mark.parametrize("name", SEQUENCE)
def test_one_token_at_a_time(name: str, settings_: dict[str, Any]) -> None:
    layer, width = make(name, **settings_)
    x = tokens(2, COUNT, width)
    with torch.no_grad():
        y, end = layer(x)
        state = None
        for t in range(COUNT):
            out, state = layer.step(x[:, t], state)
            torch.testing.assert_close(out, y[:, t], rtol=1e-10, atol=1e-11)
    assert largest_difference(state, end) < 1e-10


@pytest.mark.parametrize("name", SEQUENCE)
def test_gradients_pass_through_the_state(name: str) -> None:
    layer, width = make(name)
    x = tokens(2, COUNT, width)
    slow = list(layer.parameters())
    whole = torch.autograd.grad(layer(x)[0].square().sum(), slow)
    state, total = None, torch.zeros((), dtype=torch.float64)
    for part in x.split([7, 9, 7], 1):
        y, state = layer(part, state)
        total = total + y.square().sum()
    for a, b in zip(torch.autograd.grad(total, slow), whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SEQUENCE)
def test_rows_advance_each_at_their_own_pace(name: str) -> None:
    """Rows of a slot table, gathered and scattered in random company, end as if alone."""
    layer, width = make(name)
    x = tokens(3, COUNT, width)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        y, end = layer(x)
        slots = layer.initial_state(3)
        out, at = torch.zeros_like(y), [0, 0, 0]
        while min(at) < COUNT:
            count = int(torch.randint(1, 5, (), generator=generator))
            rows = [
                r for r in torch.randperm(3, generator=generator).tolist() if at[r] + count <= COUNT
            ][: int(torch.randint(1, 4, (), generator=generator))]
            if not rows:
                continue
            index = torch.tensor(rows)
            part = torch.stack([x[r, at[r] : at[r] + count] for r in rows])
            ys, after = layer(part, slots.gather(index))
            slots.scatter_(index, after)
            for r, y_r in zip(rows, ys, strict=True):
                out[r, at[r] : at[r] + count] = y_r
                at[r] += count
    torch.testing.assert_close(out, y, rtol=1e-10, atol=1e-11)
    assert largest_difference(slots, end) < 1e-10


@pytest.mark.parametrize("name", SEQUENCE)
def test_surprise_of_rows_at_different_places(name: str) -> None:
    layer, width = make(name)
    x = tokens(2, 8, width)
    with torch.no_grad():
        _, state = layer(x[:, :3])
        _, ahead = layer(x[:1, 3:5], state.gather(torch.tensor([0])))
        state.scatter_(torch.tensor([0]), ahead)
        _, _, found = layer(x[:, 5:8], state, return_surprise=True)
        _, _, alone = layer(x[1:, 5:8], state.gather(torch.tensor([1])), return_surprise=True)
        _, _, whole = layer(x[:1], return_surprise=True)
    for a, b, c in zip(found, alone, whole, strict=True):
        torch.testing.assert_close(a[1:], b, rtol=1e-10, atol=1e-11)
        torch.testing.assert_close(a[:1], c[:, 5:8], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", SEQUENCE)
def test_a_broken_token_is_not_learned_and_touches_nothing_else(name: str, value: float) -> None:
    layer, width = make(name)
    x = tokens(3, COUNT, width)
    broken = x.clone()
    broken[1, 4, 0] = value
    with torch.no_grad():
        y, state, surprise = layer(broken, return_surprise=True)
        alone, alone_state = layer(x[::2])
        before, _ = layer(x[1:2, :4])
        other = broken.clone()
        other[1, 4] = -value
        same, same_state = layer(other)
    assert torch.isfinite(y).all()
    assert all(torch.isfinite(t).all() for t in state.tensors().values())
    torch.testing.assert_close(y[1, :4], before[0], rtol=1e-12, atol=1e-12)
    assert surprise.loss[1, 4] == surprise.momentary[1, 4] == surprise.past[1, 4] == 0
    torch.testing.assert_close(same, y, rtol=0, atol=0)
    assert largest_difference(same_state, state) == 0
    torch.testing.assert_close(y[::2], alone, rtol=1e-12, atol=1e-12)
    others = state.gather(torch.tensor([0, 2]))
    assert largest_difference(others, alone_state) < 1e-12


@pytest.mark.parametrize("gates", ["token", "chunk"])
@pytest.mark.parametrize("name", SEQUENCE)
def test_broken_tokens_may_come_anywhere_in_any_cutting(name: str, gates: str) -> None:
    layer, width = make(name, gates=gates)
    x = tokens(2, COUNT, width)
    x[0, [0, 5, 12, 13]] = torch.nan
    with torch.no_grad():
        y, end = layer(x)
        state, ys = None, []
        for part in x.split([3, 1, 1, 6, 12], 1):
            out, state = layer(part, state)
            ys.append(out)
    assert torch.isfinite(y).all()
    torch.testing.assert_close(torch.cat(ys, 1), y, rtol=1e-10, atol=1e-11)
    assert largest_difference(state, end) < 1e-10


@pytest.mark.parametrize("chunk", [1, 4])
def test_a_broken_token_leaves_the_memory_as_it_is(chunk: int) -> None:
    memory = random_memory(chunk=chunk, convolution=0)
    x = tokens(2, 6, 6)
    bad = torch.full((2, 1, 6), torch.nan, dtype=x.dtype)
    with torch.no_grad():
        _, state = memory(x)
        y, after = memory(bad, state)
        expected = memory.retrieve(torch.zeros(2, 1, 6, dtype=x.dtype), state)
        kept = zip(
            current_weights(memory.config, after),
            current_weights(memory.config, state),
            strict=True,
        )
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    for a, b in kept:
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SEQUENCE)
def test_the_state_has_a_constant_size(name: str) -> None:
    layer, width = make(name)
    with torch.no_grad():
        start = layer.initial_state(1)
        for count in (1, 4, 23, 90):
            _, state = layer(tokens(1, count, width))
            shapes = {n: t.shape for n, t in state.tensors().items()}
            assert shapes == {n: t.shape for n, t in start.tensors().items()}
            assert state.bytes_per_row == start.bytes_per_row
            kept = {t.untyped_storage().data_ptr(): t for t in state.tensors().values()}
            held = sum(t.untyped_storage().nbytes() for t in kept.values())
            assert held == sum(t.numel() * t.element_size() for t in state.tensors().values())


def test_bytes_per_row_are_those_of_the_design() -> None:
    """Two copies of each matrix, C - 1 factors, gates, a count and the convolution's tail."""
    memory = random_memory(width=32, heads=1, hidden=64, chunk=8, dtype=torch.float32)
    matrices = 2 * (32 * 64 + 64 * 32)
    factors = 7 * (32 + 64 + 64 + 32)
    expected = 4 * (matrices + factors + 7 * 4 + 3 * 96) + 8
    assert memory.initial_state(5).bytes_per_row == expected


@pytest.mark.parametrize("name", SEQUENCE)
def test_a_saved_state_goes_on_as_before(name: str) -> None:
    layer, width = make(name)
    x = tokens(2, COUNT, width)
    with torch.no_grad():
        y, _ = layer(x)
        _, state = layer(x[:, :9])
        saved = {n: t.numpy().copy() for n, t in state.tensors().items()}
        loaded = layer.initial_state(1).load({n: torch.from_numpy(a) for n, a in saved.items()})
        rest, _ = layer(x[:, 9:], loaded)
    torch.testing.assert_close(rest, y[:, 9:], rtol=1e-10, atol=1e-11)


def test_a_state_of_another_layout_is_refused() -> None:
    memory = random_memory()
    state = memory.initial_state(2)
    tensors = state.tensors()
    with pytest.raises(ValueError, match=r"missing or unknown tensors \['filled'\]"):
        state.load({n: t for n, t in tensors.items() if n != "filled"})
    with pytest.raises(ValueError, match=r"weights.0 has shape \(2, 2, 9, 3\), not \[rows, 2, 6"):
        state.load(random_memory(hidden=9).initial_state(2).tensors())
    with pytest.raises(ValueError, match=r"disagree on the number of rows: \[1, 2\]"):
        state.load(tensors | {"filled": tensors["filled"][:1]})


@pytest.mark.parametrize(
    ("dtype", "least", "most"),
    [(torch.float16, 1e-6, 3e-3), (torch.bfloat16, 1e-5, 3e-2)],
)
def test_a_half_precision_export_loses_what_its_mantissa_lacks(
    dtype: torch.dtype, least: float, most: float
) -> None:
    memory = random_memory(dtype=torch.float32, width=32, heads=1, hidden=64)
    x = tokens(4, 60, 32, torch.float32)
    with torch.no_grad():
        y, _ = memory(x)
        _, state = memory(x[:, :50])
        small = state.to(dtype=dtype)
        assert small.bytes_per_row < 0.51 * state.bytes_per_row
        assert small.filled.dtype == torch.int64
        rest, after = memory(x[:, 50:], small)
    lost = float((rest - y[:, 50:]).norm() / y[:, 50:].norm())
    assert least < lost < most
    assert after.weights[0].dtype == torch.float32


def test_training_from_a_state_does_not_change_it() -> None:
    memory = random_memory()
    _, state = memory(tokens(2, 5, 6))
    kept = state.detach().clone()
    memory(tokens(2, 9, 6), state)
    assert largest_difference(kept, state.detach()) == 0
    assert math.isfinite(sum(float(t.sum()) for t in kept.tensors().values()))
