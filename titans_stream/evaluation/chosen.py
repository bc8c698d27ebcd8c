"""The detector that an evaluation is about, by its name, and those beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from titans_stream.evaluation import OURS
from titans_stream.evaluation.ablations import ABLATIONS, MEMORY_OFF, AblatedDetector
from titans_stream.evaluation.baselines import default_baselines, forest_scores
from titans_stream.evaluation.conformal import AdaptiveConformal
from titans_stream.evaluation.ours import OurDetector
from titans_stream.evaluation.protocol import Detector, LabelledSeries, Watched

CONFORMAL = "adaptive conformal"
SLOW = "half-space trees"
"""Left out beside others on NAB: a tenth of a millisecond a reading."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The detector in question and, where it is the whole one, what to compare it with."""

    name: str
    detector: Detector
    ours: OurDetector
    peers: Path | None
    progress: Callable[[str, int, int], None]

    @staticmethod
    def of(
        name: str, ours: OurDetector, peers: Path | None, progress: Callable[[str, int, int], None]
    ) -> Chosen:
        """The detector of a name in tables; spaces may be written as hyphens.

        `peers` is a folder of scores computed elsewhere. ValueError for an unknown detector.
        """
        known: Mapping[str, Detector] = {
            OURS: ours,
            **{one: _ablated(ours, one) for one in ABLATIONS},
            **default_baselines(),
            CONFORMAL: AdaptiveConformal(ours),
        }
        for label, detector in known.items():
            if _plain(label) == _plain(name):
                return Chosen(label, Watched(label, detector, progress), ours, peers, progress)
        names = ", ".join(_plain(label) for label in known)
        raise ValueError(f"--detector: {name!r} is none of {names}")

    def baselines(self, data_set: str, series: Sequence[LabelledSeries]) -> dict[str, Detector]:
        """What stands beside the whole detector on a set; nothing beside any other."""
        if self.name != OURS:
            return {}
        beside: dict[str, Detector] = {MEMORY_OFF: _ablated(self.ours, MEMORY_OFF)}
        beside |= default_baselines()
        beside[CONFORMAL] = AdaptiveConformal(self.ours)
        if data_set == "nab":
            beside.pop(SLOW, None)
        beside |= forest_scores(self.peers, data_set, series)
        return {name: Watched(name, one, self.progress) for name, one in beside.items()}


def _plain(name: str) -> str:
    return name.replace(" ", "-")


def _ablated(ours: OurDetector, name: str) -> AblatedDetector:
    return AblatedDetector(ours.model, ours.budgets, ours.alerts, ours.engine, name)
