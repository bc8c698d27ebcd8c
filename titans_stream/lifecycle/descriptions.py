"""What MLflow's pages say of a run and of a version in words, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping

from titans_stream.config import Recipe
from titans_stream.lifecycle.datasets import DatasetRecord


def run_text(
    recipe: Recipe,
    datasets: Mapping[str, DatasetRecord],
    metrics: Mapping[str, float],
    measured: Mapping[str, float],
    chosen: str,
) -> str:
    """The description of a run."""
    return "\n".join(
        [
            f"Training of a **{recipe.kind}** by the recipe `{recipe.name}`, seed {recipe.seed}; "
            f"the model has the weights of {chosen}.",
            "",
            *_data_lines(datasets),
            "",
            _list({**metrics, **measured}),
            "",
            "`engine_*`: the service's own engine over the validation series. Pictures of them are "
            "among the artefacts, under `figures/`.",
        ]
    )


def model_text(
    recipe: Recipe,
    datasets: Mapping[str, DatasetRecord],
    metrics: Mapping[str, float],
    chosen: str,
) -> str:
    """The description of a registered version."""
    return "\n".join(
        [
            f"A {recipe.kind} by the recipe `{recipe.name}`, seed {recipe.seed}, {chosen}.",
            "",
            *_data_lines(datasets),
            "",
            _list(metrics),
        ]
    )


def _data_lines(datasets: Mapping[str, DatasetRecord]) -> list[str]:
    lines = []
    for context, record in datasets.items():
        profile = json.loads(record.profile)
        lines.append(
            f"- {context}: {profile['num_series']:,} series, {profile['num_rows']:,} readings, "
            f"digest `{record.digest[:12]}`"
        )
    return lines


def _list(metrics: Mapping[str, float]) -> str:
    # MLflow's pages show tables without room between the columns
    return "\n".join(f"- {name}: {value:.4g}" for name, value in metrics.items())
