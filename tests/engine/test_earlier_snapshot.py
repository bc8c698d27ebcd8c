"""A snapshot of another layout of the state is refused, in words that say so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.engine.streams import MODEL, engine
from titans_stream.engine.settings import EngineConfig
from titans_stream.engine.snapshot import LAYOUT_VERSION, schema_difference, state_meaning
from titans_stream.records import Snapshot

STORED = Path(__file__).parent / "data" / "snapshot-layout-3.npz"
"""Version 0.1 with groups, order and forecasts after 1,350 of 1,500 readings."""


def test_a_snapshot_of_version_0_1_is_refused() -> None:
    with np.load(STORED) as file:
        stored = dict(file)
    arrays = {
        name.removeprefix("state/"): array
        for name, array in stored.items()
        if name.startswith("state/")
    }
    one = engine(forecast={"steps": 24, "every": 24, "quantiles": [0.1, 0.9]}, bound=600)
    snapshot = Snapshot(str(stored["schema"]), json.loads(str(stored["meta"])), arrays)
    refused = rf"schema titans-stream/3/.* this engine has .*/{LAYOUT_VERSION}/"
    with pytest.raises(ValueError, match=refused):
        one.restore(0, snapshot)


def test_the_difference_is_named() -> None:
    new = state_meaning(MODEL, EngineConfig())
    assert schema_difference({**new, "layout": "3"}, new) == [f"layout 3 -> {LAYOUT_VERSION}"]
