"""A whole chunk as one autograd function, its backward pass written out.

The forward pass is that of `chunk.py` for a chunk that starts and ends within one call; what it
computes on the way is kept. Leaving the backward pass to autograd takes about half as long again,
because the operations of one chunk are small. Letters as in `chunk.py`; J (M, S) or (M,).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import silu

from titans_stream.titans.chunk import Layers
from titans_stream.titans.scan import Decays


def read_and_fold(
    stacks: Layers,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    theta: Tensor,
    decays: Decays,
    clip: float | None,
    residual: bool,
) -> tuple[Tensor, Layers]:
    """y [N, C, D] of a whole chunk and the stacks [N, J I, O] after it.

    stacks at the chunk's start; q, k, v [N, C, D]; theta [N, C] before clipping.
    """
    coefficients = (decays.read, decays.write, decays.ends, decays.folds)
    y, *folded = _WholeChunk.apply(clip, residual, q, k, v, theta, *coefficients, *stacks)
    return y, tuple(folded)


class _WholeChunk(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, clip: float | None, residual: bool, *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        q, k, v, theta, read, write, ends, folds, *stacks = inputs
        depth, skip = len(stacks), residual and len(stacks) > 1
        weights = [
            stack[:, :width] for stack, width in zip(stacks, _widths(stacks, read), strict=True)
        ]

        h, z = [k], []
        for layer in range(depth - 1):
            z.append(torch.bmm(h[-1], weights[layer]))
            h.append(silu(z[-1]) + h[-1] if residual and layer > 0 else silu(z[-1]))
        target = v - k if skip else v
        e = [torch.baddbmm(target, h[-1], weights[-1], beta=-2, alpha=2)]
        back: list[Tensor] = []
        for layer in range(depth - 1, 0, -1):
            through = torch.bmm(e[0], weights[layer].mT)
            back.insert(0, through + back[0] if residual and back else through)
            e.insert(0, torch.ops.aten.silu_backward(back[0], z[layer - 1]))
        squares = [(_squares(a), _squares(b)) for a, b in zip(h, e, strict=True)]
        norm = sum((a * b for a, b in squares[1:]), start=squares[0][0] * squares[0][1])
        scale = (
            torch.ones_like(theta) if clip is None else clip * norm.clamp_min(clip * clip).rsqrt()
        )
        step = -theta * scale

        scores = write * step.unsqueeze(-2)
        r, u, alike = [q], [], []
        for layer in range(depth):
            alike.append(torch.bmm(r[-1], h[layer].mT))
            start = torch.bmm(_weighted(read, r[-1]), stacks[layer])
            u.append(torch.baddbmm(start, scores * alike[-1], e[layer]))
            if layer < depth - 1:
                r.append(silu(u[-1]) + r[-1] if residual and layer > 0 else silu(u[-1]))
        y = u.pop() + q if skip else u.pop()

        shares = folds * step.unsqueeze(-1)
        folded = [
            torch.baddbmm(_mixed(ends, stack), _weighted(shares, a).mT, b)
            for stack, a, b in zip(stacks, h, e, strict=True)
        ]
        ctx.settings = (clip, residual, depth)
        ctx.save_for_backward(
            *(theta, read, write, ends, folds, norm, scale, *stacks),
            *(*h, *z, *e, *back, *r, *u, *alike),
        )
        return y, *folded

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, *dfolded: Tensor) -> tuple[Tensor | None, ...]:
        clip, residual, depth = ctx.settings
        theta, read, write, ends, folds, norm, scale, *rest = ctx.saved_tensors
        stacks, h, z, e, back, r, u, alike = _cut(
            rest, [depth, depth, depth - 1, depth, depth - 1, depth, depth - 1, depth]
        )
        skip = residual and depth > 1
        widths = _widths(stacks, read)
        weights = [stack[:, :width] for stack, width in zip(stacks, widths, strict=True)]
        step = -theta * scale
        shares, scores = folds * step.unsqueeze(-1), write * step.unsqueeze(-2)

        # The fold: X' = ends X + (shares h)' e.
        dstacks = [_mixed(ends.mT, d) for d in dfolded]
        dends = sum(
            (
                torch.bmm(_by_part(d, ends), _by_part(stack, ends).mT)
                for d, stack in zip(dfolded, stacks, strict=True)
            ),
            start=torch.zeros_like(ends),
        )
        dh, de = [], []
        dshares = torch.zeros_like(shares)
        for layer in range(depth):
            dweighted = torch.bmm(e[layer], dfolded[layer].mT)
            de.append(torch.bmm(_weighted(shares, h[layer]), dfolded[layer]))
            dh.append(_unweighted(shares, dweighted))
            dshares += _coefficients(dweighted, h[layer])

        # The read-out: u = (read r) X + (scores * r h') e.
        dq = dy.clone() if skip else torch.zeros_like(dy)
        du, dread, dscores = dy, torch.zeros_like(read), torch.zeros_like(scores)
        passed: Tensor | None = None
        for layer in range(depth - 1, -1, -1):
            dweighted = torch.bmm(du, stacks[layer].mT)
            dstacks[layer].baddbmm_(_weighted(read, r[layer]).mT, du)
            dread += _coefficients(dweighted, r[layer])
            dproduct = torch.bmm(du, e[layer].mT)
            de[layer].baddbmm_((scores * alike[layer]).mT, du)
            dscores.addcmul_(dproduct, alike[layer])
            dalike = dproduct * scores
            dr = torch.baddbmm(_unweighted(read, dweighted), dalike, h[layer])
            dh[layer].baddbmm_(dalike.mT, r[layer])
            if passed is not None:
                dr += passed
            if layer > 0:
                passed = dr if residual and layer > 1 else None
                du = torch.ops.aten.silu_backward(dr, u[layer - 1])
            else:
                dq += dr

        # The step: step = -theta min(1, clip / norm), norm^2 = sum |h|^2 |e|^2.
        dwrite, dfolds = dscores * step.unsqueeze(-2), dshares * step.unsqueeze(-1)
        dstep = (dscores * write).sum(-2) + (dshares * folds).sum(-1)
        dtheta = -scale * dstep
        if clip is not None:
            slope = 0.5 * theta * clip * norm.clamp_min(clip * clip).rsqrt().pow(3)
            twice = (2 * dstep * slope * (norm > clip * clip)).unsqueeze(-1)
            for layer in range(depth):
                de[layer] += twice * _squares(h[layer]).unsqueeze(-1) * e[layer]
                dh[layer] += twice * _squares(e[layer]).unsqueeze(-1) * h[layer]

        # The gradients' own backward pass, from the first layer to the last.
        dz: list[Tensor] = []
        dback: Tensor | None = None
        for layer in range(depth - 1):
            if dback is not None:
                de[layer].baddbmm_(dback, weights[layer])
                dstacks[layer][:, : widths[layer]].baddbmm_(dback.mT, e[layer])
            dz.append(_curved(de[layer], back[layer], z[layer]))
            through = torch.ops.aten.silu_backward(de[layer], z[layer])
            dback = through + dback if residual and dback is not None else through
        if dback is not None:
            de[-1].baddbmm_(dback, weights[-1])
            dstacks[-1][:, : widths[-1]].baddbmm_(dback.mT, e[-1])

        # The forward pass over the keys, from the last layer to the first.
        dout = 2 * de[-1]
        dstacks[-1][:, : widths[-1]].baddbmm_(h[-1].mT, dout)
        dh[-1].baddbmm_(dout, weights[-1].mT)
        for layer in range(depth - 2, -1, -1):
            dz[layer] += torch.ops.aten.silu_backward(dh[layer + 1], z[layer])
            dstacks[layer][:, : widths[layer]].baddbmm_(h[layer].mT, dz[layer])
            dh[layer].baddbmm_(dz[layer], weights[layer].mT)
            if residual and layer > 0:
                dh[layer] += dh[layer + 1]
        dk = dh[0] + dout if skip else dh[0]
        return None, None, dq, dk, -dout, dtheta, dread, dwrite, dends, dfolds, *dstacks


def _widths(stacks: Any, read: Tensor) -> list[int]:
    """I of each layer."""
    return [stack.shape[1] // read.shape[-1] for stack in stacks]


def _by_part(stack: Tensor, ends: Tensor) -> Tensor:
    """[N, J I, O] -> [N, J, I O]."""
    return stack.reshape(len(stack), ends.shape[-1], -1)


def _mixed(ends: Tensor, stack: Tensor) -> Tensor:
    """The weights and momentum mixed by `ends` [N, J, J]."""
    return torch.bmm(ends, _by_part(stack, ends)).view(stack.shape)


def _weighted(coefficients: Tensor, x: Tensor) -> Tensor:
    """x [N, C, I] times each of J coefficients [N, C, J], side by side: [N, C, J I]."""
    return (coefficients.unsqueeze(-1) * x.unsqueeze(-2)).flatten(-2)


def _unweighted(coefficients: Tensor, dweighted: Tensor) -> Tensor:
    """The gradient of `_weighted` for x."""
    parts = dweighted.view(*coefficients.shape, -1)
    return (coefficients.unsqueeze(-1) * parts).sum(-2)


def _coefficients(dweighted: Tensor, x: Tensor) -> Tensor:
    """The gradient of `_weighted` for the coefficients."""
    return (dweighted.view(*x.shape[:2], -1, x.shape[-1]) * x.unsqueeze(-2)).sum(-1)


def _curved(grad: Tensor, back: Tensor, z: Tensor) -> Tensor:
    """The gradient of back * silu'(z) for z."""
    gate = torch.sigmoid(z)
    return grad * back * (gate - gate * gate) * (2 + z - 2 * z * gate)


def _squares(x: Tensor) -> Tensor:
    return (x * x).sum(-1)


def _cut(tensors: list[Tensor], sizes: list[int]) -> list[list[Tensor]]:
    rest = iter(tensors)
    return [[next(rest) for _ in range(size)] for size in sizes]
