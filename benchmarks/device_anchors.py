"""The section of `benchmarks.device` that has comparable memories, where they are installed."""

from __future__ import annotations

from typing import Any

from benchmarks.device_forecasts import Check

SERIES = 100_000
TOKENS = 16_384
WIDTH, HIDDEN, CHUNK = 64, 128, 64


def section_anchors(check: Check) -> None:
    """A step of many memories at once, and training over a long sequence; ours beside theirs."""
    if check.small:
        check.row("anchors", left_out="they need a GPU")
        return
    _gated_delta_rule(check)
    _steps(check)
    _training(check)


def _gated_delta_rule(check: Check) -> None:
    """flash-linear-attention's recurrent kernel, T = 1."""
    import torch

    try:
        from fla.ops.gated_delta_rule import fused_recurrent_gated_delta_rule as rule
    except ImportError:
        check.row("anchors: fla", left_out="flash-linear-attention is not installed")
        return
    q, k, v = (torch.randn(SERIES, 1, 1, WIDTH, device="cuda") for _ in range(3))
    g, beta = (torch.rand(SERIES, 1, 1, device="cuda") for _ in range(2))
    state = torch.zeros(SERIES, 1, WIDTH, WIDTH, device="cuda")

    def step() -> None:
        rule(q, k, v, -g, beta, initial_state=state, output_final_state=True)
        torch.cuda.synchronize()

    check.row(f"anchors: fla, a step of {SERIES:,}", M_steps_s=SERIES / check.timed(step) / 1e6)


def _peer() -> Any:
    """titans-pytorch, or None."""
    try:
        import titans_pytorch
    except ImportError:
        return None
    return titans_pytorch


def _steps(check: Check) -> None:
    """A token of many memories of width 32: titans-pytorch's step, and our serving step."""
    import torch

    from titans_stream.titans import MemoryConfig, NeuralMemory
    from titans_stream.titans.serving import serve, serving_state

    count, width, hidden = 10_000, 32, 64
    with torch.no_grad():
        x = torch.randn(count, 1, width, device="cuda")
        ours = NeuralMemory(MemoryConfig(width=width, hidden=hidden, chunk=1)).to("cuda")
        state = serving_state(ours.initial_state(count))
        rows = torch.arange(count, device="cuda")

        def serve_one() -> None:
            serve(ours, x, state, rows)
            torch.cuda.synchronize()

        check.row("anchors: ours, a step", M_steps_s=count / check.timed(serve_one) / 1e6)
        peer = _peer()
        if peer is None:
            check.row("anchors: titans-pytorch, a step", left_out="it is not installed")
            return
        model = peer.MemoryMLP(dim=width, depth=2, expansion_factor=hidden / width)
        memory = peer.NeuralMemory(dim=width, chunk_size=1, model=model).to("cuda")
        _, before = memory(x)

        def step() -> None:
            memory(x, state=before)
            torch.cuda.synchronize()

        check.row("anchors: titans-pytorch, a step", M_steps_s=count / check.timed(step) / 1e6)


def _training(check: Check) -> None:
    """Forward and backward over one long sequence, equal sizes (benchmarks/memory_speed.py)."""
    import torch

    from titans_stream.titans import MemoryConfig, NeuralMemory

    x = torch.randn(1, TOKENS, WIDTH, device="cuda")
    config = MemoryConfig(width=WIDTH, hidden=HIDDEN, chunk=CHUNK)
    memories: dict[str, Any] = {"ours": NeuralMemory(config).to("cuda")}
    peer = _peer()
    if peer is None:
        check.row("anchors: titans-pytorch, training", left_out="it is not installed")
    else:
        model = peer.MemoryMLP(dim=WIDTH, depth=2, expansion_factor=HIDDEN / WIDTH)
        memories["titans-pytorch"] = peer.NeuralMemory(
            dim=WIDTH, chunk_size=CHUNK, batch_size=CHUNK, model=model
        ).to("cuda")
    for name, memory in memories.items():

        def train(memory: Any = memory) -> None:
            memory(x)[0].square().mean().backward()
            memory.zero_grad(set_to_none=True)
            torch.cuda.synchronize()

        check.row(f"anchors: {name}, {TOKENS:,} tokens", seconds=check.timed(train, 3))
