"""Reference: LMM, MAC, MAG and MAL from the first token, attention one query at a time.

Reads the slow weights of the modules in `variants.py` and recomputes everything from the start.
Equations and sections of arXiv 2501.00663.

Letters: B rows, T tokens, D width, A attention heads, d = D / A head width, N persistent tokens,
W window length, G segment length.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tests.titans.naive import memory_read, naive_memory, project
from titans_stream.titans.attention import Attention
from titans_stream.titans.variants import LMM, MAC, MAG, MAL, Combine, GatedOutput


def naive_lmm(layer: LMM, x: Tensor) -> Tensor:
    """Section 4.3: x [B, T, D] -> y [B, T, D]."""
    return _lmm_with_persistent(layer, x)[:, layer.persistent.shape[1] :]


def _lmm_with_persistent(layer: LMM, x: Tensor) -> Tensor:
    tokens = _prepend(layer.persistent, x)  # x~ = [p_1 .. p_N || x] (eq. 19, 29)
    normed = _rms_norm(layer.norm, tokens)
    return tokens + _output(layer.output, naive_memory(layer.memory, normed).y, normed)


def naive_mag(layer: MAG, x: Tensor) -> Tensor:
    """Section 4.2: x [B, T, D] -> y [B, T, D]."""
    count = layer.persistent.shape[1]
    tokens = _prepend(layer.persistent, x)  # eq. 26
    normed = _rms_norm(layer.norm, tokens)
    y = _window_attention(layer.attention, normed, count, layer.config.window)  # eq. 27
    o = _combine(layer.combine, y, naive_memory(layer.memory, normed).y)  # eq. 28
    return (tokens + _output(layer.output, o, normed))[:, count:]


def naive_mal(layer: MAL, x: Tensor) -> Tensor:
    """Section 4.3: x [B, T, D] -> y [B, T, D]."""
    count = layer.layer.persistent.shape[1]
    y = _lmm_with_persistent(layer.layer, x)  # eq. 29, 30
    normed = _rms_norm(layer.norm, y)
    attended = _window_attention(layer.attention, normed, count, layer.config.window)  # eq. 31
    return (y + _output(layer.output, attended, normed))[:, count:]


def naive_mac(layer: MAC, x: Tensor) -> Tensor:
    """Section 4.1: x [B, T, D] -> y [B, T, D]."""
    config, memory = layer.config, layer.memory
    normed = _rms_norm(layer.norm, x)
    persistent = _rms_norm(layer.norm, layer.persistent).expand(x.shape[0], -1, -1)
    queries = project(memory, normed)[0]
    learned: list[Tensor] = []
    out: list[Tensor] = []
    for start in range(0, x.shape[1], config.segment):
        here = slice(start, min(start + config.segment, x.shape[1]))
        M = [W.expand(x.shape[0], *W.shape) for W in memory.start]
        if learned:
            M = naive_memory(memory, torch.cat(learned, 1)).M
        h = torch.stack(  # eq. 21
            [
                memory_read(M, q, memory.config.residual).flatten(1)
                for q in queries[:, here].unbind(1)
            ],
            1,
        )
        h = _rms_norm(layer.norm_recalled, h)
        y = _segment_attention(layer.attention, normed[:, here], h, persistent)  # eq. 22, 23
        y = normed[:, here] + layer.mixed * y
        learned.append(_rms_norm(layer.norm_attended, y))
        m = naive_memory(memory, torch.cat(learned, 1)).y[:, here]  # eq. 24
        o = _combine(layer.combine, y, m)  # eq. 25
        out.append(x[:, here] + _output(layer.output, o, normed[:, here]))
    return torch.cat(out, 1)


def _window_attention(attention: Attention, x: Tensor, persistent: int, window: int) -> Tensor:
    """Token t sees itself, the window - 1 tokens before it and every persistent token."""
    q, k, v = _heads(attention, x)
    y = []
    for t in range(x.shape[1]):
        first = max(persistent, t - window + 1)
        scores = [_score(q[:, :, t], k[:, :, j], 0) for j in range(persistent)]
        scores += [_score(q[:, :, t], k[:, :, j], t - j) for j in range(first, t + 1)]
        seen = [*range(persistent), *range(first, t + 1)]
        y.append(_weigh(scores, [v[:, :, j] for j in seen]))
    return torch.stack(y, 1)


def _segment_attention(attention: Attention, x: Tensor, h: Tensor, persistent: Tensor) -> Tensor:
    """Token t sees [p_1 .. p_N || h_1 .. h_t || x_1 .. x_t]."""
    q, k, v = _heads(attention, x)
    _, hk, hv = _heads(attention, h)
    _, pk, pv = _heads(attention, persistent)
    y = []
    for t in range(x.shape[1]):
        scores = [_score(q[:, :, t], pk[:, :, j], 0) for j in range(pk.shape[2])]
        scores += [_score(q[:, :, t], hk[:, :, j], t - j) for j in range(t + 1)]
        scores += [_score(q[:, :, t], k[:, :, j], t - j) for j in range(t + 1)]
        values = [*pv.unbind(2), *hv[:, :, : t + 1].unbind(2), *v[:, :, : t + 1].unbind(2)]
        y.append(_weigh(scores, values))
    return torch.stack(y, 1)


def _heads(attention: Attention, x: Tensor) -> list[Tensor]:
    """q, k and v, each [B, A, T, d]."""
    heads = attention.heads
    return [
        torch.einsum("btd,ed->bte", x, W)
        .reshape(*x.shape[:2], heads, x.shape[2] // heads)
        .transpose(1, 2)
        for W in attention.qkv.weight.chunk(3)
    ]


def _score(q: Tensor, k: Tensor, distance: int) -> Tensor:
    """q' R(-distance) k / sqrt(d), the rotary embedding of a relative position: q, k [B, A, d]."""
    half = q.shape[-1] // 2
    total = torch.zeros_like(q[..., 0])
    for i in range(half):
        angle = -distance * 10_000.0 ** (-i / half)
        a, b = k[..., i], k[..., half + i]
        turned = (
            a * math.cos(angle) - b * math.sin(angle),
            b * math.cos(angle) + a * math.sin(angle),
        )
        total = total + q[..., i] * turned[0] + q[..., half + i] * turned[1]
    return total / math.sqrt(q.shape[-1])


def _weigh(scores: list[Tensor], values: list[Tensor]) -> Tensor:
    """Softmax-weighted mean of values [B, A, d], heads concatenated to [B, D]."""
    weights = torch.stack(scores, -1).softmax(-1)
    return torch.einsum("ban,nbad->bad", weights, torch.stack(values)).flatten(1)


def _combine(combine: Combine, y: Tensor, m: Tensor) -> Tensor:
    a = _rms_norm(combine.attended, y) + combine.shifts[0]
    b = _rms_norm(combine.recalled, m) + combine.shifts[1]
    return a * b * torch.sigmoid(b)


def _output(output: GatedOutput, y: Tensor, x: Tensor) -> Tensor:
    gate = x @ output.gate.weight.T
    return (_rms_norm(output.norm, y) * gate * torch.sigmoid(gate)) @ output.project.weight.T


def _rms_norm(norm: nn.RMSNorm, x: Tensor) -> Tensor:
    return norm.weight * x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()


def _prepend(persistent: Tensor, x: Tensor) -> Tensor:
    return torch.cat([persistent.expand(x.shape[0], -1, -1), x], 1)
