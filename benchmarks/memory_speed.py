"""Speed and state of the neural memory beside titans-pytorch and the memory bandwidth.

(a) Training, forward and backward: equal sizes (width 64, hidden 128), the same chunk length on
    both sides. titans-pytorch takes all gradients of a call at the weights of its start unless
    told to refresh them (`batch_size`); both are shown, only the refreshing one computes what the
    paper's equations and ours do.
(b) Serving, exact C = 1, width 32, hidden 64, one core: reading, surprise, update and read-out per
    second, for all N rows and for a random quarter of them; `serve` includes the projections,
    `kernel` is the update alone. The bound is one in-place pass over as much memory.
(c) Bytes of state per series after 10,000 tokens.

    python -m benchmarks.memory_speed [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from titans_stream.titans import MemoryConfig, NeuralMemory
from titans_stream.titans.kernels_cpu import serve_steps
from titans_stream.titans.serving import serve, serving_state

try:
    import titans_pytorch as peer
except ImportError:
    peer = None

WIDTH, HIDDEN = 32, 64


def seconds(run: Callable[[], Any], least: float, clock: Callable[[], float]) -> float:
    """Median time of a call, over at least three calls and `least` seconds."""
    run()
    times: list[float] = []
    while len(times) < 3 or sum(times) < least:
        start = clock()
        run()
        times.append(clock() - start)
    return sorted(times)[len(times) // 2]


def training(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Seconds per forward and backward pass by length."""
    chunk, rows = 64, []
    config = MemoryConfig(width=64, hidden=128, chunk=chunk)
    ours = NeuralMemory(config)
    for length in options.lengths:
        x = torch.randn(1, length, 64)
        row = {"length": length, "ours": timed_pass(ours, x, options)}
        if peer is not None:
            for name, refresh in (("peer", chunk), ("peer_unrefreshed", None)):
                other = peer.NeuralMemory(
                    dim=64,
                    chunk_size=chunk,
                    batch_size=refresh,
                    model=peer.MemoryMLP(dim=64, depth=2, expansion_factor=2.0),
                )
                row[name] = timed_pass(other, x, options)
        rows.append(row)
        print("  " + ", ".join(f"{k} {v:.3g}" for k, v in row.items()), flush=True)
    return rows


def timed_pass(memory: Any, x: Tensor, options: argparse.Namespace) -> float:
    def run() -> None:
        memory(x)[0].square().mean().backward()
        memory.zero_grad(set_to_none=True)

    return seconds(run, options.least, options.clock)


def serving(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Updates per second by number of rows, share served and tokens per call."""
    memory = NeuralMemory(MemoryConfig(width=WIDTH, hidden=HIDDEN, chunk=1))
    found = []
    for count in options.rows:
        state = serving_state(memory.initial_state(count))
        generator = torch.Generator().manual_seed(0)
        quarter = torch.randperm(count, generator=generator)[: max(1, count // 4)]
        cases = [("all", torch.arange(count), 1), ("quarter", quarter, 1)]
        cases += [("all", torch.arange(count), tokens) for tokens in (4, 8)]
        bound = bandwidth_bound(count, options)
        for share, rows, tokens in cases:
            row = {"rows": count, "share": share, "tokens": tokens, "bound": bound}
            updates = len(rows) * tokens
            x = torch.randn(len(rows), tokens, WIDTH)
            for backend in ("torch", "numba"):
                spent = seconds(
                    lambda b=backend, x=x, r=rows, s=state: serve(memory, x, s, r, b),
                    options.least,
                    options.clock,
                )
                row[backend] = updates / spent
            row["kernel"] = updates / kernel_seconds(state, rows, tokens, options)
            if peer is not None and share == "all" and tokens == 1 and count <= options.peer_rows:
                row["peer"] = count / peer_seconds(count, options)
            found.append(row)
            print("  " + ", ".join(f"{k} {shown(v)}" for k, v in row.items()), flush=True)
    return found


def kernel_seconds(state: Any, rows: Tensor, tokens: int, options: argparse.Namespace) -> float:
    q, k, v = torch.nn.functional.normalize(torch.randn(3, len(rows), 1, tokens, WIDTH), dim=-1)
    gates = torch.tensor([0.99, 0.5, 0.01]).repeat(len(rows), 1, tokens, 1)
    surprise = torch.empty_like(gates)
    arrays = [
        t.numpy()
        for t in (
            *(state.weights[0].mT, state.weights[1], state.momentum[0].mT, state.momentum[1]),
            *(rows, q, k, v, gates),
        )
    ]
    y = torch.empty_like(q).numpy()
    return seconds(
        lambda: serve_steps(*arrays, 8.0, True, y, surprise.numpy()), options.least, options.clock
    )


def bandwidth_bound(count: int, options: argparse.Namespace) -> float:
    """Updates per second if each were one in-place pass over a series' weights and momentum."""
    table = torch.ones(count, 4 * WIDTH * HIDDEN)
    return count / seconds(lambda: table.mul_(1.0), options.least, options.clock)


def peer_memory() -> Any:
    return peer.NeuralMemory(
        dim=WIDTH,
        chunk_size=1,
        model=peer.MemoryMLP(dim=WIDTH, depth=2, expansion_factor=HIDDEN / WIDTH),
    )


@torch.no_grad()
def peer_seconds(count: int, options: argparse.Namespace) -> float:
    """Seconds per token of `count` series, from a state that has read a few tokens."""
    memory, x = peer_memory(), torch.randn(count, 1, WIDTH)
    _, state = memory(x)
    return seconds(lambda: memory(x, state=state), options.least, options.clock)


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
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
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
    if peer is None:
        print("titans-pytorch is not installed: no comparison")
    print("training, seconds per pass", flush=True)
    results: dict[str, Any] = {"training": training(options)}
    print("serving, updates per second", flush=True)
    results["serving"] = serving(options)
    results["state"] = state_bytes(options)
    print(f"state: {results['state']}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
