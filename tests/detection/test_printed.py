"""Numbers of an alert's sentence: no exponents, no digits that say nothing, no contradictions."""

from __future__ import annotations

import pytest

from titans_stream.detection.printed import plain
from titans_stream.detection.standing_out import band_words


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"), (13.06, "13.06"), (1234567.8, "1234568"), (-2500000.0, "-2500000"),
        (0.00213, "0.00213"), (1e-9, "1e-09"), (2.5e18, "2.5e+18"), (99.99999999, "100"),
        (float("nan"), "nan"),
    ],
)  # fmt: skip
def test_numbers_are_plain(number: float, text: str) -> None:
    assert plain(number) == text


def test_a_band_that_is_nothing_beside_the_distance_is_left_out() -> None:
    assert band_words(91.4, 0.0, -6.8e-11, 6.8e-11) == ("91.4", "0")
    assert band_words(2.0, 0.0, -0.1, 0.1) == ("2", "0 (-0.1 to 0.1)")
