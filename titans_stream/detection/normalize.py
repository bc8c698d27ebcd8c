"""Values in past standard deviations. B is the number of series of a round."""

from __future__ import annotations

import torch
from torch import Tensor

from titans_stream.detection import layout as L


def normalize(core: Tensor, values: Tensor) -> Tensor:
    """y [B]: `values` [B] in past standard deviations, clipped to +-Y_CLIP.

    Mean and variance, in core [B, CORE], take the values in afterwards; a lone outlier beyond
    OUTLIER_CLIP deviations enters bounded, a second one in a row as it is.
    """
    n, mean, var, last = (core[:, i] for i in (L.COUNT, L.MEAN, L.VAR, L.LAST_DEVIATION))
    first = n == 0.0
    deviation = values - mean
    sd = torch.maximum(var.sqrt(), 1e-3 * mean.abs() + 1e-9)
    y = torch.where(first, 0.0, (deviation / sd).clamp(-L.Y_CLIP, L.Y_CLIP))
    bound = torch.maximum(L.OUTLIER_CLIP * sd, last.abs())
    taken = torch.where(n > L.OUTLIER_AFTER, deviation.clamp(-bound, bound), deviation)
    count = (n + 1.0).clamp_max(L.COUNT_CAP)
    new_mean = torch.where(first, values, mean + taken / count)
    new_var = (1.0 - 1.0 / count) * (var + taken * taken / count)
    core[:, L.COUNT] = count
    core[:, L.MEAN] = new_mean
    core[:, L.VAR] = torch.where(first, 0.0, new_var)
    core[:, L.LAST_DEVIATION] = torch.where(first, 0.0, deviation)
    return y
