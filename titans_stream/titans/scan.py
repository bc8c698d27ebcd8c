"""The linear recurrences of momentum and forgetting within a chunk, in closed form.

    S_t = eta_t S_{t-1} + w_t              M_t = (1 - alpha_t) M_{t-1} + S_t

unroll (arXiv 2501.00663, section 3.2) to

    M_t = R_t M_0 + m_t S_0 + sum_{i<=t} W_ti w_i        S_t = e_t S_0 + sum_{i<=t} E_ti w_i

with coefficients that depend on the gates alone, so they are computed for all chunks at once.
Products of gates are sums of logarithms over each segment; nothing is divided by a cumulative
product, which would underflow. Gates enter as logarithms: log_keep = log(1 - alpha), log_eta.

Letters: ... leading dimensions, C tokens of a chunk, J = 2 for (M, S), 1 without momentum.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Decays(NamedTuple):
    """Coefficients of the unrolled recurrences, at T tokens (all C, or the last ones)."""

    read: Tensor
    """(R_t, m_t) [..., T, J]: weights of the chunk-start M and S in M_t."""
    write: Tensor
    """W_ti [..., T, C]: weight of write i in M_t; zero for i > t."""
    past: Tensor | None
    """e_t [..., T]: weight of the chunk-start S in S_t; None without momentum."""
    spread: Tensor | None
    """E_ti [..., T, C]: weight of write i in S_t; None without momentum, S_t = w_t."""
    ends: Tensor
    """Weights of the chunk-start (M, S) in (M, S) after the last token [..., J, J]."""
    folds: Tensor
    """Weights of the writes in (M, S) after the last token [..., C, J]."""


def segment_products(log_gate: Tensor) -> Tensor:
    """P [..., C, C] with P_ti = product of gates i+1..t, 1 on the diagonal, 0 above it.

    The sum of each segment starts afresh, so that a strong gate elsewhere costs no precision.
    """
    size = log_gate.shape[-1]
    ones = torch.ones(size, size, dtype=torch.bool, device=log_gate.device)
    columns = log_gate.unsqueeze(-1).expand(*log_gate.shape, size)
    sums = columns.masked_fill(~ones.tril(-1), 0.0).cumsum(-2)
    return sums.masked_fill(ones.triu(1), -torch.inf).exp()


def decays(log_keep: Tensor, log_eta: Tensor | None) -> Decays:
    """The coefficients for gates [..., C]; `log_eta` None means no momentum."""
    keep = log_keep.cumsum(-1).exp()
    forget = segment_products(log_keep)
    if log_eta is None:
        read = keep.unsqueeze(-1)
        return Decays(read, forget, None, None, read[..., -1:, :], forget[..., -1, :, None])
    past = log_eta.cumsum(-1).exp()
    spread = segment_products(log_eta)
    read = torch.stack([keep, (forget @ past.unsqueeze(-1)).squeeze(-1)], -1)
    write = forget @ spread
    last_past = torch.stack([torch.zeros_like(past[..., -1]), past[..., -1]], -1)
    ends = torch.stack([read[..., -1, :], last_past], -2)
    folds = torch.stack([write[..., -1, :], spread[..., -1, :]], -1)
    return Decays(read, write, past, spread, ends, folds)


def last(coefficients: Decays, count: int) -> Decays:
    """The coefficients at the last `count` tokens."""
    read, write, past, spread, ends, folds = coefficients
    return Decays(
        read[..., -count:, :],
        write[..., -count:, :],
        None if past is None else past[..., -count:],
        None if spread is None else spread[..., -count:, :],
        ends,
        folds,
    )
