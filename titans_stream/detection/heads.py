"""The memories whose errors are surprises: dense A, T, N and the sparse familiarity cells.

B is the number of series of a round. docs/method.md has the equations.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from titans_stream.detection import layout as L
from titans_stream.detection.keys import silu_key
from titans_stream.memory.rule import update

_WIDE = L.HOUR_BINS + L.MEAN_BINS


def dense_heads(
    core: Tensor,
    past: Tensor,
    history: Tensor,
    memory: Tensor,
    y: Tensor,
    calendar: Tensor,
    weights: Mapping[str, Tensor],
) -> tuple[Tensor, Tensor]:
    """Surprises [B, 5] of memories A, T and N, read before they learn; and the new memory.

    core [B, CORE] (updated in place), past and history [B, HISTORY] newest first, without and
    with y [B]; memory [B, 3, 2, KEY] holds M and S; calendar [B, 10].
    """
    t = core[:, L.T]
    n = (t + 1.0).clamp_max(float(L.HISTORY))
    times = calendar[:, : L.TIME_FEATURES]
    lags = past[:, : L.LAGS].clamp(-8.0, 8.0)
    key_a = silu_key(
        weights["detect.key_a_weight"],
        weights["detect.key_a_bias"],
        torch.cat([lags, 0.5 * times], dim=1),
        L.KEY_CONSTANT,
    )
    key_t = silu_key(
        weights["detect.key_t_weight"], weights["detect.key_t_bias"], times, L.KEY_CONSTANT
    )
    keys = torch.stack([key_a, key_t, key_a], dim=1)
    targets = torch.stack(
        [
            history[:, : L.HORIZON_A].sum(1) / n.clamp_max(float(L.HORIZON_A)),
            history[:, : L.HORIZON_T].sum(1) / n.clamp_max(float(L.HORIZON_T)),
            y,
        ],
        dim=1,
    )
    theta = (L.THETA * (L.THETA_DECAY / (t + L.THETA_DECAY)).sqrt()).clamp_min(L.THETA_FLOOR)
    level = core[:, L.GRADIENT : L.GRADIENT + L.MEMORIES]
    clip = L.CLIP_FACTOR * level.clamp_min(L.CLIP_FLOOR)
    M, S, error, norm = update(
        memory[:, :, 0].unsqueeze(2),
        memory[:, :, 1].unsqueeze(2),
        keys,
        targets.unsqueeze(2),
        0.0,
        L.ETA,
        theta[:, None],
        clip,
    )
    error = error.squeeze(2)
    core[:, L.GRADIENT : L.GRADIENT + L.MEMORIES] = level + L.CLIP_EMA * (
        torch.minimum(norm, clip) - level
    )
    core[:, L.EMA24] += L.EMA_SHORT * (error[:, 0] - core[:, L.EMA24])
    core[:, L.EMA192] += L.EMA_LONG * (error[:, 0] - core[:, L.EMA192])
    surprises = torch.stack(
        [error[:, 0], core[:, L.EMA24], core[:, L.EMA192], error[:, 1], error[:, 2]], dim=1
    ).abs()
    return surprises, torch.stack([M.squeeze(2), S.squeeze(2)], dim=2)


def sparse_heads(
    core: Tensor, history: Tensor, cells: Tensor, y: Tensor, day_fraction: Tensor
) -> tuple[Tensor, Tensor]:
    """Smoothed -ln familiarity [B, 4] of y in its contexts, read first; and the new cells.

    A linear memory with one-hot keys (tile coding), target 1 and rate .05: a cell's mass c and
    its context's mass N decay only when visited. history [B, HISTORY] holds y at index 0.
    """
    device = y.device
    u = torch.asinh(y)
    hour = L.HOUR_BINS * day_fraction
    total = history[:, L.MEAN_WINDOW : 2 * L.MEAN_WINDOW].sum(1)
    seen = (core[:, L.T] + 1.0 - L.MEAN_WINDOW).clamp(1.0, float(L.MEAN_WINDOW))
    mean = torch.asinh(total / seen)
    k = torch.arange(L.TILINGS, device=device)
    shift = 0.25 * ((3 * k) % 4)
    bin_h = torch.floor(hour[:, None] + shift).long() % L.HOUR_BINS
    bin_m = torch.floor(mean[:, None] + shift).long() + L.MEAN_ORIGIN + L.HOUR_BINS
    context = torch.stack([bin_h, bin_m], dim=1)
    at_n = L.CELLS_N1 + k * _WIDE + context
    n0 = core[:, L.N0, None]
    mass_n = _visits(cells, at_n)
    visited = [at_n.flatten(1)]
    surprises = []
    for w, (start1, start0) in enumerate(
        ((L.CELLS_C1_FINE, L.CELLS_C0_FINE), (L.CELLS_C1_COARSE, L.CELLS_C0_COARSE))
    ):
        bins = L.VALUE_BINS[w]
        bin_v = torch.floor(u[:, None] / L.VALUE_WIDTHS[w] + 0.25 * k).long() + L.VALUE_ORIGIN[w]
        at0 = start0 + k * bins + bin_v
        at1 = start1 + (k * _WIDE + context) * bins + bin_v[:, None]
        p1 = (_visits(cells, at0) + L.PRIOR_FAMILIARITY) / (n0 + 1.0)
        p2 = (_visits(cells, at1) + p1[:, None]) / (mass_n + 1.0)
        surprises.append(-p2.mean(2).log())
        visited += [at0, at1.flatten(1)]
    raw = torch.cat(surprises, dim=1)
    smooth = core[:, L.P_SMOOTH : L.P_SMOOTH + L.SPARSE_CHANNELS]
    core[:, L.P_SMOOTH : L.P_SMOOTH + L.SPARSE_CHANNELS] = smooth + L.P_EMA * (raw - smooth)
    core[:, L.N0] = L.MASS_DECAY * core[:, L.N0] + 1.0
    at = torch.cat(visited, dim=1)
    grown = (cells.gather(1, at).int() * L.CELL_DECAY >> L.CELL_DECAY_SHIFT) + L.CELL_UNIT
    return core[:, L.P_SMOOTH : L.P_SMOOTH + L.SPARSE_CHANNELS].clone(), cells.scatter(
        1, at, grown.short()
    )


def _visits(cells: Tensor, at: Tensor) -> Tensor:
    """Masses of the cells at `at` [B, ...], in visits."""
    return cells.gather(1, at.flatten(1)).view(at.shape).double() / L.CELL_UNIT
