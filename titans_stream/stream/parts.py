"""What the loop drives, and what passes between a worker and whoever watches it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from titans_stream.stream.assignment import Assignment
from titans_stream.stream.commit import Output
from titans_stream.stream.control import Controller
from titans_stream.stream.kafka.protocols import Consumer
from titans_stream.stream.metrics import Metrics
from titans_stream.stream.outbox import Outbox
from titans_stream.stream.processing import Processor
from titans_stream.stream.swap import Swapper
from titans_stream.stream.watch import Watch


@dataclass(frozen=True, slots=True)
class Parts:
    """What the loop drives, in the order in which a message meets it."""

    consumer: Consumer
    assignment: Assignment
    processor: Processor
    outbox: Outbox
    output: Output
    metrics: Metrics
    watch: Watch
    swap: Swapper | None = None
    """None: the model does not change."""
    control: Controller | None = None
    """None: there is no control topic."""


@dataclass(frozen=True, slots=True)
class Signals:
    """What passes between a worker and whoever watches it.

    `stop` asks the worker to end. `ready` is set once partitions are assigned and recovered for
    the first time. `heartbeat` is called about twice a second while work is done (watch.py).
    """

    stop: threading.Event = field(default_factory=threading.Event)
    ready: threading.Event = field(default_factory=threading.Event)
    heartbeat: Callable[[], None] | None = None
