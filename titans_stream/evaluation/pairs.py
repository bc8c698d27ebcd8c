"""Does a first event hide a second one? Injected pairs, and each event alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from titans_stream.evaluation.normal import from_synthetic
from titans_stream.evaluation.protocol import Detection, Detector, LabelledSeries, detect
from titans_stream.evaluation.tables import Table
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


Trio = tuple[LabelledSeries, LabelledSeries, LabelledSeries]
"""A series with a first event alone, with a second one alone, and with both."""


def pair_table(kinds: Table) -> str:
    """What `run_pairs` found as text: one row per kind and budget."""
    columns = {
        "pairs": "pairs",
        "first": "first",
        "second alone": "second_alone",
        "after a first": "second_after_first",
        "ratio": "ratio",
    }
    return kinds.flat().text("Share of injected events found", ["kind", "budget"], columns)


def make_pairs(
    pairs: int = 200,
    length: int = 3_000,
    seed: int = 1,
    families: Sequence[str] = (*FAMILIES, *HELD_OUT),
    kinds: Sequence[str] = KINDS,
) -> list[tuple[str, Trio]]:
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


def run_pairs(detector: Detector, pairs: Sequence[tuple[str, Trio]]) -> Table:
    """Run `detector` on the three versions of each pair and count the events it finds.

    A table by kind (`all` for all together) of tables by budget: shares of events found, the
    first, the second alone and the second after a first; `ratio` is how often the second is found
    after a first over how often the first is.
    """
    flat = [
        replace(one, name=f"{one.name}/{version}")
        for _, trio in pairs
        for version, one in zip(("first", "second", "both"), trio, strict=True)
    ]
    detections = detect(detector, flat)[0]
    table = Table()
    for kind in ("all", *dict.fromkeys(kind for kind, _ in pairs)):
        picks = [i for i, (k, _) in enumerate(pairs) if kind in ("all", k)]
        budgets = {}
        for budget in detections[0].onsets:
            hits = [
                [
                    _found(flat[3 * i + version], detections[3 * i + version], budget, event)
                    for version, event in ((2, 0), (1, 0), (2, 1))
                ]
                for i in picks
            ]
            first, alone, second = np.mean(hits, axis=0).tolist()
            budgets[budget] = {
                "pairs": len(picks),
                "first": first,
                "second_alone": alone,
                "second_after_first": second,
                "ratio": second / first if first else float("nan"),
            }
        table[kind] = Table(budgets)
    return table
