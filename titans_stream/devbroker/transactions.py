"""Transactions of the development broker: producer ids, epochs, and how a transaction ends.

KIP-98 as clients of brokers before 4.0 speak it (no KIP-890): partitions and groups are added
explicitly. Preparing and completing are one step here, since all partitions are in one process.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from typing import Any

from kafka import errors

from titans_stream.devbroker.log import PartitionLog
from titans_stream.devbroker.offsets import OffsetStore, Partition, Positions

log = logging.getLogger(__name__)

MAX_EPOCH = 2**15 - 2
MAX_TIMEOUT_MS = 15 * 60 * 1000
"""Kafka's transaction.max.timeout.ms."""


class TransactionState(enum.Enum):
    """Where a transactional id stands."""

    EMPTY = "empty"
    ONGOING = "ongoing"
    COMMITTED = "committed"
    ABORTED = "aborted"


NEXT_STATES = {
    TransactionState.EMPTY: {TransactionState.ONGOING},
    TransactionState.ONGOING: {TransactionState.COMMITTED, TransactionState.ABORTED},
    TransactionState.COMMITTED: {TransactionState.ONGOING, TransactionState.EMPTY},
    TransactionState.ABORTED: {TransactionState.ONGOING, TransactionState.EMPTY},
}


@dataclass(eq=False, slots=True)
class Transaction:
    """A transactional id, the producer that holds it, and its transaction."""

    transactional_id: str
    producer_id: int
    epoch: int
    timeout_ms: int
    state: TransactionState = TransactionState.EMPTY
    partitions: set[Partition] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    timer: asyncio.TimerHandle | None = None

    def enter(self, state: TransactionState) -> None:
        """Go to another state; only the protocol's own transitions exist."""
        if state != self.state:
            assert state in NEXT_STATES[self.state], f"{self.state} to {state}"
            self.state = state


class TransactionCoordinator:
    """All transactional ids. Lives on one event loop; its timers are that loop's."""

    def __init__(
        self, find_log: Callable[[Partition], PartitionLog | None], offsets: OffsetStore
    ) -> None:
        self._find_log = find_log
        self._offsets = offsets
        self._by_id: dict[str, Transaction] = {}
        self._by_producer: dict[int, Transaction] = {}
        self._next_producer_id = 1

    def init_producer(self, request: Any) -> dict[str, Any]:
        """InitProducerId: a producer id for everyone; an epoch that fences whoever held the
        transactional id before, whose open transaction is aborted (KIP-360).
        """
        if request.transactional_id is None:
            return {"producer_id": self._new_producer_id(), "producer_epoch": 0}
        if not request.transactional_id:
            raise errors.InvalidRequestError()
        if not 0 < request.transaction_timeout_ms <= MAX_TIMEOUT_MS:
            raise errors.InvalidTransactionTimeoutError()
        held = self._by_id.get(request.transactional_id)
        if held is None:
            held = Transaction(request.transactional_id, self._new_producer_id(), 0, 0)
            self._by_id[held.transactional_id] = self._by_producer[held.producer_id] = held
        else:
            known = (held.producer_id, held.epoch)
            if request.producer_id >= 0 and (request.producer_id, request.producer_epoch) != known:
                raise errors.ProducerFencedError()
            self._raise_epoch(held)
        held.timeout_ms = request.transaction_timeout_ms
        return {"producer_id": held.producer_id, "producer_epoch": held.epoch}

    def add_partitions(self, request: Any, partitions: set[Partition]) -> None:
        """AddPartitionsToTxn, version 3 or below, for partitions that exist."""
        held = self._holder(
            request.v3_and_below_transactional_id,
            request.v3_and_below_producer_id,
            request.v3_and_below_producer_epoch,
        )
        if partitions:
            self._extend(held, partitions=partitions)

    def add_group(self, request: Any) -> dict[str, Any]:
        """AddOffsetsToTxn: the transaction will commit offsets of this group."""
        held = self._holder(request.transactional_id, request.producer_id, request.producer_epoch)
        self._extend(held, groups={request.group_id})
        return {}

    def add_offsets(self, request: Any, positions: Positions) -> None:
        """TxnOffsetCommit: positions that count once the transaction commits."""
        held = self._by_producer.get(request.producer_id)
        if held is None or held.transactional_id != request.transactional_id:
            raise errors.InvalidProducerIdMappingError()
        if request.producer_epoch != held.epoch:
            raise errors.InvalidProducerEpochError()
        if held.state != TransactionState.ONGOING or request.group_id not in held.groups:
            raise errors.InvalidTxnStateError()
        self._offsets.add_pending(held.producer_id, request.group_id, positions)

    def end(self, request: Any) -> dict[str, Any]:
        """EndTxn: commit or abort; asking for the same end again is no error."""
        held = self._holder(request.transactional_id, request.producer_id, request.producer_epoch)
        wanted = TransactionState.COMMITTED if request.committed else TransactionState.ABORTED
        if held.state == TransactionState.ONGOING:
            self._end(held, request.committed)
        elif held.state != wanted:
            raise errors.InvalidTxnStateError()
        return {}

    def check_open(self, producer_id: int, epoch: int, partition: Partition) -> None:
        """Whether a transactional batch may be written: InvalidProducerEpochError from a fenced
        producer, InvalidTxnStateError where the partition is not in its open transaction.
        """
        held = self._by_producer.get(producer_id)
        if held is None:
            raise errors.InvalidProducerIdMappingError()
        if epoch != held.epoch:
            raise errors.InvalidProducerEpochError()
        if held.state != TransactionState.ONGOING or partition not in held.partitions:
            raise errors.InvalidTxnStateError()

    def _new_producer_id(self) -> int:
        given = self._next_producer_id
        self._next_producer_id += 1
        return given

    def _holder(self, transactional_id: str, producer_id: int, epoch: int) -> Transaction:
        held = self._by_id.get(transactional_id)
        if held is None or held.producer_id != producer_id:
            raise errors.InvalidProducerIdMappingError()
        if held.epoch != epoch:
            raise errors.ProducerFencedError()
        return held

    def _raise_epoch(self, held: Transaction) -> None:
        """Fence the holder: abort its transaction, then the next epoch or producer id."""
        if held.epoch >= MAX_EPOCH:
            if held.state == TransactionState.ONGOING:
                self._end(held, commit=False)
            held.producer_id, held.epoch = self._new_producer_id(), 0
            self._by_producer[held.producer_id] = held
        else:
            held.epoch += 1
            if held.state == TransactionState.ONGOING:
                self._end(held, commit=False)
        held.enter(TransactionState.EMPTY)

    def _extend(
        self,
        held: Transaction,
        partitions: Set[Partition] = frozenset(),
        groups: Set[str] = frozenset(),
    ) -> None:
        """Begin the transaction if need be, and add to it."""
        if held.state == TransactionState.ONGOING:
            if partitions <= held.partitions and groups <= held.groups:
                return
        else:
            held.partitions, held.groups = set(), set()
            held.enter(TransactionState.ONGOING)
            self._start_timer(held)
        held.partitions |= partitions
        held.groups |= groups

    def _end(self, held: Transaction, commit: bool) -> None:
        """End the open transaction: markers go to its partitions; its offsets count, or do not."""
        if held.timer:
            held.timer.cancel()
        held.enter(TransactionState.COMMITTED if commit else TransactionState.ABORTED)
        for partition in sorted(held.partitions):
            partition_log = self._find_log(partition)
            if partition_log and held.producer_id in partition_log.open_transactions:
                partition_log.end_transaction(held.producer_id, held.epoch, commit)
        self._offsets.end_transaction(held.producer_id, commit)

    def _start_timer(self, held: Transaction) -> None:
        loop = asyncio.get_running_loop()
        held.timer = loop.call_later(held.timeout_ms / 1000, self._expire, held)

    def _expire(self, held: Transaction) -> None:
        if held.state == TransactionState.ONGOING:
            log.warning("transaction of %s timed out: aborted", held.transactional_id)
            self._raise_epoch(held)
