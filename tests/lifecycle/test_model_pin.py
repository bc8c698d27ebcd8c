"""What loads the model that a control message names."""

from __future__ import annotations

import logging
import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from titans_stream.engine.model import Model
from titans_stream.lifecycle import model_pin
from titans_stream.lifecycle.artifacts import base_model
from titans_stream.lifecycle.model_cache import ModelCache
from titans_stream.lifecycle.model_pin import ModelPin
from titans_stream.records import ModelRef


class Registry:
    """Models by version; what is an exception is raised."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {"1": self.model("1"), "2": self.model("2")}
        self.asked: list[str] = []
        self.told: queue.Queue[str] = queue.Queue()

    @staticmethod
    def model(version: str) -> Model:
        made = base_model()
        return Model(ModelRef("pumps", version), made.weights, made.card)

    def load(self, uri: str) -> Model:
        self.asked.append(uri)
        found = self.answers[uri.rpartition("/")[2]]
        if isinstance(found, list):
            found = found.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def offer(self, model: Model) -> None:
        self.told.put(f"offered {model.ref.version}")

    def stay(self) -> None:
        self.told.put("stay")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    made = Registry()
    monkeypatch.setattr(model_pin, "load_model", made.load)
    monkeypatch.setattr(model_pin, "load_served", lambda uri, cache: made.answers["1"])
    monkeypatch.setattr(model_pin, "check_served", lambda model: None)
    return made


@pytest.fixture
def pin(registry: Registry, tmp_path: Path) -> Iterator[ModelPin]:
    cache = ModelCache(tmp_path)
    made = ModelPin("models:/pumps@champion", cache, registry.offer, registry.stay, 0.05)
    yield made
    made.stop()


def test_a_version_is_loaded_and_with_the_undo_the_connectors_own(
    pin: ModelPin, registry: Registry
) -> None:
    pin.wish("2")
    assert registry.told.get(timeout=30) == "offered 2"
    assert (pin.version, registry.asked) == ("2", ["models:/pumps/2"])
    pin.wish(None)
    assert registry.told.get(timeout=30) == "offered 1"
    assert pin.version is None
    pin.wish("2")
    assert registry.told.get(timeout=30) == "offered 2"
    assert registry.asked == ["models:/pumps/2"], "the second time from the cache"


def test_a_registry_that_is_down_is_asked_again(
    pin: ModelPin, registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    registry.answers["2"] = [ConnectionError("down")] * 2 + [registry.model("2")]
    pin.wish("2")
    assert registry.told.get(timeout=30) == "offered 2"
    assert len(registry.asked) == 3
    assert caplog.text.count("down; trying again") == 2


def test_what_is_no_use_is_refused_and_the_next_wish_counts(
    pin: ModelPin, registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    registry.answers["3"] = ValueError("version 3 is damaged")
    pin.wish("3")
    assert registry.told.get(timeout=30) == "stay"
    assert [r.levelno for r in caplog.records] == [logging.ERROR]
    assert "version 3 is damaged" in caplog.text
    pin.wish("2")
    assert registry.told.get(timeout=30) == "offered 2"


def test_a_model_that_is_not_registered_has_no_versions(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = ModelPin("base", ModelCache(tmp_path), registry.offer, registry.stay, 0.05)
    made.wish("2")
    assert registry.told.get(timeout=30) == "stay"
    assert "base, has no versions" in caplog.text
    made.wish(None)
    assert registry.told.get(timeout=30) == "stay"
    assert len(caplog.records) == 1
    made.stop()
