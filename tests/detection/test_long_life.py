"""Ten million readings later: a change of regime and a spike are seen; nothing blinds a series."""

from __future__ import annotations

import numpy as np

from titans_stream.calendar_features import calendar_features
from titans_stream.detection import layout as L
from titans_stream.detection.detector import Detector
from titans_stream.engine.model import untrained_weights


def old_state(t: float) -> dict[str, np.ndarray]:
    """One row that has seen 3,000 readings of noise, with its counters moved on to `t`."""
    arrays = {name: spec.rows(1) for name, spec in L.state_layout().items()}
    arrays["core"][:] = L.fresh_core()
    score(arrays, np.random.default_rng(0).standard_normal(30_000))
    arrays["core"]["t"] = t
    arrays["core"]["count"] = min(t, L.COUNT_CAP)
    return arrays


def score(arrays: dict[str, np.ndarray], values: np.ndarray) -> np.ndarray:
    n = len(values)
    calendar = calendar_features(np.arange(n) * 300.0)
    detector = Detector(untrained_weights(0))
    return detector.run(arrays, np.zeros(n, np.int64), values, calendar)[0]


def test_a_spike_and_a_new_regime_are_seen_at_ten_million() -> None:
    arrays = old_state(1e7)
    rng = np.random.default_rng(1)
    values = rng.standard_normal(3000)
    values[1000] += 12.0
    values[2000:] += 4.0
    s = score(arrays, values)
    assert np.isfinite(s).all()
    assert s[1000] > 1.0
    assert s[2000:2100].max() > 1.0
    assert np.median(s[:900]) < 0.1


def test_one_huge_value_does_not_blind_a_series() -> None:
    arrays = old_state(30_000.0)
    values = np.random.default_rng(2).standard_normal(2000)
    values[500] = 1e30
    values[1500] = 15.0
    s = score(arrays, values)
    assert np.isfinite(s).all()
    assert s[500] > 1.0
    assert s[1500] > 0.8
    assert arrays["core"]["var"][0] < 4.0


def test_a_stuck_sensor_stays_finite_and_moves_again() -> None:
    arrays = old_state(30_000.0)
    values = np.r_[np.full(20_000, 0.7), np.random.default_rng(3).standard_normal(500)]
    s = score(arrays, values)
    assert np.isfinite(s).all()
    assert s[20_000:20_100].max() > 0.4
    memory = np.abs(arrays["memory"])
    assert ((memory == 0.0) | (memory > 1e-300)).all()
