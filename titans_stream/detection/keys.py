"""Keys of the dense memories: SiLU of learned or random features, L2-normalised."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import silu


def silu_key(weight: Tensor, bias: Tensor, x: Tensor, constant: float) -> Tensor:
    """x [B, X], weight [X, F], bias [F] -> keys [B, F + 1], the last feature constant."""
    features = silu(x @ weight + bias)
    ones = torch.full_like(features[:, :1], constant)
    key = torch.cat([features, ones], dim=1)
    return key / key.square().sum(1, keepdim=True).sqrt()
