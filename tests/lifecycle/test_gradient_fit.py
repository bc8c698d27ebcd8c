"""The one optimiser of all recipes: its cycle, its bound, and what it says when it diverges."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from titans_stream.lifecycle.gradient_fit import RISE, Descent
from titans_stream.recipe_settings import ResidualConfig, TrainingConfig


def test_the_learning_rate_rises_and_falls_and_the_loss_with_it() -> None:
    weight = torch.full((3,), 2.0, dtype=torch.float64, requires_grad=True)
    descent = Descent([weight], TrainingConfig(learning_rate=0.1, weight_decay=0.0), 100)
    rates, losses = [], []
    for _ in range(100):
        rates.append(descent.learning_rate)
        losses.append(descent.step(1e6 * weight.square().sum()))
    assert losses[0] == 12e6
    assert losses[-1] < 1e-2 * losses[0]
    assert int(np.argmax(rates)) == pytest.approx(100 * RISE, abs=1)
    assert max(rates) == pytest.approx(0.1, rel=1e-3)
    assert rates[-1] < 1e-3


def test_the_gradient_is_bounded() -> None:
    weight = torch.zeros(4, requires_grad=True)
    descent = Descent([weight], TrainingConfig(gradient_clip=0.5), 10)
    descent.step((1e6 * weight).sum())
    assert weight.grad is not None
    assert float(weight.grad.norm()) == pytest.approx(0.5, rel=1e-3)


def test_a_training_that_diverges_names_the_setting() -> None:
    weight = torch.zeros(1, requires_grad=True)
    descent = Descent([weight], ResidualConfig(), 10, "training.residual")
    with pytest.raises(
        ArithmeticError, match=r"diverged: .*lower training\.residual\.learning_rate"
    ):
        descent.step(weight.sum() + torch.nan)
    assert float(weight.detach()) == 0.0
