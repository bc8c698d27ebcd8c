"""MLflow, imported with limits of a service: no telemetry, no minutes of silent retries.

MLflow reads its settings from the environment, some of them while it is imported; those that the
user has set stay. Import this module only where MLflow is used: it takes more than a second.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}.items():
    os.environ.setdefault(_name, _value)

try:
    from mlflow import MlflowClient, artifacts
    from mlflow.entities import (
        Dataset,
        DatasetInput,
        InputTag,
        LoggedModelOutput,
        Metric,
        Param,
    )
    from mlflow.exceptions import MlflowException
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
except ImportError as error:
    raise ImportError("MLflow is not installed: pip install 'mlflow>=3.10,<4'") from error

for _name in ("mlflow", "mlflow.store.db.utils", "mlflow.tracking", "alembic"):
    logging.getLogger(_name).setLevel(logging.WARNING)


def quiet_save_pyfunc(folder: Path, **what: Any) -> None:
    """`mlflow.pyfunc.save_model`, which is imported only here: it takes a second more."""
    import mlflow.pyfunc

    mlflow.pyfunc.save_model(str(folder), **what)


__all__ = [
    "Dataset",
    "DatasetInput",
    "InputTag",
    "LoggedModelOutput",
    "Metric",
    "MlflowClient",
    "MlflowException",
    "Param",
    "SystemMetricsMonitor",
    "artifacts",
    "quiet_save_pyfunc",
]
