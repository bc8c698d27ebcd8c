"""Consumer, producer and admin client of kafka-python, opened from a `KafkaConfig`.

The worker uses these clients through protocols (protocols.py). Every error that the user
has to mend becomes a `ConnectError` of one line.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from titans_stream.printable import redacted
from titans_stream.stream.kafka.batches import install
from titans_stream.stream.kafka.compression import check_compression
from titans_stream.stream.kafka.deadline import Deadline
from titans_stream.stream.kafka.errors import (
    ConnectError,
    StoppedError,
    UnansweredError,
    UnreachableError,
)
from titans_stream.stream.kafka.groups import GroupUse, describe_group
from titans_stream.stream.kafka.producer import BoundedProducer
from titans_stream.stream.kafka.protocols import Consumer, Producer
from titans_stream.stream.kafka.settings import ClientKind, KafkaConfig
from titans_stream.stream.kafka.translation import described, translated

log = logging.getLogger(__name__)

DEFAULT_MESSAGE_LIMIT = 1_048_588
"""Kafka's default of max.message.bytes, where a topic's own cannot be asked for."""

_BOOTSTRAP_SECONDS = 3.0
_LONGEST_BOOTSTRAP_SECONDS = 10.0
_LONGEST_PAUSE = 15.0
_LINGER_MS = 10
_MOST_BLOCK_MS = 5_000
"""How long handing a message over may wait for a topic's description, or for room."""
_PATIENCE: dict[str, Any] = {
    "retry_backoff_ms": 25,
    "reconnect_backoff_max_ms": 1_000,
    "request_timeout_ms": 10_000,
}
"""How consumers and producers wait by default: a broker that fails is left within 10 s, and one
that comes back is taken up within a second. kafka-python waits for `retry_backoff_ms` on the way
into each transaction and group, even without errors."""

Client = TypeVar("Client")


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic that exists: its partitions, and what this user may do (None: not told)."""

    partitions: tuple[int, ...]
    operations: frozenset[str] | None

    def allows(self, operation: str) -> bool:
        """Whether READ or WRITE is allowed, as far as the broker tells."""
        return self.operations is None or operation in self.operations


class KafkaClients:
    """Opens kafka-python's clients; waits for a cluster that cannot be reached.

    It tries again for ever, or for `patience` seconds where given, and ends with StoppedError as
    soon as `stop` is set.
    """

    def __init__(
        self,
        config: KafkaConfig,
        *,
        patience: float | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self._config = config
        self._patience = patience
        self._stop = stop if stop is not None else threading.Event()

    @property
    def servers(self) -> str:
        """The addresses, for messages."""
        return self._config.bootstrap_servers

    def consumer(self, group_id: str | None, most_bytes_at_once: int | None = None) -> Consumer:
        """A consumer that reads committed messages and never commits by itself.

        `most_bytes_at_once`: of a fetch, where a large one would hold up others.
        """
        settings = {
            "metrics_enabled": False,
            **_PATIENCE,
            "allow_auto_create_topics": False,
            **self._config.client_settings("consumer"),
            "group_id": group_id,
            "auto_offset_reset": "none",
            "enable_auto_commit": False,
            "isolation_level": "read_committed",
            **(
                {}
                if most_bytes_at_once is None
                else {
                    "fetch_max_bytes": most_bytes_at_once,
                    "max_partition_fetch_bytes": most_bytes_at_once,
                }
            ),
            "partition_assignment_strategy": (StickyPartitionAssignor,),
        }
        most_bytes = self._config.max_batch_bytes

        def build(more: dict[str, Any]) -> _Consumer:
            consumer = _Consumer(**settings, **more)
            install(consumer._fetcher, most_bytes)
            return consumer

        client: Consumer = self._open("consumer", build)
        return client

    def producer(
        self,
        transactional_id: str | None = None,
        transaction_timeout: float = 60.0,
        patience: float | None = None,
    ) -> Producer:
        """An idempotent producer, transactional where an id is given (timeout in seconds).

        UnreachableError where Kafka cannot be reached for `patience` seconds, if given.
        """
        settings = {
            "metrics_enabled": False,
            **_PATIENCE,
            "allow_auto_create_topics": False,
            "linger_ms": _LINGER_MS,
            "max_block_ms": _MOST_BLOCK_MS,
            "transaction_timeout_ms": int(transaction_timeout * 1000),
            **self._config.client_settings("producer"),
            "acks": "all",
            "enable_idempotence": True,
            "transactional_id": transactional_id,
        }

        def build(more: dict[str, Any]) -> BoundedProducer:
            return BoundedProducer(**settings, **more)

        client: Producer = self._open("producer", build, patience)
        return client

    def topics(self, names: Iterable[str]) -> dict[str, TopicInfo | None]:
        """What there is to know of topics; None for one that does not exist."""
        wanted = list(dict.fromkeys(names))
        found: dict[str, TopicInfo | None] = dict.fromkeys(wanted)
        with self._admin() as admin, translated("describe topics"):
            described = admin.describe_topics(wanted)
        for topic in described:
            error = kafka_errors.for_code(topic["error_code"])
            if issubclass(error, kafka_errors.AuthorizationError):
                raise ConnectError(f"no permission to see topic {topic['name']}")
            if error is kafka_errors.NoError:
                partitions = tuple(sorted(p["partition_index"] for p in topic["partitions"]))
                operations = topic.get("authorized_operations")
                told = frozenset(operations) if isinstance(operations, list) else None
                found[topic["name"]] = TopicInfo(partitions, told or None)
        return found

    def topic_settings(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """Settings of topics that exist, by name; nothing of those that may not be asked for."""
        found: dict[str, dict[str, str]] = {name: {} for name in names}
        with self._admin() as admin:
            for name in found:
                resource = ConfigResource(ConfigResourceType.TOPIC, name)
                with suppress(kafka_errors.KafkaError, KeyError):
                    answer = admin.describe_configs([resource], config_filter="all")
                    rows = answer["topic"][name].items()
                    found[name] = {key: str(row["value"]) for key, row in rows}
        return found

    def create_topic(self, name: str, partitions: int, settings: Mapping[str, str]) -> None:
        """Make a topic, with the brokers' own number of replicas; one that exists stays as it is.

        ConnectError where this user may not, or the brokers refuse it; UnansweredError for what
        may pass.
        """
        wanted = {name: {"num_partitions": partitions, "configs": dict(settings)}}
        with self._admin() as admin, suppress(kafka_errors.TopicAlreadyExistsError):
            try:
                admin.create_topics(wanted, wait_for_metadata=True)
            except kafka_errors.TopicAlreadyExistsError:
                raise
            except kafka_errors.KafkaError as error:
                kind = UnansweredError if error.retriable else ConnectError
                raise kind(f"topic {name} cannot be created: {described(error)}") from error

    def topic_names(self) -> list[str]:
        """The names of all topics that this user may see."""
        with self._admin() as admin, translated("list topics"):
            return sorted(admin.list_topics())

    def group_use(self, group_id: str) -> GroupUse:
        """What a group is used for, as far as the broker tells this user."""
        with self._admin() as admin:
            return describe_group(admin, group_id)

    def message_limits(self, topics: Iterable[str]) -> dict[str, int]:
        """Bytes of the largest message that producer and topic take, by topic."""
        sendable: int = self._config.client_settings("producer").get(
            "max_request_size", KafkaProducer.DEFAULT_CONFIG["max_request_size"]
        )
        limits = dict.fromkeys(topics, DEFAULT_MESSAGE_LIMIT)
        with self._admin() as admin:
            for topic in limits:
                resource = ConfigResource(ConfigResourceType.TOPIC, topic)
                with suppress(kafka_errors.KafkaError, KeyError, ValueError):
                    answer = admin.describe_configs([resource], config_filter="all")
                    limits[topic] = int(answer["topic"][topic]["max.message.bytes"]["value"])
        return {topic: min(sendable, limit) for topic, limit in limits.items()}

    @contextmanager
    def _admin(self) -> Iterator[Any]:
        settings = self._config.client_settings("admin")
        admin = self._open("admin", lambda more: KafkaAdminClient(**settings, **more))
        try:
            yield admin
        finally:
            admin.close()

    def _open(
        self,
        kind: ClientKind,
        build: Callable[[dict[str, Any]], Client],
        patience: float | None = None,
    ) -> Client:
        """Build a client, as often as it takes, or as `patience` allows."""
        patience = self._patience if patience is None else patience
        given = self._config.client_settings(kind)
        _check_user(given)
        check_compression(self._config.producer.compression_type)
        deadline = None if patience is None else Deadline(patience)
        pause, most = 1.0, _BOOTSTRAP_SECONDS
        while True:
            wait = min(most, math.inf if deadline is None else max(0.2, deadline.remaining))
            more: dict[str, Any] = {
                "bootstrap_timeout_ms": given.get("bootstrap_timeout_ms", int(wait * 1000))
            }
            with _heard_reasons() as reasons:
                opened: list[Any] = []
                more["kafka_client"] = _recorder(opened)
                try:
                    return build(more)
                except (kafka_errors.KafkaTimeoutError, kafka_errors.KafkaConnectionError):
                    for each in opened:
                        each.close()
                except kafka_errors.IncompatibleBrokerVersion as error:
                    raise ConnectError(
                        f"the broker at {self.servers} cannot be used like this: {error} (is "
                        "kafka.security_protocol right?)"
                    ) from error
                except (
                    kafka_errors.KafkaConfigurationError,
                    AssertionError,
                    ImportError,
                    OSError,
                    RuntimeError,
                    TypeError,
                    ValueError,
                ) as error:
                    text = redacted(f"kafka: {error}", self._config.secrets())
                    raise ConnectError(text) from error
            reason = redacted(_reason(reasons), self._config.secrets())
            problem = f"cannot reach Kafka at {self.servers}: {reason}"
            if deadline is not None and deadline.remaining <= pause:
                raise UnreachableError(problem)
            log.warning("%s; trying again in %g s", problem, pause)
            if self._stop.wait(pause):
                raise StoppedError(problem)
            pause, most = min(2 * pause, _LONGEST_PAUSE), _LONGEST_BOOTSTRAP_SECONDS


class _Consumer(KafkaConsumer):  # type: ignore[misc]
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._last_answer = time.monotonic()

    def poll(self, timeout_ms: float, max_records: int) -> dict[Any, list[Any]]:
        """Poll, and finish a join that an earlier poll began.

        Where new partitions or topics are the cause of a join, kafka-python 3.0 forgets it if a
        poll ends before it: the member has no assignment then and sends no heartbeats.
        """
        coordinator = self._coordinator
        if coordinator is not None and coordinator.rejoining:
            coordinator.request_rejoin()
        found: dict[Any, list[Any]] = super().poll(timeout_ms, max_records)
        return found

    def answered(self) -> float:
        """When anything came from Kafka last, on the clock `time.monotonic`.

        A connection that nobody has answered on yet does not count.
        """
        connections = list(self._manager._conns.values())
        reads = [one.transport.last_read for one in connections if one.connected and one.transport]
        self._last_answer = max([self._last_answer, *reads])
        return self._last_answer

    def commit_within(self, offsets: Mapping[Any, Any], timeout_ms: float) -> Awaitable[Any]:
        """Commit offsets; for a rebalance listener to await. KafkaTimeoutError where it is late."""
        waiting: Awaitable[Any] = self._manager.wait_for(self.commit_async(offsets), timeout_ms)
        return waiting


def _recorder(opened: list[Any]) -> Callable[..., Any]:
    """A factory of network clients that keeps them: kafka-python leaves those that fail running."""

    def build(*arguments: Any, **settings: Any) -> Any:
        opened.append(KafkaConsumer.DEFAULT_CONFIG["kafka_client"](*arguments, **settings))
        return opened[-1]

    return build


def _check_user(given: dict[str, Any]) -> None:
    """See that SASL has the user and password that it needs; kafka-python does so too late."""
    mechanism = str(given.get("sasl_mechanism", ""))
    if mechanism == "PLAIN" or mechanism.startswith("SCRAM"):
        for name in ("sasl_plain_username", "sasl_plain_password"):
            if not given.get(name):
                raise ConnectError(f"kafka.{name}: needed for sasl_mechanism {mechanism}")


class _Reasons(logging.Handler):
    """Keeps the errors that kafka-python names in its log: it raises a bare timeout."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        arguments = record.args if isinstance(record.args, tuple) else ()
        self.errors += [each for each in arguments if isinstance(each, BaseException)]


@contextmanager
def _heard_reasons() -> Iterator[list[BaseException]]:
    """Listen to kafka-python's log, and keep it from the user: one line of ours says it all."""
    logger = logging.getLogger("kafka")
    handler, propagate, level = _Reasons(), logger.propagate, logger.level
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    try:
        yield handler.errors
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
        logger.setLevel(level)


def _reason(errors: list[BaseException]) -> str:
    """Why no connection came about. ConnectError for what will not mend itself."""
    for error in errors:
        if isinstance(error, kafka_errors.UnsupportedSaslMechanismError):
            raise ConnectError("kafka.sasl_mechanism: the broker does not offer this mechanism")
        if isinstance(error, kafka_errors.IllegalSaslStateError):
            raise ConnectError("kafka.security_protocol: the broker does not expect SASL here")
        if isinstance(error, kafka_errors.SaslAuthenticationFailedError):
            raise ConnectError(
                f"Kafka refuses kafka.sasl_plain_username and its password: {described(error)}"
            )
    told = [error for error in errors if not isinstance(error, kafka_errors.KafkaTimeoutError)]
    reason = described(told[-1]) if told else "no answer"
    if "socket disconnected" in reason or "SSL" in reason:
        reason += " (is kafka.security_protocol right?)"
    return reason
