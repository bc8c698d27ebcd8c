"""Training is repeatable, learns something, and is decided by the validation series alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.lifecycle.conftest import quick_recipe
from titans_stream.engine.model import untrained_weights
from titans_stream.lifecycle.accuracy import accuracy, forecast
from titans_stream.lifecycle.artifacts import base_model
from titans_stream.lifecycle.data import load_data
from titans_stream.lifecycle.forecaster_training import Trained, train
from titans_stream.lifecycle.series import Series

RECIPE = quick_recipe()


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train(RECIPE)


def test_the_same_recipe_gives_the_same_bits(trained: Trained) -> None:
    again = train(RECIPE)
    for name, weight in trained.model.weights.items():
        np.testing.assert_array_equal(again.model.weights[name], weight)
    assert [epoch.validation_loss for epoch in again.epochs] == [
        epoch.validation_loss for epoch in trained.epochs
    ]
    other = train(quick_recipe(seed=2))
    name = "forecast.key_weight"
    assert np.abs(other.model.weights[name] - trained.model.weights[name]).max() > 0.1


def test_the_loss_falls_and_the_best_epoch_is_kept(trained: Trained) -> None:
    losses = [epoch.validation_loss for epoch in trained.epochs]
    assert len(losses) == 3
    assert trained.best.validation_loss == min(losses) < losses[0]
    assert trained.epochs[-1].training_loss < trained.epochs[0].training_loss
    assert trained.best.validation.mae_ratio < trained.before.mae_ratio < 1.0
    data = load_data(RECIPE.data, RECIPE.seed)
    assert accuracy(data.validation, trained.model.weights) == trained.best.validation
    assert accuracy(data.held_out, trained.model.weights) == trained.best.held_out


def test_only_the_forecaster_is_trained(trained: Trained) -> None:
    start = untrained_weights(RECIPE.seed)
    for name, weight in trained.model.weights.items():
        if name.startswith("forecast."):
            assert np.abs(weight - start[name]).max() > 1e-3, name
        else:
            np.testing.assert_array_equal(weight, base_model().weights[name])


def test_held_out_series_decide_nothing(trained: Trained) -> None:
    data = load_data(RECIPE.data, RECIPE.seed)
    blind = train(RECIPE, replace(data, held_out=[]))
    assert blind.best.held_out is None
    for name, weight in trained.model.weights.items():
        np.testing.assert_array_equal(blind.model.weights[name], weight)


def test_patience_ends_a_training_that_does_not_improve() -> None:
    still = {"epochs": 9, "batch": 13, "unroll": 96, "learning_rate": 1e-300, "patience": 2}
    result = train(quick_recipe(training={**still, "weight_decay": 0.0}))
    assert len(result.epochs) == 3
    assert result.best.number == 1


def test_the_card_says_what_was_done(trained: Trained) -> None:
    card = trained.model.card
    assert card["data"]["fingerprint"] == load_data(RECIPE.data, RECIPE.seed).fingerprint
    assert card["data"]["training_series"] == 13
    assert card["metrics"]["validation_loss"] == trained.best.validation_loss
    assert set(trained.families) >= {"daily", "counter", "thermostat"}


def test_callback_sees_every_epoch() -> None:
    seen: list[int] = []
    train(RECIPE, on_epoch=lambda epoch: seen.append(epoch.number))
    assert seen == [1, 2, 3]


def test_a_detector_is_trained_elsewhere() -> None:
    with pytest.raises(ValueError, match="kind: this trains a forecaster"):
        train(RECIPE.model_copy(update={"kind": "detector"}))


def test_accuracy_is_that_of_repeating_the_last_value_and_of_the_band() -> None:
    rng = np.random.default_rng(0)
    count = 4_000
    values = np.cumsum(rng.normal(size=count))
    walk = Series("walk", "walk", values, np.arange(count), np.zeros((count, 10)))
    still = replace(walk, value=np.ones(count))
    weights = base_model().weights
    measured = accuracy([walk, still], weights)
    assert measured == accuracy([walk], weights)
    assert measured.mae_ratio == pytest.approx(1.0, abs=0.03)
    assert measured.coverage == pytest.approx(0.95, abs=0.015)
    out = forecast(walk, weights)
    error = np.abs(values - out[:, 0])[30:].mean() / np.abs(np.diff(values))[29:].mean()
    assert measured.mae_ratio == pytest.approx(error)
