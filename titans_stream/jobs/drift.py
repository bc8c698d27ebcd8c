"""The job that reports how well alerts and bands of a connector have held lately.

It reads what the worker published to `output.scores`, so that it measures what users saw: alerts
opened against the budget, the share of readings inside the band, and the distribution of p-values,
of all series and by group: what stands before the first `/` of a series' id.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from kafka import TopicPartition
from matplotlib.figure import Figure

from titans_stream.config import Connector, load_connector
from titans_stream.detection.rules import AlertConfig, alarms_accepted
from titans_stream.durations import format_duration
from titans_stream.forecasting.one_step.layout import BAND_LEVEL
from titans_stream.job_settings import JobConfig
from titans_stream.lifecycle.recording import RunRecorder
from titans_stream.lifecycle.tracking import connect
from titans_stream.records import Int64, Scores
from titans_stream.stream.encoding import decode_scores
from titans_stream.stream.kafka.client import KafkaClients
from titans_stream.stream.kafka.deadline import ANSWER_MS
from titans_stream.stream.kafka.errors import ConnectError
from titans_stream.stream.kafka.translation import translated
from titans_stream.stream.membership import Membership
from titans_stream.stream.stretch import offset_at, read_stretch

log = logging.getLogger(__name__)

EXPERIMENT = "titans-stream-drift"
_MOST_RECORDS = 2_000
_LEVELS = np.array([0.001, 0.003, 0.01, 0.03, 0.1, 0.3])
_SHOWN_GROUPS = 30


@dataclass
class Held:
    """Counts of one group of series."""

    readings: int = 0
    banded: int = 0
    inside: int = 0
    opened: int = 0
    scored: int = 0
    below: Int64 = field(default_factory=lambda: np.zeros(len(_LEVELS), np.int64))
    """Readings with a p-value of at most each of `_LEVELS`."""
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)
    """First and last time of each series, nanoseconds."""

    def take(self, scores: Scores, rows: Sequence[int]) -> None:
        """Count the readings at `rows`, all of this group."""
        at = np.array(rows)
        value, lower, upper = scores.value[at], scores.lower[at], scores.upper[at]
        banded = np.isfinite(value) & np.isfinite(lower) & np.isfinite(upper)
        p = scores.p_value[at][np.isfinite(scores.p_value[at])]
        self.readings += len(at)
        self.banded += int(banded.sum())
        self.inside += int(((value >= lower) & (value <= upper))[banded].sum())
        self.opened += int(scores.onset[at].sum())
        self.scored += len(p)
        self.below += (p[:, None] <= _LEVELS).sum(axis=0)
        for row in rows:
            name, when = scores.series[row], int(scores.timestamp[row])
            first, last = self.spans.get(name, (when, when))
            self.spans[name] = (min(first, when), max(last, when))

    def due(self, alerts: AlertConfig, members: Membership) -> float:
        """False alarms that budgets accept for the time that was watched, a group's once."""
        spans = members.judged((name, last - first) for name, (first, last) in self.spans.items())
        return alarms_accepted(alerts, spans)

    def measures(self, alerts: AlertConfig, members: Membership) -> dict[str, float]:
        """The numbers by name. None of no readings."""
        found = {"readings": float(self.readings), "series": float(len(self.spans)),
                 "alerts_opened": float(self.opened),
                 "alerts_due": self.due(alerts, members)}  # fmt: skip
        if self.banded:
            found["band_coverage"] = self.inside / self.banded
        if self.scored:
            for level, count in zip(_LEVELS.tolist(), self.below.tolist(), strict=True):
                found[f"p_below_{level:g}"] = count / self.scored
        return found


def drift(connector_path: Path, name: str, job: JobConfig) -> list[str]:
    """Do the job; lines for people, the last one is the sum.

    ValueError where the connector publishes no scores, or published none in that time.
    """
    connector = load_connector(connector_path)
    topic = connector.output.scores
    if topic is None:
        raise ValueError("jobs: drift needs output.scores, from which it counts")
    groups: dict[str, Held] = {}
    for scores in _published(connector, topic, job.history):
        by_group: dict[str, list[int]] = {}
        for row, series in enumerate(scores.series):
            by_group.setdefault(series.partition("/")[0], []).append(row)
        for group, rows in by_group.items():
            groups.setdefault(group, Held()).take(scores, rows)
    if not groups:
        raise ValueError(f"topic {topic}: no scores of the last {format_duration(job.history)}")
    total = _total(groups.values())
    alerts = connector.alerts
    members = Membership(connector.input)
    measures = total.measures(alerts, members)
    server = connect(None)
    recorder = RunRecorder(
        server, EXPERIMENT, f"{connector.name} {name}", {"kind": "drift", "job": name}
    )
    with recorder:
        recorder.parameters(
            {"connector": connector.name, "topic": topic, "since": format_duration(job.history),
             "budget": alerts.false_alarms_per_series_per_day}
        )  # fmt: skip
        recorder.metrics(measures, 0)
        by_group_measures = {g: groups[g].measures(alerts, members) for g in sorted(groups)}
        recorder.document("groups.json", by_group_measures)
        recorder.figure("drift.png", _figure(total, by_group_measures))
    covered = measures.get("band_coverage", float("nan"))
    return [
        f"run {recorder.run_id} of experiment {EXPERIMENT} at {server.shown}",
        f"{total.readings:,} readings of {len(total.spans):,} series in {len(groups):,} groups: "
        f"{total.opened:,} alerts opened, {measures['alerts_due']:.1f} due; the band covers "
        f"{covered:.1%} of {BAND_LEVEL:.0%}",
    ]


def _total(groups: Iterable[Held]) -> Held:
    total = Held()
    for one in groups:
        total.readings += one.readings
        total.banded += one.banded
        total.inside += one.inside
        total.opened += one.opened
        total.scored += one.scored
        total.below = total.below + one.below
        total.spans |= one.spans
    return total


def _published(connector: Connector, topic: str, since: int) -> Iterator[Scores]:
    """The committed frames of scores that were published since then."""
    clients = KafkaClients(connector.kafka, patience=30.0)
    info = clients.topics([topic])[topic]
    if info is None:
        raise ConnectError(f"output.scores: topic {topic} does not exist on {clients.servers}")
    consumer = clients.consumer(None)
    try:
        for number in info.partitions:
            partition = TopicPartition(topic, number)
            with translated("read scores"):
                end = consumer.end_offsets([partition], ANSWER_MS)[partition]
                begin = offset_at(consumer, partition, time.time_ns() - since, end, ANSWER_MS)
            for messages in read_stretch(consumer, partition, begin, end, _MOST_RECORDS):
                for message in messages:
                    yield decode_scores(message.value or b"").scores
    finally:
        consumer.close(False, 1_000)


def _figure(total: Held, groups: dict[str, dict[str, float]]) -> Figure:
    figure = Figure(figsize=(9, 8), layout="constrained")
    above, below = figure.subplots(2)
    if total.scored:
        above.plot(_LEVELS, total.below / total.scored, "o-", label="observed")
    above.plot(_LEVELS, _LEVELS, color="grey", linestyle=":", label="calibrated")
    above.set(xscale="log", yscale="log", xlabel="p-value",
              ylabel="share of readings with at most this p-value")  # fmt: skip
    above.legend()
    worst = sorted(groups, key=lambda g: groups[g]["alerts_due"] - groups[g]["alerts_opened"])
    shown = worst[:_SHOWN_GROUPS]
    rows = np.arange(len(shown))
    below.barh(rows + 0.2, [groups[g]["alerts_opened"] for g in shown], 0.4, label="opened")
    below.barh(rows - 0.2, [groups[g]["alerts_due"] for g in shown], 0.4, label="due")
    below.set(xlabel="alerts", title="by group, those with most alerts beyond what is due first")
    below.set_yticks(rows, shown)
    below.invert_yaxis()
    below.legend()
    return figure
