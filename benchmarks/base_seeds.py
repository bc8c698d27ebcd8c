"""How much the base model's recipe differs from one seed of training to another.

    python -m benchmarks.base_seeds [--seeds 0 1 2] [--json FILE]

Trains models/forecaster.yaml with each seed (the seed draws the synthetic series, the order of
training and the start), six minutes each, and measures every model and the shipped one on the same
series, which none of them was trained on. `spread` is the largest difference between two seeds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from titans_stream.cli import main as titans_stream
from titans_stream.config import load_recipe
from titans_stream.engine.model import Model
from titans_stream.lifecycle.accuracy import accuracy, mean_head_error
from titans_stream.lifecycle.artifacts import base_model
from titans_stream.lifecycle.data import TrainingData, load_data
from titans_stream.lifecycle.loading import load_model

RECIPE = Path(__file__).resolve().parents[1] / "models" / "forecaster.yaml"
OTHER_SEED = 1_000
"""Of the series that all are measured on."""


def series_to_measure_on() -> TrainingData:
    """Series of the recipe's families that no seed of training draws."""
    recipe = load_recipe(RECIPE).data
    assert recipe.synthetic is not None
    fewer = recipe.synthetic.model_copy(update={"long_series": 104})
    return load_data(recipe.model_copy(update={"synthetic": fewer}), OTHER_SEED, whole=True)


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


def trained(recipe: Path, folder: Path) -> Model:
    """A recipe's model, trained and registered as users do. RuntimeError where that fails."""
    database = f"sqlite:///{folder}/mlflow.db"
    train = ["train", str(recipe), "--register", "forecaster", "--tracking-uri", database]
    if titans_stream(train) != 0:
        raise RuntimeError(f"{recipe}: the training failed")
    return load_model("models:/forecaster/1", database)


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    data = series_to_measure_on()
    rows = {"shipped": measures(base_model(), data)}
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as name:
            recipe = Path(name) / "forecaster.yaml"
            text = RECIPE.read_text(encoding="utf-8")
            recipe.write_text(text.replace("\nseed: 0\n", f"\nseed: {seed}\n"), encoding="utf-8")
            assert load_recipe(recipe).seed == seed
            rows[f"seed {seed}"] = measures(trained(recipe, Path(name)), data)
        print(json.dumps({f"seed {seed}": rows[f"seed {seed}"]}), flush=True)
    seeds = [rows[f"seed {seed}"] for seed in args.seeds]
    rows["spread"] = {n: max(s[n] for s in seeds) - min(s[n] for s in seeds) for n in seeds[0]}
    for name in seeds[0]:
        print(name + ": " + ", ".join(f"{of} {row[name]:.5f}" for of, row in rows.items()))
    if args.json is not None:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
