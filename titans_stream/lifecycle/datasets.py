"""What a run learned from and was measured on, as MLflow's datasets.

A dataset has a name, a digest of its content, a schema, a source (where one gets it again) and a
profile (how much it is). The readings themselves are not uploaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from titans_stream.config import Recipe
from titans_stream.durations import format_duration
from titans_stream.lifecycle.data import TrainingData
from titans_stream.lifecycle.series import Series

_SCHEMA = json.dumps(
    {
        "mlflow_colspec": [
            {"type": "string", "name": "series_id", "required": True},
            {"type": "datetime", "name": "timestamp", "required": True},
            {"type": "double", "name": "value", "required": True},
        ]
    }
)
_DIGEST_LENGTH = 32


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """One dataset; `source`, `schema` and `profile` are JSON as MLflow shows it."""

    name: str
    digest: str
    context: str
    """training, validation or testing."""
    source_type: str
    source: str
    schema: str
    profile: str


def dataset_records(recipe: Recipe, data: TrainingData) -> dict[str, DatasetRecord]:
    """The datasets of a run by context; one for each part that has series."""
    parts = {
        "training": [*data.training, *data.whole],
        "validation": [*data.validation, *data.whole_validation],
        "testing": [*data.held_out, *data.whole_held_out],
    }
    kind, source = _source(recipe)
    return {
        context: DatasetRecord(
            f"{recipe.name}-{context}",
            series_digest(series),
            context,
            kind,
            json.dumps(source),
            _SCHEMA,
            json.dumps(_profile(series)),
        )
        for context, series in parts.items()
        if series
    }


def series_digest(series: Sequence[Series]) -> str:
    """The start of a SHA-256 over names, times and values, in order."""
    digest = hashlib.sha256()
    for one in series:
        digest.update(f"{one.name};{len(one.value)};".encode())
        digest.update(np.ascontiguousarray(one.timestamp, dtype="<i8").tobytes())
        digest.update(np.ascontiguousarray(one.value, dtype="<f8").tobytes())
    return digest.hexdigest()[:_DIGEST_LENGTH]


def _source(recipe: Recipe) -> tuple[str, Mapping[str, object]]:
    """MLflow's type of source, and what it needs."""
    config = recipe.data
    if config.csv is not None:
        return "local", {"uri": ", ".join(config.csv.files)}
    if config.topic is not None:
        return "kafka", {
            "uri": config.topic.connector,
            "since": format_duration(config.topic.since),
        }
    settings = {} if config.synthetic is None else config.synthetic.model_dump(mode="json")
    made = {"generator": "titans_stream.synthetic", "seed": str(recipe.seed)}
    return "code", {"tags": {**made, **{n: str(v) for n, v in settings.items() if v is not None}}}


def _profile(series: Sequence[Series]) -> dict[str, object]:
    families: dict[str, int] = {}
    for one in series:
        families[one.family] = families.get(one.family, 0) + 1
    return {
        "num_series": len(series),
        "num_rows": sum(len(one.value) for one in series),
        "families": dict(sorted(families.items())),
    }
