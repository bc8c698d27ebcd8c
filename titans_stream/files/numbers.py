"""Numbers as people write them: decimal signs, thousands separators, and words for "no value"."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from titans_stream.files.dialect import Dialect
from titans_stream.records import Float64

_MISSING = frozenset({"", "nan", "-nan", "+nan", "na", "n/a", "null", "none"})
_WORDS = frozenset({
    "?", "-", "--", "---", "\\n", "<na>", "<null>", "nil", "unavailable", "unknown", "missing",
    "no data", "nodata", "bad", "bad input", "bad data", "i/o timeout", "undefined", "#n/a",
    "#n/a n/a", "#na", "#value!", "#div/0!", "#ref!", "#num!", "#name?", "#null!", "#####",
    "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", "1.#inf", "-1.#inf",
})  # fmt: skip
"""What databases, spreadsheets, historians and home automation write for a value that is not there;
taken as missing, and told."""
_SAMPLE = 20_000
"""Cells of a column that are looked at for its decimal sign."""
_GROUPS = " '\u2019\u00a0\u2009\u202f"
"""What separates thousands beside the sign that is not the decimal one."""


_TRUTHS = {"true": 1.0, "on": 1.0, "false": 0.0, "off": 0.0}
_WITH_UNIT = re.compile(
    r"[+\-\u2212]?[\d.,]*\d(?P<unit>\s(?![eE]\d)[^\d\s,;.]\S*"
    r"|%|\u2030|°[CF]?|[kMG]?(?:W|Wh|VA|Hz|B|Pa)|[kmµ]?[VAg]|[mck]?m|[mµn]?s|m?bar|hPa|ppm|rpm|dBm?)",
    re.ASCII,
)
"""A number and the unit behind it: any after a blank, else one that is no mere letter of an id."""


def _pattern(decimal: str, other: str) -> re.Pattern[str]:
    group = f"[{re.escape(other)}{_GROUPS}]"
    sign = re.escape(decimal)
    whole = rf"(?:[1-9]\d{{0,2}}(?:({group})\d{{3}})(?:\1\d{{3}})*|\d+)"
    return re.compile(
        rf"[+\-\u2212]?(?:{whole}(?:{sign}\d*)?|{sign}\d+)(?:[eE][+-]?\d+)?", re.ASCII
    )


_PATTERNS = {".": _pattern(".", ","), ",": _pattern(",", ".")}
_OTHER = {".": ",", ",": "."}
_THOUSANDS = {
    sign: re.compile(rf"[+-]?[1-9]\d{{0,2}}(?:{re.escape(_OTHER[sign])}\d{{3}})+", re.ASCII)
    for sign in _PATTERNS
}
"""By decimal sign, numbers whose other sign may separate thousands; with one group they may as well
be fractions."""


def is_missing(cell: str) -> bool:
    """Whether a cell says that there is no value."""
    return cell.lower() in _MISSING


def is_number(cell: str) -> bool:
    """Whether a cell holds a number with a decimal point and nothing else."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell and not is_missing(cell.strip())


def read_number(cell: str, decimal: str) -> float | None:
    """The number of a cell with this decimal sign, thousands separated or not; None: it has none.

    Thousands are in groups of three, all of them with the same separator.
    """
    if _PATTERNS[decimal].fullmatch(cell) is None:
        return float(cell) if is_number(cell) and not any(map(str.isdigit, cell)) else None
    for separator in (_OTHER[decimal], *_GROUPS):
        cell = cell.replace(separator, "")
    return float(cell.replace(decimal, ".").replace("\u2212", "-"))


@dataclass
class NumberReader:
    """Reads the columns of one file, and counts what it took as missing.

    `comma_separated`: a comma separates the columns, so that one inside a cell rather separates
    thousands.
    """

    dialect: Dialect
    comma_separated: bool
    words: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Cells by column and text that were taken as missing because of what they say."""
    sentinels: Counter[tuple[str, float]] = field(default_factory=Counter)
    """Values by column and number that were taken as missing because somebody said so."""
    decimals: dict[str, str] = field(default_factory=dict)
    """The decimal sign of the columns where it is not a point, or where commas were seen."""
    truths: set[str] = field(default_factory=set)
    """Columns of true and false (or on and off), which are 1 and 0."""
    units: dict[str, str] = field(default_factory=dict)
    """The unit that stands behind every number of a column."""

    def __post_init__(self) -> None:
        self._na = {text.strip().lower() for text in self.dialect.na}
        numbers = (read_number(text, ".") for text in self.dialect.na)
        said = [*self.dialect.missing_values, *(one for one in numbers if one is not None)]
        self._sentinels = np.array(said)
        self._learned = False
        self._commas_to_come: set[str] = set()
        """Columns of whole numbers so far, in a file whose decimal sign is the comma."""

    def learn(self, columns: Mapping[str, Sequence[str]]) -> None:
        """Find the decimal sign of each column, once, from the first rows of a file."""
        if self._learned:
            return
        self._learned = True
        for name, cells in columns.items():
            self._learn_words(name, cells[:_SAMPLE])
        if self.units:
            columns = {
                name: [cell.strip().removesuffix(self.units.get(name, "")) for cell in cells]
                for name, cells in columns.items()
            }
        if self.dialect.decimal is not None:
            self.decimals = dict.fromkeys(columns, self.dialect.decimal)
            return
        with_commas = {name for name, cells in columns.items() if "," in "".join(cells[:_SAMPLE])}
        if not with_commas:
            return
        evidence = {name: _evidence(cells[:_SAMPLE]) for name, cells in columns.items()}
        elsewhere = {found.sure for found in evidence.values() if found.sure}
        for name in with_commas:
            found = evidence[name]
            if found.numbers:
                default = "." if self.comma_separated or found.plain else ","
                only = next(iter(elsewhere)) if len(elsewhere) == 1 else default
                self.decimals[name] = found.sure or only
        if elsewhere == {","}:
            self._commas_to_come = {
                name
                for name, one in evidence.items()
                if one.plain and not (one.sure or one.grouped)
            } - with_commas
        if "," in elsewhere:
            for name in columns.keys() - with_commas:
                found = evidence[name]
                if found.sure is None and found.grouped and found.plain:
                    self.decimals[name] = ","

    def _learn_words(self, name: str, cells: Sequence[str]) -> None:
        """Find out whether a column holds truth values, or numbers with their unit."""
        stripped = (cell.strip() for cell in cells)
        first = next((cell for cell in stripped if not self.is_missing(cell)), "")
        if not first or is_number(first):
            return
        said = {cell.strip() for cell in cells}
        said = {cell for cell in said if not self.is_missing(cell)}
        words = {cell.lower() for cell in said}
        if words and (words <= {"true", "false"} or words <= {"on", "off"}):
            self.truths.add(name)
        matches = [_WITH_UNIT.fullmatch(cell) for cell in said]
        units = {None if match is None else match["unit"] for match in matches}
        unit = next(iter(units))
        if len(units) == 1 and unit is not None:
            self.units[name] = unit

    def is_missing(self, cell: str) -> bool:
        """Whether a stripped cell says that there is no value, in the file's words too."""
        text = cell.lower()
        return text in _MISSING or text in self._na or text in _WORDS

    def starts_with_number(self, column: str, cells: Iterable[str]) -> bool:
        """Whether the first cell that is not missing holds a number."""
        stripped = (cell.strip() for cell in cells)
        first = next((cell for cell in stripped if not self.is_missing(cell)), "")
        return self._number(column, first) is not None

    def _number(self, column: str, cell: str) -> float | None:
        if column in self.truths:
            return _TRUTHS.get(cell.lower())
        unit = self.units.get(column)
        if unit is not None:
            if not cell.endswith(unit):
                return None
            cell = cell.removesuffix(unit)
        decimal = "," if column in self._commas_to_come and "," in cell else "."
        return read_number(cell, self.decimals.get(column, decimal))

    def read(self, column: str, cells: list[str], strict: bool) -> tuple[Float64, int | None]:
        """[R] values, NaN where missing, and the place of the first cell that is not a number.

        None: there is none. Not `strict`: each one is taken as missing, and counted.
        """
        plain = self.decimals.get(column, ".") == "." and column not in self.truths
        found = _floats(cells) if plain else None
        wrong = None
        if found is None:
            found = []
            for i, cell in enumerate(cells):
                text = cell.strip()
                number = self._number(column, text)
                if number is None:
                    number = math.nan
                    if not is_missing(text):
                        if not self.is_missing(text):
                            wrong = i if wrong is None else wrong
                            if strict:
                                break
                        self.words[column, text[:40]] += 1
                found.append(number)
        values = np.array(found, dtype=np.float64)
        if len(self._sentinels):
            for number in self._sentinels.tolist():
                said = values == number
                if said.any():
                    self.sentinels[column, number] += int(said.sum())
            values[np.isin(values, self._sentinels)] = np.nan
        return values, wrong


@dataclass
class _Evidence:
    """What the cells of a column say about their decimal sign."""

    numbers: bool
    sure: str | None
    grouped: bool
    """There are numbers such as 1.234 or 1,234."""
    plain: bool
    """There are numbers without either sign."""


def _evidence(cells: Sequence[str]) -> _Evidence:
    signs: set[str] = set()
    numbers = grouped = plain = False
    for cell in {cell.strip() for cell in cells}:
        if not any(map(str.isdigit, cell)):
            continue
        read = [sign for sign, pattern in _PATTERNS.items() if pattern.fullmatch(cell)]
        numbers = numbers or bool(read)
        if not read:
            continue
        if "," not in cell and "." not in cell:
            plain = True
            continue
        either = [sign for sign in read if _THOUSANDS[sign].fullmatch(cell)]
        if len(read) == 1:
            signs.update(read)
        elif either:
            grouped = True
    return _Evidence(numbers, next(iter(signs)) if len(signs) == 1 else None, grouped, plain)


def _floats(cells: list[str]) -> list[float] | None:
    """All cells, if each is a number that Python reads; faster than a look at each."""
    if "_" in "".join(cells):  # float() would take 1_000
        return None
    try:
        return list(map(float, cells))
    except ValueError:
        return None
