"""Run the worker of a connector: read its topic, publish alerts, commit, until SIGTERM or Ctrl-C.

Several workers may run for one connector: Kafka shares the topic's partitions out among them. A
signal ends the worker in good order (it commits, saves its memories and leaves the group); a
second one ends it at once, and nothing is lost then either. SIGHUP has it read the connector's
rules and budgets (`alerts`) again.
"""

from __future__ import annotations

import argparse
import gc
import logging
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from titans_stream.commands.page_beside import add_page, page_beside
from titans_stream.commands.serving import add_http_port

if TYPE_CHECKING:
    from titans_stream.config import Connector

log = logging.getLogger(__name__)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("connector", metavar="CONNECTOR.yaml", type=Path)
    parser.add_argument(
        "--watch", action="store_true", help="take changed rules and budgets when the file changes"
    )
    add_http_port(parser)
    add_page(parser)


def run(args: argparse.Namespace) -> int:
    """Work, with the page beside it if that is wanted."""
    from titans_stream.config import load_connector

    connector = load_connector(args.connector)
    with page_beside(args):
        return _work(args, connector)


def _work(args: argparse.Namespace, connector: Connector) -> int:
    """Build engine and worker, and work."""
    from titans_stream.commands.memories import (
        connector_engine,
        connector_snapshots,
        lost_memories,
    )
    from titans_stream.commands.reloading import Reloading
    from titans_stream.commands.serving import serve_worker, worker_metrics
    from titans_stream.commands.swapping import swapping_engine
    from titans_stream.commands.worker_jobs import worker_jobs
    from titans_stream.engine.build import compile_kernels
    from titans_stream.engine.device.choice import choose
    from titans_stream.lifecycle.loading import load_model
    from titans_stream.lifecycle.model_cache import ModelCache
    from titans_stream.lifecycle.model_watch import load_served
    from titans_stream.ops.health import Pulse, health_file
    from titans_stream.stream.kafka.client import KafkaClients
    from titans_stream.stream.kafka.errors import FatalError
    from titans_stream.stream.settings import WorkerSettings
    from titans_stream.stream.worker import Worker, run_until_signalled

    cache = ModelCache(Path(connector.state.path) / "models")
    registered = connector.model.startswith("models:")
    model = load_served(connector.model, cache) if registered else load_model(connector.model)
    log.info("loading the kernels; the first time they are compiled, which takes a minute or two")
    chosen = choose(connector.engine, connector.forecast is not None)
    log.info("%s", chosen.why)
    compile_kernels(
        model,
        "cpu" if chosen.device is None else "cuda",
        connector.input.group is not None,
        connector.forecast is not None,
    )
    engine = connector_engine(connector, model)
    snapshots = connector_snapshots(connector, model)
    log.info(
        "connector %s: topics %s, device %s, model %s version %s, %s bytes of memory per series",
        connector.name,
        connector.input.subscription.text,
        engine.info()["device"],
        model.ref.name,
        model.ref.version,
        engine.state_bytes,
    )
    switch = swapping_engine(connector, model, engine, cache)
    lost = None if registered else lost_memories(connector, engine, snapshots)
    if lost is not None:
        log.warning("%s", lost)
    stop = threading.Event()
    pulse = Pulse(health_file())
    with ExitStack() as stack:
        worker = Worker(
            KafkaClients(connector.kafka, stop=stop),
            switch.engine,
            snapshots,
            WorkerSettings(
                connector.input,
                connector.output,
                connector.delivery,
                connector.state,
                connector.swap,
                connector.control,
            ),
            model.ref,
            stop=stop,
            heartbeat=pulse,
            metrics=worker_metrics(stack, connector),
        )
        # what is loaded by now stays: searching it for garbage would hold the loop up for tenths
        # of a second, now and then, with MLflow in the process
        gc.collect()
        gc.freeze()
        reloading = Reloading(args.connector, connector, switch.reload, worker.metrics)
        reloading.start(args.watch)
        stack.callback(switch.stop)
        stack.callback(reloading.stop)
        serve_worker(stack, connector, args.http_port, worker, pulse)
        stack.enter_context(worker_jobs(connector, worker, switch))
        try:
            run_until_signalled(worker)
        except FatalError as error:
            log.error("%s; the next start recovers", error)
            return 1
    return 0
