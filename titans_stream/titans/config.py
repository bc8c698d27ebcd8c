"""Configurations of the neural memory and its four variants: what is needed without torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class MemoryConfig(BaseModel):
    """Shape and components of a `NeuralMemory`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(ge=1, description="D, width of the tokens")
    heads: int = Field(default=1, ge=1, description="P, memories side by side; must divide width")
    depth: int = Field(default=2, ge=1, description="L_M, weight matrices of the memory")
    hidden: int | None = Field(
        default=None, ge=1, description="H, hidden width per head; default twice the head width"
    )
    chunk: int = Field(default=16, ge=1, description="C, tokens that share a gradient's weights")
    momentum: bool = Field(default=True, description="past surprise (eq. 10); off: eta = 0")
    forgetting: bool = Field(default=True, description="weight decay (eq. 13); off: alpha = 0")
    convolution: int = Field(
        default=4, ge=0, description="taps of the causal convolution after each projection; 0: none"
    )
    gates: Literal["token", "chunk"] = Field(
        default="token", description="alpha, eta, theta of each token, or of a chunk's first token"
    )
    theta_max: float = Field(default=0.5, gt=0, description="largest step theta")
    alpha_floor: float = Field(
        default=0.0, ge=0, lt=1, description="alpha is exactly 0 where its sigmoid is below this"
    )
    theta_floor: float = Field(
        default=0.0, ge=0, lt=1, description="theta is exactly 0 where its sigmoid is below this"
    )
    clip: float | None = Field(
        default=8.0, gt=0, description="largest gradient norm per token and head; null: unbounded"
    )
    chunk_clip: float | None = Field(
        default=2.0,
        gt=0,
        description="once the sum of the steps of a chunk's earlier tokens has a larger norm, "
        "steps shrink in proportion; null: unbounded",
    )
    huber: float | None = Field(
        default=None, gt=0, description="errors beyond it count linearly (Huber); null: squared"
    )
    residual: bool = Field(default=True, description="skip connections of a memory of depth >= 2")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> MemoryConfig:
        if self.width % self.heads:
            raise ValueError(f"heads: {self.heads} heads do not divide the width {self.width}")
        if self.hidden is not None and self.depth == 1:
            raise ValueError("hidden: a memory of depth 1 is a matrix and has no hidden width")
        return self

    @property
    def head_width(self) -> int:
        """Width of one head's keys and values."""
        return self.width // self.heads

    @property
    def layer_shapes(self) -> list[tuple[int, int]]:
        """(O, I) of each weight matrix of one head's memory."""
        ends, hidden = self.head_width, self.hidden or 2 * self.head_width
        sizes = [ends, *[hidden] * (self.depth - 1), ends]
        return list(zip(sizes[1:], sizes[:-1], strict=True))


class LMMConfig(BaseModel):
    """The memory alone as a sequence layer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory: MemoryConfig
    persistent: int = Field(default=0, ge=0, description="N, learned tokens before the sequence")


class _AttentionConfig(BaseModel):
    """What MAC, MAG and MAL share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory: MemoryConfig
    attention_heads: int = Field(default=4, ge=1, description="must divide width into even parts")
    persistent: int = Field(default=4, ge=0, description="N, learned tokens that are always seen")

    @model_validator(mode="after")
    def _even_parts(self) -> Self:
        heads, width = self.attention_heads, self.memory.width
        if width % (2 * heads):
            raise ValueError(
                f"attention_heads: {heads} heads do not divide the width {width} into even parts"
            )
        return self


class MACConfig(_AttentionConfig):
    """Memory as context of attention within segments."""

    segment: int = Field(default=64, ge=1, description="G, tokens that attend to one another")


class MAGConfig(_AttentionConfig):
    """Memory beside sliding-window attention, combined by a gate."""

    window: int = Field(default=64, ge=1, description="W, tokens that a token attends to")


class MALConfig(_AttentionConfig):
    """Memory as the layer before sliding-window attention."""

    window: int = Field(default=64, ge=1, description="W, tokens that a token attends to")
