"""Committed offsets of the development broker, those of open transactions included."""

from __future__ import annotations

from dataclasses import dataclass

Partition = tuple[str, int]
"""Topic and partition number."""


@dataclass(frozen=True, slots=True)
class Committed:
    """A group's position in a partition: the next offset to read."""

    offset: int
    leader_epoch: int
    metadata: str | None


Positions = dict[Partition, Committed]


class OffsetStore:
    """Positions by group; those sent to a transaction wait for its end (KIP-98, KIP-447)."""

    def __init__(self) -> None:
        self._committed: dict[str, Positions] = {}
        self._pending: dict[int, dict[str, Positions]] = {}

    def groups(self) -> list[str]:
        """The groups that committed an offset."""
        return list(self._committed)

    def positions(self, group: str) -> Positions:
        """A group's committed positions."""
        return self._committed.get(group, {})

    def unstable(self, group: str) -> set[Partition]:
        """Partitions with a position in an open transaction."""
        waiting = (groups.get(group, {}) for groups in self._pending.values())
        return {partition for positions in waiting for partition in positions}

    def commit(self, group: str, positions: Positions) -> None:
        """Store positions at once."""
        self._committed.setdefault(group, {}).update(positions)

    def add_pending(self, producer_id: int, group: str, positions: Positions) -> None:
        """Keep positions until the producer's transaction ends."""
        self._pending.setdefault(producer_id, {}).setdefault(group, {}).update(positions)

    def end_transaction(self, producer_id: int, commit: bool) -> None:
        """Store or forget the positions of a producer's transaction."""
        for group, positions in self._pending.pop(producer_id, {}).items():
            if commit:
                self._committed.setdefault(group, {}).update(positions)

    def delete_group(self, group: str) -> None:
        """Forget a group's positions."""
        self._committed.pop(group, None)

    def delete_topic(self, topic: str) -> None:
        """Forget all positions in a topic."""
        pending = (p for groups in self._pending.values() for p in groups.values())
        for positions in [*self._committed.values(), *pending]:
            for partition in [p for p in positions if p[0] == topic]:
                del positions[partition]
