"""The unrolled recurrence is the forecaster's own, and its gradient is right."""

from __future__ import annotations

import numpy as np
import torch

from titans_stream.calendar_features import calendar_features
from titans_stream.engine.model import untrained_weights
from titans_stream.forecasting.one_step import layout
from titans_stream.lifecycle import one_step_recurrence as fitting
from titans_stream.lifecycle.accuracy import forecast
from titans_stream.lifecycle.series import Series
from titans_stream.memory import rule

SERIES, READINGS = 5, 120


def weights(requires_grad: bool = False) -> dict[str, torch.Tensor]:
    return {
        name: torch.from_numpy(array).requires_grad_(requires_grad)
        for name, array in untrained_weights(2).items()
        if name in layout.weight_shapes()
    }


def values() -> torch.Tensor:
    rng = np.random.default_rng(4)
    t = np.arange(READINGS)
    rows = [
        np.sin(t / 5.0) + 0.1 * rng.normal(size=READINGS),
        np.cumsum(rng.normal(size=READINGS)),
        np.where(t < 60, 0.0, rng.normal(size=READINGS)),
        np.full(READINGS, 2.5),
        100.0 * rng.standard_t(2.0, size=READINGS),
    ]
    return torch.from_numpy(np.array(rows))


def calendar() -> torch.Tensor:
    one = calendar_features(1.7e9 + 600.0 * np.arange(READINGS, dtype=np.float64))
    return torch.from_numpy(one).expand(SERIES, -1, -1)


def test_unrolling_forecasts_what_the_service_forecasts() -> None:
    inputs = fitting.prepare(values(), calendar())
    forecasts, carry = fitting.unroll(inputs, fitting.fresh_carry(SERIES), weights())
    arrays = {name: tensor.numpy() for name, tensor in weights().items()}
    compared = 0
    for row in range(SERIES):
        value, target = values()[row].numpy(), inputs.target[:, row].numpy()
        one = Series("x", "x", value, np.arange(READINGS), calendar()[row].numpy())
        expected = forecast(one, arrays)[1:, 0]
        change = np.diff(value)
        # a change in deviations is the target, where it is not clipped; before that many readings
        # the memory's forecast is not published yet
        known = np.isfinite(expected) & (np.abs(target[1:]) < 7.9) & (change != 0.0)
        known &= inputs.seen[1:, row].numpy() >= layout.MINIMUM_READINGS
        scale = change[known] / target[1:][known]
        ours = value[:-1][known] + forecasts[1:, row].numpy()[known] * scale
        np.testing.assert_allclose(ours, expected[known], rtol=1e-9, atol=1e-9)
        compared += int(known.sum())
    assert compared > 250
    assert carry.memory.abs().sum() > 0.1
    assert forecasts.abs().max() > 0.1


def test_two_unrolls_are_one() -> None:
    inputs = fitting.prepare(values(), calendar())
    whole, _ = fitting.unroll(inputs, fitting.fresh_carry(SERIES), weights())
    rows = torch.arange(SERIES)
    first, carry = fitting.unroll(
        inputs.part(rows, slice(0, 50)), fitting.fresh_carry(SERIES), weights()
    )
    second, _ = fitting.unroll(inputs.part(rows, slice(50, None)), carry, weights())
    torch.testing.assert_close(torch.cat((first, second)), whole, rtol=1e-12, atol=1e-14)


def test_padding_teaches_nothing() -> None:
    padded = values().clone()
    padded[0, 80:] = torch.nan
    inputs = fitting.prepare(padded, calendar())
    assert not inputs.counts[80:, 0].any()
    assert inputs.counts[10:80, 0].all()
    assert all(torch.isfinite(column).all() for column in (inputs.x, inputs.target))
    short = fitting.prepare(values()[:1, :80], calendar()[:1, :80])
    torch.testing.assert_close(inputs.x[:80, 0], short.x[:, 0])


def test_a_sensor_that_is_not_used_yet_is_not_learned_from() -> None:
    inputs = fitting.prepare(values(), calendar())
    assert not inputs.counts[:64, 2].any()
    assert inputs.counts[64:, 2].all()
    assert not inputs.counts[:, 3].any()


def test_gradient_equals_finite_differences() -> None:
    inputs = fitting.prepare(values(), calendar()).part(torch.arange(SERIES), slice(0, 60))
    learnt = weights(requires_grad=True)

    def loss() -> torch.Tensor:
        forecasts, _ = fitting.unroll(inputs, fitting.fresh_carry(SERIES), learnt)
        return ((forecasts - inputs.target).square() * inputs.counts).sum()

    loss().backward()
    for name, tensor in learnt.items():
        direction = torch.from_numpy(np.random.default_rng(0).normal(size=tuple(tensor.shape)))
        assert tensor.grad is not None
        slope = float((tensor.grad * direction).sum())
        step = 1e-6
        with torch.no_grad():
            tensor += step * direction
            above = float(loss())
            tensor -= 2 * step * direction
            below = float(loss())
            tensor += step * direction
        assert abs(slope) > 1e-4, name
        np.testing.assert_allclose(slope, (above - below) / (2 * step), rtol=1e-4)


def test_gradient_is_finite_where_the_memory_makes_no_error() -> None:
    still = values().clone()
    still[:, 40:90] = still[:, 39:40]
    inputs = fitting.prepare(still, calendar())
    learnt = weights(requires_grad=True)
    forecasts, _ = fitting.unroll(inputs, fitting.fresh_carry(SERIES), learnt)
    ((forecasts - inputs.target).square() * inputs.counts).sum().backward()
    for name, tensor in learnt.items():
        assert tensor.grad is not None and tensor.grad.isfinite().all(), name
        assert tensor.grad.abs().max() > 0.0, name
    empty, key = torch.zeros(1, 1, 3, requires_grad=True), torch.tensor([[1.0, 0.0, 0.0]])
    M, _, _, _ = rule.update(
        empty, torch.zeros(1, 1, 3), key, torch.zeros(1, 1), 0.0, 0.0, 0.1, 4.0
    )
    M.sum().backward()
    assert empty.grad is not None and empty.grad.isfinite().all()
