"""Artefacts that mean harm, registered in a real MLflow: refused in one line, nothing executed."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from titans_stream.engine.model import make_model, untrained_weights
from titans_stream.lifecycle.artifacts import CARD_FILE, WEIGHTS_FILE, write_model
from titans_stream.lifecycle.loading import load_model
from titans_stream.lifecycle.mlflow_library import MlflowClient
from titans_stream.lifecycle.recording import RunRecorder
from titans_stream.lifecycle.registry import Source, register
from titans_stream.lifecycle.tracking import connect
from titans_stream.records import ModelRef


class Payload:
    """Unpickling it leaves a folder behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.mkdir, (str(self.mark),)


class Registry:
    """Registers folders as logged models."""

    def __init__(self, uri: str, folder: Path) -> None:
        self.uri, self.mark, self.count = uri, folder / "executed", 0
        self.folder = folder / "model"
        write_model(self.folder, make_model(ModelRef("good", "0"), untrained_weights(2), {}))
        self.server = connect(uri)

    def put(self, name: str) -> str:
        recorder = RunRecorder(self.server, "hostile", name, {})
        logged = recorder.begin_model(name, "forecaster")
        self.server.client.log_model_artifacts(logged.model_id, str(self.folder))
        self.server.client.finalize_logged_model(logged.model_id, "READY")
        source = Source(logged.location, recorder.run_id, logged.model_id)
        return register(self.server, name, source).uri

    def weights(self, data: bytes) -> None:
        """Weights whose digest the card confirms."""
        (self.folder / WEIGHTS_FILE).write_bytes(data)
        card = json.loads((self.folder / CARD_FILE).read_text())
        card["weights_sha256"] = hashlib.sha256(data).hexdigest()
        (self.folder / CARD_FILE).write_text(json.dumps(card))


@pytest.fixture
def registry(mlflow_server: str, tmp_path: Path) -> Registry:
    return Registry(mlflow_server, tmp_path)


def test_a_loader_module_and_pickles_beside_the_model_are_not_looked_at(
    registry: Registry,
) -> None:
    code = f"import os\nos.mkdir({str(registry.mark)!r})\ndef _load_pyfunc(path): pass\n"
    (registry.folder / "code").mkdir()
    (registry.folder / "code" / "evil_loader.py").write_text(code)
    (registry.folder / "sitecustomize.py").write_text(code)
    (registry.folder / "MLmodel").write_text(
        "flavors:\n  python_function:\n    loader_module: evil_loader\n    code: code\n"
        "    python_model: python_model.pkl\n"
    )
    (registry.folder / "python_model.pkl").write_bytes(pickle.dumps(Payload(registry.mark)))
    assert load_model(registry.put("with-code"), registry.uri).ref.name == "with-code"
    assert not registry.mark.exists()


def _header(tensors: dict[str, object], size: int = 64) -> bytes:
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text + b"\0" * size


def _tensor(shape: list[int], end: int = 64) -> dict[str, object]:
    return {"dtype": "F64", "shape": shape, "data_offsets": [0, end]}


def _as_pickle(registry: Registry) -> bytes:
    return pickle.dumps(Payload(registry.mark))


def _changed(**arrays: np.ndarray) -> Callable[[Registry], bytes]:
    def make(registry: Registry) -> bytes:
        del registry
        return save(
            {**untrained_weights(2), **{n.replace("__", "."): a for n, a in arrays.items()}}
        )

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_as_pickle, "not a safetensors file"),
        (lambda r: _header({"forecast.gate_bias": _tensor([2**60])}), "not a safetensors file"),
        (lambda r: _header({"forecast.gate_bias": _tensor([2**40, 2**40])}), "not a safetensors"),
        (lambda r: struct.pack("<Q", 2**62) + b"{}", "not a safetensors file"),
        (
            lambda r: _header({"forecast.gate_bias": _tensor([3], 24)}, 8),
            "not a safetensors file",
        ),
        (lambda r: _header({"../../etc/cron.d/x": _tensor([8])}), "weight .*x' is|unknown weight"),
        (_changed(forecast__gate_bias=np.zeros(2_000_000)), "needs \\(3,\\)"),
        (_changed(forecast__gate_bias=np.zeros((3, 1))), "has shape \\(3, 1\\), needs \\(3,\\)"),
        (_changed(forecast__gate_bias=np.array([0.0, np.inf, 0.0])), "not finite"),
        (_changed(forecast__gate_bias=np.zeros(3, np.float32)), "is F32, needs F64"),
        (_changed(__import__os=np.zeros(3)), "unknown weight"),
    ],
    ids=[
        "pickle", "shape-beyond-data", "shape-overflows", "header-without-end", "cut", "path",
        "oversized", "shape", "infinite", "type", "name",
    ],
)  # fmt: skip
def test_weights_that_are_refused(
    registry: Registry,
    make: Callable[[Registry], bytes],
    message: str,
    request: pytest.FixtureRequest,
) -> None:
    registry.weights(make(registry))
    uri = registry.put(f"bad-{request.node.callspec.id}")
    with pytest.raises(ValueError, match=message) as raised:
        load_model(uri, registry.uri)
    assert "\n" not in str(raised.value)
    assert uri in str(raised.value)
    assert not registry.mark.exists()


def test_a_source_elsewhere_is_not_followed(registry: Registry, mlflow_server: str) -> None:
    """MLflow keeps whatever source it was told over its own interface; these are not fetched."""
    client = MlflowClient(mlflow_server, mlflow_server)
    client.create_registered_model("elsewhere")
    for source in (
        "http://127.0.0.1:9/model", "mlflow-artifacts:/../../../../etc", "file:///etc", "/etc",
        "models:/elsewhere/1/../../..",
    ):  # fmt: skip
        try:
            version = client.create_model_version("elsewhere", source).version
        except Exception:  # noqa: BLE001 - the server itself refuses most of them
            continue
        with pytest.raises((ValueError, ConnectionError)) as raised:
            load_model(f"models:/elsewhere/{version}", mlflow_server)
        assert "\n" not in str(raised.value)


def test_a_card_cannot_name_what_is_run(registry: Registry) -> None:
    card = json.loads((registry.folder / CARD_FILE).read_text())
    for extra in ({"loader_module": "os"}, {"name": "../../x"}, {"format_version": 10**9}):
        (registry.folder / CARD_FILE).write_text(json.dumps({**card, **extra}))
        uri = registry.put("bad-card")
        with pytest.raises(ValueError, match=r"model\.json: "):
            load_model(uri, registry.uri)
