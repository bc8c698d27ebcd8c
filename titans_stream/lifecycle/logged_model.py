"""The folder of a logged model in MLflow 3: the model's two files, and what MLflow says of it.

MLmodel               signature, flavour, ids; written by MLflow
model.safetensors     the weights, and
model.json            the card: all that the service reads (artifacts.py)
input_example.json    rows that the signature takes
requirements.txt ...  what a caller of the pyfunc has to install
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

import titans_stream
from titans_stream.engine.model import Model
from titans_stream.lifecycle.artifacts import write_model
from titans_stream.lifecycle.mlflow_library import quiet_save_pyfunc
from titans_stream.lifecycle.pyfunc import OUTPUTS, PARAMETERS

LOADER = "titans_stream.lifecycle.pyfunc"
_EXAMPLE_ROWS = 12
_UNFIT = re.compile(r"[^A-Za-z0-9_-]")


def logged_name(name: str) -> str:
    """`name` as MLflow takes it for a logged model: no dots."""
    return _UNFIT.sub("_", name)


def input_example() -> pd.DataFrame:
    """Rows of a series that a caller can try the model with."""
    times = pd.date_range("2026-01-01", periods=_EXAMPLE_ROWS, freq="5min")
    values = [20.0, 20.4, 20.1, 19.8, 20.2, 20.5, 20.3, 19.9, 20.0, 35.0, 20.1, 20.2]
    return pd.DataFrame({"series_id": "pump-1", "timestamp": times, "value": values})


def write_logged_model(folder: Path, model: Model, model_id: str, run_id: str) -> None:
    """Write the folder, which must not exist yet."""
    from mlflow.models import Model as MlModel
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import AnyType

    inputs = Schema(
        [
            ColSpec(DataType.string, "series_id", required=False),
            # texts or datetimes: MLflow reads no datetimes from CSV
            ColSpec(AnyType(), "timestamp"),
            ColSpec(DataType.double, "value"),
        ]
    )
    outputs = Schema(
        [
            ColSpec(DataType.string, "series_id"),
            ColSpec(DataType.datetime, "timestamp"),
            ColSpec(DataType.double, "value"),
            *(ColSpec(DataType.double, name) for name in OUTPUTS),
            ColSpec(DataType.integer, "alert"),
            ColSpec(DataType.integer, "onset"),
            ColSpec(DataType.string, "status"),
        ]
    )
    kinds = {str: DataType.string, float: DataType.double}
    params = ParamSchema([ParamSpec(n, kinds[type(v)], v) for n, v in PARAMETERS.items()])
    quiet_save_pyfunc(
        folder,
        loader_module=LOADER,
        mlflow_model=MlModel(artifact_path=None, run_id=run_id, model_id=model_id),
        signature=ModelSignature(inputs, outputs, params),
        input_example=input_example(),
        pip_requirements=[f"titans-stream=={titans_stream.__version__}"],
        metadata={"format": "titans-stream-model"},
    )
    write_model(folder, model)
