"""What can go wrong between the worker and Kafka, by what has to be done about it."""

from __future__ import annotations

import struct

UNREADABLE = (ArithmeticError, LookupError, OSError, ValueError, struct.error)
"""What kafka-python raises, beside its own errors, where it cannot read an answer."""


class ConnectError(ValueError):
    """Kafka cannot be used as configured; the message names what the user has to change."""


class UnreachableError(ConnectError):
    """No broker answered for as long as one was willing to wait."""


class StoppedError(RuntimeError):
    """The worker was asked to stop while it waited for Kafka."""


class FatalError(RuntimeError):
    """The worker cannot go on. Nothing is lost: the next start recovers."""


class LateError(FatalError):
    """A call did not end in time; the client that it belongs to must not be used again."""


class AbortedError(RuntimeError):
    """What is not committed is lost: the state has to be recovered from committed offsets.

    `reason` is one of a few words, for metrics: kafka, fenced, too_large, revocation.
    """

    def __init__(self, what: str, reason: str = "kafka") -> None:
        super().__init__(what)
        self.reason = reason


class UnansweredError(FatalError):
    """Kafka did not answer in time; nothing has changed, so whoever can wait may ask again."""
