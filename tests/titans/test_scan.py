"""The closed form of the two recurrences against their loop, at gates of any strength."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import logsigmoid

from titans_stream.titans.scan import decays, last, segment_products


def loop(keep: torch.Tensor, eta: torch.Tensor, writes: torch.Tensor, M0: float, S0: float):
    M, S, Ms, Ss = M0, S0, [], []
    for a, e, w in zip(keep.tolist(), eta.tolist(), writes.tolist(), strict=True):
        S = e * S + w
        M = a * M + S
        Ms.append(M)
        Ss.append(S)
    return torch.tensor(Ms, dtype=torch.float64), torch.tensor(Ss, dtype=torch.float64)


GATES = {
    "moderate": (0.0, 1.0),
    "nearly closed": (-40.0, -40.0),
    "nearly open": (40.0, 40.0),
    "mixed": (0.0, 30.0),
}


@pytest.mark.parametrize("gates", GATES)
@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_equals_the_loop(gates: str, size: int) -> None:
    mean, spread = GATES[gates]
    z = mean + spread * torch.randn(2, size, dtype=torch.float64)
    log_keep, log_eta = logsigmoid(z[0]), logsigmoid(z[1])
    writes = torch.randn(size, dtype=torch.float64)
    M, S = loop(log_keep.exp(), log_eta.exp(), writes, 1.5, -0.7)
    found = decays(log_keep, log_eta)
    start = torch.tensor([1.5, -0.7], dtype=torch.float64)
    tolerance = {"rtol": 1e-11, "atol": 1e-11 * float(M.abs().max())}
    torch.testing.assert_close(found.read @ start + found.write @ writes, M, **tolerance)
    torch.testing.assert_close(found.past * -0.7 + found.spread @ writes, S, **tolerance)
    ends, folded = found.ends, found.folds
    torch.testing.assert_close(
        ends @ start + writes @ folded, torch.stack([M[-1], S[-1]]), **tolerance
    )


def test_without_momentum_only_forgetting_is_left() -> None:
    log_keep = logsigmoid(torch.randn(5, dtype=torch.float64))
    writes = torch.randn(5, dtype=torch.float64)
    M, _ = loop(log_keep.exp(), torch.zeros(5), writes, 2.0, 0.0)
    found = decays(log_keep, None)
    torch.testing.assert_close(found.read[:, 0] * 2.0 + found.write @ writes, M)
    assert found.past is None
    assert found.ends.shape == (1, 1)


def test_a_strong_gate_costs_its_neighbours_no_precision() -> None:
    """In float32 a plain difference of cumulative sums loses 1e-4 here."""
    z = torch.full((64,), 3.0)
    z[5] = -3000.0
    exact = segment_products(logsigmoid(z.double()))
    found = segment_products(logsigmoid(z)).double()
    torch.testing.assert_close(found, exact, rtol=2e-5, atol=0)
    assert found[6:, 6].min() > 0.04


def test_gradients_stay_finite_where_products_underflow() -> None:
    z = torch.full((64,), -200.0, requires_grad=True)
    found = decays(logsigmoid(z), logsigmoid(z))
    (found.read.sum() + found.write.sum() + found.spread.sum()).backward()
    assert torch.isfinite(z.grad).all()


def test_last_keeps_the_rows_of_the_last_tokens() -> None:
    log_keep = logsigmoid(torch.randn(5, dtype=torch.float64))
    whole = decays(log_keep, log_keep)
    part = last(whole, 2)
    assert torch.equal(part.write, whole.write[3:])
    assert torch.equal(part.read, whole.read[3:])
    assert torch.equal(part.past, whole.past[3:])
    assert torch.equal(part.spread, whole.spread[3:])
