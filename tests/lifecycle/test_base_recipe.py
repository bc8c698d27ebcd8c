"""The recipe of the shipped base model makes it again, by the way that users train."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.base_seeds import RECIPE, measures, series_to_measure_on, trained
from titans_stream.lifecycle.artifacts import base_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

WITHIN = 0.004
"""Of each measure; seeds of training differ by more (benchmarks/RESULTS.md)."""


def test_the_recipe_gives_the_base_models_measures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = series_to_measure_on()
    ours, shipped = measures(trained(RECIPE, tmp_path), data), measures(base_model(), data)
    with capsys.disabled():
        for name, value in shipped.items():
            print(f"{name}: base {value:.5f}, trained anew {ours[name]:.5f}")
    assert ours == pytest.approx(shipped, abs=WITHIN)
