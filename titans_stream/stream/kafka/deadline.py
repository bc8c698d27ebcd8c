"""Bounds on blocking calls: one deadline for the calls of an operation, and a watchdog."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from kafka.errors import KafkaError

from titans_stream.stream.kafka.errors import FatalError, LateError, StoppedError

ANSWER_MS = 10_000
"""How long a command waits for an answer of Kafka, in milliseconds."""
TURN_ANSWER_MS = 3_000
"""How long to wait for an answer before others have their turn and the question is asked again."""

_APART = 60.0
"""Seconds; longer than any pause before the next try."""
_LOOK = 0.05
"""Seconds between two looks whether a call that may be stopped is to be."""

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


class Patience:
    """Failures that follow one another, until they have gone on for so many `seconds`.

    Failures that lie further apart than `_APART` do not belong together.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._since = self._last = -math.inf

    def failed(self, error: Exception) -> None:
        """One more failure. FatalError where it is enough."""
        now = self._clock()
        if now - self._last > _APART:
            self._since = now
        self._last = now
        if now - self._since >= self._seconds:
            raise FatalError(f"nothing worked for {now - self._since:.0f} s: {error}") from error

    def succeeded(self) -> None:
        """It works again."""
        self._since = self._last = -math.inf


def call_within(
    seconds: float, what: str, call: Callable[[], Result], stop: threading.Event | None = None
) -> Result:
    """The result of `call`, or LateError when it takes longer than `seconds`.

    StoppedError as soon as `stop`, where given, is set; only then may `seconds` be infinite. For
    calls of kafka-python that wait without a limit. A call that is given up stays behind in a
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
    if stop is None:
        thread.join(seconds)
    else:
        deadline = Deadline(seconds)
        while thread.is_alive() and not deadline.expired and not stop.is_set():
            thread.join(min(_LOOK, deadline.remaining))
    if errors:
        raise errors[0]
    if not results:
        if stop is not None and stop.is_set():
            raise StoppedError(f"stopped: {what}")
        if not thread.is_alive():
            raise FatalError(f"{what} failed")
        raise LateError(f"{what} did not end within {seconds:.3g} s; is Kafka reachable?")
    return results[0]
