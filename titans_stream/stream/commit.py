"""Publishes a worker's output and commits its progress, exactly once or at least once.

Exactly once (KIP-98, KIP-447) is a transaction:

1. `begin`, at the first message after the last commit: nothing is open while idle.
2. `send` each output; kafka-python's own thread carries them to the broker meanwhile.
3. `commit`: send the input offsets to the transaction together with the consumer's generation,
   so that the broker refuses a worker that has lost its partitions,
4. and commit the transaction: outputs and offsets become visible together, or not at all.
5. Where 1 to 4 fail, or take longer than they may, `abort`. The state in memory is then ahead of
   what is committed: the caller discards it and recovers. After a failure in 3 or 4 the producer
   is opened anew: kafka-python 3.0 keeps offsets that were refused, and sends them again with the
   next transaction, which by then may come from a member that the broker accepts, for partitions
   that others own. A new producer with the same id ends the transaction of the old one, so that
   none is left hanging whatever became of the last commit.

Since the broker fences by the consumer's generation, the transactional id need not name the
partitions. Each process makes an id of its own: with a shared one, workers would fence each other.

At least once sends, flushes, and leaves it to the consumer to commit the offsets afterwards.
"""

from __future__ import annotations

import enum
import logging
import math
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from kafka.errors import (
    InvalidProducerEpochError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    ProducerFencedError,
    RecordListTooLargeError,
    TransactionalIdAuthorizationFailedError,
)

from titans_stream.stream.kafka.client import KafkaClients
from titans_stream.stream.kafka.deadline import Deadline
from titans_stream.stream.kafka.errors import (
    AbortedError,
    ConnectError,
    FatalError,
    UnansweredError,
    UnreachableError,
)
from titans_stream.stream.kafka.producer import close_producer
from titans_stream.stream.kafka.protocols import Producer
from titans_stream.stream.kafka.translation import user_error

log = logging.getLogger(__name__)

_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
_FENCED = (ProducerFencedError, InvalidProducerEpochError)
_OPENING_SECONDS = 3.0
"""A new producer of kafka-python 3.0 that finds a dead broker first hangs on it; one that is made
once the cluster is able again is ready within a second: so each gets a short time, a longer one
only after `_SHORT_OPENINGS` of them."""
_SHORT_OPENINGS = 10
_LONGEST_OPENING = 20.0
_LEAST_SECONDS = 1.0

Headers = list[tuple[str, bytes]]


class OutputState(enum.Enum):
    """Where an output is between two commits."""

    IDLE = "idle"
    OPEN = "open"
    COMMITTING = "committing"
    ABORTED = "aborted"
    CLOSED = "closed"


_NEXT = {
    OutputState.IDLE: {OutputState.OPEN, OutputState.ABORTED, OutputState.CLOSED},
    OutputState.OPEN: {OutputState.COMMITTING, OutputState.ABORTED, OutputState.CLOSED},
    OutputState.COMMITTING: {OutputState.IDLE, OutputState.ABORTED, OutputState.CLOSED},
    OutputState.ABORTED: {OutputState.IDLE, OutputState.CLOSED},
    OutputState.CLOSED: set[OutputState](),
}


class TooLargeError(AbortedError):
    """A message for `topic` was refused for its size."""

    def __init__(self, what: str, topic: str) -> None:
        super().__init__(what, "too_large")
        self.topic = topic


class Output(ABC):
    """Carries output to Kafka between commits. `timeout`: seconds to open or abort in."""

    commits_offsets: bool
    """Whether `commit` commits the offsets too; otherwise the consumer does it afterwards."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._first_error: BaseException | None = None
        self._first_topic = ""
        self._failed_openings = 0
        self._turn = 0
        self._producer: Producer | None = None
        self.state = OutputState.IDLE
        self.sent = 0
        """Bytes sent since the last commit."""

    def _to(self, state: OutputState) -> None:
        assert state in _NEXT[self.state], f"{self.state.value} to {state.value}"
        self.state = state

    def hurry(self, seconds: float) -> None:
        """From now on, nothing takes longer than so many seconds."""
        self._timeout = min(self._timeout, seconds)

    def begin(self) -> None:
        """Open what `commit` closes; does nothing where it is open. AbortedError if that fails."""
        if self.state is OutputState.IDLE:
            try:
                self._begin()
            except KafkaError as error:
                raise self._aborted("begin", error) from error
            self._to(OutputState.OPEN)

    def send(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers | None = None
    ) -> None:
        """Hand over one message. AbortedError where that fails."""
        assert self.state is OutputState.OPEN, self.state
        assert self._producer is not None
        if key is None and value is None:
            key = b""  # kafka-python refuses a message without key and value
        try:
            future = self._producer.send(topic, value, key, headers, None, None)
        except KafkaError as error:
            self._failed(self._turn, topic, error)
            raise self._aborted("send", error) from error
        future.add_errback(self._failed, self._turn, topic)
        self.sent += len(key or b"") + len(value or b"")

    def commit(self, offsets: Mapping[Any, Any], member: Any, deadline: Deadline) -> None:
        """Make output, and offsets where `commits_offsets`, permanent. AbortedError if not.

        After that `abort` makes the output fit for use again. Where the deadline has passed nobody
        knows whether it is permanent; the committed offsets tell once `abort` has succeeded.
        """
        self._to(OutputState.COMMITTING)
        try:
            self._commit(offsets, member, deadline)
        except KafkaError as error:
            raise self._aborted("commit", error) from error
        if self._first_error is not None:
            raise self._aborted("commit", self._first_error)
        self.sent = 0
        self._to(OutputState.IDLE)

    def abort(self) -> None:
        """Drop what is not committed and be ready for `begin` again.

        UnansweredError where Kafka does not answer in time: to be called again then.
        """
        if self.state is not OutputState.IDLE:
            if self.state is not OutputState.ABORTED:
                self._to(OutputState.ABORTED)
            self._turn += 1
            self._abort()
            self._first_error, self._first_topic = None, ""
            self.sent = 0
            self._to(OutputState.IDLE)

    def close(self, timeout: float) -> None:
        """End within about `timeout` seconds; drops what is not committed.

        An open transaction that is not aborted holds up readers of the output until the broker
        ends it (transaction_timeout_ms).
        """
        if self.state is OutputState.CLOSED:
            return
        deadline = Deadline(timeout)
        if self.state in (OutputState.OPEN, OutputState.ABORTED) and self._producer is not None:
            try:
                self._give_up(self._producer, timeout)
            except KafkaError as error:
                log.warning("the open transaction could not be aborted: %s", error)
        self._to(OutputState.CLOSED)
        if self._producer is not None:
            close_producer(self._producer, deadline.remaining)

    def _failed(self, turn: int, topic: str, error: BaseException) -> None:
        """Note why a message was not sent, unless what it belonged to is over."""
        if turn == self._turn and self._first_error is None:
            self._first_error, self._first_topic = error, topic
        # kafka-python 3.0 drops what follows a failed message, and then sleeps on instead of
        # ending the commit that waits for it.
        if self._producer is not None:
            self._producer.wakeup()

    def _aborted(self, what: str, error: BaseException) -> Exception:
        """What to raise for a failure; the first failed message says more than the last call."""
        cause = self._first_error or error
        if self.state is not OutputState.ABORTED:
            self._to(OutputState.ABORTED)
        if isinstance(cause, _TOO_LARGE) and self._first_topic:
            return TooLargeError(f"{what}: {cause}", self._first_topic)
        if isinstance(cause, _FENCED):
            return self._fenced(what)
        return user_error(cause) or AbortedError(f"{what}: {cause}")

    def _fenced(self, what: str) -> Exception:
        return AbortedError(f"{what}: fenced", "fenced")

    @abstractmethod
    def _begin(self) -> None: ...

    @abstractmethod
    def _commit(self, offsets: Mapping[Any, Any], member: Any, deadline: Deadline) -> None: ...

    @abstractmethod
    def _abort(self) -> None: ...

    @abstractmethod
    def _give_up(self, producer: Producer, timeout: float) -> None: ...

    def _replace(self, open_new: Callable[[float], Producer]) -> None:
        """Abandon the producer and open another."""
        if self._producer is not None:
            self._producer.abandon()
            self._producer = None
        more = max(0, self._failed_openings - _SHORT_OPENINGS)
        seconds = min(self._timeout, _OPENING_SECONDS) * 1.5**more
        seconds = min(seconds, max(self._timeout, _LONGEST_OPENING))
        try:
            self._producer = open_new(seconds)
        except (KafkaError, UnreachableError) as error:
            self._failed_openings = min(self._failed_openings + 1, 2 * _SHORT_OPENINGS)
            raise UnansweredError(f"no new producer: {error}") from error
        self._failed_openings = 0


class ExactlyOnceOutput(Output):
    """Output and offsets in one transaction.

    Where Kafka does not answer while it is made, it is `ABORTED`: `abort` opens it later.
    """

    commits_offsets = True

    def __init__(
        self,
        clients: KafkaClients,
        group_id: str,
        transactional_id: str,
        timeout: float,
        transaction_timeout: float,
    ) -> None:
        super().__init__(timeout)
        self._transaction_timeout = transaction_timeout
        self._clients = clients
        self._given = bool(transactional_id)
        self._id = transactional_id or f"{group_id}-{uuid.uuid4().hex[:12]}"
        self._spent = False
        """Whether the producer must not be used for another transaction."""
        self._fenced_at = -math.inf
        try:
            self._producer = self._open(None)
        except KafkaError as error:
            log.warning("no transaction can be opened yet: %s", error)
            self._to(OutputState.ABORTED)

    def _open(self, patience: float | None) -> Producer:
        """A producer that may open transactions."""
        limit = Deadline(self._timeout if patience is None else patience)
        producer = self._clients.producer(self._id, self._transaction_timeout, patience)
        try:
            producer.init_transactions(max(_LEAST_SECONDS, limit.remaining))
        except BaseException as error:
            producer.abandon()
            mend = user_error(error)
            if isinstance(error, TransactionalIdAuthorizationFailedError):
                mend = ConnectError(
                    f"no permission to write and describe the transactional id {self._id}: grant "
                    "it for a prefix of that, or set delivery.transactional_id"
                )
            if mend is not None:
                raise mend from error
            raise
        return producer

    def _begin(self) -> None:
        assert self._producer is not None
        self._producer.begin_transaction()

    def _commit(self, offsets: Mapping[Any, Any], member: Any, deadline: Deadline) -> None:
        # A member without generation is not fenced by the broker: it may not commit.
        if member.generation_id < 0:
            raise KafkaError("no longer a member of the consumer group")
        assert self._producer is not None
        self._spent = True
        self._producer.send_offsets_to_transaction(offsets, member, deadline.remaining)  # 3
        self._producer.commit_transaction(deadline.remaining)  # 4
        self._spent = False

    def _fenced(self, what: str) -> Exception:
        """Once, a transaction took too long, and recovery mends it; again at once, it is a twin."""
        now, before = time.monotonic(), self._fenced_at
        self._fenced_at = now
        if self._given and now - before < self._transaction_timeout:
            return FatalError(
                f"{what}: fenced again: another worker uses delivery.transactional_id {self._id}"
            )
        return AbortedError(
            f"{what}: fenced: a transaction took longer than {self._transaction_timeout:.3g} s, or "
            f"another worker uses the transactional id {self._id}",
            "fenced",
        )

    def _give_up(self, producer: Producer, timeout: float) -> None:
        if not self._spent:
            producer.abort_transaction(timeout)

    def _abort(self) -> None:
        if self._producer is not None and not self._spent:
            try:
                self._producer.abort_transaction(self._timeout)
                return
            except KafkaError as error:
                log.warning(
                    "the transaction could not be aborted (%s); opening a new producer", error
                )
        self._replace(self._open)
        self._spent = False


class AtLeastOnceOutput(Output):
    """Output first; offsets afterwards, by the consumer."""

    commits_offsets = False

    def __init__(self, clients: KafkaClients, timeout: float) -> None:
        super().__init__(timeout)
        self._clients = clients
        self._producer = clients.producer()

    def _begin(self) -> None:
        """Nothing to open."""

    def _commit(self, offsets: Mapping[Any, Any], member: Any, deadline: Deadline) -> None:
        del offsets, member
        assert self._producer is not None
        self._producer.flush(deadline.remaining)

    def _give_up(self, producer: Producer, timeout: float) -> None:
        """What was sent cannot be taken back."""

    def _abort(self) -> None:
        # What was sent cannot be taken back; it must not arrive after what is sent again.
        if self._producer is not None:
            try:
                self._producer.flush(self._timeout)
                return
            except KafkaTimeoutError as error:
                log.warning("output could not be sent (%s); opening a new producer", error)
        self._replace(lambda seconds: self._clients.producer(patience=seconds))
