"""The language model: one meaning for any cutting, and generation that goes on from a state."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.titans.cases import largest_difference, random_variant
from titans_stream.titans import LanguageModel


def model_of(*names: str) -> LanguageModel:
    torch.manual_seed(3)
    return LanguageModel(11, [random_variant(name) for name in names]).double()


@pytest.mark.parametrize("names", [("lmm",), ("mac", "mal"), ("mag", "lmm")])
def test_logits_and_state_do_not_depend_on_the_cutting(names: tuple[str, ...]) -> None:
    model, words = model_of(*names), torch.randint(0, 11, (2, 17))
    with torch.no_grad():
        whole, end = model(words)
        state: Any = None
        parts = []
        for part in words.split([4, 1, 9, 3], 1):
            logits, state = model(part, state)
            parts.append(logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-9, atol=1e-10)
    assert largest_difference(state, end) < 1e-9
    assert largest_difference(model.initial_state(1).load(end.tensors()), end) == 0


def test_the_likeliest_tokens_are_those_of_the_whole_text() -> None:
    model, prompt = model_of("mal", "mac"), torch.randint(0, 11, (2, 5))
    found, state = model.generate(prompt, 7, temperature=0)
    text = torch.cat([prompt, found], 1)
    with torch.no_grad():
        logits, after = model(text[:, :-1])
    assert torch.equal(logits[:, 4:].argmax(-1), found)
    assert largest_difference(state, after) < 1e-9
    more, _ = model.generate(found[:, -1:], 3, state, temperature=0)
    longer, _ = model.generate(prompt, 10, temperature=0)
    assert torch.equal(more, longer[:, 7:])


def test_tokens_are_drawn_by_their_probabilities_among_the_top() -> None:
    model, prompt = model_of("lmm"), torch.zeros(4000, 1, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        chances = (model(prompt[:1])[0][0, -1] / 0.7).softmax(-1)
    drawn, _ = model.generate(prompt, 1, temperature=0.7, generator=generator)
    shares = torch.bincount(drawn.flatten(), minlength=11) / 4000
    torch.testing.assert_close(shares.double(), chances, rtol=0, atol=0.04)
    few, _ = model.generate(prompt, 1, top=2, generator=generator)
    assert set(few.flatten().tolist()) <= set(chances.topk(2).indices.tolist())


def test_what_cannot_be_generated_is_named() -> None:
    model = model_of("lmm")
    with pytest.raises(ValueError, match="temperature: -1 is negative"):
        model.generate(torch.zeros(1, 1, dtype=torch.int64), 1, temperature=-1)
    with pytest.raises(ValueError, match="prompt: one token at least"):
        model.generate(torch.zeros(1, 0, dtype=torch.int64), 1)
    with pytest.raises(ValueError, match=r"blocks: one width is needed, not \[\]"):
        LanguageModel(11, [])
