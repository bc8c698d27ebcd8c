"""The embedded development broker: Kafka's protocol in this process, for demos and tests.

It serves producers (idempotent and transactional), consumers and consumer groups, read_committed
and the admin client, as kafka-python, librdkafka and kcat speak to it. One node, no replication,
no authentication, loopback only: for development, never for data that matters. Everything is kept
in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from kafka.errors import BrokerResponseError

from titans_stream.devbroker.cluster import Cluster
from titans_stream.devbroker.server import Server

log = logging.getLogger(__name__)

STOP_SECONDS = 10.0


def loopback(host: str) -> str:
    """The address to bind to. ValueError for one that other machines can reach."""
    if host == "localhost":
        return "127.0.0.1"
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return host
    raise ValueError(
        f"host: the development broker has no authentication and listens on loopback addresses "
        f"only, such as 127.0.0.1, not on {host!r}"
    )


class DevBroker:
    """A broker on a loopback address.

    topics: name to number of partitions, made at the start if they are not there.
    auto_create: make topics that clients ask for, with `default_partitions`.
    max_message_bytes: larger record batches are refused (MESSAGE_TOO_LARGE).
    retention_bytes: keep about this much of each partition, the newest; None: all.

    `start` runs it in a thread of its own, `serve` in the running event loop, `run_forever` in
    this thread. After `stop` or `kill` it can be started again, empty, on the same port.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        topics: Mapping[str, int] | None = None,
        auto_create: bool = True,
        default_partitions: int = 1,
        max_message_bytes: int = 1048576,
        retention_bytes: int | None = None,
    ) -> None:
        self.host = loopback(host)
        self.port = port
        self._topics = dict(topics or {})
        self._auto_create = auto_create
        self._default_partitions = default_partitions
        self._max_message_bytes = max_message_bytes
        self._retention_bytes = retention_bytes
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cluster: Cluster | None = None
        self._server: Server | None = None
        self._stopping: asyncio.Event | None = None

    @property
    def bootstrap(self) -> str:
        """The address for clients' `bootstrap_servers`; known once the broker has started."""
        if self.port == 0:
            raise RuntimeError("the broker has no port before it starts")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def start(self) -> Self:
        """Serve from a background thread; returns when clients can connect.

        OSError if the port is taken, ValueError as in `serve`.
        """
        if self._thread:
            raise RuntimeError("the broker runs already")
        started: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(started,), name="dev-broker", daemon=True
        )
        self._thread.start()
        try:
            started.result()
        except (OSError, ValueError, RuntimeError):
            self._thread = None
            raise
        return self

    def stop(self) -> None:
        """Close the connections and end; nothing if it does not run."""
        self._end(self._close)

    def kill(self) -> None:
        """End as if the process died: connections are cut, nothing is tidied up."""
        self._end(self._abort)

    def drop_connections(self) -> None:
        """Cut all connections as a network would; the broker goes on."""
        if self._loop and self._server:
            self._loop.call_soon_threadsafe(self._server.abort_connections)

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """Make a topic. ValueError if it exists with another number of partitions."""
        cluster = self._cluster
        if self._loop is None or cluster is None:
            self._topics[name] = partitions
        elif self._loop_is_running_here():
            create(cluster, {name: partitions})
        else:
            made = _created(cluster, {name: partitions})
            asyncio.run_coroutine_threadsafe(made, self._loop).result(STOP_SECONDS)

    async def serve(self, on_start: Callable[[], None] | None = None) -> None:
        """Serve until stopped or cancelled; `on_start` is called when clients can connect.

        ValueError where a topic cannot be made.
        """
        self._cluster = Cluster(
            max_message_bytes=self._max_message_bytes, retention_bytes=self._retention_bytes
        )
        self._server = Server(self._cluster)
        self._stopping = asyncio.Event()
        try:
            create(self._cluster, self._topics)
            self.port = await self._server.start(
                self.host,
                self.port,
                auto_create=self._auto_create,
                default_partitions=self._default_partitions,
            )
            self._loop = asyncio.get_running_loop()
            log.warning(
                "development only: broker on %s, no replication, no security", self.bootstrap
            )
            if on_start:
                on_start()
            await self._stopping.wait()
        finally:
            self._loop = None
            await self._server.close()

    def run_forever(self, on_start: Callable[[], None] | None = None) -> None:
        """Serve in this thread until Ctrl-C; the errors are those of `serve` and OSError."""
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(self.serve(on_start))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self, started: Future[None]) -> None:
        """The thread: whatever ends it before it serves goes to whoever waits for the start."""
        try:
            asyncio.run(self.serve(lambda: started.set_result(None)))
        except (OSError, ValueError) as error:
            if started.done():
                raise
            started.set_exception(error)
        finally:
            if not started.done():
                started.set_exception(RuntimeError("the broker ended while it started"))

    def _end(self, how: Callable[[], None]) -> None:
        loop, thread = self._loop, self._thread
        if loop:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                loop.call_soon_threadsafe(how)
        if thread:
            thread.join(STOP_SECONDS)
            self._thread = None

    def _close(self) -> None:
        if self._stopping:
            self._stopping.set()

    def _abort(self) -> None:
        if self._server:
            self._server.abort_connections()
        self._close()

    def _loop_is_running_here(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False


def create(cluster: Cluster, topics: Mapping[str, int]) -> None:
    """Make the topics that are not there. ValueError where one cannot be."""
    for name, partitions in topics.items():
        topic = cluster.topics.get(name)
        if topic is None:
            try:
                cluster.create_topic(name, partitions)
            except BrokerResponseError as error:
                raise ValueError(f"topics: {error}") from error
        elif len(topic.partitions) != partitions:
            raise ValueError(
                f"topics: {name!r} has {len(topic.partitions)} partitions, not {partitions}"
            )


async def _created(cluster: Cluster, topics: Mapping[str, int]) -> None:
    """`create`, on the broker's own loop."""
    create(cluster, topics)
