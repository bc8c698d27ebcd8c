"""Speed and state of the neural memory beside titans-pytorch and the memory bandwidth.

(a) Training, forward and backward: equal sizes (width 64, hidden 128), the same chunk length on
    both sides, one sequence; `ours` is plain torch, `ours_compiled` after `compile_chunks`. The
    paper takes the gradients of a chunk at the weights of the chunk's start, and so do ours and
    titans-pytorch when told to refresh its weights every chunk
    (`batch_size` = chunk: `peer`): this is the like-for-like row. Its default (`peer_default`)
    takes all gradients of a call at the weights of the call's start, so no chunk sees what the
    ones before it have taught: less work, all of it in parallel, and another function. In both it
    makes one write per chunk, with gates averaged over the chunk, and a token reads the weights of
    the chunk before; ours makes one write per token with gates of its own, and a token reads what
    all tokens up to itself have written.
(b) Serving, exact C = 1, width 32, hidden 64, one core: reading, surprise, update and read-out per
    second, for all N rows and for a random quarter of them; `serve` includes the projections,
    `kernel` is the update alone. The bound is one in-place pass over as much memory.
(c) Bytes of state per series after 10,000 tokens.

What is compared is run in turn, round after round, and medians are reported.

    python -m benchmarks.memory_speed [--quick] [--parts PART ...] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from titans_stream.titans import MemoryConfig, NeuralMemory, compile_chunks
from titans_stream.titans.kernels_cpu import Found, Rule, serve_steps
from titans_stream.titans.serving import kernel_table, serve, serving_state
from titans_stream.titans.tokens_cpu import Served

try:
    import titans_pytorch as peer
except ImportError:
    peer = None

WIDTH, HIDDEN = 32, 64
UNITS = {"training": "seconds per pass", "serving": "updates per second", "state": "bytes"}

Runs = Mapping[str, Callable[[], Any]]


def seconds(runs: Runs, least: float, clock: Callable[[], float]) -> dict[str, float]:
    """Median time of each call, made in turn: three rounds at least, and `least` seconds each."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    while len(times[next(iter(runs))]) < 3 or sum(map(sum, times.values())) < least * len(runs):
        for name, run in runs.items():
            start = clock()
            run()
            times[name].append(clock() - start)
    return {name: sorted(spent)[len(spent) // 2] for name, spent in times.items()}


def training(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Seconds per forward and backward pass by length."""
    chunk, rows = 64, []
    config = MemoryConfig(width=64, hidden=128, chunk=chunk)
    memories: dict[str, Any] = {"ours": NeuralMemory(config), "ours_compiled": NeuralMemory(config)}
    compile_chunks(memories["ours_compiled"])
    if peer is not None:
        for name, refresh in (("peer", chunk), ("peer_default", None)):
            model = peer.MemoryMLP(dim=64, depth=2, expansion_factor=2.0)
            memories[name] = peer.NeuralMemory(
                dim=64, chunk_size=chunk, batch_size=refresh, model=model
            )
    for length in options.lengths:
        x = torch.randn(1, length, 64)
        passes = {name: partial(one_pass, memory, x) for name, memory in memories.items()}
        row = {"length": length} | seconds(passes, options.least, options.clock)
        rows.append(row)
        print("  " + ", ".join(f"{k} {v:.3g}" for k, v in row.items()), flush=True)
    return rows


def one_pass(memory: Any, x: Tensor) -> None:
    memory(x)[0].square().mean().backward()
    memory.zero_grad(set_to_none=True)


def serving(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Updates per second by number of rows, share served and tokens per call."""
    memory = NeuralMemory(MemoryConfig(width=WIDTH, hidden=HIDDEN, chunk=1))
    found = []
    for count in options.rows:
        state = serving_state(memory.initial_state(count))
        layers = serving_state(state, "torch")
        table = torch.ones(count, 4 * WIDTH * HIDDEN)
        generator = torch.Generator().manual_seed(0)
        quarter = torch.randperm(count, generator=generator)[: max(1, count // 4)]
        cases = [("all", torch.arange(count), 1), ("quarter", quarter, 1)]
        cases += [("all", torch.arange(count), tokens) for tokens in (4, 8)]
        for share, rows, tokens in cases:
            x = torch.randn(len(rows), tokens, WIDTH)
            runs: dict[str, Callable[[], Any]] = {
                "bound": partial(table.mul_, 1.0),
                "torch": partial(serve, memory, x, layers, rows, "torch"),
                "numba": partial(serve, memory, x, state, rows, "numba"),
                "kernel": kernel_run(state, rows.sort().values, tokens),
            }
            if peer is not None and share == "all" and tokens == 1 and count <= options.peer_rows:
                runs["peer"] = peer_run(count)
            updates = dict.fromkeys(runs, len(rows) * tokens) | {"bound": count}
            spent = seconds(runs, options.least, options.clock)
            row: dict[str, Any] = {"rows": count, "share": share, "tokens": tokens}
            row |= {name: updates[name] / time for name, time in spent.items()}
            found.append(row)
            print("  " + ", ".join(f"{k} {shown(v)}" for k, v in row.items()), flush=True)
    return found


def kernel_run(state: Any, rows: Tensor, tokens: int) -> Callable[[], None]:
    """The update alone, for the rows of a table in its order."""
    q, k, v = torch.nn.functional.normalize(torch.randn(3, len(rows), 1, tokens, WIDTH), dim=-1)
    gates = torch.tensor([0.99, 0.5, 0.01]).repeat(len(rows), 1, tokens, 1)
    given = Served(*(t.numpy() for t in (q, k, v, gates)))
    out = Found(torch.empty_like(q).numpy(), torch.empty_like(gates).numpy())
    memories = kernel_table(state).numpy()
    return partial(serve_steps, memories, rows.numpy(), given, Rule(8.0, True), out)


def peer_memory() -> Any:
    return peer.NeuralMemory(
        dim=WIDTH,
        chunk_size=1,
        model=peer.MemoryMLP(dim=WIDTH, depth=2, expansion_factor=HIDDEN / WIDTH),
    )


@torch.no_grad()
def peer_run(count: int) -> Callable[[], Any]:
    """One token of `count` series, from a state that has read a few tokens."""
    memory, x = peer_memory(), torch.randn(count, 1, WIDTH)
    _, state = memory(x)
    return torch.no_grad()(partial(memory, x, state=state))


@torch.no_grad()
def state_bytes(options: argparse.Namespace) -> dict[str, Any]:
    """Bytes per series after reading `options.read` tokens."""
    memory = NeuralMemory(MemoryConfig(width=WIDTH, hidden=HIDDEN, chunk=1))
    state = memory.initial_state(1)
    found = {"tokens": options.read}
    for _ in range(options.read // 100):
        _, state = memory(torch.randn(1, 100, WIDTH), state)
    found["ours"] = state.bytes_per_row
    if peer is not None:
        other, theirs = peer_memory(), None
        for _ in range(options.read // 100):
            _, theirs = other(torch.randn(1, 100, WIDTH), state=theirs)
        found["peer"] = held(theirs)
    return found


def held(value: Any) -> int:
    """Bytes of all tensors within nested tuples and dicts."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if hasattr(value, "values"):
        return sum(held(item) for item in value.values())
    return sum(held(item) for item in value) if isinstance(value, tuple | list) else 0


def shown(value: Any) -> str:
    return f"{value:,.0f}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, a minute")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a shared machine"
    )
    parser.add_argument(
        "--parts", nargs="+", choices=("training", "serving", "state"), help="default: all"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    options.clock = time.perf_counter if options.clock == "wall" else time.process_time
    options.least = 0.3 if options.quick else 3.0
    options.lengths = (2048, 4096) if options.quick else (2048, 4096, 8192, 16384)
    options.rows = (1, 256, 4096) if options.quick else (1, 256, 4096, 65_536)
    options.peer_rows = 256 if options.quick else 4096
    options.read = 1000 if options.quick else 10_000
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # what fades over 16k tokens is slow on some processors
    if peer is None:
        print("titans-pytorch is not installed: no comparison")
    parts = {"training": training, "serving": serving, "state": state_bytes}
    results: dict[str, Any] = {}
    for name in options.parts or parts:
        print(f"{name}: {UNITS[name]}", flush=True)
        results[name] = parts[name](options)
    if "state" in results:
        print(f"  {results['state']}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
