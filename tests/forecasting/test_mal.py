"""The MAL residual: one token at a time equals the parallel form, and what it is blind to."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from titans_stream.forecasting.mal import weights as mal
from titans_stream.forecasting.mal.block import WIDTH, WINDOW, BlockState, advance
from titans_stream.forecasting.mal.residual import BANDS, CORRECTIONS, INPUTS
from titans_stream.forecasting.multi import forecaster as multi_step
from titans_stream.forecasting.multi.forecaster import ForecastOptions, MultiStepForecaster
from titans_stream.lifecycle.residual_training import ResidualBlock
from titans_stream.memory.rows import plain
from titans_stream.records import Float64

STEPS = 48


def block(seed: int = 0, spread: float = 0.3) -> ResidualBlock:
    torch.manual_seed(seed)
    made = ResidualBlock()
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(spread * torch.randn_like(weight))
    return made


def all_weights(residual: Mapping[str, Float64]) -> dict[str, Float64]:
    return {**multi_step.plain_weights(), **residual}


def daily(days: int, seed: int = 0) -> Float64:
    """A daily course with weather of some hours, hourly."""
    rng = np.random.default_rng(seed)
    t = np.arange(24 * days)
    weather = np.zeros(len(t))
    for i in range(1, len(t)):
        weather[i] = 0.95 * weather[i - 1] + 0.3 * rng.normal()
    return 5.0 + np.sin(2 * np.pi * t / 24) + weather


def fresh() -> dict[str, np.ndarray]:
    return {name: spec.rows(1) for name, spec in multi_step.state_layout().items()}


def run(
    values: Float64,
    weights: Mapping[str, Float64],
    state: dict[str, np.ndarray],
    every: int = 10,
    begin: int = 0,
    options: ForecastOptions | None = None,
) -> Float64:
    count = len(values)
    steps = np.where(np.arange(begin, begin + count) % every == every - 1, STEPS, 0)
    nothing = np.full(count, np.nan)
    options = options or ForecastOptions(period=24, mal=True)
    made = MultiStepForecaster(weights, (0.5,), options=options).run(
        state, np.zeros(count, np.int64), values, nothing, nothing,
        np.zeros(count, np.int64), steps.astype(np.int64),
    )  # fmt: skip
    return made.median


def test_one_token_at_a_time_equals_the_parallel_form() -> None:
    reference = block()
    slow = mal.prepare(all_weights(reference.weights()))
    state = BlockState(
        slow.memory.copy(),
        slow.tail.copy(),
        np.zeros((2, WINDOW - 1, WIDTH), np.float32),
    )
    tokens = torch.randn(1, 3 * WINDOW, INPUTS, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        hidden = reference.double().input(tokens.double())
        expected = reference.block(hidden)[0][0].numpy()
    out = np.empty(WIDTH)
    for count, x in enumerate(hidden[0].numpy()):
        advance(slow.block, state, count, x, out)
        np.testing.assert_allclose(out, expected[count], rtol=1e-5, atol=1e-5)


def test_plain_weights_correct_nothing() -> None:
    values, plain = daily(30), multi_step.plain_weights()
    off = run(values, plain, fresh(), options=ForecastOptions(period=24, mal=False))
    np.testing.assert_array_equal(run(values, plain, fresh()), off)


@pytest.fixture(scope="module")
def weights() -> dict[str, Float64]:
    return all_weights(block(3, 0.1).weights())


def open_gate(state: dict[str, np.ndarray]) -> None:
    state["residual_gate"]["share"] = 1.0


def test_any_cutting_gives_the_same_bits(weights: dict[str, Float64]) -> None:
    values = daily(40)
    whole, parts = fresh(), fresh()
    expected = run(values, weights, whole)
    cuts = [0, 1, 7, 300, 301, 655, len(values)]
    pieces = [
        run(values[first:last], weights, parts, begin=first)
        for first, last in itertools.pairwise(cuts)
    ]
    np.testing.assert_array_equal(np.concatenate(pieces), expected)
    for name, array in whole.items():
        np.testing.assert_array_equal(plain(parts[name]), plain(array), err_msg=name)


def test_corrections_follow_level_and_scale(weights: dict[str, Float64]) -> None:
    values = daily(40)
    off = ForecastOptions(period=24, mal=False)
    changes = []
    for scale, offset in ((1.0, 0.0), (4.0, 0.0), (1.0, 1024.0)):
        one, without = fresh(), fresh()
        shown = scale * values + offset
        half = len(shown) // 2
        run(shown[:half], weights, one)
        run(shown[:half], weights, without, options=off)
        open_gate(one)
        with_it = run(shown[half:], weights, one, begin=half)
        changes.append(
            (with_it - run(shown[half:], weights, without, begin=half, options=off)) / scale
        )
    assert np.abs(changes[0]).max() > 0.01
    np.testing.assert_allclose(changes[1], changes[0], atol=1e-4)
    np.testing.assert_allclose(changes[2], changes[0], atol=2e-3)


def test_corrections_end_after_a_period(weights: dict[str, Float64]) -> None:
    values = daily(40)
    state, without = fresh(), fresh()
    run(values, weights, state)
    run(values, weights, without, options=ForecastOptions(period=24, mal=False))
    open_gate(state)
    tail = np.array([values[-1]])
    on = run(tail, weights, state, every=1)
    off = run(tail, weights, without, every=1, options=ForecastOptions(period=24, mal=False))
    assert np.abs(on - off)[:24].max() > 1e-3
    np.testing.assert_array_equal(on[24:], off[24:])


def test_a_wrong_residual_is_shut_off() -> None:
    """Corrections that errors do not ask for get hardly a share."""
    made = block(5, 0.0)
    with torch.no_grad():
        made.output.bias.view(BANDS, CORRECTIONS)[:, 0] = 10.0
    rng = np.random.default_rng(0)
    values = np.sin(2 * np.pi * np.arange(24 * 60) / 24) + 0.2 * rng.normal(size=24 * 60)
    state = fresh()
    alone = ForecastOptions(period=24, longer=False, mal=True)
    on = run(values, all_weights(made.weights()), state, options=alone)
    off = run(values, multi_step.plain_weights(), fresh(), options=alone)
    assert state["residual_gate"]["share"][0].max() < 0.15
    # it would change forecasts by .4
    assert np.abs(on - off)[-20 * STEPS :].max() < 0.1


def test_nothing_is_corrected_without_24_cells_a_period(weights: dict[str, Float64]) -> None:
    values = np.sin(2 * np.pi * np.arange(600) / 12)
    options = ForecastOptions(period=12, mal=True)
    off = ForecastOptions(period=12, mal=False)
    np.testing.assert_array_equal(
        run(values, weights, fresh(), options=options), run(values, weights, fresh(), options=off)
    )


def test_the_state_is_small() -> None:
    assert sum(spec.nbytes for spec in mal.state_layout().values()) <= 2_200


def test_missing_readings_leave_numbers(weights: dict[str, Float64]) -> None:
    values = daily(40)
    values[300:360] = np.nan
    values[::7] = np.nan
    state = fresh()
    run(values[:400], weights, state)
    open_gate(state)
    assert np.isfinite(run(values[400:], weights, state, begin=400)).all()


def test_a_series_at_rest_is_left_alone(weights: dict[str, Float64]) -> None:
    """Tokens of a constant series have no scale; the first change gives them one."""
    values = np.zeros(24 * 30)
    state = fresh()
    np.testing.assert_array_equal(run(values, weights, state), np.zeros(72 * STEPS))
    after = np.where(np.arange(480) % 24 < 12, 1.0, 0.0)
    made = run(after, weights, state)
    assert np.isfinite(made).all()
    assert np.isfinite(state["residual_memory"]).all()
