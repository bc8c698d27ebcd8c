"""Recall over long distances: the four variants against window attention and a linear recurrence.

Two tasks on synthetic tokens, both scored by the share of right values (chance 1/16):

- recall: 8 key-value pairs, scattered among noise in the first half of the sequence; the keys
  are asked for, 64 times in all, at random places of the second half.
- needle: one pair within the first tenth, asked for by the last token, all between is noise.

Every model is trained once, on `recall`: first at the shortest length of `--train`, then doubling,
then at the lengths from a quarter of the longest on. It is tested on both tasks at each length of
`--test`. Models have two blocks and nearly the same number of weights: window attention alone; a
gated linear recurrence (the memory with L_M = 1, C as given and eta = 0); LMM, MAC, MAG and MAL.
The window (and MAC's segment) is 32, so at the tested lengths nearly every question is beyond
it. Sequences are read in calls of at most 4,096 tokens, the state handed on.

    python -m benchmarks.memory_recall            about an hour on one quiet core
    python -m benchmarks.memory_recall --models mac --json FILE    one model; FILE keeps the others
    python -m benchmarks.memory_recall --quick    a minute or two: it runs, too short to learn
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from titans_stream.titans import (
    LMM,
    MAC,
    MAG,
    MAL,
    LMMConfig,
    MACConfig,
    MAGConfig,
    MALConfig,
    MemoryConfig,
)
from titans_stream.titans.attention import WindowAttention
from titans_stream.titans.variants import GatedOutput

KEYS, VALUES, NOISE = 32, 16, 16
PAIRS, QUESTIONS = 8, 64
WINDOW = 32
PIECE = 4096
MODELS = ("attention", "linear", "lmm", "mac", "mag", "mal")


class AttentionBlock(nn.Module):
    """Window attention as MAL has it, without a memory."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.attention = WindowAttention(width, 2, WINDOW)
        self.output = GatedOutput(width)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        normed = self.norm(x)
        if state is None:
            state = self.attention.start(normed[:, :0])
        y, state = self.attention(normed, state)
        return x + self.output(y, normed), state


class Model(nn.Module):
    """Embedding, two blocks of one kind, a linear head."""

    def __init__(self, kind: str, width: int, options: argparse.Namespace) -> None:
        super().__init__()
        self.embed = nn.Embedding(KEYS + VALUES + NOISE, width)
        self.blocks = nn.ModuleList(block(kind, width, options) for _ in range(2))
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.head = nn.Linear(width, VALUES)

    def forward(self, tokens: Tensor, states: list[Any] | None = None) -> tuple[Tensor, list[Any]]:
        x, after = self.embed(tokens), []
        for layer, state in zip(self.blocks, states or [None] * len(self.blocks), strict=True):
            x, state = layer(x, state)
            after.append(state)
        return self.head(self.norm(x)), after


def sized(kind: str, options: argparse.Namespace) -> Model:
    """A model of `kind` whose width gives it about as many weights as an LMM of `--width`."""
    target = size(Model("lmm", options.width, options))
    widths = range(8, 3 * options.width, 4)
    sizes = {width: size(Model(kind, width, options)) for width in widths}
    torch.manual_seed(options.seed)
    return Model(kind, min(widths, key=lambda w: abs(sizes[w] - target)), options)


def size(model: Model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def block(kind: str, width: int, options: argparse.Namespace) -> nn.Module:
    if kind == "attention":
        return AttentionBlock(width)
    shape: dict[str, Any] = {"depth": 1, "momentum": False} if kind == "linear" else {"depth": 2}
    alpha_floor, theta_floor = options.floors
    memory = MemoryConfig(
        width=width,
        heads=2,
        chunk=options.chunk,
        alpha_floor=alpha_floor,
        theta_floor=theta_floor,
        **shape,
    )
    if kind == "linear":
        return LMM(LMMConfig(memory=memory))
    if kind == "lmm":
        return LMM(LMMConfig(memory=memory))
    if kind == "mac":
        return MAC(MACConfig(memory=memory, attention_heads=2, segment=WINDOW))
    if kind == "mag":
        return MAG(MAGConfig(memory=memory, attention_heads=2, window=WINDOW))
    return MAL(MALConfig(memory=memory, attention_heads=2, window=WINDOW))


def recall(rows: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens [rows, length], places of the questions [rows, 64] and their answers."""
    tokens = noise(rows, length, generator)
    half = length // 2
    order = torch.rand(rows, KEYS, generator=generator).argsort(1)[:, :PAIRS]
    values = torch.randint(0, VALUES, (rows, PAIRS), generator=generator)
    shown = 2 * torch.rand(rows, half // 2, generator=generator).argsort(1)[:, :PAIRS]
    asked = half + torch.rand(rows, length - half, generator=generator).argsort(1)[:, :QUESTIONS]
    which = torch.arange(asked.shape[1]).remainder(PAIRS).expand(rows, -1)
    tokens.scatter_(1, shown, order)
    tokens.scatter_(1, shown + 1, KEYS + values)
    tokens.scatter_(1, asked, order.gather(1, which))
    return tokens, asked, values.gather(1, which)


def needle(rows: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens [rows, length], the question's place [rows, 1] and its answer."""
    tokens = noise(rows, length, generator)
    key = torch.randint(0, KEYS, (rows, 1), generator=generator)
    value = torch.randint(0, VALUES, (rows, 1), generator=generator)
    shown = torch.randint(0, length // 10, (rows, 1), generator=generator)
    tokens.scatter_(1, shown, key)
    tokens.scatter_(1, shown + 1, KEYS + value)
    tokens[:, -1:] = key
    return tokens, torch.full((rows, 1), length - 1), value


def noise(rows: int, length: int, generator: torch.Generator) -> Tensor:
    return KEYS + VALUES + torch.randint(0, NOISE, (rows, length), generator=generator)


TASKS = {"recall": recall, "needle": needle}


def lengths(options: argparse.Namespace, step: int, generator: torch.Generator) -> int:
    """The length trained at in this step: short for 55 %, doubling for 25 %, long for 20 %."""
    short, longest = options.train
    done = step / options.steps
    doublings = (longest // short).bit_length() - 1
    if done < 0.55:
        return short
    if done < 0.8:
        return short << min(doublings, 1 + int((done - 0.55) / 0.25 * max(0, doublings - 2)))
    return longest >> int(torch.randint(0, min(3, doublings + 1), (), generator=generator))


def train(model: Model, options: argparse.Namespace) -> None:
    generator = torch.Generator().manual_seed(1 + options.seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=options.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=options.rate, total_steps=options.steps, pct_start=0.05
    )
    started, recent = time.perf_counter(), 0.0
    report = max(1, options.steps // 20)
    for step in range(options.steps):
        length = lengths(options, step, generator)
        rows = min(32, max(2, options.tokens // length))
        tokens, asked, answers = recall(rows, length, generator)
        logits, _ = model(tokens.to(options.device))
        chosen = logits.gather(1, asked[..., None].expand(-1, -1, VALUES).to(options.device))
        loss = nn.functional.cross_entropy(
            chosen.float().flatten(0, 1), answers.flatten().to(options.device)
        )
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        recent += float(loss.detach()) / report
        if (step + 1) % report == 0:
            spent = time.perf_counter() - started
            print(
                f"  step {step + 1}, length {length}: loss {recent:.3f}, {spent:.0f} s", flush=True
            )
            recent = 0.0


@torch.no_grad()
def accuracy(model: Model, task: str, length: int, options: argparse.Namespace) -> float:
    generator = torch.Generator().manual_seed(2)
    right = total = 0
    rows = options.rows if task == "needle" else max(2, options.rows // 8)
    while total < options.questions:
        tokens, asked, answers = TASKS[task](rows, length, generator)
        states, logits = None, []
        for piece in tokens.to(options.device).split(PIECE, 1):
            out, states = model(piece, states)
            logits.append(out.argmax(-1).cpu())
        found = torch.cat(logits, 1).gather(1, asked)
        right += int((found == answers).sum())
        total += answers.numel()
    return right / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="small scale")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--train", type=int, nargs=2, help="shortest and longest length")
    parser.add_argument("--test", type=int, nargs="+", help="lengths")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--rows", type=int, default=64, help="sequences of a test at a time")
    parser.add_argument("--tokens", type=int, help="tokens of a training step")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--questions", type=int, default=64, help="least number per score")
    parser.add_argument("--chunk", type=int, default=16)
    parser.add_argument(
        "--floors", type=float, nargs=2, default=(3e-3, 0.05), help="of alpha and theta; 0 0: none"
    )
    parser.add_argument("--rate", type=float, default=5e-3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    small = {"train": [64, 128], "test": [256, 1024], "steps": 100, "tokens": 1024}
    full = {"train": [64, 2048], "test": [4096, 16384, 65536], "steps": 1200, "tokens": 4096}
    chosen = small if options.quick else full
    for name, value in chosen.items():
        if getattr(options, name) is None:
            setattr(options, name, value)

    torch.set_num_threads(1)
    settings = {n: v for n, v in vars(options).items() if n not in ("json", "models")}
    results = kept(options.json, settings, options.models)
    for kind in options.models:
        model = sized(kind, options).to(options.device)
        weights, width = size(model), model.embed.embedding_dim
        print(f"{kind}: width {width}, {weights} weights", flush=True)
        train(model, options)
        for task in TASKS:
            for length in options.test:
                share = accuracy(model, task, length, options)
                results.append(
                    {"model": kind, "task": task, "length": length, "right": share}
                    | {"weights": weights}
                )
                print(f"  {task} at {length}: {share:.3f}", flush=True)
        if options.json:
            found = {"settings": settings, "results": results}
            options.json.write_text(json.dumps(found, indent=1))
    table(results, options.test)


def kept(path: Path | None, settings: dict[str, Any], models: list[str]) -> list[dict[str, Any]]:
    """Results of other models that `path` holds; ValueError if made with other settings."""
    if path is None or not path.exists():
        return []
    found = json.loads(path.read_text())
    if found["settings"] != json.loads(json.dumps(settings)):
        raise ValueError(f"json: {path} was made with other settings")
    return [row for row in found["results"] if row["model"] not in models]


def table(results: list[dict[str, Any]], lengths: list[int]) -> None:
    print("\n| model | weights |" + "".join(f" {task} {n} |" for task in TASKS for n in lengths))
    print("|---|---|" + "---|" * (len(TASKS) * len(lengths)))
    for kind in dict.fromkeys(row["model"] for row in results):
        rows = [row for row in results if row["model"] == kind]
        cells = "".join(f" {row['right']:.3f} |" for row in rows)
        print(f"| {kind} | {rows[0]['weights']} |{cells}")


if __name__ == "__main__":
    main()
