"""A snapshot that an earlier version wrote is restored, and goes on as that version did.

Its forecasts have another state now and begin to learn anew.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from tests.engine.streams import engine, make_stream
from titans_stream.records import Snapshot

STORED = Path(__file__).parent / "data" / "snapshot-layout-3.npz"
"""Version 0.1 with groups, order and forecasts after 1,350 of 1,500 readings; what it said then."""


def test_a_snapshot_of_version_0_1_goes_on_as_it_did() -> None:
    with np.load(STORED) as file:
        stored = dict(file)
    arrays = {
        name.removeprefix("state/"): array
        for name, array in stored.items()
        if name.startswith("state/")
    }
    one = engine(
        forecast={"steps": 24, "every": 24, "quantiles": [0.1, 0.9]},
        bound=600,
        settings={"duplicates": "drop"},
    )
    one.restore(0, Snapshot(str(stored["schema"]), json.loads(str(stored["meta"])), arrays))
    rest = make_stream(5, series=3, readings=1500).slice(1350, 1500)
    readings = dataclasses.replace(
        rest.readings(), group=["asset" if name != "s2" else "" for name in rest.series]
    )
    result = one.process(readings)
    assert result.groups is not None
    for name in ("surprise", "rarity", "expected"):
        np.testing.assert_allclose(getattr(result.scores, name), stored[name], rtol=1e-9)
    np.testing.assert_allclose(result.groups.statistic, stored["frames"], rtol=1e-9)
    assert len(result.forecasts) < len(stored["forecasts"])
    assert [alert.alert_id for alert in result.alerts] == stored["alerts"].tolist()
