"""The worker: reads one topic, drives an engine, publishes what it finds, commits (loop.py)."""

from __future__ import annotations

import enum
import logging
import math
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import FrameType
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError

from titans_stream.durations import SECOND
from titans_stream.records import Alert, Engine, ModelRef
from titans_stream.stream.assignment import Assignment
from titans_stream.stream.codec.choice import codec_for
from titans_stream.stream.commit import AtLeastOnceOutput, ExactlyOnceOutput, Output
from titans_stream.stream.control import Controller
from titans_stream.stream.control_topic import ControlTopic, make_control_topics
from titans_stream.stream.group_check import check_group
from titans_stream.stream.journal import Journal
from titans_stream.stream.kafka.client import KafkaClients, TopicInfo
from titans_stream.stream.kafka.deadline import Deadline, Patience, call_within
from titans_stream.stream.kafka.errors import (
    ConnectError,
    FatalError,
    StoppedError,
    UnansweredError,
)
from titans_stream.stream.kafka.protocols import Consumer
from titans_stream.stream.loop import Loop
from titans_stream.stream.messages import RawMessage
from titans_stream.stream.metrics import Metrics
from titans_stream.stream.outbox import LEAST_LIMIT, Outbox
from titans_stream.stream.own_times import OwnTimes
from titans_stream.stream.parts import Parts, Signals
from titans_stream.stream.processing import PartitionNumbers, Processor
from titans_stream.stream.recovery import SnapshotStore, StoredSnapshot
from titans_stream.stream.settings import (
    ControlConfig,
    InputConfig,
    OutputConfig,
    WorkerSettings,
)
from titans_stream.stream.silence import Silence, SilenceThread
from titans_stream.stream.snapshot_wishes import SnapshotWishes
from titans_stream.stream.swap import Swapper
from titans_stream.stream.swap_reader import FETCH_BYTES, History
from titans_stream.stream.switch import Candidate, SwitchEngine
from titans_stream.stream.watch import Watch, Watched

log = logging.getLogger(__name__)

COMMIT_SECONDS = 5.0
"""A commit takes some tens of milliseconds; longer, and a broker is taken to have failed."""
_TOPIC_PATIENCE = 5.0
_ASK_AGAIN = 1.0
"""Seconds between two checks at the start while a broker is down."""
_CLOSE_SECONDS = 3.0
_TRANSACTION_SECONDS = 30.0
"""How long the broker keeps the open transaction of a worker that died, beside two commit
intervals: shorter than a consumer's session, so that nothing waits for it once others take over."""


class WorkerState(enum.Enum):
    """What the worker is doing."""

    CREATED = "created"
    CONNECTING = "connecting"
    RUNNING = "running"
    STOPPED = "stopped"


_NEXT = {
    WorkerState.CREATED: {WorkerState.CONNECTING},
    WorkerState.CONNECTING: {WorkerState.RUNNING, WorkerState.STOPPED},
    WorkerState.RUNNING: {WorkerState.STOPPED},
    WorkerState.STOPPED: set[WorkerState](),
}


class Worker:
    """Runs one connector until `stop` is called.

    `settings.input.group_id` must be set. `commit_timeout` bounds each commit and abort, in
    seconds; a commit that follows a failed one may take longer. `stop` and `heartbeat` as in
    `Signals`.
    """

    def __init__(
        self,
        clients: KafkaClients,
        engine: Engine,
        snapshots: SnapshotStore,
        settings: WorkerSettings,
        model: ModelRef,
        *,
        stop: threading.Event | None = None,
        commit_timeout: float = COMMIT_SECONDS,
        heartbeat: Callable[[], None] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        if not settings.input.group_id:
            raise ValueError("input.group_id: a consumer group is needed")
        self._clients = clients
        self._engine = engine
        self._snapshots = snapshots
        self._wishes = SnapshotWishes()
        self._settings = settings
        self.model = model
        self._commit_timeout = commit_timeout
        stop = stop if stop is not None else threading.Event()
        self._signals = Signals(stop, heartbeat=heartbeat)
        self.metrics = Metrics() if metrics is None else metrics
        self.state = WorkerState.CREATED
        self.ready = self._signals.ready
        """Set as soon as partitions are assigned and recovered for the first time."""

    def _to(self, state: WorkerState) -> None:
        assert state in _NEXT[self.state], f"{self.state.value} to {state.value}"
        self.state = state

    def stop(self) -> None:
        """Ask the worker to end; safe from any thread and from signal handlers."""
        self._signals.stop.set()

    def snapshot(self, seconds: float) -> int:
        """As `SnapshotWishes.ask`."""
        return self._wishes.ask(seconds)

    def run(self) -> None:
        """Work until `stop`, then finish, commit, snapshot and leave the group.

        ConnectError for what the user has to mend, FatalError for anything after which only a
        new start helps, also where Kafka does not answer for `delivery.give_up_after`. Both leave
        Kafka and the snapshots in a state to recover from.
        """
        self._to(WorkerState.CONNECTING)
        try:
            with ExitStack() as stack:
                loop = self._connect(stack)
                self._to(WorkerState.RUNNING)
                input = self._settings.input
                log.info("reading %s as group %s", input.subscription.text, input.group_id)
                loop.run(input.subscription)
        except StoppedError:
            log.info("stopped before Kafka could be reached")
        finally:
            self._to(WorkerState.STOPPED)

    def _connect(self, stack: ExitStack) -> Loop:
        """Open the clients; whatever happens later, `stack` closes them."""
        settings = self._settings
        topics = named_topics(settings.input, settings.output)
        if settings.control is not None:
            topics["control.journal"] = settings.control.journal
        limits = self._limits(topics)
        output = self._open_output()
        stack.callback(output.close, _CLOSE_SECONDS)
        outbox = Outbox(output, topics, limits, self.model, self.metrics)
        consumer = self._clients.consumer(settings.input.group_id)
        stack.callback(_close_quietly, consumer)
        codec = codec_for(settings.input)
        numbers = PartitionNumbers(settings.input.topic or None)
        processor = Processor(codec, self._engine, numbers, self.metrics)
        control = self._controller(consumer, processor)
        if control is not None:
            stack.callback(control.close)
        assignment = Assignment(
            consumer,
            self._engine,
            self._snapshots,
            settings.input,
            settings.state.snapshot_interval / SECOND,
            self.metrics,
            numbers.number,
            OwnTimes(lambda: self._clients.consumer(None), codec),
            control,
            self._wishes,
        )
        watch = Watch(
            Watched(
                self._engine,
                assignment,
                self.metrics,
                consumer.answered,
                self._signals.heartbeat,
                self._check_group,
            ),
            settings.delivery,
        )
        swap = self._swapper(numbers, control)
        if swap is not None:
            stack.callback(swap.reset)
        parts = Parts(
            consumer,
            assignment,
            processor,
            outbox,
            output,
            self.metrics,
            watch,
            swap,
            control,
        )
        loop = Loop(parts, settings.delivery, self._signals, self._commit_timeout)
        silence = Silence(
            self._clients.servers, consumer.answered, lambda: loop.joining_since is not None
        )
        stack.callback(SilenceThread(silence, self._signals.stop).close)
        return loop

    def _limits(self, topics: dict[str, str]) -> dict[str, int]:
        """As `output_limits`, once topics and group are in order.

        Asks again while a broker does not answer, until `delivery.give_up_after` or the stop.
        """
        stop = self._signals.stop
        patience = Patience(self._settings.delivery.give_up_after / SECOND)

        def check() -> dict[str, int]:
            if self._settings.control is not None:
                make_control_topics(self._clients, self._settings.control)
                topics.update(self._announced(self._settings.control))
            check_topics(self._clients, topics, stop)
            self._check_group()
            return output_limits(self._clients, topics)

        while True:
            try:
                return call_within(math.inf, "check of topics", check, stop)
            except UnansweredError as error:
                patience.failed(error)
                log.warning("waiting for Kafka: %s; trying again in %g s", error, _ASK_AGAIN)
            if stop.wait(_ASK_AGAIN):
                raise StoppedError("stopped")

    def _announced(self, config: ControlConfig) -> dict[str, str]:
        """The control topic, where the model can change and this user may write to it."""
        if not isinstance(self._engine, SwitchEngine):
            return {}
        info = self._clients.topics([config.topic])[config.topic]
        if info is not None and info.allows("WRITE"):
            return {"control.topic": config.topic}
        log.info("changes of the model are not announced: no permission to write %s", config.topic)
        return {}

    def _check_group(self) -> None:
        input = self._settings.input
        check_group(self._clients, input.group_id, input.subscription.has, self._signals.stop)

    def _controller(self, consumer: Consumer, processor: Processor) -> Controller | None:
        """What brings control messages to the engine, where there is a topic for them."""
        config, subscription = self._settings.control, self._settings.input.subscription
        if config is None:
            return None

        def first() -> TopicPartition:
            names = subscription.names or tuple(filter(subscription.has, consumer.topics()))
            return TopicPartition(min(names), 0)

        def open_consumer() -> Consumer:
            return self._clients.consumer(None)

        return Controller(
            ControlTopic(open_consumer, config.topic),
            Journal(open_consumer, config.journal),
            processor.control,
            first,
            self.metrics,
            self._engine.steer if isinstance(self._engine, SwitchEngine) else None,
        )

    def _swapper(self, numbers: PartitionNumbers, control: Controller | None) -> Swapper | None:
        """What changes the model, where the engine can."""
        if not isinstance(self._engine, SwitchEngine):
            return None
        config, codec = self._settings.swap, codec_for(self._settings.input)

        def open_history(
            partition: TopicPartition, until: int, load: Callable[[], StoredSnapshot | None]
        ) -> History:
            return History(
                lambda: self._clients.consumer(None, FETCH_BYTES),
                partition,
                until,
                config.warm_up,
                config.most_messages,
                load,
            )

        def replay(model: Candidate, messages: Sequence[RawMessage]) -> list[Alert]:
            return Processor(codec, model.engine, numbers, self.metrics).replay(messages)

        return Swapper(
            self._engine,
            config,
            open_history,
            replay,
            numbers.number,
            self.metrics,
            self._snapshots,
            control,
            self._settings.input.group_id,
        )

    def _open_output(self) -> Output:
        delivery = self._settings.delivery
        if delivery.mode == "at_least_once":
            return AtLeastOnceOutput(self._clients, self._commit_timeout)
        return ExactlyOnceOutput(
            self._clients,
            self._settings.input.group_id,
            delivery.transactional_id,
            self._commit_timeout,
            _TRANSACTION_SECONDS + 2 * delivery.commit_interval / SECOND,
        )


def _close_quietly(consumer: Consumer) -> None:
    """Close after a failure; does nothing to a consumer that is closed."""
    try:
        call_within(
            _CLOSE_SECONDS, "close", lambda: consumer.close(False, (_CLOSE_SECONDS - 1) * 1000)
        )
    except (FatalError, KafkaError) as error:
        log.debug("close: %s", error)


def named_topics(input: InputConfig, output: OutputConfig) -> dict[str, str]:
    """All topics that a worker uses and that have a name, by the name of their setting."""
    topics = {"input.topic": input.topic} if input.topic else {}
    topics |= {f"input.topics[{i}]": topic for i, topic in enumerate(input.topics)}
    topics |= {f"output.{name}": topic for name, topic in output.topics.items()}
    topics.setdefault("output.dead_letter", f"{input.topic or input.group_id}.dead-letter")
    return topics


def _is_input(setting: str) -> bool:
    return setting.startswith("input.")


def check_topics(
    clients: KafkaClients, topics: dict[str, str], stop: threading.Event | None = None
) -> dict[str, TopicInfo]:
    """What there is to know of the topics, given by the name of their setting.

    ConnectError naming setting and topic where one is missing or may not be used. The input topic
    may appear within some seconds.
    """
    deadline = Deadline(_TOPIC_PATIENCE)
    waiting = stop if stop is not None else threading.Event()
    while True:
        found = clients.topics(topics.values())
        missing = [name for name, topic in topics.items() if found[topic] is None]
        if not missing or not all(map(_is_input, missing)) or deadline.expired:
            break
        if waiting.wait(0.5):
            raise StoppedError("stopped")
    for name in missing:
        raise ConnectError(
            f"{name}: topic {topics[name]} does not exist on {clients.servers}; create it first"
        )
    known = {topic: info for topic, info in found.items() if info is not None}
    for name, topic in topics.items():
        operation = "READ" if _is_input(name) else "WRITE"
        if not known[topic].allows(operation):
            raise ConnectError(f"{name}: no permission to {operation.lower()} topic {topic}")
    return known


def output_limits(clients: KafkaClients, topics: dict[str, str]) -> dict[str, int]:
    """Bytes of the largest message of each output topic; `topics` as `named_topics` gives them.

    ConnectError for a topic whose messages are too small for any use.
    """
    names = {topic: name for name, topic in topics.items() if not _is_input(name)}
    limits = clients.message_limits(names)
    for topic, limit in limits.items():
        if limit < LEAST_LIMIT:
            raise ConnectError(
                f"{names[topic]}: topic {topic} takes messages of {limit:,} bytes, {LEAST_LIMIT:,} "
                "are needed: raise max.message.bytes and kafka.producer.max_request_size"
            )
    return limits


def run_until_signalled(worker: Worker) -> None:
    """Run in the main thread; SIGTERM and SIGINT end it in good order, a second one at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        for each, previous in before.items():
            signal.signal(each, previous)
        log.info("%s received", signal.Signals(number).name)
        worker.stop()

    before: dict[signal.Signals, Any] = {}
    for each in (signal.SIGTERM, signal.SIGINT):
        before[each] = signal.signal(each, handle)
    try:
        worker.run()
    finally:
        for each, previous in before.items():
            signal.signal(each, previous)
