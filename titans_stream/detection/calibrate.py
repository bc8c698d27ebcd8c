"""Calibration: each channel's surprise ranked among its past block maxima, then combined to S.

B is the number of series of a round.
"""

from __future__ import annotations

import torch
from torch import Tensor

from titans_stream.detection import layout as L

_LOG10 = 2.302585092994046


def calibrate(
    core: Tensor, blocks: Tensor, surprises: Tensor, timed: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """S [B] (NaN while warming up), channel scores [B, 9] and the new blocks [B, 9, RING].

    core [B, CORE] is updated in place; surprises [B, 9] >= 0; timed [B]: it has a time of day.
    """
    t = core[:, L.T].clone()
    warm = t >= L.WARM_UP
    W = core[:, L.W_SUM, None]
    x = surprises.clamp_min(L.LOG_FLOOR).log()
    level, partial = _columns(core, L.LEVEL), _columns(core, L.PARTIAL)
    G = _prior(core, x, W)
    ge = _exceedance(core, blocks, x)
    z = ((x - partial) / L.SOFTNESS).clamp(-40.0, 40.0)
    ge = ge + torch.where(partial > -1e300, torch.sigmoid(-z), 0.0)
    scores = (-(ge + 0.5 * G).log() + (0.5 + W).log()) / _LOG10
    weights = torch.where(
        timed[:, None], x.new_tensor(L.WEIGHTS), x.new_tensor(L.WEIGHTS_WITHOUT_TIME)
    )
    statistic = torch.where(warm, (scores * weights).sum(1), torch.nan)
    channels = torch.where(warm[:, None], scores, surprises)
    n = (t + 1.0).clamp_max(L.COUNT_CAP)[:, None]
    core[:, L.LEVEL : L.LEVEL + L.CHANNELS] = level + (surprises - level) / n
    taken = torch.where((t >= L.BLOCK)[:, None], torch.maximum(partial, x), partial)
    core[:, L.PARTIAL : L.PARTIAL + L.CHANNELS] = taken
    core[:, L.PEAK_S] = torch.where(
        warm, torch.maximum(core[:, L.PEAK_S], statistic), core[:, L.PEAK_S]
    )
    core[:, L.T] = t + 1.0
    closes = (t + 1.0 > L.BLOCK) & ((t + 1.0) % L.BLOCK == 0.0)
    return statistic, channels, _close_blocks(core, blocks, closes)


def _columns(core: Tensor, start: int) -> Tensor:
    return core[:, start : start + L.CHANNELS].clone()


def _prior(core: Tensor, x: Tensor, W: Tensor) -> Tensor:
    """Logistic survival around the channel's level, two blocks' worth against the history."""
    level = _columns(core, L.LEVEL).clamp_min(L.LOG_FLOOR).log() + 1.0
    wb, wbb = _columns(core, L.WB_SUM), _columns(core, L.WBB_SUM)
    mu = (2.0 * level + wb) / (2.0 + W)
    spread = (wbb - 2.0 * mu * wb + mu * mu * W).clamp_min(0.0)
    var = (2.0 * (0.35**2 + (level - mu).square()) + spread) / (2.0 + W)
    return 1.0 / (1.0 + (1.8138 * (x - mu) / var.sqrt()).clamp_max(69.0).exp())


def _exceedance(core: Tensor, blocks: Tensor, x: Tensor) -> Tensor:
    """Weighted count of block maxima above x [B, 9], each step softened by SOFTNESS."""
    z = ((x.float().unsqueeze(2) - blocks) / L.SOFTNESS).clamp(-20.0, 20.0)
    steps = torch.sigmoid(-z) * _weights(core).unsqueeze(1)
    return steps.double().sum(2)


def _weights(core: Tensor) -> Tensor:
    """Weights of the blocks that count, newest first; [B, RING] float32."""
    age = torch.arange(L.RING, device=core.device)
    weight = torch.pow(torch.tensor(L.BLOCK_DECAY, dtype=torch.float64), age.cpu()).float()
    recent = age[: L.RECENT]
    notable = (core[:, L.NOTABLE_BITS, None].long() >> recent) & 1
    few = notable.sum(1, keepdim=True) <= L.FEW
    withheld = (notable == 1) & (recent >= L.WITHHELD_FROM) & few
    counts = age < core[:, L.N_BLOCKS, None]
    counts[:, : L.RECENT] &= ~withheld
    return weight.to(core.device) * counts


def _close_blocks(core: Tensor, blocks: Tensor, closes: Tensor) -> Tensor:
    """Where a block is complete, its maxima enter the ring, newest first."""
    if not bool(closes.any()):
        return blocks
    row = core[closes]
    row[:, L.N_BLOCKS] += 1.0
    notable = (row[:, L.PEAK_S] >= L.NOTABLE).double()
    row[:, L.NOTABLE_BITS] = (2.0 * row[:, L.NOTABLE_BITS] + notable) % (1 << L.RECENT)
    row[:, L.PEAK_S] = -torch.inf
    b = _columns(row, L.PARTIAL).float()
    ring = torch.cat([b.unsqueeze(2), blocks[closes][:, :, :-1]], dim=2)
    weights = _weights(row).double()
    row[:, L.W_SUM] = weights.sum(1)
    for start, terms in ((L.WB_SUM, ring.double()), (L.WBB_SUM, ring.double().square())):
        row[:, start : start + L.CHANNELS] = (terms * weights.unsqueeze(1)).sum(2)
    row[:, L.PARTIAL : L.PARTIAL + L.CHANNELS] = -torch.inf
    core[closes] = row
    shifted = blocks.clone()
    shifted[closes] = ring
    return shifted
