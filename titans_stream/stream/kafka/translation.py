"""Errors of kafka-python as this package's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kafka import errors as kafka_errors

from titans_stream.stream.kafka.compression import compression_error
from titans_stream.stream.kafka.errors import ConnectError, FatalError, UnansweredError


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn errors of kafka-python into this package's.

    ConnectError for what the user has to mend, UnansweredError for what may pass, else FatalError.
    """
    try:
        yield
    except kafka_errors.KafkaError as error:
        kind = UnansweredError if error.retriable else FatalError
        raise user_error(error) or kind(f"{what}: {error}") from error


def user_error(error: BaseException) -> ConnectError | None:
    """The ConnectError for an error that the user has to mend, else None."""
    permissions = {
        kafka_errors.TopicAuthorizationFailedError: "no permission for topic",
        kafka_errors.GroupAuthorizationFailedError: "no permission for consumer group",
        kafka_errors.TransactionalIdAuthorizationFailedError: "no permission for transactional id",
        kafka_errors.ClusterAuthorizationFailedError: "no permission to write (idempotent write)",
    }
    for kind, text in permissions.items():
        if isinstance(error, kind):
            return ConnectError(f"{text} {_names(error)}".rstrip())
    if isinstance(error, kafka_errors.SaslAuthenticationFailedError):
        return ConnectError(f"authentication failed: {described(error)}")
    if isinstance(error, kafka_errors.UnsupportedCodecError):
        return compression_error(error)
    if isinstance(error, kafka_errors.InvalidTransactionTimeoutError):
        return ConnectError(
            "kafka.producer.transaction_timeout_ms: more than the broker's "
            "transaction.max.timeout.ms"
        )
    return None


def _names(error: BaseException) -> str:
    names: list[str] = []
    for each in error.args:
        names += sorted(map(str, each)) if isinstance(each, set | frozenset) else [str(each)]
    return ", ".join(names)


def described(error: BaseException) -> str:
    """An error in a few words."""
    name = type(error).__name__
    text = " ".join(str(each) for each in error.args).removeprefix(f"{name}: ")
    return text.replace("111 ECONNREFUSED", "connection refused") or name.removesuffix("Error")
