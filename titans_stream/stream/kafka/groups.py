"""What a broker tells of a consumer group."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError


@dataclass(frozen=True, slots=True)
class GroupMember:
    """A member of a group: a worker. `partitions` are those that the group has given it."""

    id: str
    client: str
    host: str
    topics: frozenset[str]
    partitions: tuple[TopicPartition, ...]


@dataclass(frozen=True, slots=True)
class GroupUse:
    """What a consumer group is used for: its members, and the topics of its committed offsets.

    `state` is Kafka's word (Stable, Empty, PreparingRebalance, ...), empty where the broker does
    not tell.
    """

    state: str
    members: tuple[GroupMember, ...]
    committed: frozenset[str]

    @property
    def settled(self) -> bool:
        """Whether no rebalance is under way, in which members do not tell their topics."""
        return "Rebalance" not in self.state

    @property
    def subscriptions(self) -> tuple[frozenset[str], ...]:
        """The topics of each member that tells some."""
        return tuple(member.topics for member in self.members if member.topics)


def describe_group(admin: Any, group_id: str) -> GroupUse:
    """Ask kafka-python's admin client; what this user may not see is left out."""
    state, committed = "", frozenset[str]()
    members: tuple[GroupMember, ...] = ()
    with suppress(KafkaError):
        group = admin.describe_groups([group_id])[group_id]
        state = str(group.get("group_state") or "")
        members = tuple(map(_member, group.get("members") or ()))
    with suppress(KafkaError):
        offsets = admin.list_group_offsets({group_id: None})[group_id]
        committed = frozenset(p.topic for p, found in offsets.items() if found.offset >= 0)
    return GroupUse(state, members, committed)


def _member(told: dict[str, Any]) -> GroupMember:
    metadata, given = told.get("member_metadata"), told.get("member_assignment")
    topics = metadata.get("topics") if isinstance(metadata, dict) else None
    assigned = given.get("assigned_partitions") if isinstance(given, dict) else None
    return GroupMember(
        str(told.get("member_id") or ""),
        str(told.get("client_id") or ""),
        str(told.get("client_host") or "").lstrip("/"),
        frozenset(topics or ()),
        tuple(
            TopicPartition(each["topic"], number)
            for each in assigned or ()
            for number in sorted(each["partitions"])
        ),
    )
