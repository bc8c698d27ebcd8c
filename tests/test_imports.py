"""What the worker loads: no library that only training, tracking or drawing needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "mlflow", "matplotlib", "pandas", "sqlalchemy", "sklearn")

SETTINGS = "import titans_stream.config, titans_stream.recipe_settings, titans_stream.schemas"
WORKER = """
import titans_stream.config, titans_stream.stream.worker, titans_stream.ops.storage
import titans_stream.commands.run
from titans_stream.engine.build import build_engine
from titans_stream.lifecycle.loading import load_model
assert build_engine(load_model("base")).series_count() == 0
"""
FOLDER = """
import sys
from pathlib import Path
from titans_stream.lifecycle.artifacts import base_model, write_model
from titans_stream.lifecycle.loading import load_model
write_model(Path(sys.argv[1]) / "model", base_model())
assert load_model(sys.argv[1] + "/model").weights
"""


@pytest.mark.parametrize("script", [SETTINGS, WORKER, FOLDER], ids=["settings", "worker", "folder"])
def test_a_worker_needs_no_training_library(script: str, tmp_path: object) -> None:
    script += f"\nimport sys\nprint(sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_a_registered_model_needs_mlflow_and_neither_torch_nor_pictures(tmp_path: object) -> None:
    script = (
        "import sys\n"
        "from titans_stream.lifecycle.loading import load_model\n"
        "try:\n"
        "    load_model('models:/none@champion', 'sqlite:///' + sys.argv[1] + '/none.db')\n"
        "except ValueError as error:\n"
        "    assert 'there is no MLflow database' in str(error)\n"
        "print(sorted(set(sys.modules) & {'mlflow', 'torch', 'matplotlib'}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['mlflow']"
