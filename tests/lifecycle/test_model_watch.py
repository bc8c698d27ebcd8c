"""A worker's look at the registry, and the models that it keeps for when there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.lifecycle.conftest import free_port
from titans_stream.engine.model import Model, make_model, untrained_weights
from titans_stream.lifecycle import model_watch
from titans_stream.lifecycle.artifacts import CARD_FILE, WEIGHTS_FILE, base_model
from titans_stream.lifecycle.model_cache import ModelCache
from titans_stream.lifecycle.model_watch import ModelWatch, check_served, load_served, load_version
from titans_stream.records import ModelRef

URI = "models:/pumps@champion"


def a_model(version: str) -> Model:
    return make_model(ModelRef("pumps", version), base_model().weights, {"of": version})


class Registry:
    """What the registry answers, put in the place of the functions that ask it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.version, self.down = "1", False
        self.models = {v: a_model(v) for v in ("1", "2", "3")}
        patch.setattr("titans_stream.lifecycle.registry.alias_version", self.alias_version)
        patch.setattr(model_watch, "load_model", self.load)

    def alias_version(self, name: str, alias: str) -> str:
        if self.down:
            raise ConnectionError("no MLflow server answers")
        return self.version

    def load(self, uri: str, tracking_uri: str | None = None) -> Model:
        if self.down:
            raise ConnectionError("no MLflow server answers")
        version = self.version if "@" in uri else uri.rpartition("/")[2]
        if version not in self.models:
            raise ValueError(f"{uri}: no such version")
        return self.models[version]


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    return Registry(monkeypatch)


def test_what_is_new_is_offered_once(registry: Registry, tmp_path: Path) -> None:
    offered: list[str] = []
    cache = ModelCache(tmp_path)
    watch = ModelWatch(URI, "1", cache, lambda model: offered.append(model.ref.version))
    assert watch.look() == "pumps version 1 is champion"
    assert offered == []
    registry.version = "2"
    assert watch.look() == "pumps version 2 is champion now"
    watch.look()
    assert offered == ["2"]
    kept = cache.latest("pumps", "champion")
    assert kept is not None
    assert (kept.ref, kept.card) == (ModelRef("pumps", "2"), {"of": "2"})
    registry.version = "1"
    watch.look()
    assert offered == ["2", "1"], "a way back is a change like any other"


def test_an_outage_is_told_once_and_changes_nothing(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    offered: list[str] = []
    watch = ModelWatch(
        URI, "1", ModelCache(tmp_path), lambda model: offered.append(model.ref.version)
    )
    registry.version, registry.down = "2", True
    with caplog.at_level("INFO"):
        for _ in range(2):
            with pytest.raises(ConnectionError):
                watch.look()
        assert watch.down
        registry.down = False
        watch.look()
    assert caplog.text.count("the model in use goes on") == 1
    assert caplog.text.count("the registry answers again") == 1
    assert offered == ["2"]


def test_a_bad_model_is_refused_and_the_next_one_taken(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wild = {**base_model().weights, "forecast.gate_bias": np.array([1e300, 1e300, 1e300])}
    registry.models["2"] = make_model(ModelRef("pumps", "2"), wild, {})
    offered: list[str] = []
    cache = ModelCache(tmp_path)
    watch = ModelWatch(URI, "1", cache, lambda model: offered.append(model.ref.version))
    registry.version = "9"
    with pytest.raises(ValueError, match="pumps version 9 is refused"):
        watch.look()
    assert watch.look() == "pumps version 9 is champion, refused here"
    assert "model pumps/9 is refused, the old one goes on" in caplog.text
    registry.version = "3"
    watch.look()
    assert offered == ["3"]


def test_what_is_no_use_is_found_out() -> None:
    check_served(base_model())
    check_served(make_model(ModelRef("u", "1"), untrained_weights(1), {}))


def test_without_a_registry_the_last_model_serves(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = ModelCache(tmp_path)
    registry.down = True
    with pytest.raises(ConnectionError):
        load_served(URI, cache)
    registry.down = False
    assert load_served(URI, cache).ref.version == "1"
    registry.down = True
    assert load_served(URI, cache).ref.version == "1"
    assert "going on with the last model that was had, pumps version 1" in caplog.text
    assert load_served("models:/pumps/1", cache).ref.version == "1"
    assert load_version("pumps", "1", cache) is not None
    assert load_version("pumps", "2", cache) is None


@pytest.mark.parametrize("name", [CARD_FILE, WEIGHTS_FILE])
def test_a_kept_model_that_changed_is_not_used(
    registry: Registry, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = ModelCache(tmp_path)
    load_served(URI, cache)
    path = tmp_path / "pumps" / "1" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    registry.down = True
    with pytest.raises(ConnectionError):
        load_served(URI, cache)
    assert "its checksum is wrong" in caplog.text


@pytest.mark.parametrize("name", [CARD_FILE, WEIGHTS_FILE, "sha256.json"])
def test_what_is_had_again_mends_a_damaged_cache(tmp_path: Path, name: str) -> None:
    cache = ModelCache(tmp_path)
    cache.keep(a_model("1"), "champion")
    (tmp_path / "pumps" / "1" / name).write_bytes(b"{")
    assert cache.get("pumps", "1") is None
    cache.keep(a_model("1"), "champion")
    assert cache.get("pumps", "1") is not None


def test_a_registry_that_was_made_anew_has_other_models_under_old_numbers(tmp_path: Path) -> None:
    cache = ModelCache(tmp_path)
    cache.keep(a_model("1"), "champion")
    other = make_model(ModelRef("pumps", "1"), untrained_weights(1), {"of": "another"})
    cache.keep(other, "champion")
    kept = cache.latest("pumps", "champion")
    assert kept is not None and kept.card == {"of": "another"}
    name = "forecast.key_bias"
    assert np.array_equal(kept.weights[name], other.weights[name])


def test_names_do_not_lead_out_of_the_cache(tmp_path: Path) -> None:
    cache = ModelCache(tmp_path / "models")
    for name, version in (("../x", "1"), ("x", "../1"), ("x", ""), ("/etc", "1")):
        cache.keep(make_model(ModelRef(name, version), untrained_weights(1), {}), "champion")
        assert cache.get(name, version) is None
    assert list(tmp_path.iterdir()) == []


def test_a_real_address_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    cache = ModelCache(tmp_path)
    cache.keep(a_model("4"), "champion")
    assert load_served(URI, cache).ref == ModelRef("pumps", "4")
