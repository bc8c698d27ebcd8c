"""The update rule of the neural memory, batched over rows: one rule for the whole project.

Letters: ... leading dimensions (series, memories), O outputs, K key width.

    l(M; x_t) = || M k_t - v_t ||^2                                     (eq. 12)
    S_t = eta_t S_{t-1} - theta_t grad l(M_{t-1}; x_t)                  (eq. 10, 14)
    M_t = (1 - alpha_t) M_{t-1} + S_t                                   (eq. 13)

Equations of arXiv 2501.00663. The gradient is closed-form, 2 (M k - v) k', so serving needs no
autograd. `clip` bounds the gradient's norm, which keeps the memory finite under outliers.
`linear_cpu.py` holds the same rule for one row.
"""

from __future__ import annotations

import torch
from torch import Tensor


def read(M: Tensor, k: Tensor) -> Tensor:
    """Retrieval y = M k (eq. 15): M [..., O, K], k [..., K] -> [..., O]."""
    return (M * k.unsqueeze(-2)).sum(-1)


def update(
    M: Tensor,
    S: Tensor,
    k: Tensor,
    v: Tensor,
    alpha: Tensor | float,
    eta: Tensor | float,
    theta: Tensor | float,
    clip: Tensor | float = float("inf"),
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One step of a linear memory (L_M = 1).

    M, S [..., O, K]: memory and past surprise; k [..., K]; v [..., O]; alpha (forgetting), eta
    (momentum), theta (step) and clip (largest gradient norm) broadcast over [...].
    Returns M_t, S_t, the error M_{t-1} k - v [..., O] and the gradient's norm before clipping
    [...]. The error is read before the memory is updated.
    """
    error = read(M, k) - v
    squared = 4.0 * error.square().sum(-1) * k.square().sum(-1)
    bound = torch.as_tensor(clip, dtype=M.dtype, device=M.device)
    large = squared > bound.square()
    one = torch.ones_like(squared)
    scale = torch.where(large, bound * torch.where(large, squared, one).rsqrt(), one)
    gradient = (2.0 * scale.unsqueeze(-1) * error).unsqueeze(-1) * k.unsqueeze(-2)
    M, S = advance(M, S, gradient, alpha, eta, theta)
    return M, S, error, squared.sqrt()


def advance(
    M: Tensor,
    S: Tensor,
    gradient: Tensor,
    alpha: Tensor | float,
    eta: Tensor | float,
    theta: Tensor | float,
) -> tuple[Tensor, Tensor]:
    """M_t and S_t (eq. 10, 13 and 14) from one gradient; any layer of a memory of any depth.

    M, S, gradient [..., O, K]; the gates broadcast over [...].
    """
    S = _expand(eta, S) * S - _expand(theta, S) * gradient
    M = (1.0 - _expand(alpha, M)) * M + S
    return M, S


def clip_scale(squared_norm: Tensor, clip: float) -> Tensor:
    """Factor min(1, clip / norm) [...] that bounds a gradient; differentiable also at norm 0."""
    return clip * squared_norm.clamp_min(clip * clip).rsqrt()


def _expand(gate: Tensor | float, like: Tensor) -> Tensor:
    gate = torch.as_tensor(gate, dtype=like.dtype, device=like.device)
    return gate[..., None, None]
