"""The torch reference and the compiled kernels are twins."""

from __future__ import annotations

import numpy as np
import torch

from titans_stream.calendar_features import calendar_features
from titans_stream.detection import layout as L
from titans_stream.detection.batched import BatchedDetector
from titans_stream.detection.detector import Detector
from titans_stream.engine.model import untrained_weights
from titans_stream.memory.rounds import rounds

WEIGHTS = untrained_weights(0)
CPU = torch.device("cpu")


def fresh(rows: int) -> dict[str, np.ndarray]:
    arrays = {
        name: np.zeros((rows, *spec.shape), spec.dtype) for name, spec in L.state_layout().items()
    }
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


def test_kernels_equal_the_reference_and_states_are_interchangeable() -> None:
    n = 1100
    values = streams(n)
    width = values.shape[1]
    rows = np.tile(np.arange(width), n)
    calendar = calendar_features(np.repeat(np.arange(n) * 900.0, width))
    kernel = Detector(WEIGHTS, CPU)
    reference = BatchedDetector(WEIGHTS, CPU)
    arrays = fresh(width)
    s, channels = kernel.run(arrays, rows, values.ravel(), calendar)
    tensors = {name: torch.from_numpy(array.copy()) for name, array in fresh(width).items()}
    half = width * (n // 2)
    first = reference.run(tensors, rows[:half], values.ravel()[:half], calendar[:half])
    np.testing.assert_allclose(first[0], s[:half], atol=5e-6)
    moved = {name: tensor.numpy() for name, tensor in tensors.items()}
    rest, rest_channels = kernel.run(moved, rows[half:], values.ravel()[half:], calendar[half:])
    np.testing.assert_allclose(rest, s[half:], atol=5e-6)
    np.testing.assert_allclose(rest_channels, channels[half:], atol=2e-5)
    assert np.isfinite(s[200 * width :]).all()
    assert np.nanmax(s) > 1.0
    for name, array in arrays.items():
        finite = np.isfinite(array)
        np.testing.assert_allclose(moved[name][finite], array[finite], rtol=1e-6, atol=1e-6)


def test_rounds_keep_each_series_in_order() -> None:
    rows = np.array([3, 1, 3, 3, 2, 1])
    taken = [part.tolist() for part in rounds(rows)]
    assert taken == [[0, 1, 4], [2, 5], [3]]
    assert [part.tolist() for part in rounds(np.empty(0, np.int64))] == []
