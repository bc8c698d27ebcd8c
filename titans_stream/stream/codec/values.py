"""The value of a reading: what is taken for a number, and what for a missing one.

Numbers and null are values everywhere. What else is one depends on the type of the field: numbers
in text, truth values, states by name. `lenient` takes all of these but states.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import numpy as np

from titans_stream.records import Float64
from titans_stream.stream.codec.fields import Reason, UnusableError, json_type
from titans_stream.stream.codec.timestamps import number_in
from titans_stream.stream.settings import InputConfig, ValueType

ReadValue = Callable[[Any], float]
"""The number that a decoded JSON value is, NaN where it is missing; UnusableError for others."""

_NUMBER_WORDS = ("", "nan", "inf", "infinity", "na", "n/a", "null", "none")
MISSING_WORDS = frozenset((*_NUMBER_WORDS, "unknown", "unavailable", "undefined"))
"""Text that says that there is no value, in lower case and without a sign."""
_TRUE, _FALSE = ("true", "on", "yes"), ("false", "off", "no")
_BOOLEANS = dict.fromkeys(_TRUE, 1.0) | dict.fromkeys(_FALSE, 0.0)
_SHOWN = 40
_LEAST_RECURRENCES = 3
_FAR = 20.0
_FAR_KNOWN = 4.0
_KNOWN_SENTINELS = np.array([
    -99.0, -99.9, -99.99, -200.0, -999.0, -999.9, -999.99, -9999.0, -9999.9, -99999.0, 999.0,
    999.9, 9999.0, 9999.9, 99999.0, 999999.0, 6999.0, 7999.0, 32767.0, -32768.0, 65535.0,
])  # fmt: skip
"""What instruments and archives write for a value that is not there."""
_MOST_SHARE = 0.25


def value_readers(config: InputConfig) -> dict[str, ReadValue] | None:
    """How the value of each field is read; None where all are numbers or null."""
    words = frozenset(each for each in config.missing_values if isinstance(each, str))
    if not (config.lenient or config.types or words):
        return None
    return {name: _reader(config, name, words) for name in config.value_names}


def _reader(config: InputConfig, name: str, words: Collection[str]) -> ReadValue:
    given = config.types.get(name)
    kind: ValueType | None = given.type if given is not None else None
    if kind is None and config.lenient:
        return partial(_read, numbers=True, booleans=True, states=None, words=words)
    return partial(
        _read,
        numbers=kind == "number",
        booleans=kind == "boolean",
        states=given.states if given is not None and kind == "state" else None,
        words=words,
    )


def _read(
    value: Any,
    *,
    numbers: bool,
    booleans: bool,
    states: Mapping[str, float] | None,
    words: Collection[str],
) -> float:
    if type(value) is str:
        return _in_text(value, numbers, booleans, states, words)
    if type(value) is bool and booleans:
        return float(value)
    if states is not None and type(value) is bool:
        return _state(str(value).lower(), states)
    return plain_number(value)


def _in_text(
    text: str,
    numbers: bool,
    booleans: bool,
    states: Mapping[str, float] | None,
    words: Collection[str],
) -> float:
    if text in words:
        return math.nan
    if states is not None:
        return _state(text, states)
    if not numbers and not booleans:
        return plain_number(text)
    word = text.strip().lower()
    if booleans and word in _BOOLEANS:
        return _BOOLEANS[word]
    if word.lstrip("+-") in MISSING_WORDS:
        return math.nan
    number = number_in(word)
    if number is None or (not numbers and number not in (0, 1)):
        needed = "a number" if not booleans else "a truth value" if not numbers else "a value"
        raise UnusableError(Reason.WRONG_TYPE, f"{_shown(text)} is not {needed}")
    return plain_number(number)


def _state(text: str, states: Mapping[str, float]) -> float:
    if text in states:
        return states[text]
    if text.strip().lower() in MISSING_WORDS:
        return math.nan
    raise UnusableError(
        Reason.UNKNOWN_STATE, f"{_shown(text)} is none of the states in input.types"
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "...")


def plain_number(value: Any) -> float:
    """A JSON number or null (NaN), and nothing else."""
    if value is None:
        return math.nan
    if type(value) is not float and type(value) is not int:
        hint = " (input.lenient: true reads it)" if _would_do(value) else ""
        raise UnusableError(
            Reason.WRONG_TYPE, f"a number or null is needed, not {json_type(value)}{hint}"
        )
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isinf(number):
        raise UnusableError(Reason.VALUE_NOT_FINITE, "beyond the range of a 64-bit float")
    return number


def _would_do(value: Any) -> bool:
    """Whether `lenient` takes the value."""
    if type(value) is not str:
        return type(value) is bool
    word = value[:_SHOWN].strip().lower()
    known = word in _BOOLEANS or word.lstrip("+-") in MISSING_WORDS
    return known or number_in(word) is not None


def missing_numbers(config: InputConfig) -> Float64:
    """The numbers that stand for a missing value."""
    numbers = [each for each in config.missing_values if not isinstance(each, str)]
    return np.array(numbers, dtype=np.float64)


def suspicious_value(values: Float64) -> float | None:
    """A value that may stand for a missing one: far outside the rest, and it recurs exactly.

    `values` [N] of one series; NaN is passed over. Far is twenty times the spread of the middle
    half, four times for numbers that instruments are known to write so, with nothing of the rest
    on the way. The most frequent one where there are several.
    """
    values = values[np.isfinite(values)]
    if len(values) < 4 * _LEAST_RECURRENCES:
        return None
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    found, counts = np.unique(values, return_counts=True)
    distance = np.abs(found - middle)
    far = (
        (distance > np.where(np.isin(found, _KNOWN_SENTINELS), _FAR_KNOWN, _FAR) * (high - low))
        & (counts >= _LEAST_RECURRENCES)
        & (counts <= _MOST_SHARE * len(values))
        & (high > low)
    )
    for i in np.flatnonzero(far)[np.argsort(-counts[far], kind="stable")]:
        side = np.sign(found[i] - middle)
        others = distance[~far & (np.sign(found - middle) == side)]
        if not np.any(others > distance[i] / 2):
            return float(found[i])
    return None
