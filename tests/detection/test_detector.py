"""The compiled detector does what its plain reference does."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detection.reference import Reference
from titans_stream.calendar_features import calendar_features
from titans_stream.detection import layout as L
from titans_stream.detection.detector import Detector
from titans_stream.engine.model import untrained_weights

WEIGHTS = untrained_weights(0)


def fresh(slots: int) -> dict[str, np.ndarray]:
    arrays = {name: spec.rows(slots) for name, spec in L.state_layout().items()}
    arrays["core"][:] = L.fresh_core()
    return arrays


def streams(n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    t = np.arange(n)
    return np.stack(
        [
            rng.standard_normal(n),
            rng.standard_normal(n).cumsum(),
            np.sin(t / 40) + 0.1 * rng.standard_normal(n),
            np.where(t < n // 2, 0.0, 1.0),
            50 + 5 * rng.standard_normal(n) ** 3,
            np.where(rng.random(n) < 0.02, rng.exponential(100, n), 0),
            np.where(t == 700, 1e30, rng.standard_normal(n)),
        ],
        1,
    )


@pytest.mark.parametrize("interval", [900.0, 60.0, None])
def test_the_kernel_equals_the_reference(interval: float | None) -> None:
    n = 1100
    values = streams(n)
    width = values.shape[1]
    seconds = np.repeat(np.arange(n) * (interval or np.nan), width)
    calendar = calendar_features(seconds)
    slots = np.tile(np.arange(width), n)
    arrays = fresh(width)
    s, channels, joint = Detector(WEIGHTS).run(arrays, slots, values.ravel(), calendar)
    assert np.isfinite(s[200 * width :]).all()
    assert np.nanmax(s) > 1.0
    for i in range(width):
        one = Reference(WEIGHTS)
        rows = zip(values[:, i], calendar[i::width], strict=True)
        expected = [one.reading(v, c) for v, c in rows]
        np.testing.assert_allclose(s[i::width], [e[0] for e in expected], atol=5e-6)
        np.testing.assert_allclose(channels[i::width], [e[1] for e in expected], atol=2e-5)
        np.testing.assert_allclose(joint[i::width], [e[2] for e in expected], atol=2e-5)
        np.testing.assert_array_equal(arrays["cells"][i], one.cells)
        np.testing.assert_array_equal(arrays["transitions"][i], one.transitions)
        np.testing.assert_allclose(arrays["next_value"][i], one.P, atol=1e-9)
        np.testing.assert_allclose(arrays["memory"][i, :, 0], one.M, atol=1e-9)
        np.testing.assert_allclose(arrays["core"]["var"][i], one.var, rtol=1e-9)


def test_a_series_that_falls_silent_is_strange_by_that_alone() -> None:
    n, silent = 3000, slice(2500, 2540)
    values = np.random.default_rng(2).standard_normal(n)
    values[silent] = 0.1  # a usual value
    none = calendar_features(np.full(n, np.nan))
    s, channels, joint = Detector(WEIGHTS).run(fresh(1), np.zeros(n, np.int64), values, none)
    quiet = channels[:, L.QUIET_CHANNEL]
    assert quiet[silent].max() > quiet[1000:2500].max() + 0.3
    assert s[silent].max() > 0.8 > 0.6 > s[1000:2500].max()
    # the members of an asset are quiet together: no part of a frame
    assert joint[silent, 0].max() < 0.2
