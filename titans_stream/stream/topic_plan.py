"""Which topics a connector needs, and how they are best made.

Partitions: as many of the input as workers shall ever share it, and of frames of scores and
forecasts as of the input; alerts and dead letters are few, and every partition that a transaction
touches costs it time. Retention: alerts as long as people ask about them; scores are bulky, a week
of them is enough for charts; of forecasts the newest of a series is what is asked for, so that
they are compacted, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from titans_stream.durations import DAY, MILLISECOND
from titans_stream.stream.control_topic import control_topics
from titans_stream.stream.kafka.client import TopicInfo
from titans_stream.stream.settings import ControlConfig, InputConfig, OutputConfig
from titans_stream.stream.worker import named_topics

DEFAULT_PARTITIONS = 6
"""Of an input topic that is made anew: it divides among 1, 2, 3 and 6 workers."""
_ALERT_PARTITIONS = 3
_RETENTION = {
    "input": 14 * DAY,
    "output.alerts": 90 * DAY,
    "output.scores": 7 * DAY,
    "output.forecasts": 7 * DAY,
    "output.dead_letter": 14 * DAY,
}


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """A topic by the name of its setting, and what to make it with; `settings` are Kafka's."""

    setting: str
    name: str
    partitions: int
    settings: dict[str, str]


def all_topics(
    input: InputConfig, output: OutputConfig, control: ControlConfig | None
) -> dict[str, str]:
    """All topics of a connector that have a name, by the name of their setting."""
    named = named_topics(input, output)
    if control is not None:
        named |= {"control.topic": control.topic, "control.journal": control.journal}
    return named


def plan_topics(
    input: InputConfig,
    output: OutputConfig,
    control: ControlConfig | None,
    found: Mapping[str, TopicInfo | None],
    partitions: int = DEFAULT_PARTITIONS,
) -> list[TopicPlan]:
    """How to make each of them; `found` are those that exist, `partitions` of a new input."""
    named = all_topics(input, output, control)
    there = [found.get(name) for setting, name in named.items() if setting.startswith("input.")]
    widest = max([len(info.partitions) for info in there if info is not None], default=partitions)
    plans = []
    for setting, name in named.items():
        if control is not None and setting.startswith("control."):
            plans.append(TopicPlan(setting, name, 1, control_topics(control)[name]))
            continue
        is_input = setting.startswith("input.")
        count = {
            "output.alerts": min(_ALERT_PARTITIONS, widest),
            "output.dead_letter": 1,
        }.get(setting, partitions if is_input else widest)
        retention = _RETENTION["input" if is_input else setting]
        if is_input:
            retention = max(retention, 2 * input.warm_up)
        settings = {
            "retention.ms": str(retention // MILLISECOND),
            "cleanup.policy": "compact,delete" if setting == "output.forecasts" else "delete",
        }
        plans.append(TopicPlan(setting, name, count, settings))
    return plans


def remarks(
    plan: TopicPlan, info: TopicInfo, settings: Mapping[str, str], warm_up: int, history: int
) -> Iterator[str]:
    """What may be amiss with a topic that exists; `settings` as its broker tells them.

    `warm_up` and `history` (of alerts, for notifications) are the ns that are read back.
    """
    is_input = plan.setting.startswith("input.")
    policy = settings.get("cleanup.policy", "delete")
    if plan.setting.startswith("control."):
        if policy != "compact":
            yield "it is not compacted: what is in force is forgotten when it grows old"
        return
    if policy == "compact" and plan.setting != "output.forecasts":
        what = "readings" if is_input else "messages"
        yield f"it is compacted: older {what} of a key go away"
    kept = settings.get("retention.ms", "-1")
    needed = warm_up if is_input else history if plan.setting == "output.alerts" else 0
    if (
        "delete" in policy
        and kept.lstrip("-").isdecimal()
        and 0 <= int(kept) * MILLISECOND < needed
    ):
        name = "input.warm_up" if is_input else "notify.history"
        yield f"retention.ms is shorter than {name}"
    if is_input and len(info.partitions) == 1:
        yield "one partition: a second worker would only stand by"
