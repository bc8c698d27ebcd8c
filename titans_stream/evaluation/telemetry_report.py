"""Detectors on sets of labelled telemetry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from titans_stream.evaluation.metrics import (
    MEASURES,
    average_precision,
    best_threshold,
    count_at_threshold,
    count_onsets,
    vus_pr,
)
from titans_stream.evaluation.protocol import (
    Baselines,
    Detection,
    Detector,
    LabelledSeries,
    detect,
)
from titans_stream.evaluation.tables import Row, Table, dump, mean, spread
from titans_stream.evaluation.telemetry import load_sets

RANKED = ("ap", "event_f1")
"""Measures that the summary over sets ranks detectors by."""


@dataclass(frozen=True, slots=True)
class TelemetryReport:
    """What `run_telemetry` found: set -> a table by detector, means over start shifts.

    `series` are those of each set, `detections` what each detector made of them, unshifted.
    """

    sets: Mapping[str, Table]
    series: Mapping[str, Sequence[LabelledSeries]]
    detections: Mapping[str, Mapping[str, Sequence[Detection]]]

    def to_json(self) -> dict[str, Any]:
        """Set -> detector -> numbers; `summary` -> detector -> numbers where sets are several."""
        numbers: dict[str, Any] = dump(self.sets)
        if len(self.sets) > 1:
            numbers["summary"] = dump(self.summary())
        return numbers

    def table(self) -> str:
        """One table per set, then the detectors' own alerts by budget."""
        measures = {name: name for name in MEASURES}
        columns = {"ap": "ap", "+-": _ap_spread, "vus_pr": "vus_pr", **measures}
        parts = []
        for name, detectors in self.sets.items():
            parts.append(
                detectors.text(f"{name}: one threshold for the set", ["detector"], columns)
            )
            own = Table(
                (f"{detector}, budget {budget:g}", row)
                for detector, found in detectors.items()
                for budget, row in found["budgets"].items()
            )
            if own:
                title = f"{name}: the detector's own alerts"
                parts.append(own.text(title, ["detector"], measures))
        if len(self.sets) > 1:
            title = f"All {len(self.sets)} sets: mean rank, and sets won and lost by the first"
            columns = {
                "rank ap": "rank_ap",
                "rank event_f1": "rank_event_f1",
                **{f"{word} {m}": f"{word}_{m}" for m in RANKED for word in ("won", "lost")},
            }
            parts.append(self.summary().text(title, ["detector"], columns))
        return "\n\n".join(parts)

    def summary(self) -> Table:
        """Detectors that ran on every set, over the sets, by each of `RANKED`.

        Mean rank (1 is best; equal ones share theirs), and on how many sets the first detector is
        better (`won`) and worse (`lost`) than this one.
        """
        tables = list(self.sets.values())
        names = [name for name in tables[0] if all(name in table for table in tables)]
        rows: dict[str, dict[str, float]] = {name: {} for name in names}
        for measure in RANKED:
            cells = np.nan_to_num([[table[name][measure] for name in names] for table in tables])
            better = (cells[:, None, :] > cells[:, :, None]).sum(axis=2)
            equal = (cells[:, None, :] == cells[:, :, None]).sum(axis=2)
            ranks = (better + (equal + 1) / 2).mean(axis=0)
            for i, name in enumerate(names):
                rows[name][f"rank_{measure}"] = float(ranks[i])
                rows[name][f"won_{measure}"] = int((cells[:, 0] > cells[:, i]).sum())
                rows[name][f"lost_{measure}"] = int((cells[:, 0] < cells[:, i]).sum())
        return Table(rows)

    def series_table(self, data_set: str, detector: str) -> str:
        """One row per series, of the unshifted run."""
        series: Table = self.sets[data_set][detector]["series"]
        columns = {
            "ap": "ap",
            "vus_pr": "vus_pr",
            "found": "found",
            "missed": lambda row: row["events"] - row["found"],
            "false alarms": "false_alarms",
        }
        return series.text(f"{data_set}, {detector}", ["series"], columns)


def _ap_spread(row: Row) -> float:
    ap: float = row["spread"]["ap"]
    return ap


def score_set(series: Sequence[LabelledSeries], detections: Sequence[Detection]) -> dict[str, Any]:
    """All measures of one detector on one set, one start shift, by name.

    `ap` and `vus_pr` (NaN without events) are means over the series; the other measures are of
    the events at `threshold`, the best one for the whole set. `budgets` has the same measures of
    the detector's own alerts; `series` AP, VUS-PR and counts at the threshold of each series.
    ValueError where nothing is evaluated.
    """
    threshold, events = best_threshold(series, [one.statistic for one in detections])
    rows = Table()
    for one, detection in zip(series, detections, strict=True):
        surprise, label = detection.surprise[one.evaluated], one.label[one.evaluated]
        counts = count_at_threshold([one], [detection.statistic], threshold)
        rows[one.name] = {
            "ap": average_precision(surprise, label),
            "vus_pr": vus_pr(surprise, label),
            "events": counts.events,
            "found": counts.found,
            "false_alarms": counts.false_alarms,
        }
    return {
        "ap": mean([row["ap"] for row in rows.values()]),
        "vus_pr": mean([row["vus_pr"] for row in rows.values()]),
        **events.measures(),
        "threshold": threshold,
        "budgets": Table(
            (q, count_onsets(series, detections, q).measures()) for q in detections[0].onsets
        ),
        "series": rows,
    }


def _over_starts(runs: Sequence[Row]) -> Row:
    """Means of `score_set` over start shifts; threshold and series are the first one's."""
    first = runs[0]
    return {
        **_means(runs, ("ap", "vus_pr", *MEASURES)),
        "starts": len(runs),
        "spread": {name: spread([run[name] for run in runs]) for name in ("ap", "event_f1")},
        "threshold": first["threshold"],
        "budgets": Table(
            (q, _means([run["budgets"][q] for run in runs], MEASURES)) for q in first["budgets"]
        ),
        "series": first["series"],
    }


def _means(rows: Sequence[Row], names: Iterable[str]) -> dict[str, float]:
    return {name: mean([row[name] for row in rows]) for name in names}


def run_telemetry(
    detectors: Mapping[str, Detector],
    root: Path,
    starts: int = 1,
    baselines: Baselines | None = None,
) -> TelemetryReport:
    """Score `detectors` on every set under `root` (layout: `telemetry.py`), means over `starts`.

    `baselines` gives the detectors to compare with on a set, by its name and series; they run on
    the same start shifts. ValueError where there is no labelled series.
    """
    scores: dict[str, Table] = {}
    detections: dict[str, dict[str, Sequence[Detection]]] = {}
    sets = load_sets(root)
    for name, series in sets.items():
        everyone = {**detectors, **(baselines(name, series) if baselines else {})}
        scores[name], detections[name] = Table(), {}
        for label, detector in everyone.items():
            runs = detect(detector, series, starts)
            scores[name][label] = _over_starts([score_set(series, run) for run in runs])
            detections[name][label] = runs[0]
    return TelemetryReport(scores, sets, detections)
