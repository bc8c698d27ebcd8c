"""The alert budget against the alerts that come, on series without anomalies.

A budget q is a number of false episodes per 100 readings. Readings count from `WARM_UP` on, when
a detector has had time to learn the series.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from titans_stream.evaluation.protocol import Bool, Detection, Detector, LabelledSeries, detect
from titans_stream.evaluation.tables import Cell, number, text_table
from titans_stream.records import Float64

WARM_UP = 200
YOUNG = ((200, 300), (300, 600), (600, 1000), (200, 1000))
"""Ages in readings, [from, to), that are counted by themselves, pooled over all sets: those of
series of one channel, and those of assets."""
LEVELS = (0.1, 0.01, 0.001)
"""Levels at which the share of p-values is counted."""


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """Episodes of one set at one budget: those that came and those that were due."""

    readings: int
    observed: int
    nominal: float

    @property
    def ratio(self) -> float:
        """Observed over nominal; NaN without readings."""
        return self.observed / self.nominal if self.nominal else float("nan")

    @property
    def per_100(self) -> float:
        """Episodes per 100 readings."""
        return 100 * self.observed / self.readings if self.readings else float("nan")


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """What `run_calibration` found.

    `sets` maps a set's name to a row per budget, `young` an age to the same, over all sets;
    where there are assets, `assets AGE` is theirs.
    `p_values` maps a set to the share of p-values at or below each level; sets without p-values
    are left out.
    """

    detector: str
    sets: Mapping[str, Mapping[float, BudgetRow]]
    young: Mapping[str, Mapping[float, BudgetRow]]
    p_values: Mapping[str, Mapping[float, float]]

    def to_json(self) -> dict[str, object]:
        """All numbers: readings, observed and nominal episodes and their ratio."""
        return {
            "detector": self.detector,
            "sets": {name: _rows_json(rows) for name, rows in self.sets.items()},
            "young": {name: _rows_json(rows) for name, rows in self.young.items()},
            "p_values": {
                name: {str(level): number(share) for level, share in row.items()}
                for name, row in self.p_values.items()
            },
        }

    def table(self) -> str:
        """Observed over nominal by set, by age, and the shares of p-values."""
        parts = [
            _ratio_table(
                "False episodes, observed / nominal, by budget per 100 readings", self.sets
            ),
            _ratio_table("The same by age in readings, all sets", self.young),
        ]
        if self.p_values:
            rows: list[list[Cell]] = [
                [name, *(row[level] for level in LEVELS)] for name, row in self.p_values.items()
            ]
            columns = ["set", *(f"p <= {level:g}" for level in LEVELS)]
            parts.append(text_table("Share of p-values", columns, rows))
        return "\n\n".join(parts)


def _rows_json(rows: Mapping[float, BudgetRow]) -> dict[str, object]:
    return {
        str(budget): {
            "readings": row.readings,
            "observed": row.observed,
            "nominal": number(row.nominal),
            "ratio": number(row.ratio),
        }
        for budget, row in rows.items()
    }


def _ratio_table(title: str, sets: Mapping[str, Mapping[float, BudgetRow]]) -> str:
    budgets = list(next(iter(sets.values()))) if sets else []
    rows: list[list[Cell]] = []
    for name, row in sets.items():
        due = f"{row[budgets[-1]].nominal:.1f}" if budgets else "-"
        readings = next(iter(row.values())).readings if row else 0
        rows.append([name, readings, *(row[budget].ratio for budget in budgets), due])
    columns = ["set", "readings", *(f"{budget:g}" for budget in budgets), "due at the last"]
    return text_table(title, columns, rows)


def count_episodes(
    series: Sequence[LabelledSeries],
    detections: Sequence[Detection],
    budget: float,
    ages: tuple[int, int | None] = (WARM_UP, None),
) -> BudgetRow:
    """Episodes that begin at an age of `ages` [from, to) readings, where a value is present."""
    readings = observed = 0
    for one, detection in zip(series, detections, strict=True):
        values = one.values.reshape(len(one), -1)
        present: Bool = np.logical_not(np.isnan(values).all(axis=1))
        present[: ages[0]] = False
        if ages[1] is not None:
            present[ages[1] :] = False
        readings += int(present.sum())
        observed += int((detection.onsets[budget] & present).sum())
    return BudgetRow(readings, observed, budget * readings / 100)


def p_value_shares(detections: Sequence[Detection]) -> dict[float, float]:
    """Level -> share of p-values at or below it, from `WARM_UP` on; empty without p-values."""
    columns: list[Float64] = [
        detection.p_value[WARM_UP:] for detection in detections if detection.p_value is not None
    ]
    pooled = np.concatenate(columns) if columns else np.empty(0)
    pooled = pooled[~np.isnan(pooled)]
    if len(pooled) == 0:
        return {}
    return {level: float((pooled <= level).mean()) for level in LEVELS}


def run_calibration(
    detector: Detector,
    sets: Mapping[str, Sequence[LabelledSeries]],
    young: Sequence[LabelledSeries] = (),
    name: str = "titans-stream",
) -> CalibrationReport:
    """Count the alerts of `detector` on sets of series without anomalies.

    `young` are short series and assets counted by age alone, beside the first readings of all
    `sets`.
    ValueError where the detector raises no alerts of its own.
    """
    rows, shares = {}, {}
    seen: list[LabelledSeries] = []
    found: list[Detection] = []
    for label, series in sets.items():
        detections = detect(detector, series)[0]
        budgets = sorted(detections[0].onsets, reverse=True)
        if not budgets:
            raise ValueError("detector: it raises no alerts at any budget")
        rows[label] = {budget: count_episodes(series, detections, budget) for budget in budgets}
        levels = p_value_shares(detections)
        if levels:
            shares[label] = levels
        seen, found = [*seen, *series], [*found, *detections]
    if young:
        seen, found = [*seen, *young], [*found, *detect(detector, young)[0]]
    ages = {}
    for label, asset in (("", False), ("assets ", True)):
        picks = [i for i, one in enumerate(seen) if (one.channels > 1) == asset]
        pool = [seen[i] for i in picks], [found[i] for i in picks]
        for low, high in YOUNG if picks else ():
            ages[f"{label}{low}-{high}"] = {
                budget: count_episodes(*pool, budget, (low, high))
                for budget in sorted(found[0].onsets, reverse=True)
            }
    return CalibrationReport(name, rows, ages, shares)
