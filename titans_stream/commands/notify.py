"""Tell people of a connector's alerts: Alertmanager and webhooks, until SIGTERM or Ctrl-C.

A process of its own, beside the worker: a receiver that cannot be reached holds up neither the
stream nor another receiver. Every message is delivered at least once; `notify:` of the connector
says who is told what.
"""

from __future__ import annotations

import argparse
import logging
import threading
from contextlib import ExitStack
from pathlib import Path

from titans_stream.commands.serving import add_http_port

log = logging.getLogger(__name__)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("connector", metavar="CONNECTOR.yaml", type=Path)
    add_http_port(parser)


def run(args: argparse.Namespace) -> int:
    """Deliver until a signal."""
    from titans_stream.config import load_connector

    connector = load_connector(args.connector)
    if connector.notify.alertmanager is None and not connector.notify.webhooks:
        raise ValueError(f"{args.connector}: notify: alertmanager or webhooks are needed")

    from titans_stream.commands.serving import serve
    from titans_stream.commands.signals import stopped_by_signal
    from titans_stream.ops.health import MOST_AGE
    from titans_stream.ops.http import Answer, Probes
    from titans_stream.ops.notify.service import NotifyCollector, couriers, deliver
    from titans_stream.stream.kafka.client import KafkaClients
    from titans_stream.stream.kafka.errors import ConnectError

    stop = threading.Event()
    clients = KafkaClients(connector.kafka, stop=stop)
    running = couriers(connector, clients, stop)

    def health() -> Answer:
        oldest = max(running, key=lambda courier: courier.pulse.age)
        age = oldest.pulse.age
        return Answer(age <= MOST_AGE, f"{oldest.name} got on {age:.0f} s ago")

    def ready() -> Answer:
        missing = [courier.name for courier in running if not courier.numbers.joined]
        return Answer(not missing, f"waiting for {', '.join(missing)}" if missing else "ready")

    with ExitStack() as stack:
        stack.enter_context(stopped_by_signal(stop))
        serve(stack, connector, args.http_port, NotifyCollector(running), Probes(health, ready))
        topic = connector.output.alerts
        if clients.topics([topic])[topic] is None:
            raise ConnectError(
                f"output.alerts: topic {topic} does not exist on {clients.servers}; create it first"
            )
        names = ", ".join(courier.name for courier in running)
        log.info("reading %s for %s", topic, names)
        deliver(running, stop)
    return 0
