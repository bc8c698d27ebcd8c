"""Numbers of an alert's sentence: no exponents, no digits that say nothing, no contradictions."""

from __future__ import annotations

import numpy as np
import pytest

from titans_stream.detection import watch
from titans_stream.detection.episodes import Episode
from titans_stream.detection.printed import plain
from titans_stream.detection.standing_out import band_words, standing_of
from titans_stream.memory.rows import ArraySpec


def spoken_of(kind: int, first: float, second: float = 0.0) -> Episode:
    """An episode at whose peak of 0 something stands out, in numbers."""
    state = ArraySpec.of(Episode).rows(1).view(np.recarray)[0]
    state.what, state.first, state.second, state.third = kind, first, second, 0.0
    found: Episode = state
    return found


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


def test_large_numbers_of_bands_and_ratios_have_no_exponent() -> None:
    value, band = band_words(9_876_543_210.0, 8e9, 7.5e9, 8.5e9)
    assert (value, band) == ("9876543210", "8000000000 (7500000000 to 8500000000)")
    state = spoken_of(watch.NOISE, 123.4)
    assert "its changes are 123 times their usual size" in standing_of(state, False).words


@pytest.mark.parametrize("offset", [0.0, 1_000.0, 1e9])
def test_a_turn_and_the_usual_one_differ_in_words(offset: float) -> None:
    words = standing_of(spoken_of(watch.TURN, offset + 0.2, offset + 0.4), False).words
    turned, usual = words.removeprefix("0; it turned at ").split(" after rising, where it ")
    assert float(usual.removeprefix("usually turns at ")) > float(turned)


def test_a_rate_and_the_usual_one_differ_in_words() -> None:
    words = standing_of(spoken_of(watch.RATE, 1_000.2, 1_000.1), False).words
    assert "a rate of 1000.2 a second where 1000.1 is normal" in words


def test_a_band_too_narrow_for_decimal_places_is_left_out() -> None:
    assert band_words(1e-322, 0.0, -5e-324, 5e-324)[1] == "0"


def test_a_value_outside_its_valid_range_is_not_called_usual() -> None:
    state = spoken_of(watch.PATTERN, 0.0)
    assert standing_of(state, False).words == "0, a usual value"
    state.violation = 1.0
    assert standing_of(state, False).words == "0"
