"""No score depends on the unit that a value is given in."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detection.test_detector import WEIGHTS, fresh, streams
from titans_stream.calendar_features import calendar_features
from titans_stream.detection.detector import Detector, Scored

N = 900


def score(values: np.ndarray) -> Scored:
    """Columns [N, W] of values as so many series, a reading a minute."""
    width = values.shape[1]
    calendar = calendar_features(np.repeat(np.arange(len(values)) * 60.0, width))
    slots = np.tile(np.arange(width), len(values))
    return Detector(WEIGHTS).run(fresh(width), slots, values.ravel(), calendar)


@pytest.mark.parametrize("a", [2.0**-40, 0.5, 4.0, 2.0**40])
def test_powers_of_two_change_nothing(a: float) -> None:
    before, after = score(streams(N)), score(a * streams(N))
    for name, old, new in zip(Scored._fields, before, after, strict=True):
        np.testing.assert_array_equal(old, new, err_msg=name)


@pytest.mark.parametrize(("a", "b"), [(1e-12, 0.0), (1e12, 0.0), (1.8, 32.0), (1e-3, -5e-3)])
def test_units_change_next_to_nothing(a: float, b: float) -> None:
    values = streams(N)[:, :6]  # without the value of 1e30, beside which nothing else has digits
    rounded = np.round(values, 6)
    for old, new in zip(score(rounded), score(a * rounded + b), strict=True):
        np.testing.assert_allclose(new, old, rtol=0.0, atol=1e-6)


def test_noise_of_a_billionth_of_the_mean_is_seen() -> None:
    rng = np.random.default_rng(0)
    values = 1.0 + 1e-9 * rng.standard_normal((N, 1))
    values[700:703] += 12e-9
    s = score(values).statistic
    assert s[700:703].max() > 1.0
    assert np.median(s[200:700]) < 0.2


def test_a_rare_step_of_a_coarse_sensor_is_no_more_than_a_step() -> None:
    """Rounding to steps is noise of .29 steps: a flicker is small, a jump of fifty steps is not."""
    rng = np.random.default_rng(1)
    values = 20.0 + 0.5 * (rng.random((2000, 1)) < 0.004)
    arrays = fresh(1)
    calendar = calendar_features(np.full(2000, np.nan))
    Detector(WEIGHTS).run(arrays, np.zeros(2000, np.int64), values.ravel(), calendar)
    assert arrays["core"]["step"][0] == 0.5
    Detector(WEIGHTS).run(arrays, np.zeros(1, np.int64), np.array([20.5]), calendar[:1])
    assert arrays["core"]["deviations"][0] <= 1 / 0.29
    Detector(WEIGHTS).run(arrays, np.zeros(1, np.int64), np.array([45.0]), calendar[:1])
    assert arrays["core"]["deviations"][0] > 100.0
