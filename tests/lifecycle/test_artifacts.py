"""What is written is read back bit by bit; everything else is refused in one line."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from titans_stream.engine.model import Model, weight_shapes
from titans_stream.forecasting.multi import forecaster as multi_step
from titans_stream.lifecycle.artifacts import (
    CARD_FILE,
    WEIGHTS_FILE,
    base_model,
    is_model_name,
    read_model,
    write_model,
)
from titans_stream.lifecycle.loading import load_model
from titans_stream.records import ModelRef


@pytest.fixture
def folder(tmp_path: Path, model: Model) -> Path:
    write_model(tmp_path / "model", model)
    return tmp_path / "model"


def rewrite_card(folder: Path, **changes: object) -> None:
    card = json.loads((folder / CARD_FILE).read_text())
    (folder / CARD_FILE).write_text(json.dumps({**card, **changes}))


def rewrite_weights(folder: Path, weights: dict[str, np.ndarray]) -> None:
    data = save(weights)
    (folder / WEIGHTS_FILE).write_bytes(data)
    rewrite_card(folder, weights_sha256=hashlib.sha256(data).hexdigest())


def test_round_trip(folder: Path, model: Model) -> None:
    ref = ModelRef("forecaster", "7")
    read = read_model(folder, ref)
    assert read.ref == ref
    assert read.card == model.card
    assert set(read.weights) == set(weight_shapes())
    for name, weight in model.weights.items():
        np.testing.assert_array_equal(read.weights[name], weight)
        assert read.weights[name].dtype == np.float64


def test_equal_models_are_equal_files(folder: Path, tmp_path: Path, model: Model) -> None:
    write_model(tmp_path / "again", model)
    for name in (CARD_FILE, WEIGHTS_FILE):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_without_a_registry_the_version_follows_the_weights(folder: Path, model: Model) -> None:
    first = read_model(folder).ref
    assert first.name == "forecaster"
    rewrite_card(folder, card={"other": 1})
    assert read_model(folder).ref == first
    weights = {n: w.copy() for n, w in model.weights.items()}
    weights["forecast.gate_bias"][0] += 1e-9
    rewrite_weights(folder, weights)
    assert read_model(folder).ref.version != first.version


def test_a_folder_is_a_model_uri(folder: Path, model: Model) -> None:
    loaded = load_model(str(folder))
    np.testing.assert_array_equal(
        loaded.weights["forecast.key_weight"], model.weights["forecast.key_weight"]
    )
    with pytest.raises(ValueError, match="no such folder"):
        load_model(str(folder) + "x")
    with pytest.raises(ValueError, match="models:/NAME@ALIAS"):
        load_model("models:/forecaster")


def test_the_base_model_is_in_the_package() -> None:
    model = load_model("base")
    assert model.ref == base_model().ref
    assert model.ref.name == "base"
    assert set(model.weights) == set(weight_shapes())
    assert model.card["metrics"]["held_out_mae_ratio"] < 0.85
    assert 0.94 < model.card["metrics"]["held_out_coverage"] < 0.97


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "not a model of titans-stream"),
        ({"format_version": 2}, "format_version 2 is newer than this titans-stream reads"),
        ({"format_version": "1"}, "not a positive whole number"),
        ({"format_version": True}, "not a positive whole number"),
        ({"name": "../../x"}, "name is not a model's name"),
        ({"card": []}, "card an object"),
        ({"weights_sha256": 3}, "weights_sha256 must be text"),
        ({"loader_module": "os"}, "keys missing or unknown: ['loader_module']"),
        ({"weights_sha256": "0" * 64}, "damaged"),
    ],
)
def test_cards_that_are_refused(folder: Path, changes: dict[str, object], message: str) -> None:
    rewrite_card(folder, **changes)
    with pytest.raises(ValueError) as raised:
        read_model(folder)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"[" * 100_000, b"[]", b'{"format": NaN}', b"9" * 5_000, pickle.dumps({})],
)
def test_files_that_are_no_card(folder: Path, content: bytes) -> None:
    (folder / CARD_FILE).write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.json: not (JSON|a model of titans-stream)"):
        read_model(folder)


@pytest.mark.parametrize("cut", [0, 7, 200, -1])
def test_cut_weights(folder: Path, cut: int) -> None:
    data = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(data[:cut])
    with pytest.raises(ValueError, match=r"model\.safetensors: damaged"):
        read_model(folder)


def test_one_changed_bit(folder: Path) -> None:
    data = bytearray((folder / WEIGHTS_FILE).read_bytes())
    data[-5] ^= 1
    (folder / WEIGHTS_FILE).write_bytes(bytes(data))
    with pytest.raises(ValueError, match="damaged"):
        read_model(folder)


def test_weights_that_are_refused(folder: Path, model: Model) -> None:
    good = {name: weight.copy() for name, weight in model.weights.items()}
    bias = "forecast.gate_bias"
    for changed, message in (
        ({bias: good[bias].astype(np.float32)}, "'forecast.gate_bias' is F32, needs F64"),
        ({bias: good[bias][:2]}, "has shape (2,), needs (3,)"),
        ({bias: np.array([1.0, np.nan, 2.0])}, "not finite"),
        ({"extra": np.zeros(2)}, "unknown weight 'extra'"),
    ):
        rewrite_weights(folder, {**good, **changed})
        with pytest.raises(ValueError) as raised:
            read_model(folder)
        assert message in str(raised.value)
    rewrite_weights(folder, {name: w for name, w in good.items() if name != bias})
    with pytest.raises(ValueError, match=r"'forecast\.gate_bias' is missing"):
        read_model(folder)


def test_a_model_from_before_forecasts_gets_their_weights_from_the_base_model(
    folder: Path, model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    heads = sorted(multi_step.weight_shapes())
    good = {name: weight.copy() for name, weight in model.weights.items()}
    rewrite_weights(folder, {name: w for name, w in good.items() if name not in heads})
    with caplog.at_level("INFO"):
        read = read_model(folder)
    base = base_model()
    for name in weight_shapes():
        source = base if name in heads else model
        np.testing.assert_array_equal(read.weights[name], source.weights[name], err_msg=name)
    assert read.card == {**model.card, "from_base": heads}
    assert "weights of forecasts of many steps are those of the base model" in caplog.text
    rewrite_weights(folder, {name: w for name, w in good.items() if name != heads[0]})
    with pytest.raises(ValueError, match=f"{heads[0]}' is missing"):
        read_model(folder)


def test_a_weight_that_nothing_uses_any_more_is_passed_over(folder: Path, model: Model) -> None:
    rewrite_weights(folder, {**model.weights, "forecast.head.window": np.zeros((720, 72))})
    read = read_model(folder)
    assert set(read.weights) == set(weight_shapes())


def test_not_safetensors_though_the_digest_fits(folder: Path) -> None:
    data = pickle.dumps({"weights": [1.0]})
    (folder / WEIGHTS_FILE).write_bytes(data)
    rewrite_card(folder, weights_sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(ValueError, match="not a safetensors file"):
        read_model(folder)


@pytest.mark.parametrize("name", [CARD_FILE, WEIGHTS_FILE])
def test_missing_and_oversized_files(folder: Path, name: str) -> None:
    with (folder / name).open("r+b") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(ValueError, match=f"{name}: larger than"):
        read_model(folder)
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"{name}: cannot be read: No such file"):
        read_model(folder)


def test_names() -> None:
    assert is_model_name("press-7_oil.v2")
    for bad in ("", "a/b", "a:b", "-a", ".a", "a b", "a\n", "x" * 101):
        assert not is_model_name(bad)
