"""What each component of the neural memory is worth, on synthetic text.

A text is a row of documents. Each repeats a phrase of its own, a cycle of 8 of the 16 symbols,
now and then from another place; the mark of the end follows with a chance of 1/48 per token, and
the next document has another phrase. The next token is predicted: which symbol follows which can
only come out of what was read, and what the documents before said about it is wrong by now.
A model is an embedding, one LMM block with persistent tokens and a linear head. It is trained on
texts of 128 tokens and tested there and on texts of 2,048: cross-entropy per token in nats, and
the share of right symbols where the document at hand has shown the answer before. Variants of one
seed read the same texts, so differences are taken seed by seed.

    python -m benchmarks.memory_ablation            some twenty minutes on one quiet core
    python -m benchmarks.memory_ablation --quick    half a minute: it runs, too short to rank
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from titans_stream.titans import LMM, LMMConfig, MemoryConfig, compile_chunks

SYMBOLS, PHRASE = 16, 8
END = SYMBOLS
LEAVE, JUMP = 1 / 48, 0.1
"""Chance per token that the document ends, and that the phrase goes on from anywhere."""

ROWS, TRAINED = 16, 128
TESTS = {TRAINED: 512, 16 * TRAINED: 32}
"""Length of the tested texts, and how many."""

ALL = "all (L_M = 2)"
BASE: dict[str, Any] = {"width": 32, "heads": 2, "depth": 2, "chunk": 8}
VARIANTS: dict[str, dict[str, Any]] = {
    ALL: {},
    "without forgetting": {"forgetting": False},
    "without momentum": {"momentum": False},
    "without convolution": {"convolution": 0},
    "without persistent tokens": {"persistent": 0},
    "L_M = 1": {"depth": 1},
    "L_M = 3": {"depth": 3},
}


class Model(nn.Module):
    """Tokens in, scores of the next token out."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        settings = BASE | {"persistent": 4} | settings
        persistent = settings.pop("persistent")
        memory = MemoryConfig(**settings)
        self.embed = nn.Embedding(SYMBOLS + 1, memory.width)
        self.layer = LMM(LMMConfig(memory=memory, persistent=persistent))
        self.norm = nn.RMSNorm(memory.width, eps=1e-6)
        self.head = nn.Linear(memory.width, SYMBOLS + 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens [B, T] -> logits [B, T, 17]."""
        y, _ = self.layer(self.embed(tokens))
        out: Tensor = self.head(self.norm(y))
        return out


def texts(rows: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tokens [rows, count] and where the document has shown before what comes next."""
    end = torch.rand(rows, count, generator=generator) < LEAVE
    jump = torch.rand(rows, count, generator=generator) < JUMP
    end[:, 0] = True
    document = end.cumsum(1) - 1
    cycles = torch.rand(rows, int(document.max()) + 1, SYMBOLS, generator=generator).argsort(-1)
    anywhere = torch.randint(0, PHRASE, (rows, count), generator=generator)
    place = torch.where(jump, anywhere, 1).cumsum(1) % PHRASE
    row = torch.arange(rows)
    tokens = torch.where(end, END, cycles[row[:, None], document, place])
    follows = ~end & ~jump
    follows[:, 1:] &= ~end[:, :-1]
    shown = torch.zeros(rows, SYMBOLS + 1, dtype=torch.bool)
    known = torch.zeros_like(end)
    for t in range(1, count):
        shown &= ~end[:, t - 1 : t]
        known[:, t] = follows[:, t] & shown[row, tokens[:, t - 1]]
        shown[row, tokens[:, t - 1]] |= follows[:, t]
    return tokens, known


def loss_of(logits: Tensor, tokens: Tensor) -> Tensor:
    return cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def trained(settings: dict[str, Any], seed: int, options: argparse.Namespace) -> Model:
    torch.manual_seed(seed)
    model = Model(settings)
    torch.compiler.reset()
    compile_chunks(model)
    generator = torch.Generator().manual_seed(100 + seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=options.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=options.rate, total_steps=options.steps, pct_start=0.1
    )
    for _ in range(options.steps):
        tokens, _ = texts(ROWS, TRAINED, generator)
        loss = loss_of(model(tokens[:, :-1]), tokens)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return model


@torch.no_grad()
def scores(model: Model) -> list[float]:
    """Nats and share of right symbols for each length of TESTS."""
    found = []
    for length, rows in TESTS.items():
        tokens, known = texts(rows, length, torch.Generator().manual_seed(7))
        with torch.compiler.set_stance("force_eager"):  # a shape of its own, used once
            logits = model(tokens[:, :-1])
        right = (logits.argmax(-1) == tokens[:, 1:])[known[:, 1:]]
        found += [float(loss_of(logits, tokens)), float(right.float().mean())]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="small scale")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seeds", type=int, help="how many (3)")
    parser.add_argument("--first-seed", type=int, default=0, metavar="SEED", help="go on from it")
    parser.add_argument("--rate", type=float, default=5e-3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    options.steps = options.steps or (20 if options.quick else 1000)
    options.seeds = options.seeds or (1 if options.quick else 3)
    torch.set_num_threads(1)
    found: dict[str, list[list[float]]] = {name: [] for name in options.variants}
    # Seeds outermost, so that an interrupted run still compares all variants.
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for name in options.variants:
            started = time.perf_counter()
            found[name].append(scores(trained(VARIANTS[name], seed, options)))
            row = "  ".join(f"{value:.3f}" for value in found[name][-1])
            spent = time.perf_counter() - started
            print(f"  seed {seed}, {name}: {row}, {spent:.0f} s", flush=True)
        if options.json:
            settings = {n: v for n, v in vars(options).items() if n != "json"}
            options.json.write_text(json.dumps({"settings": settings, "scores": found}, indent=1))
    table(found)


def table(found: dict[str, list[list[float]]]) -> None:
    """Means over seeds; in brackets the mean difference to `ALL` and its standard error."""
    print("\n|" + "".join(f" | {n:,} tokens: nats | right" for n in TESTS) + " |")
    print("|---|" + "---|" * (2 * len(TESTS)))
    full = torch.tensor(found[ALL]) if ALL in found else None
    for name, rows in found.items():
        values = torch.tensor(rows)
        cells = [f"{value:.3f}" for value in values.mean(0).tolist()]
        if full is not None and name != ALL and len(values) > 1:
            gap = values - full
            error = gap.std(0) / len(values) ** 0.5
            pairs = zip(cells, gap.mean(0).tolist(), error.tolist(), strict=True)
            cells = [f"{cell} ({mean:+.3f} ± {spread:.3f})" for cell, mean, spread in pairs]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
