"""Does a first event hide a second one? Injected pairs, and each event alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from titans_stream.evaluation.normal import from_synthetic
from titans_stream.evaluation.protocol import Detection, Detector, LabelledSeries, detect
from titans_stream.evaluation.tables import Cell, number, text_table
from titans_stream.synthetic import (
    FAMILIES,
    HELD_OUT,
    KINDS,
    generate,
    inject,
    inject_pair,
    kinds_for,
)
from titans_stream.synthetic.draws import Draws

SLACK = 20
"""An event is found by an alert in its window or, where that is shorter, its first 20 readings."""
DISTANCES = (260, 500)
"""Readings between the first rows of two events: past the longest silence, soon all the same.

More where the first event is longer."""


@dataclass(frozen=True, slots=True)
class PairRow:
    """Shares of events found at one budget: the first, the second alone, the second after it."""

    pairs: int
    first: float
    alone: float
    second: float

    @property
    def ratio(self) -> float:
        """How often the second event is found after a first, over how often the first is."""
        return self.second / self.first if self.first else float("nan")


@dataclass(frozen=True, slots=True)
class PairReport:
    """Kind (`all` for all together) -> budget -> shares found."""

    kinds: Mapping[str, Mapping[float, PairRow]]

    def to_json(self) -> dict[str, object]:
        """All numbers."""
        return {
            kind: {
                str(budget): {
                    "pairs": row.pairs,
                    "first": number(row.first),
                    "second_alone": number(row.alone),
                    "second_after_first": number(row.second),
                    "ratio": number(row.ratio),
                }
                for budget, row in rows.items()
            }
            for kind, rows in self.kinds.items()
        }

    def table(self) -> str:
        """One row per kind and budget."""
        rows: list[list[Cell]] = [
            [kind, f"{budget:g}", row.pairs, row.first, row.alone, row.second, row.ratio]
            for kind, budgets in self.kinds.items()
            for budget, row in budgets.items()
        ]
        columns = ["kind", "budget", "pairs", "first", "second alone", "after a first", "ratio"]
        return text_table("Share of injected events found", columns, rows)


def make_pairs(
    pairs: int = 200,
    length: int = 3_000,
    seed: int = 1,
    families: Sequence[str] = (*FAMILIES, *HELD_OUT),
    kinds: Sequence[str] = KINDS,
) -> list[tuple[str, tuple[LabelledSeries, LabelledSeries, LabelledSeries]]]:
    """Kind and (first alone, second alone, both), families and kinds by turns."""
    made = []
    for index, clean in enumerate(generate(families, pairs, length, seed=seed)):
        draws = Draws(seed, index, 0xB)
        usable = [kind for kind in kinds_for(clean) if kind in kinds]
        kind = draws.choice(usable)
        first = draws.integer(length // 2, length - 1_200)
        distance, event_seed = draws.integer(*DISTANCES), draws.integer(0, 2**31)
        alone = inject(clean, kind, first, event_seed).windows[0]
        distance = max(distance, int(alone[1] - alone[0]) + SLACK)
        trio = inject_pair(clean, kind, first, distance, event_seed)
        one, two, both = (from_synthetic(series) for series in trio)
        made.append((kind, (one, two, both)))
    return made


def _found(series: LabelledSeries, detection: Detection, budget: float, event: int) -> bool:
    first, last = series.windows[event]
    last = max(last, first + SLACK - 1)
    return bool(detection.onsets[budget][first : last + 1].any())


def run_pairs(
    detector: Detector,
    pairs: Sequence[tuple[str, tuple[LabelledSeries, LabelledSeries, LabelledSeries]]],
) -> PairReport:
    """Run `detector` on the three versions of each pair and count the events it finds."""
    flat = [
        replace(one, name=f"{one.name}/{version}")
        for _, trio in pairs
        for version, one in zip(("first", "second", "both"), trio, strict=True)
    ]
    detections = detect(detector, flat)[0]
    table: dict[str, dict[float, PairRow]] = {}
    for kind in ("all", *dict.fromkeys(kind for kind, _ in pairs)):
        picks = [i for i, (k, _) in enumerate(pairs) if kind in ("all", k)]
        table[kind] = {}
        for budget in detections[0].onsets:
            hits = np.array(
                [
                    [
                        _found(flat[3 * i + version], detections[3 * i + version], budget, event)
                        for version, event in ((2, 0), (1, 0), (2, 1))
                    ]
                    for i in picks
                ]
            )
            first, alone, second = hits.mean(axis=0).tolist()
            table[kind][budget] = PairRow(len(picks), first, alone, second)
    return PairReport(table)
