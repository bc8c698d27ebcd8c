"""What each component of the neural memory is worth, on sensor-like series.

Every sequence is a sensor of its own: a daily profile drawn at random, which is replaced by
another one now and then, plus autoregressive noise. Tokens are the value and the phase of the
day; the next value is predicted. The profile can only come out of what was read in the sequence.
A model is an LMM block with persistent tokens between an embedding and a linear head. Scored is
the mean squared error on new sequences, in units of the error of one who knows the profile
(1.00 is perfect), with the standard error over seeds.

    python -m benchmarks.memory_ablation            some twenty minutes on one quiet core
    python -m benchmarks.memory_ablation --quick    a minute: it runs, too short to rank
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from titans_stream.titans import LMM, LMMConfig, MemoryConfig

DAY, DAYS = 24, 12
HARMONICS = 4
CORRELATION, NOISE = 0.6, 0.3
CHANGE = 1 / 96
"""Chance per token that a new profile begins."""

BASE: dict[str, Any] = {"width": 32, "heads": 2, "depth": 2, "chunk": 8}
VARIANTS: dict[str, dict[str, Any]] = {
    "all (L_M = 2)": {},
    "without forgetting": {"forgetting": False},
    "without momentum": {"momentum": False},
    "without convolution": {"convolution": 0},
    "without persistent tokens": {"persistent": 0},
    "L_M = 1": {"depth": 1},
    "L_M = 3": {"depth": 3},
}


class Model(nn.Module):
    """Value and phase in, the next value out."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        settings = BASE | {"persistent": 4} | settings
        persistent = settings.pop("persistent")
        memory = MemoryConfig(**settings)
        self.embed = nn.Linear(1 + 4 * HARMONICS, memory.width)
        self.layer = LMM(LMMConfig(memory=memory, persistent=persistent))
        self.norm = nn.RMSNorm(memory.width, eps=1e-6)
        self.head = nn.Linear(memory.width, 1)

    def forward(self, values: Tensor) -> Tensor:
        """values [B, T] -> prediction of the next value after each [B, T]."""
        hours = torch.arange(values.shape[1] + 1)
        turn = 2 * math.pi / DAY * hours[:, None] * torch.arange(1, HARMONICS + 1)
        phase = torch.cat([turn.sin(), turn.cos()], -1)
        phases = torch.cat([phase[:-1], phase[1:]], -1).expand(len(values), -1, -1)
        y, _ = self.layer(self.embed(torch.cat([values.unsqueeze(-1), phases], -1)))
        out: Tensor = self.head(self.norm(y)).squeeze(-1)
        return out


def sensors(rows: int, generator: torch.Generator) -> Tensor:
    """Values [rows, DAY * DAYS]: profiles of a few harmonics that change, and noise."""
    count = DAY * DAYS
    changes = torch.rand(rows, count, generator=generator) < CHANGE
    which = changes.cumsum(1)
    kinds = int(which.max()) + 1
    size = torch.arange(1, HARMONICS + 1) ** -0.5
    waves = size * torch.randn(rows, kinds, 2, HARMONICS, generator=generator)
    turn = 2 * math.pi / DAY * torch.arange(count)[:, None] * torch.arange(1, HARMONICS + 1)
    basis = torch.stack([turn.sin(), turn.cos()], 1)
    profiles = torch.einsum("rkwh,twh->rkt", waves, basis)
    level = profiles.gather(1, which.unsqueeze(1)).squeeze(1)
    shocks = NOISE * torch.randn(rows, count, generator=generator)
    noise = [shocks[:, 0]]
    for t in range(1, count):
        noise.append(CORRELATION * noise[-1] + shocks[:, t])
    return level + torch.stack(noise, 1)


def error(model: Model, values: Tensor) -> Tensor:
    """Mean squared error after the first two days."""
    return (model(values[:, :-1]) - values[:, 1:])[:, 2 * DAY :].square().mean()


def score(settings: dict[str, Any], seed: int, options: argparse.Namespace) -> float:
    """Error on new sequences over that of one who knows the profile."""
    torch.manual_seed(seed)
    model = Model(settings)
    generator = torch.Generator().manual_seed(100 + seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=options.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=options.rate, total_steps=options.steps, pct_start=0.1
    )
    for _ in range(options.steps):
        loss = error(model, sensors(32, generator))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        test = sensors(512, torch.Generator().manual_seed(7))
        return float(error(model, test)) / NOISE**2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="small scale")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--rate", type=float, default=5e-3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    options.steps = options.steps or (20 if options.quick else 500)
    options.seeds = options.seeds or (1 if options.quick else 3)
    torch.set_num_threads(1)
    found: dict[str, list[float]] = {name: [] for name in options.variants}
    # Seeds outermost, so that an interrupted run still compares all variants.
    for seed in range(options.seeds):
        for name in options.variants:
            started = time.perf_counter()
            found[name].append(score(VARIANTS[name], seed, options))
            spent = time.perf_counter() - started
            print(f"  seed {seed}, {name}: {found[name][-1]:.3f}, {spent:.0f} s", flush=True)
    test = sensors(512, torch.Generator().manual_seed(7))
    last = float((test[:, 1:] - test[:, :-1])[:, 2 * DAY :].square().mean()) / NOISE**2
    print(f"\nrepeating the last value: {last:.2f}\n\n| | error | standard error |\n|---|---|---|")
    for name, values in found.items():
        scores = torch.tensor(values)
        spread = float(scores.std() / len(scores) ** 0.5) if len(scores) > 1 else math.nan
        print(f"| {name} | {float(scores.mean()):.3f} | {spread:.3f} |")
    if options.json:
        settings = {n: v for n, v in vars(options).items() if n != "json"}
        options.json.write_text(json.dumps({"settings": settings, "errors": found}, indent=1))


if __name__ == "__main__":
    main()
