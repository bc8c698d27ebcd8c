"""One chunk of the neural memory in closed form: gradients, retrieval, fold and surprise.

The memory M is a stack of matrices (arXiv 2501.00663, section 3.1):

    L_M = 1:   M(k) = W_1 k
    L_M >= 2:  h_1 = silu(W_1 k), h_l = h_{l-1} + silu(W_l h_{l-1}), M(k) = k + W_L h_{L-1}

(the sums only with `residual`). The gradient of l = || M(k) - v ||^2 for W_l is the outer
product g_l h_{l-1}' of two vectors. So the weights at token t of a chunk are

    M_t = R_t M_0 + m_t S_0 + sum_{i<=t} W_ti step_i g_i h_i',  step_i = -theta_i (bounded)

and are applied to a query without being formed, as in linear attention.

Letters: N rows times heads, C tokens of a chunk so far, T new ones among them (the last), I and O
a layer's input and output width, D width of keys and values, J = 2 for (M, S), 1 without
momentum. A layer is kept as [N, J I, O]: its weights transposed, its momentum below them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad, silu

from titans_stream.memory.rule import clip_scale
from titans_stream.titans.config import MemoryConfig
from titans_stream.titans.scan import Decays

Layers = tuple[Tensor, ...]


class Rule(NamedTuple):
    """What the inner loss and its steps are, besides the gates; see `MemoryConfig`."""

    residual: bool
    clip: float | None
    chunk_clip: float | None
    huber: float | None

    @classmethod
    def of(cls, config: MemoryConfig) -> Rule:
        """The rule of a memory."""
        return cls(config.residual, config.clip, config.chunk_clip, config.huber)

    def loss(self, off: Tensor) -> Tensor:
        """The inner loss [N, T] of errors M(k) - v [N, T, D] (eq. 12, or Huber's)."""
        if self.huber is None:
            return _squares(off)
        size, delta = off.abs(), self.huber
        within = size.clamp_max(delta)
        return (within * (2 * size - within)).sum(-1)


class Gradients(NamedTuple):
    """The inner loss' gradients at T tokens, as factors per layer."""

    inputs: Layers
    """h_{l-1} [N, T, I] of each layer."""
    errors: Layers
    """g_l [N, T, O] of each layer."""

    def squared_norm(self) -> Tensor:
        """Squared Frobenius norm of the whole gradient [N, T], the momentary surprise."""
        first, *rest = (_squares(e) * _squares(h) for h, e in zip(*self, strict=True))
        return sum(rest, start=first)


def bounded_steps(rule: Rule, theta: Tensor, found: Gradients, squared_norm: Tensor) -> Tensor:
    """The steps -theta [N, T] of a chunk's first T tokens, shortened by the two bounds.

    Of the tokens' gradients and their squared norms [N, T]. The second bound looks at the norm of
    the sum of the steps of the tokens before, which adds up where gradients point the same way and
    little where tokens have nothing to do with one another.
    """
    step = theta
    if rule.clip is not None:
        step = step * clip_scale(squared_norm, rule.clip)
    if rule.chunk_clip is not None and theta.shape[-1] > 1:
        alike = sum(((h @ h.mT) * (e @ e.mT) for h, e in zip(*found, strict=True)), start=0.0)
        products = alike * step.unsqueeze(-1) * step.unsqueeze(-2)
        sums = products.cumsum(-1).cumsum(-2).diagonal(dim1=-2, dim2=-1)
        before = pad(sums[..., :-1], (1, 0)).clamp_min(rule.chunk_clip**2)
        step = step * (rule.chunk_clip * before.rsqrt())
    return -step


def surprise_gradients(
    weights: Layers, k: Tensor, v: Tensor, rule: Rule
) -> tuple[Gradients, Tensor]:
    """grad l(M; x_t) of every layer at fixed weights (eq. 8 and 12), and M(k) - v [N, T, D].

    weights [N, I, O] per layer; k, v [N, T, D].
    """
    h, residual = k, rule.residual
    inputs, before = [k], []
    for layer, weight in enumerate(weights[:-1]):
        z = h @ weight
        h = silu(z) + h if residual and layer > 0 else silu(z)
        inputs.append(h)
        before.append(z)
    target = v - k if residual and before else v
    off = torch.baddbmm(target, h, weights[-1], beta=-1)
    errors = [2 * (off if rule.huber is None else off.clamp(-rule.huber, rule.huber))]
    if before:
        back = errors[0] @ weights[-1].mT
        errors.append(_SiluGradient.apply(back, before[-1]))
        for layer in range(len(before) - 1, 0, -1):
            through = errors[-1] @ weights[layer].mT
            back = through + back if residual else through
            errors.append(_SiluGradient.apply(back, before[layer - 1]))
    errors.reverse()
    return Gradients(tuple(inputs), tuple(errors)), off


def retrieve(weights: Layers, q: Tensor, residual: bool) -> Tensor:
    """M(q) (eq. 15), a forward pass without update: weights [..., O, I], q [..., T, D]."""
    h = q
    for layer, weight in enumerate(weights[:-1]):
        z = silu(h @ weight.mT)
        h = z + h if residual and layer > 0 else z
    y = h @ weights[-1].mT
    return y + q if residual and len(weights) > 1 else y


def retrieve_within(
    stacks: Layers, found: Gradients, step: Tensor, decays: Decays, q: Tensor, residual: bool
) -> Tensor:
    """M_t(q_t) for the T last tokens, each with the memory right after its own update.

    stacks [N, J I, O] at the chunk's start; gradients and step [N, C] of the chunk so far;
    decays at the T tokens; q [N, T, D].
    """
    start = decays.read.unsqueeze(-1)
    write = decays.write * step.unsqueeze(-2)
    h = q
    for layer, (stack, keys, errors) in enumerate(zip(stacks, *found, strict=True)):
        z = (start * h.unsqueeze(-2)).flatten(-2) @ stack
        z = torch.baddbmm(z, write * (h @ keys.mT), errors)
        if layer < len(stacks) - 1:
            z = silu(z)
            h = z + h if residual and layer > 0 else z
    return z + q if residual and len(stacks) > 1 else z


def fold(stacks: Layers, found: Gradients, step: Tensor, decays: Decays) -> Layers:
    """The stacks after the chunk's last token (eq. 13 and 14), or what of them has `ends`."""
    start, writes = decays.ends, (decays.folds * step.unsqueeze(-1)).unsqueeze(-1)
    folded = []
    for stack, keys, errors in zip(stacks, *found, strict=True):
        kept = (start @ stack.reshape(len(stack), start.shape[-1], -1)).view(
            len(stack), -1, stack.shape[-1]
        )
        written = (writes * keys.unsqueeze(-2)).flatten(-2)
        folded.append(torch.baddbmm(kept, written.mT, errors))
    return tuple(folded)


def whole_chunk(
    stacks: Layers,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    theta: Tensor,
    decays: Decays,
    rule: Rule,
) -> tuple[Tensor, Layers]:
    """y [N, C, D] of a chunk that starts and ends here and the stacks [N, J I, O] after it.

    stacks at the chunk's start; q, k, v [N, C, D]; theta [N, C] before bounds.
    """
    parts = decays.read.shape[-1]
    weights = tuple(stack[:, : stack.shape[1] // parts] for stack in stacks)
    found, _ = surprise_gradients(weights, k, v, rule)
    step = bounded_steps(rule, theta, found, found.squared_norm())
    y = retrieve_within(stacks, found, step, decays, q, rule.residual)
    return y, fold(stacks, found, step, decays)


def past_squared_norm(stacks: Layers, found: Gradients, step: Tensor, decays: Decays) -> Tensor:
    """Squared Frobenius norm of S_t over all layers, at the T last tokens [N, T]."""
    count = decays.read.shape[-2]
    total = torch.zeros_like(decays.read[..., 0])
    for stack, keys, errors in zip(stacks, *found, strict=True):
        gram = (keys @ keys.mT) * (errors @ errors.mT)
        gram = gram * step.unsqueeze(-1) * step.unsqueeze(-2)
        if decays.past is None or decays.spread is None:
            total = total + gram.diagonal(dim1=-2, dim2=-1)[..., -count:]
            continue
        momentum = stack[:, keys.shape[-1] :]
        cross = ((keys @ momentum) * errors).sum(-1) * step
        total = (
            total
            + decays.past.square() * momentum.square().sum((-2, -1)).unsqueeze(-1)
            + 2 * decays.past * (decays.spread @ cross.unsqueeze(-1)).squeeze(-1)
            + ((decays.spread @ gram) * decays.spread).sum(-1)
        )
    return total.clamp_min(0.0)


class _SiluGradient(torch.autograd.Function):
    """back * silu'(z), with its derivative in one go; differentiable any number of times."""

    @staticmethod
    def forward(ctx: Any, back: Tensor, z: Tensor) -> Tensor:
        ctx.save_for_backward(back, z)
        slope: Tensor = torch.ops.aten.silu_backward(back, z)
        return slope

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        back, z = ctx.saved_tensors
        gate = torch.sigmoid(z)
        curvature = (gate - gate * gate) * (2 + z - 2 * z * gate)
        return _SiluGradient.apply(grad, z), grad * back * curvature


def root(squares: Tensor) -> Tensor:
    """The square root, with gradient 0 at 0 like that of a norm."""
    positive = squares > 0
    return torch.where(positive, squares, 1.0).sqrt() * positive


def _squares(x: Tensor) -> Tensor:
    return (x * x).sum(-1)
