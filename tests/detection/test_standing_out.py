"""The words of an alert: numbers to a precision that means something."""

from __future__ import annotations

import math

import hypothesis.strategies as st
from hypothesis import given

from titans_stream.detection.standing_out import band_words


def test_a_band_is_quoted_to_three_digits_of_its_half_width() -> None:
    assert band_words(28.5714, 7.94375, 5.24678, 9.9417) == ("28.5714", "7.94 (5.25 to 9.94)")
    assert band_words(75.0, 70.0, 60.0, 80.0) == ("75", "70 (60 to 80)")
    assert band_words(250_300.0, 512.0, 0.0, 90_000.0) == ("250300", "500 (0 to 90000)")


def test_a_large_number_keeps_the_digits_that_its_band_needs() -> None:
    value, band = band_words(1_234_580.2, 1_234_567.89, 1_234_560.1, 1_234_575.4)
    assert value == "1234580.2" and band == "1234567.89 (1234560.1 to 1234575.4)"
    assert band_words(3.1e-7, 1e-7, 0.5e-7, 1.5e-7) == ("3.1e-07", "1e-07 (5e-08 to 1.5e-07)")


def test_what_has_no_width_is_quoted_without_a_band() -> None:
    assert band_words(101.0, 100.0, 100.0, 100.0) == ("101", "100")
    assert band_words(2.0, math.nan, math.nan, math.nan)[0] == "2"


@given(
    st.floats(-1e9, 1e9),
    st.floats(1e-3, 1e6),
    st.floats(1e-3, 1e6),
    st.floats(0.011, 100.0),
    st.booleans(),
)
def test_a_value_outside_its_band_is_never_quoted_inside(
    expected: float, low: float, high: float, far: float, above: bool
) -> None:
    lower, upper = expected - low, expected + high
    width = (upper - lower) / 2.0
    value = upper + far * width if above else lower - far * width
    shown, band = band_words(value, expected, lower, upper)
    shown_lower, shown_upper = band.split("(")[1].rstrip(")").split(" to ")
    assert float(shown) > float(shown_upper) if above else float(shown) < float(shown_lower)
    assert abs(float(shown_upper) - upper) <= 0.011 * width
    assert abs(float(shown_lower) - lower) <= 0.011 * width
