"""kafka-python's producer, which waits for the end of a transaction without a limit, with one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaTimeoutError

from titans_stream.stream.kafka.protocols import Producer


class BoundedProducer(KafkaProducer):  # type: ignore[misc]
    """A `Producer`."""

    def init_transactions(self, timeout: float) -> None:
        """Take the transactional id over."""
        self._wait(
            "init_transactions", self._transaction_manager.initialize_transactions(), timeout
        )

    def send_offsets_to_transaction(
        self, offsets: Mapping[Any, Any], member: Any, timeout: float
    ) -> None:
        """Commit input offsets with the transaction."""
        sent = self._transaction_manager.send_offsets_to_transaction(offsets, member)
        self._wait("send_offsets_to_transaction", sent, timeout)

    def commit_transaction(self, timeout: float) -> None:
        """Send what is left, then commit."""
        self._wait("commit_transaction", self._transaction_manager.begin_commit(), timeout)

    def abort_transaction(self, timeout: float) -> None:
        """Drop what was sent in the transaction."""
        self._wait("abort_transaction", self._transaction_manager.begin_abort(), timeout)

    def _wait(self, what: str, result: Any, timeout: float) -> None:
        self._sender.wakeup()
        if not result.wait(timeout_ms=1000 * timeout):
            raise KafkaTimeoutError(
                f"{what} did not end within {timeout:.3g} s; is Kafka reachable?"
            )

    def abandon(self) -> None:
        """End at once."""
        self._unregister_cleanup()
        self._closed = True
        self._sender.force_close()

    def wakeup(self) -> None:
        """Have the sending thread look at what there is to do."""
        self._sender.wakeup()


def close_producer(producer: Producer, timeout: float) -> None:
    """Close within `timeout` seconds; what cannot be sent by then is dropped."""
    try:
        producer.close(timeout)
    except KafkaTimeoutError:
        producer.abandon()
