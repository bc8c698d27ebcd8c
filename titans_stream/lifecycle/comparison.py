"""Two models on the same series: differences with bootstrap intervals, and alerts one by one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from titans_stream.lifecycle.backtest import MEASURES, Backtest, Episode, weighted
from titans_stream.records import Float64

DRAWS = 2_000
MANY_SERIES = 10
"""With so many series they are drawn; with fewer, blocks of readings."""
LOWER_IS_BETTER = ("quantile_loss", "mae_ratio", "alerts_per_1000", "long_mae_ratio")


@dataclass(frozen=True, slots=True)
class Difference:
    """A measure of both; `low` and `high` bound 95 % of the difference B - A over the draws."""

    measure: str
    a: float
    b: float
    low: float
    high: float

    @property
    def delta(self) -> float:
        """B - A."""
        return self.b - self.a

    @property
    def verdict(self) -> str:
        """What the interval allows to say."""
        if not np.isfinite(self.delta):
            return "not measured"
        if self.low == self.high == 0.0:
            return "the same"
        if self.low <= 0.0 <= self.high:
            return "no clear difference"
        if self.measure not in LOWER_IS_BETTER:
            return "different"
        return "B is better" if self.high < 0 else "B is worse"


@dataclass(frozen=True, slots=True)
class Comparison:
    """All measures, and which episodes both or one of the models would have alerted."""

    differences: tuple[Difference, ...]
    both: tuple[Episode, ...]
    only_a: tuple[Episode, ...]
    only_b: tuple[Episode, ...]
    drawn: str
    """What the bootstrap drew: series, or blocks of readings."""

    def measures(self, which: str) -> dict[str, float]:
        """The measures of `a` or `b` by name."""
        return {one.measure: getattr(one, which) for one in self.differences}

    def to_json(self) -> dict[str, object]:
        """All of it as plain data; what was not measured is None."""
        return {
            "measures": {
                one.measure: {
                    "a": _told(one.a), "b": _told(one.b), "delta": _told(one.delta),
                    "interval": [_told(one.low), _told(one.high)], "verdict": one.verdict,
                }
                for one in self.differences
            },
            "bootstrap": {"draws": DRAWS, "of": self.drawn},
            "alerts": {
                name: [[one.series, one.onset, one.end, one.severity] for one in episodes]
                for name, episodes in (
                    ("both", self.both), ("only_a", self.only_a), ("only_b", self.only_b),
                )
            },
        }  # fmt: skip


def _told(number: float) -> float | None:
    return number if math.isfinite(number) else None


def compare(a: Backtest, b: Backtest, seed: int = 0) -> Comparison:
    """Compare two backtests of the same series."""
    if a.series != b.series:
        raise ValueError("the two models were not measured on the same series")
    units, drawn = _units(a.series)
    differences = []
    for name in MEASURES:
        mine, other = a.by_block()[name], b.by_block()[name]
        low, high = _interval(other - mine, a.weight, units, seed)
        differences.append(
            Difference(name, weighted(mine, a.weight), weighted(other, a.weight), low, high)
        )
    both = tuple(e for e in b.episodes if any(e.overlaps(o) for o in a.episodes))
    only_b = tuple(e for e in b.episodes if e not in both)
    only_a = tuple(e for e in a.episodes if not any(e.overlaps(o) for o in b.episodes))
    return Comparison(tuple(differences), both, only_a, only_b, drawn)


def _units(series: Sequence[str]) -> tuple[list[list[int]], str]:
    """What is drawn, as lists of blocks."""
    by_series: dict[str, list[int]] = {}
    for block, name in enumerate(series):
        by_series.setdefault(name, []).append(block)
    if len(by_series) >= MANY_SERIES:
        return list(by_series.values()), "series"
    return [[block] for block in range(len(series))], "blocks of readings"


def _interval(
    delta: Float64, weight: Float64, units: Sequence[Sequence[int]], seed: int
) -> tuple[float, float]:
    known = np.isfinite(delta)
    sums = np.array([(delta * weight)[[i for i in unit if known[i]]].sum() for unit in units])
    weights = np.array([weight[[i for i in unit if known[i]]].sum() for unit in units])
    if not weights.sum() > 0:
        return float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(0, len(units), (DRAWS, len(units)))
    total = weights[drawn].sum(axis=1)
    means = np.divide(sums[drawn].sum(axis=1), total, where=total > 0, out=np.zeros(DRAWS))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def table(comparison: Comparison, names: Mapping[str, str]) -> list[str]:
    """Lines for people; `names` has those of `a` and `b`."""
    lines = [
        f"A: {names['a']}", f"B: {names['b']}",
        f"{'':18s}{'A':>10s}{'B':>10s}{'B - A':>10s}   95 % interval",
    ]  # fmt: skip
    for one in comparison.differences:
        lines.append(
            f"{one.measure:18s}{one.a:10.4f}{one.b:10.4f}{one.delta:+10.4f}   "
            f"{one.low:+.4f} to {one.high:+.4f}  {one.verdict}"
        )
    lines.append(f"({DRAWS:,} bootstrap draws of {comparison.drawn})")
    return lines
