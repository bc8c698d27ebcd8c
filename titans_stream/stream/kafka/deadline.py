"""Bounds on blocking calls: one deadline for the calls of an operation, and a watchdog."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from kafka.errors import KafkaError

from titans_stream.stream.kafka.errors import FatalError, LateError

ANSWER_MS = 10_000
"""How long a command waits for an answer of Kafka, in milliseconds."""
TURN_ANSWER_MS = 3_000
"""How long to wait for an answer before others have their turn and the question is asked again."""

Result = TypeVar("Result")


class Deadline:
    """A point in time that all blocking calls of one operation share. `clock` counts seconds."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    @property
    def remaining(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self._end - self._clock())

    @property
    def expired(self) -> bool:
        """Whether no time is left."""
        return self.remaining == 0.0


def call_within(seconds: float, what: str, call: Callable[[], Result]) -> Result:
    """The result of `call`, or LateError when it takes longer than `seconds`.

    For calls of kafka-python that wait without a limit (init_transactions, commit_transaction,
    abort_transaction, send_offsets_to_transaction). A call that is given up stays behind in a
    daemon thread, so its client must not be used again.
    """
    results: list[Result] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(call())
        except (KafkaError, OSError, RuntimeError, TypeError, ValueError) as error:
            errors.append(error)

    thread = threading.Thread(target=run, name=f"titans-{what}", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        if not thread.is_alive():
            raise FatalError(f"{what} failed")
        raise LateError(f"{what} did not end within {seconds:.3g} s; is Kafka reachable?")
    return results[0]
