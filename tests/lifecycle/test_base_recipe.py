"""The recipe of the shipped base model makes it again, by the way that users train."""

from __future__ import annotations

from pathlib import Path

import pytest

from titans_stream.cli import main
from titans_stream.config import load_recipe
from titans_stream.engine.model import Model
from titans_stream.lifecycle.accuracy import accuracy, mean_head_error
from titans_stream.lifecycle.artifacts import base_model
from titans_stream.lifecycle.data import TrainingData, load_data
from titans_stream.lifecycle.loading import load_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

RECIPE = Path(__file__).resolve().parents[2] / "models" / "forecaster.yaml"
OTHER_SEED = 1_000
"""Of the series that both are measured on: neither was trained on them."""
WITHIN = 0.004
"""Of each measure; seeds of training differ by more (benchmarks/RESULTS.md)."""


def measures(model: Model, data: TrainingData) -> dict[str, float]:
    """What the base model's table in docs/training.md has, and the forecasts of 96 steps."""
    parts = {"training families": data.validation, "held-out families": data.held_out}
    found = {}
    for name, series in parts.items():
        of = accuracy(series, model.weights)
        found |= {f"{name}, error": of.mae_ratio, f"{name}, coverage": of.coverage}
    whole = {"training families": data.whole_validation, "held-out families": data.whole_held_out}
    for name, series in whole.items():
        found[f"{name}, 96 steps"] = mean_head_error(series, model.weights)
    return found


def test_the_recipe_gives_the_base_models_measures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = f"sqlite:///{tmp_path}/mlflow.db"
    train = ["train", str(RECIPE), "--register", "forecaster", "--tracking-uri", database]
    assert main(train) == 0
    trained = load_model("models:/forecaster/1", database)
    recipe = load_recipe(RECIPE).data
    assert recipe.synthetic is not None
    fewer = recipe.synthetic.model_copy(update={"long_series": 104})
    data = load_data(recipe.model_copy(update={"synthetic": fewer}), OTHER_SEED, whole=True)
    ours, shipped = measures(trained, data), measures(base_model(), data)
    with capsys.disabled():
        for name, value in shipped.items():
            print(f"{name}: base {value:.5f}, trained anew {ours[name]:.5f}")
    assert ours == pytest.approx(shipped, abs=WITHIN)
