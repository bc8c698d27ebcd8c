"""A small language model of memory blocks: embedding, blocks in turn, norm, head; and generation.

Letters: B rows, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from titans_stream.titans.state import RowState


@dataclass(frozen=True)
class StackState(RowState):
    """The states of a model's blocks."""

    blocks: tuple[Any, ...]


class LanguageModel(nn.Module):
    """Tokens in, logits of the next token out, through LMM, MAC, MAG or MAL blocks of one width.

    `logits, state = model(tokens)`, `logits, state = model(more, state)`; embedding and head share
    their weights. ValueError without blocks or for blocks of different widths.
    """

    def __init__(self, vocabulary: int, blocks: Sequence[Any]) -> None:
        super().__init__()
        widths = sorted({block.width for block in blocks})
        if len(widths) != 1:
            raise ValueError(f"blocks: one width is needed, not {widths}")
        self.embed = nn.Embedding(vocabulary, widths[0])
        nn.init.normal_(self.embed.weight, std=widths[0] ** -0.5)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.RMSNorm(widths[0], eps=1e-6)

    def initial_state(self, rows: int) -> StackState:
        """The state of `rows` texts of which nothing has been read."""
        return StackState(tuple(cast(Any, block).initial_state(rows) for block in self.blocks))

    def forward(self, tokens: Tensor, state: StackState | None = None) -> tuple[Tensor, StackState]:
        """tokens int64 [B, T] -> logits [B, T, V] and the state after them."""
        x, after = self.embed(tokens), []
        given = [None] * len(self.blocks) if state is None else state.blocks
        for block, own in zip(self.blocks, given, strict=True):
            x, own = block(x, own)
            after.append(own)
        return linear(self.norm(x), self.embed.weight), StackState(tuple(after))

    @torch.no_grad()
    def generate(
        self,
        prompt: Tensor,
        count: int,
        state: StackState | None = None,
        temperature: float = 1.0,
        top: int | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, StackState]:
        """`count` tokens int64 [B, count] that follow the prompt [B, T >= 1], and the state.

        The state has read the prompt and all new tokens but the last. Tokens are drawn at
        `temperature` (0: the likeliest) among the `top` likeliest (None: all). Cost and memory per
        token do not grow with what was read. ValueError for a negative temperature or an empty
        prompt.
        """
        if temperature < 0:
            raise ValueError(f"temperature: {temperature} is negative")
        if not prompt.shape[1]:
            raise ValueError("prompt: one token at least is needed")
        found, given = [], prompt
        for _ in range(count):
            logits, state = self(given, state)
            given = _drawn(logits[:, -1].float(), temperature, top, generator)
            found.append(given)
        if state is None:
            state = self.initial_state(prompt.shape[0])
        return torch.cat([prompt[:, :0], *found], 1), state


def _drawn(
    logits: Tensor, temperature: float, top: int | None, generator: torch.Generator | None
) -> Tensor:
    """One token [B, 1] by logits [B, V]."""
    if temperature == 0:
        return logits.argmax(-1, keepdim=True)
    if top is not None:
        least = logits.topk(min(top, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    return torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)
