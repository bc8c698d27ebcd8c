"""LMM, MAC, MAG and MAL against their per-token references."""

from __future__ import annotations

import pytest
import torch

from tests.titans.cases import VARIANTS, largest_difference, random_variant, tokens
from tests.titans.naive_variants import naive_lmm, naive_mac, naive_mag, naive_mal
from titans_stream.titans import MAC

REFERENCE = {"lmm": naive_lmm, "mac": naive_mac, "mag": naive_mag, "mal": naive_mal}


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("name", VARIANTS)
def test_equals_the_reference_in_values_and_gradients(name: str, depth: int) -> None:
    layer = random_variant(name, depth=depth)
    x = tokens(2, 15, 8).requires_grad_()
    y, _ = layer(x)
    expected = REFERENCE[name](layer, x)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)
    slow = [x, *layer.parameters()]
    weight = tokens(2, 15, 8).flip(1)
    for a, b in zip(
        torch.autograd.grad((y * weight).sum(), slow),
        torch.autograd.grad((expected * weight).sum(), slow),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", VARIANTS)
def test_without_persistent_tokens(name: str) -> None:
    layer = random_variant(name, persistent=0)
    x = tokens(2, 15, 8)
    y, end = layer(x)
    torch.testing.assert_close(y, REFERENCE[name](layer, x), rtol=1e-10, atol=1e-10)
    state, parts = None, []
    for part in x.split([4, 1, 10], 1):
        out, state = layer(part, state)
        parts.append(out)
    torch.testing.assert_close(torch.cat(parts, 1), y, rtol=1e-10, atol=1e-10)
    assert largest_difference(state, end) < 1e-10


@pytest.mark.parametrize("name", VARIANTS)
def test_float32_is_close_to_the_float64_reference(name: str) -> None:
    y, _ = random_variant(name, dtype=torch.float32)(tokens(2, 15, 8, torch.float32))
    expected = REFERENCE[name](random_variant(name), tokens(2, 15, 8))
    assert (y - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("name", VARIANTS)
def test_outputs_depend_on_the_past_alone(name: str) -> None:
    layer = random_variant(name)
    x = tokens(1, 15, 8)
    y, _ = layer(x)
    for t in (0, 4, 5, 6, 14):
        changed = x.clone()
        changed[:, t] += 1.0
        other, _ = layer(changed)
        assert torch.equal(other[:, :t], y[:, :t])
        assert (other[:, t] - y[:, t]).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["mag", "mal"])
def test_what_left_the_window_is_known_from_the_memory_alone(name: str) -> None:
    """With the memory's output silenced nothing older than the window is felt."""
    layer = random_variant(name)
    x = tokens(1, 15, 8)
    changed = x.clone()
    changed[:, 2] += 1.0
    whole = layer(x)[0] - layer(changed)[0]
    assert whole[:, 14].abs().max() > 1e-6
    if name == "mal":
        with torch.no_grad():
            layer.layer.output.project.weight.zero_()
        cut = layer(x)[0] - layer(changed)[0]
        assert cut[:, 6].abs().max() > 1e-6
        assert cut[:, 7:].abs().max() == 0


def test_mac_recalls_with_the_memory_of_the_segment_start() -> None:
    """A token reaches later ones of its segment by attention and the memory's own read-out.

    With the update's read-out silenced, the next segment still feels it: by recall.
    """
    layer: MAC = random_variant("mac")
    x = tokens(1, 14, 8)
    changed = x.clone()
    changed[:, 1] += 1.0
    _, before = layer(x[:, :6])
    _, after = layer(changed[:, :6])
    moved = [(a - b).abs().max() for a, b in zip(before.recall, after.recall, strict=True)]
    assert min(moved) > 1e-6
    _, inside = layer(x[:, :5])
    start = layer.initial_state(1)
    for a, b in zip(inside.recall, start.recall, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", VARIANTS)
def test_persistent_tokens_matter(name: str) -> None:
    layer = random_variant(name)
    x = tokens(1, 9, 8)
    y, _ = layer(x)
    persistent = layer.layer.persistent if name == "mal" else layer.persistent
    with torch.no_grad():
        persistent[:, 0] += 1.0
    assert (layer(x)[0] - y).abs().max() > 1e-4


@pytest.mark.parametrize("name", VARIANTS)
def test_surprise_comes_with_every_token(name: str) -> None:
    layer = random_variant(name)
    x = tokens(2, 9, 8)
    y, _, surprise = layer(x, return_surprise=True)
    assert torch.equal(y, layer(x)[0])
    for part in surprise:
        assert part.shape == (2, 9)
        assert (part > 0).all()


@pytest.mark.parametrize("name", VARIANTS)
def test_wrong_inputs_are_named(name: str) -> None:
    with pytest.raises(ValueError, match=r"x: shape \[rows, tokens >= 1, 8\] is needed"):
        random_variant(name)(torch.zeros(1, 3, 7))
