"""Reference: the paper's equations one token at a time, gradients by autograd, no cleverness.

Reads the slow weights of the fast modules, shares no arithmetic with them, and is far too slow
to use. Equations and sections of arXiv 2501.00663.

Letters: B rows, T tokens, D width, P heads, d = D / P head width, C chunk length, b p rows and
heads in einsum, o i a layer's outputs and inputs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from titans_stream.titans.memory import NeuralMemory


class NaiveResult(NamedTuple):
    """Outputs y [B, T, D], final M and S per layer [B, P, O, I], surprises [B, T]."""

    y: Tensor
    M: list[Tensor]
    S: list[Tensor]
    momentary: Tensor
    loss: Tensor
    past: Tensor


def memory_read(M: list[Tensor], k: Tensor, residual: bool) -> Tensor:
    """M(k), a forward pass through the memory's layers (eq. 15): k [B, P, d]."""
    h = k
    for layer, W in enumerate(M):
        z = torch.einsum("bpoi,bpi->bpo", W, h)
        if layer == len(M) - 1:
            return z + k if residual and len(M) > 1 else z
        a = z / (1 + torch.exp(-z))
        h = h + a if residual and layer > 0 else a
    return h


def associative_loss(
    M: list[Tensor], k: Tensor, v: Tensor, residual: bool, huber: float | None = None
) -> Tensor:
    """l(M; x_t) = || M(k_t) - v_t ||^2 (eq. 12), per row and head [B, P]."""
    return inner_loss(memory_read(M, k, residual) - v, huber)


def inner_loss(error: Tensor, huber: float | None) -> Tensor:
    """Squares, or Huber's loss: squares up to `huber`, straight lines beyond."""
    square = error.pow(2)
    if huber is None:
        return square.sum(-1)
    line = 2 * huber * error.abs() - huber**2
    return torch.where(error.abs() <= huber, square, line).sum(-1)


def naive_memory(memory: NeuralMemory, x: Tensor) -> NaiveResult:
    """`NeuralMemory.forward` from the initial state: x [B, T, D].

    With C > 1 the gradient is taken at the weights of the chunk's start (eq. 16 to 18).
    """
    config = memory.config
    queries, keys, values = project(memory, x)
    alphas, etas, thetas = gates(memory, x)
    M = [W.expand(x.shape[0], *W.shape) for W in memory.start]
    S = [torch.zeros_like(W) for W in M]
    M_start = M
    ys, momentary, losses, past = [], [], [], []
    for t in range(x.shape[1]):
        k, v, q = keys[:, t], values[:, t], queries[:, t]
        alpha, eta, theta = (g[:, t, :, None, None] for g in (alphas, etas, thetas))
        if t % config.chunk == 0:
            M_start = M
        loss, surprise = momentary_surprise(M_start, k, v, config.residual, config.huber)
        norm = norms(surprise)
        if config.clip is not None:
            scale = config.clip / norm.clamp_min(config.clip)
            surprise = [scale[..., None, None] * u for u in surprise]
        if t % config.chunk == 0:
            written = [torch.zeros_like(w) for w in M]
        intended = [w + theta * u for w, u in zip(written, surprise, strict=True)]
        if config.chunk_clip is not None:
            bound = config.chunk_clip / norms(written).clamp_min(config.chunk_clip)
            theta = theta * bound[..., None, None]
        written = intended
        S = [eta * s - theta * u for s, u in zip(S, surprise, strict=True)]  # eq. 10, 14, 18
        M = [(1 - alpha) * w + s for w, s in zip(M, S, strict=True)]  # eq. 13
        ys.append(memory_read(M, q, config.residual).flatten(1))  # eq. 15
        losses.append(loss.sum(-1))
        momentary.append(norm.norm(dim=-1))
        past.append(norms(S).norm(dim=-1))
    stacked = [torch.stack(items, 1) for items in (ys, momentary, losses, past)]
    return NaiveResult(stacked[0], M, S, *stacked[1:])


def momentary_surprise(
    M: list[Tensor], k: Tensor, v: Tensor, residual: bool, huber: float | None
) -> tuple[Tensor, list[Tensor]]:
    """The loss [B, P] and its gradient for M (eq. 8), by autograd, itself differentiable."""
    differentiable = torch.is_grad_enabled() and any(W.requires_grad for W in (*M, k, v))
    with torch.enable_grad():
        at = M if differentiable else [W.detach().requires_grad_() for W in M]
        at = [W if W.requires_grad else W.detach().requires_grad_() for W in at]
        loss = associative_loss(at, k, v, residual, huber)
        gradient = torch.autograd.grad(loss.sum(), at, create_graph=differentiable)
    return loss, list(gradient)


def norms(layers: list[Tensor]) -> Tensor:
    """Frobenius norm over all layers, per row and head [B, P]."""
    whole = torch.cat([u.flatten(2) for u in layers], -1)
    norm: Tensor = torch.linalg.vector_norm(whole, dim=-1)
    return norm


def project(memory: NeuralMemory, x: Tensor) -> list[Tensor]:
    """q, k and v, each [B, T, P, d] (eq. 11 and section 4.4).

    Projection, causal depthwise convolution, SiLU; q and k L2-normalised.
    """
    config = memory.config
    projected = []
    for index, W in enumerate(memory.qkv.weight.chunk(3)):
        z = torch.einsum("btd,ed->bte", x, W)
        if memory.filter is not None:
            taps = memory.filter.chunk(3)[index]
            z = causal_convolution(z, taps)
        a = (z * torch.sigmoid(z)).reshape(*x.shape[:2], config.heads, config.head_width)
        if index < 2:
            a = a / (a.pow(2).sum(-1, keepdim=True) + 1e-6).sqrt()
        projected.append(a)
    return projected


def causal_convolution(z: Tensor, taps: Tensor) -> Tensor:
    """out_t = sum_j taps[:, j] z_{t - (taps - 1) + j}: z [B, T, D], taps [D, n]."""
    size = taps.shape[1]
    out = []
    for t in range(z.shape[1]):
        total = torch.zeros_like(z[:, t])
        for j in range(size):
            source = t - (size - 1) + j
            if source >= 0:
                total = total + taps[:, j] * z[:, source]
        out.append(total)
    return torch.stack(out, 1)


def gates(memory: NeuralMemory, x: Tensor) -> list[Tensor]:
    """alpha (forgetting), eta (momentum) and theta (step), each [B, T, P], from x_t."""
    config = memory.config
    alpha, eta, theta = torch.sigmoid(memory.gates(x)).chunk(3, -1)
    alpha = (alpha - config.alpha_floor).clamp_min(0) / (1 - config.alpha_floor)
    theta = config.theta_max * (theta - config.theta_floor).clamp_min(0) / (1 - config.theta_floor)
    if not config.forgetting:
        alpha = torch.zeros_like(alpha)
    if not config.momentum:
        eta = torch.zeros_like(eta)
    if config.gates == "chunk":
        first = [t - t % config.chunk for t in range(x.shape[1])]
        alpha, eta, theta = alpha[:, first], eta[:, first], theta[:, first]
    return [alpha, eta, theta]
