"""A model as MLflow's pyfunc flavour: pandas in, pandas out, scored by the service's own engine.

For others: `mlflow models predict`, `mlflow models serve`, `mlflow.pyfunc.load_model`. The flavour
names this installed module as its loader, so that an artefact brings data and no code. The service
itself never loads a model this way.

A call scores one history from fresh memories: N rows of `series_id`, `timestamp` and `value` in
arrival order give N rows of scores in the same order. Times are datetimes or texts (ISO 8601),
those without offset UTC.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from titans_stream.detection.rules import AlertConfig
from titans_stream.engine.build import EngineSetup, build_engine
from titans_stream.engine.model import Model
from titans_stream.engine.settings import EngineConfig
from titans_stream.lifecycle.artifacts import read_model
from titans_stream.records import Int64, Readings, Scores, Status, concatenate

ONLY_SERIES = "value"
"""The series id of rows that name none."""
OUTPUTS = ("surprise", "score", "p_value", "expected", "lower", "upper")
PARAMETERS: dict[str, Any] = {"timezone": "UTC", "false_alarms_per_day": 0.0}
"""What a caller may set, with its default; 0 false alarms per day: the service's own default."""


class PyfuncModel:
    """What MLflow calls."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def predict(self, data: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Score the rows of `data`; its columns are those of the signature.

        ValueError for columns that are missing and times that are none.
        """
        readings = _readings(data)
        engine = build_engine(self._model, _setup({**PARAMETERS, **(params or {})}))
        first, last = engine.process(readings), engine.flush()
        if first.refused is not None:
            raise ValueError(f"more than {engine.series_count():,} series in one call")
        return _frame(concatenate(Scores, [first.scores, last.scores]))


def _load_pyfunc(path: str) -> PyfuncModel:
    """Called by MLflow with the model's folder."""
    return PyfuncModel(read_model(Path(path)))


def _setup(params: dict[str, Any]) -> EngineSetup:
    alerts: dict[str, float] = {}
    if params["false_alarms_per_day"]:
        alerts["false_alarms_per_series_per_day"] = float(params["false_alarms_per_day"])
    return EngineSetup(
        EngineConfig(timezone=str(params["timezone"])), AlertConfig.model_validate(alerts)
    )


def _readings(data: pd.DataFrame) -> Readings:
    for name in ("timestamp", "value"):
        if name not in data.columns:
            raise ValueError(f"column {name!r} is missing")
    n = len(data)
    names = (
        data["series_id"].fillna(ONLY_SERIES).astype(str).tolist()
        if "series_id" in data.columns
        else [ONLY_SERIES] * n
    )
    if pd.api.types.is_numeric_dtype(data["timestamp"]):
        raise ValueError("timestamp: datetimes or texts such as 2026-03-01T12:00:00Z, no numbers")
    times = _times(data["timestamp"])
    if times.isna().any():
        raise ValueError(f"timestamp: row {int(np.argmax(times.isna()))} has none")
    timestamp: Int64 = np.asarray(times.dt.as_unit("ns").astype("int64"), np.int64)
    value = pd.to_numeric(data["value"]).to_numpy(np.float64, na_value=np.nan)
    return Readings(names, timestamp, value, np.zeros(n, np.int32), np.arange(n))


def _times(column: pd.Series[Any]) -> pd.Series[Any]:
    """UTC; texts of ISO 8601 may differ in form from row to row, others have that of the first."""
    try:
        return pd.to_datetime(column, utc=True, format="ISO8601")
    except ValueError:
        return pd.to_datetime(column, utc=True)


def _frame(scores: Scores) -> pd.DataFrame:
    order = np.argsort(scores.offset, kind="stable")
    columns: dict[str, Any] = {
        "series_id": [scores.series[i] for i in order.tolist()],
        "timestamp": pd.to_datetime(scores.timestamp[order], utc=True).tz_localize(None),
        "value": scores.value[order],
    }
    columns |= {name: getattr(scores, name)[order] for name in OUTPUTS}
    columns |= {name: getattr(scores, name)[order].astype(np.int32) for name in ("alert", "onset")}
    columns["status"] = [Status(s).label for s in scores.status[order].tolist()]
    return pd.DataFrame(columns)
