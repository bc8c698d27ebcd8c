"""A series' state means the same in any unit that it is kept in."""

from __future__ import annotations

import numpy as np
import pytest

from titans_stream.forecasting.multi.clock import rebase
from titans_stream.forecasting.multi.forecaster import state_layout, states_of
from titans_stream.forecasting.multi.state import State, state_of
from titans_stream.jit import njit
from titans_stream.records import Float32, Float64

OLD, NEW, MEAN, OFFSET = 4.0, 32.0, 3.0, 1_000.0


@njit()
def _rebase(states: State, unit: float) -> None:
    rebase(state_of(states, 0).series, unit)


@pytest.mark.parametrize("name", ["slots", "twins", "ring", "lasts", "longer"])
def test_levels_keep_their_value_in_a_new_unit(name: str) -> None:
    arrays, before = _kept(name)
    assert before.std() > 0.5
    _rebase(states_of(arrays), NEW)
    meta = arrays["forecast_meta"][0]
    assert meta["unit"] == NEW
    assert meta["offset"] == OFFSET + MEAN * OLD
    after = arrays[f"forecast_{name}"] * NEW + meta["offset"]
    np.testing.assert_allclose(after, before * OLD + OFFSET, rtol=1e-6)


def _kept(name: str) -> tuple[dict[str, Float32], Float64]:
    """State of one series whose part `name` is random, and that part."""
    arrays = {one: spec.rows(1) for one, spec in state_layout().items()}
    meta = arrays["forecast_meta"]
    meta["unit"], meta["mean"], meta["offset"], meta["variance"] = OLD, MEAN, OFFSET, 1.0
    part = arrays[f"forecast_{name}"]
    part[...] = np.random.default_rng(7).normal(0.0, 2.0, part.shape)
    return arrays, part.astype(np.float64)
