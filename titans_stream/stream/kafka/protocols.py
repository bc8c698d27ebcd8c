"""What the worker uses of kafka-python's clients, so that tests can put others in their place.

A partition is a kafka.TopicPartition, an offset to commit a kafka.structs.OffsetAndMetadata, a
member a kafka.structs.ConsumerGroupMetadata.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol


class Consumer(Protocol):
    """What is used of kafka.KafkaConsumer."""

    def topics(self) -> set[str]:
        """All topics, fetched anew with their partitions."""

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """The partitions of a topic as last heard; None where it is not known."""

    def subscribe(self, topics: Sequence[str], *, pattern: str | None, listener: Any) -> None:
        """Join the group for these topics, or for those that a regular expression matches the
        beginning of; `listener` hears of rebalances."""

    def unsubscribe(self) -> None:
        """Leave the group."""

    def assign(self, partitions: list[Any]) -> None:
        """Read these partitions, outside of any group."""

    def position(self, partition: Any) -> int | None:
        """The offset of the next message to be returned."""

    def poll(self, timeout_ms: float, max_records: int) -> dict[Any, list[Any]]:
        """Messages by partition; drives rebalances."""

    def seek(self, partition: Any, offset: int) -> None:
        """Read on from an offset."""

    def pause(self, *partitions: Any) -> None:
        """Read nothing of these partitions for now."""

    def resume(self, *partitions: Any) -> None:
        """Undo `pause`."""

    def highwater(self, partition: Any) -> int | None:
        """The end of the log as last heard."""

    def committed(self, partition: Any, metadata: bool, timeout_ms: float) -> Any:
        """The group's committed offset, None where there is none."""

    def beginning_offsets(self, partitions: list[Any], timeout_ms: float) -> dict[Any, int]:
        """The first offset that the log holds."""

    def end_offsets(self, partitions: list[Any], timeout_ms: float) -> dict[Any, int]:
        """The offset of the next message to be written."""

    def offsets_for_times(self, timestamps: dict[Any, int], timeout_ms: float) -> dict[Any, Any]:
        """The first message at or after a time in milliseconds."""

    def answered(self) -> float:
        """When anything came from Kafka last, on the clock `time.monotonic`."""

    def group_metadata(self) -> Any:
        """This consumer's membership of its group."""

    def commit(self, offsets: Mapping[Any, Any], timeout_ms: float) -> None:
        """Commit offsets and wait."""

    def commit_within(self, offsets: Mapping[Any, Any], timeout_ms: float) -> Awaitable[Any]:
        """Commit offsets; for a rebalance listener to await. KafkaTimeoutError where it is late."""

    def close(self, autocommit: bool, timeout_ms: float) -> None:
        """Leave the group and close."""


class Producer(Protocol):
    """What is used of kafka.KafkaProducer, with a limit (seconds) on what waits for Kafka.

    KafkaTimeoutError beyond it; the producer is of no more use then but for `abandon`.
    """

    def init_transactions(self, timeout: float) -> None:
        """Take the transactional id over; ends a transaction that was left open."""

    def begin_transaction(self) -> None:
        """Open a transaction (nothing is sent yet)."""

    def send_offsets_to_transaction(
        self, offsets: Mapping[Any, Any], member: Any, timeout: float
    ) -> None:
        """Commit input offsets with the transaction (KIP-447)."""

    def commit_transaction(self, timeout: float) -> None:
        """Send what is left, then commit."""

    def abort_transaction(self, timeout: float) -> None:
        """Drop what was sent in the transaction."""

    def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        headers: list[tuple[str, bytes]] | None,
        partition: int | None,
        timestamp_ms: int | None,
    ) -> Any:
        """Hand a message over; the result is a future."""

    def flush(self, timeout: float) -> None:
        """Wait until everything is sent, at most `timeout` seconds."""

    def wakeup(self) -> None:
        """Have the sending thread look at what there is to do; safe from any thread."""

    def close(self, timeout: float) -> None:
        """Close within `timeout` seconds."""

    def abandon(self) -> None:
        """End at once: what is not sent is dropped, what is in flight is not waited for."""
