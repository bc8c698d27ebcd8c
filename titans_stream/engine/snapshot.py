"""A partition's state as a `Snapshot`: arrays by series and by group, names and buffers.

It is all in one, or a head (names, groups, clocks, orders) and parts (rows and buffers of some
series each, in `titans_stream.engine.capture` those touched since another snapshot).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from titans_stream.durations import format_duration
from titans_stream.engine.familiar import some_courses
from titans_stream.engine.forecasts import forecast_state
from titans_stream.engine.model import Model
from titans_stream.engine.settings import EngineConfig
from titans_stream.engine.state import series_state
from titans_stream.engine.young import PREFIX
from titans_stream.forecasting.multi import forecaster as multi_step
from titans_stream.memory.rows import plain
from titans_stream.records import Snapshot, restorable

_ROWS = {*series_state(), *forecast_state()}
"""Arrays by series, those of young ones aside."""

Array = npt.NDArray[Any]

LAYOUT_VERSION = 13
"""Raised whenever the meaning of the state changes: older snapshots are refused."""
FORECAST_VERSION = 5
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


def pack(schema: str, meta: Mapping[str, Any], arrays: Mapping[str, Array]) -> Snapshot:
    """Put the parts together; records are kept as plain columns, meta that is None is not kept."""
    told = {name: each for name, each in meta.items() if each is not None}
    return Snapshot(schema, told, {name: plain(array) for name, array in arrays.items()})


def unpack(schema: str, snapshot: Snapshot) -> tuple[list[str], list[str]]:
    """Names of series and groups.

    ValueError where the snapshot is of another schema or damaged.
    """
    if not restorable(snapshot.schema, schema):
        raise ValueError(f"snapshot of schema {snapshot.schema}, this engine has {schema}")
    names, groups = snapshot.meta.get("series"), snapshot.meta.get("groups")
    if not isinstance(names, list) or not isinstance(groups, list):
        raise ValueError("snapshot: series or groups are missing")
    if len(set(names)) != len(names) or len(set(groups)) != len(groups):
        raise ValueError("snapshot: a series or group is named twice")
    return list(map(str, names)), list(map(str, groups))


def missing_rows(schema: str, names: list[str], parts: Iterable[Snapshot]) -> Iterator[Snapshot]:
    """What of the parts of a snapshot counts: of each series the first rows that there are.

    ValueError where a part is damaged, or where series are in none.
    """
    missing = dict.fromkeys(names)
    for part in parts:
        found, waiting = part.meta.get("series"), part.meta.get("waiting")
        if not isinstance(found, list) or not isinstance(waiting, dict):
            raise ValueError("snapshot: series or waiting is missing")
        if part.schema != schema or len(set(found)) != len(found):
            raise ValueError("snapshot: a part is of another schema, or names a series twice")
        keep = np.fromiter((name in missing for name in found), bool, len(found))
        for name in found:
            missing.pop(name, None)
        if keep.all():
            yield part
        elif keep.any():
            yield _some(part, keep)
    if missing:
        raise ValueError(f"snapshot: series {next(iter(missing))!r} is in no part")


def _some(part: Snapshot, keep: npt.NDArray[np.bool_]) -> Snapshot:
    """The rows of some of a part's series."""
    place = np.cumsum(keep) - 1
    places = np.asarray(part.arrays.get("young", np.empty(0, np.int64)))
    young = keep[places]
    warm = np.delete(keep, places)
    arrays = {
        name: array[young if name.startswith(PREFIX) else warm]
        for name, array in part.arrays.items()
        if name.startswith(PREFIX) or name in _ROWS
    }
    arrays["young"] = place[places[young]]
    courses, patterns = some_courses(part.arrays, part.meta.get("patterns", []), keep)
    names = [name for name, kept in zip(part.meta["series"], keep.tolist(), strict=True) if kept]
    meta = {**part.meta, "series": names, "patterns": patterns}
    return Snapshot(part.schema, meta, arrays | courses)
