"""A partition's state as a `Snapshot`: arrays by series and by group, names and buffers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from titans_stream.durations import format_duration
from titans_stream.engine.model import Model
from titans_stream.engine.settings import EngineConfig
from titans_stream.forecasting.multi import forecaster as multi_step
from titans_stream.memory.rows import plain
from titans_stream.records import Snapshot, restorable

LAYOUT_VERSION = 6
"""Raised whenever the meaning of the state changes: older snapshots are refused."""
FORECAST_VERSION = 2
"""The same of the state of forecasts: it begins anew beside an older snapshot's memories."""


def state_schema(model: Model, config: EngineConfig, calendar: bool, forecasts: bool) -> str:
    """Layout version, slow weights, order and time zone; thresholds and rules are not in it.

    `forecasts`: after a `+` those of the forecasts of many steps, which can begin anew alone (see
    `records.restorable`); how far and how often is forecast is not in it.
    """
    heads = multi_step.weight_shapes()
    meaning = json.dumps([config.max_out_of_orderness, config.timezone, calendar])
    digest = _digest(model, [name for name in model.weights if name not in heads], meaning)
    schema = f"titans-stream/{LAYOUT_VERSION}/{digest}"
    if not forecasts:
        return schema
    interval = json.dumps([config.expected_interval])
    return f"{schema}+forecasts/{FORECAST_VERSION}/{_digest(model, list(heads), interval)}"


def state_meaning(model: Model, config: EngineConfig) -> dict[str, str]:
    """What gives a worker's state its meaning, in words, by setting; kept beside a snapshot."""
    heads = multi_step.weight_shapes()
    return {
        "model": model.ref.name,
        "model_version": model.ref.version,
        "weights": _digest(model, [name for name in model.weights if name not in heads], ""),
        "layout": str(LAYOUT_VERSION),
        "engine.timezone": config.timezone,
        "engine.max_out_of_orderness": format_duration(config.max_out_of_orderness),
    }


def schema_difference(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """What differs between two meanings of the state, `setting old -> new` each.

    Weights go by their model's name where that differs too; what `old` does not tell is left out.
    """
    changed = [name for name, text in new.items() if old.get(name, text) != text]
    if {"model", "model_version"} & {*changed}:
        changed = [name for name in changed if name != "weights"]
    return [f"{name} {old[name]} -> {new[name]}" for name in changed]


def _digest(model: Model, names: list[str], meaning: str) -> str:
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(model.weights[name]).tobytes())
    digest.update(meaning.encode())
    return digest.hexdigest()[:16]


def pack(
    schema: str,
    names: list[str],
    arrays: Mapping[str, npt.NDArray[Any]],
    waiting: Mapping[str, Any],
    groups: list[str],
) -> Snapshot:
    """Put the parts together; records are kept as plain columns."""
    kept = {name: plain(array) for name, array in arrays.items()}
    held = {name: state for name, state in waiting.items() if state is not None}
    return Snapshot(schema, {"series": names, "waiting": held, "groups": groups}, kept)


def unpack(
    schema: str, snapshot: Snapshot
) -> tuple[list[str], dict[str, npt.NDArray[Any]], dict[str, Any], list[str]]:
    """Names, arrays, buffers and group ids.

    ValueError where the snapshot is of another schema or damaged.
    """
    if not restorable(snapshot.schema, schema):
        raise ValueError(f"snapshot of schema {snapshot.schema}, this engine has {schema}")
    names = snapshot.meta.get("series")
    waiting = snapshot.meta.get("waiting")
    groups = snapshot.meta.get("groups")
    if not isinstance(names, list) or not isinstance(waiting, dict) or not isinstance(groups, list):
        raise ValueError("snapshot: series, groups or waiting is missing")
    if len(set(names)) != len(names) or len(set(groups)) != len(groups):
        raise ValueError("snapshot: a series or group is named twice")
    return list(map(str, names)), dict(snapshot.arrays), waiting, list(map(str, groups))
