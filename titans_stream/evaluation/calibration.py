"""The alert budget against the alerts that come, on series without anomalies.

A budget q is a number of false episodes per 100 readings. Readings count from `WARM_UP` on, when
a detector has had time to learn the series.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from titans_stream.evaluation import OURS
from titans_stream.evaluation.protocol import Bool, Detection, Detector, LabelledSeries, detect
from titans_stream.evaluation.tables import Row, Table, dump
from titans_stream.records import Float64

WARM_UP = 200
YOUNG = ((200, 300), (300, 600), (600, 1000), (200, 1000))
"""Ages in readings, [from, to), that are counted by themselves, pooled over all sets: those of
series of one channel, and those of assets."""
LEVELS = (0.1, 0.01, 0.001)
"""Levels at which the share of p-values is counted."""


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """What `run_calibration` found.

    `sets` maps a set's name to its episodes by budget: readings that counted, episodes observed,
    nominal (due) and their ratio; `anyway` are those of the observed that come at any budget, and
    `ratio_without` is the ratio of the others. `young` maps an age to the same, over all sets;
    where there are assets, `assets AGE` is theirs. `p_values` holds for each set the share of
    p-values at or below each level; sets without p-values are left out.
    """

    detector: str
    sets: Mapping[str, Table]
    young: Mapping[str, Table]
    p_values: Table

    def to_json(self) -> dict[str, Any]:
        """All numbers."""
        numbers: dict[str, Any] = dump(self)
        return numbers

    def table(self) -> str:
        """Observed over nominal by set, by age, and the shares of p-values."""
        parts = [
            _ratio_table(
                "False episodes, observed / nominal, by budget per 100 readings", self.sets
            ),
            _ratio_table("The same by age in readings, all sets", self.young),
        ]
        rows = [*self.sets.values(), *self.young.values()]
        if any(cells["anyway"] for row in rows for cells in row.values()):
            without = "Without what is told at any budget"
            parts += [
                _ratio_table(f"{without} (implausible, first move)", self.sets, "ratio_without"),
                _ratio_table(f"{without}, by age", self.young, "ratio_without"),
            ]
        if self.p_values:
            columns = {f"p <= {level:g}": level for level in LEVELS}
            parts.append(self.p_values.text("Share of p-values", ["set"], columns))
        return "\n\n".join(parts)


def _ratio_table(title: str, sets: Mapping[str, Table], cell: str = "ratio") -> str:
    budgets = list(next(iter(sets.values()), ()))
    rows = Table()
    for name, row in sets.items():
        readings = next(iter(row.values()))["readings"]
        due = f"{row[budgets[-1]]['nominal']:.1f}"
        ratios = {f"{budget:g}": row[budget][cell] for budget in budgets}
        rows[name] = {"readings": readings, **ratios, "due at the last": due}
    headings = ["readings", *(f"{budget:g}" for budget in budgets), "due at the last"]
    return rows.text(title, ["set"], {heading: heading for heading in headings})


def count_episodes(
    series: Sequence[LabelledSeries],
    detections: Sequence[Detection],
    budget: float,
    ages: tuple[int, int | None] = (WARM_UP, None),
) -> Row:
    """Episodes that begin at an age of `ages` [from, to) readings, where a value is present.

    The cells are those of `CalibrationReport`; the ratio is NaN where none is due.
    """
    readings = observed = anyway = 0
    for one, detection in zip(series, detections, strict=True):
        values = one.values.reshape(len(one), -1)
        present: Bool = np.logical_not(np.isnan(values).all(axis=1))
        present[: ages[0]] = False
        if ages[1] is not None:
            present[ages[1] :] = False
        readings += int(present.sum())
        observed += int((detection.onsets[budget] & present).sum())
        if budget in detection.anyway:
            anyway += int((detection.anyway[budget] & present).sum())
    nominal = budget * readings / 100
    return {
        "readings": readings,
        "observed": observed,
        "nominal": nominal,
        "ratio": observed / nominal if nominal else float("nan"),
        "anyway": anyway,
        "ratio_without": (observed - anyway) / nominal if nominal else float("nan"),
    }


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
    name: str = OURS,
) -> CalibrationReport:
    """Count the alerts of `detector` on sets of series without anomalies.

    `young` are short series and assets counted by age alone, beside the first readings of all
    `sets`.
    ValueError where the detector raises no alerts of its own.
    """
    rows: dict[str, Table] = {}
    ages: dict[str, Table] = {}
    shares = Table()
    seen: list[LabelledSeries] = []
    found: list[Detection] = []
    for label, series in sets.items():
        detections = detect(detector, series)[0]
        budgets = sorted(detections[0].onsets, reverse=True)
        if not budgets:
            raise ValueError("detector: it raises no alerts at any budget")
        rows[label] = Table((q, count_episodes(series, detections, q)) for q in budgets)
        levels = p_value_shares(detections)
        if levels:
            shares[label] = levels
        seen, found = [*seen, *series], [*found, *detections]
    if young:
        seen, found = [*seen, *young], [*found, *detect(detector, young)[0]]
    for label, asset in (("", False), ("assets ", True)):
        picks = [i for i, one in enumerate(seen) if (one.channels > 1) == asset]
        pool = [seen[i] for i in picks], [found[i] for i in picks]
        for age in YOUNG if picks else ():
            ages[f"{label}{age[0]}-{age[1]}"] = Table(
                (q, count_episodes(*pool, q, age)) for q in sorted(found[0].onsets, reverse=True)
            )
    return CalibrationReport(name, rows, ages, shares)
