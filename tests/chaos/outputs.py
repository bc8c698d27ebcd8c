"""What a service has published, and how it differs from what it ought to have published."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from kafka import KafkaConsumer, TopicPartition

_OPEN_SECONDS = 120.0
Output = tuple[str, str, int]
"""Kind (score, alert, forecast, dead letter), whose it is, and its place."""


@dataclass
class Difference:
    """What is missing, there too often, or of another content, with some of each by name."""

    total: int = 0
    missing: list[Output] = field(default_factory=list)
    doubled: list[Output] = field(default_factory=list)
    different: list[Output] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Numbers for a report."""
        return {
            "outputs": self.total,
            "missing": len(self.missing),
            "doubled": len(self.doubled),
            "different": len(self.different),
        }


def compare(
    wanted: Mapping[Output, Counter[str]], found: Mapping[Output, Counter[str]]
) -> Difference:
    """Compare outputs by what they are of; an output too many is doubled, or different."""
    difference = Difference(sum(sum(each.values()) for each in wanted.values()))
    for name in sorted(wanted.keys() | found.keys()):
        right, real = wanted.get(name, Counter()), found.get(name, Counter())
        lacking, extra = right - real, real - right
        repeated = sum(extra[text] for text in extra if text in right)
        other = sum(extra.values()) - repeated
        changed = min(sum(lacking.values()), other)
        difference.different += [name] * changed
        difference.missing += [name] * (sum(lacking.values()) - changed)
        difference.doubled += [name] * (repeated + other - changed)
    return difference


def collect(
    bootstrap: str, topics: Mapping[str, str], isolation: str = "read_committed"
) -> dict[Output, Counter[str]]:
    """Everything that a service has published, each score of a frame by itself."""
    found: dict[Output, Counter[str]] = defaultdict(Counter)
    for kind in ("scores", "alerts", "forecasts", "dead"):
        for record in read(bootstrap, topics[kind], isolation):
            for name, text in _outputs(kind, record):
                found[name][text] += 1
    return found


def _outputs(kind: str, record: Any) -> Iterable[tuple[Output, str]]:
    if kind == "dead":
        headers = {name: value.decode() for name, value in record.headers}
        yield ("dead", headers["titans.partition"], int(headers["titans.offset"])), str(headers)
        return
    message = json.loads(record.value)
    if kind == "scores":
        columns = {n: c for n, c in message.items() if isinstance(c, list)}
        for i, offset in enumerate(columns["offset"]):
            row = {name: column[i] for name, column in columns.items()}
            yield ("score", row["series"], offset), json.dumps(row)
        return
    source = message["source"]
    name = kind[:-1], message["series_id"], int(source["offset"])
    yield name, json.dumps(message, sort_keys=True)


def read(bootstrap: str, topic: str, isolation: str = "read_committed") -> Iterable[Any]:
    """All messages of a topic, up to its end; waits for transactions that a dead worker left open.

    A consumer of committed messages is told the first open transaction as the end.
    """
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level=isolation,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    with closing(consumer), closing(KafkaConsumer(bootstrap_servers=bootstrap)) as other:
        partitions = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or ()]
        ends = other.end_offsets(partitions)
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        deadline = time.monotonic() + _OPEN_SECONDS
        while any(consumer.position(p) < ends[p] for p in partitions):
            assert time.monotonic() < deadline, f"{topic}: a transaction stays open"
            for records in consumer.poll(500).values():
                deadline = time.monotonic() + _OPEN_SECONDS
                yield from records
