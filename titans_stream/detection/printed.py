"""Numbers as an alert's sentence shows them."""

from __future__ import annotations

import math

DIGITS = 6
"""That a number shows, and all of those before the point."""
LARGEST = 1e15
SMALLEST = 1e-4


def plain(number: float, digits: int = DIGITS) -> str:
    """A number without an exponent where it is neither huge nor tiny: 1234567, 0.0021, 1e-09."""
    if not math.isfinite(number) or number == 0.0 or not SMALLEST <= abs(number) < LARGEST:
        return f"{number:.{digits}g}"
    before = math.floor(math.log10(abs(number))) + 1
    places = max(0, digits - before)
    text = f"{number:.{places}f}"
    return text.rstrip("0").rstrip(".") if places else text


def digits_apart(one: float, other: float, digits: int) -> int:
    """So many digits, or as many more as two numbers need to be told apart by two of them."""
    off, size = abs(one - other), max(abs(one), abs(other))
    if not (off > 0.0 and math.isfinite(off)):
        return digits
    needed = math.floor(math.log10(size)) - math.floor(math.log10(off)) + 2
    return max(digits, min(needed, 15))
