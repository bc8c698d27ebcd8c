"""Whether a consumer group is this connector's own.

Two connectors of one name would share a group, and a group's members wait for one another at
every change: each would stand still for a minute or more, again and again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection

from titans_stream.stream.kafka.client import KafkaClients
from titans_stream.stream.kafka.deadline import Deadline
from titans_stream.stream.kafka.errors import ConnectError, StoppedError

_PATIENCE = 5.0


def check_group(
    clients: KafkaClients,
    group_id: str,
    is_mine: Callable[[str], bool],
    stop: threading.Event | None = None,
) -> None:
    """ConnectError where a group reads, or has read, topics and none that is mine.

    Topics that are no more do not count. Waits a little for a rebalance to end.
    """
    deadline = Deadline(_PATIENCE)
    waiting = stop if stop is not None else threading.Event()
    use = clients.group_use(group_id)
    while not use.settled and not deadline.expired:
        if waiting.wait(0.5):
            raise StoppedError("stopped")
        use = clients.group_use(group_id)
    for subscription in use.subscriptions:
        if not any(map(is_mine, subscription)):
            raise _taken(group_id, "reads", subscription)
    if use.committed and not any(map(is_mine, use.committed)):
        found = clients.topics(use.committed)
        there = {topic for topic, info in found.items() if info is not None}
        if there:
            raise _taken(group_id, "has read", there)


def _taken(group_id: str, verb: str, topics: Collection[str]) -> ConnectError:
    return ConnectError(
        f"input.group_id: group {group_id} {verb} topic {', '.join(sorted(topics))}: another "
        "connector has this name; give each a name of its own"
    )
