"""Rules that change while an engine runs: as if its state went on in an engine of the new rules."""

from __future__ import annotations

import numpy as np
import pytest

from titans_stream.detection.rules import AlertConfig
from titans_stream.engine.build import EngineSetup, build_engine
from titans_stream.lifecycle.artifacts import base_model
from titans_stream.records import Readings

OLD = AlertConfig.model_validate({"false_alarms_per_series_per_day": 0.01})
NEW = AlertConfig.model_validate(
    {
        "false_alarms_per_series_per_day": 20,
        "rules": [{"series": "*b", "valid_range": [8, 12]}],
    }
)


def readings(first: int, count: int, grouped: bool) -> Readings:
    rng = np.random.default_rng(first)
    rows = np.repeat(np.arange(first, first + count), 2)
    value = 10 + np.sin(rows / 20) + 0.1 * rng.normal(size=2 * count)
    value[rows % 97 == 0] += 4.0
    return Readings(
        ["plant/a", "plant/b"] * count,
        rows * 300 * 10**9,
        value,
        np.zeros(2 * count, np.int32),
        rows,
        ["plant"] * (2 * count) if grouped else None,
    )


@pytest.mark.parametrize("grouped", [False, True])
def test_the_new_rules_hold_from_the_next_reading_on(grouped: bool) -> None:
    changed = build_engine(base_model(), EngineSetup(alerts=OLD, topic="t"))
    changed.process(readings(0, 600, grouped))
    other = build_engine(base_model(), EngineSetup(alerts=NEW, topic="t"))
    other.restore(0, changed.snapshot(0))
    still = build_engine(base_model(), EngineSetup(alerts=OLD, topic="t"))
    still.restore(0, changed.snapshot(0))
    changed.change_alerts(NEW)
    rest = readings(600, 400, grouped)
    found, expected, before = (engine.process(rest) for engine in (changed, other, still))
    assert found.alerts == expected.alerts
    np.testing.assert_array_equal(found.scores.alert, expected.scores.alert)
    np.testing.assert_array_equal(found.scores.surprise, before.scores.surprise)
    opened = [alert for alert in found.alerts if alert.status == "opened"]
    assert len(opened) > len([alert for alert in before.alerts if alert.status == "opened"])
