"""Numbers as an alert's sentence shows them."""

from __future__ import annotations

import math

DIGITS = 6
"""That a number shows, and all of those before the point."""
LARGEST = 1e15
SMALLEST = 1e-4


def plain(number: float, digits: int = DIGITS) -> str:
    """A number without an exponent where it is neither huge nor tiny: 1234567, 0.0021, 1e-09."""
    if not math.isfinite(number) or number == 0.0:
        return f"{number:.{digits}g}"
    return to_place(number, digits - 1 - math.floor(math.log10(abs(number))))


def to_place(number: float, decimals: int) -> str:
    """The same to a decimal place of a finite number, without zeros at its end."""
    if number != 0.0 and not SMALLEST <= abs(number) < LARGEST:
        places = math.floor(math.log10(abs(number))) + decimals
        return f"{number:.{min(max(places, 0) + 1, 15)}g}"
    text = f"{number:.{max(decimals, 0)}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def digits_apart(one: float, other: float, digits: int) -> int:
    """So many digits, or as many more as two numbers need to be told apart by two of them."""
    off, size = abs(one - other), max(abs(one), abs(other))
    if not (off > 0.0 and math.isfinite(off)):
        return digits
    needed = math.floor(math.log10(size)) - math.floor(math.log10(off)) + 2
    return max(digits, min(needed, 15))
