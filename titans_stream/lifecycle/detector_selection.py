"""How well a model detects: the measure by which a detector's slow weights are chosen.

The service's own engine scores synthetic series with labelled anomalies; what is measured is
what `titans-stream evaluate` measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from titans_stream.engine.model import Model
from titans_stream.evaluation.calibration import CalibrationReport, run_calibration
from titans_stream.evaluation.metrics import NOTHING, average_precision, count_onsets
from titans_stream.evaluation.normal import from_synthetic, made_sets
from titans_stream.evaluation.ours import OurDetector
from titans_stream.evaluation.pairs import SLACK
from titans_stream.evaluation.protocol import Detector, LabelledSeries
from titans_stream.recipe_settings import SelectionConfig, SyntheticData
from titans_stream.synthetic import FAMILIES, HELD_OUT, generate_labelled

LABELLED_SEED = 2**32
"""Added to the recipe's seed: no series is one of those that are trained on."""
CALIBRATION_SEED = 2**33
CALIBRATION_BUDGETS = (0.1, 0.03, 0.01, 0.003)
"""False episodes per 100 readings."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Detection on a set of labelled series."""

    ap: float
    """Average precision of the surprise, mean over the series."""
    recall: float
    """Share of events found by the alerts at the budget."""
    event_f1: float
    false_alarms: float
    """False alarms per 100 readings, over the budget."""
    by_series: tuple[float, ...]
    """The mean of average precision and recall of each series."""

    @property
    def measure(self) -> float:
        """What candidates are chosen by: the mean of `by_series`."""
        return float(np.mean(self.by_series))

    def gain_over(self, other: Quality) -> tuple[float, float]:
        """How much better the measure is on the same series, and that gain's standard error."""
        gains = np.subtract(self.by_series, other.by_series)
        error = gains.std(ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else np.inf
        return float(gains.mean()), float(error)

    def metrics(self) -> dict[str, float]:
        """The numbers by name."""
        return {
            "measure": self.measure,
            "ap": self.ap,
            "recall": self.recall,
            "event_f1": self.event_f1,
            "false_alarms": self.false_alarms,
        }


@dataclass(frozen=True, slots=True)
class LabelledData:
    """The series that decide, and those of other families that decide nothing."""

    validation: list[LabelledSeries]
    held_out: list[LabelledSeries]


def load_labelled(
    config: SelectionConfig, synthetic: SyntheticData | None, seed: int
) -> LabelledData:
    """Make the labelled series: of the families that are trained on, and of the held-out ones."""
    synthetic = SyntheticData() if synthetic is None else synthetic
    chosen = synthetic.families or tuple(FAMILIES)
    other = tuple(name for name in HELD_OUT if name not in chosen)
    made = [
        [
            from_synthetic(one)
            for one in generate_labelled(
                families, config.series, config.length, synthetic.interval, seed + LABELLED_SEED
            )
        ]
        for families in (chosen, other)
        if families
    ]
    return LabelledData(made[0], made[1] if other else [])


def quality(model: Model, series: Sequence[LabelledSeries], budget: float) -> Quality:
    """Run the service's engine on `series` with `model`."""
    detections = OurDetector(model, (budget,))(series)
    precisions, recalls, total = [], [], NOTHING
    for one, found in zip(series, detections, strict=True):
        counts = count_onsets([_with_slack(one)], [found], budget)
        total += counts
        if counts.events:
            precisions.append(average_precision(found.surprise, one.label))
            recalls.append(counts.recall)
    if not precisions:
        raise ValueError("training.selection: no labelled series has an anomaly")
    return Quality(
        float(np.mean(precisions)),
        total.recall,
        total.f1,
        total.false_alarms_per_1000 / 10.0 / budget,
        tuple(((np.array(precisions) + recalls) / 2.0).tolist()),
    )


def calibration(
    model: Model, families: Sequence[str], config: SelectionConfig, seed: int
) -> CalibrationReport | None:
    """False alarms against the budget on series of `families` without anomalies."""
    if config.calibration_series == 0:
        return None
    sets = made_sets(
        tuple(families) or tuple(FAMILIES), config.calibration_series, seed=seed + CALIBRATION_SEED
    )
    detector: Detector = OurDetector(model, CALIBRATION_BUDGETS)
    return run_calibration(detector, sets)


def _with_slack(one: LabelledSeries) -> LabelledSeries:
    """An event of one reading may be found a little later."""
    windows = one.windows.copy()
    windows[:, 1] = np.clip(windows[:, 0] + SLACK - 1, windows[:, 1], len(one) - 1)
    return replace(one, windows=windows)
