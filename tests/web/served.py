"""A service behind a real server on loopback, and requests to it."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import uvicorn

from titans_stream.web.events import Events
from titans_stream.web.security import Access
from titans_stream.web.server import build_app
from titans_stream.web.service import Service


@dataclass(frozen=True)
class Answer:
    code: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Site:
    """A running server."""

    address: str
    service: Service

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=60)
        try:
            sent = None if body is None else body if isinstance(body, bytes) else json.dumps(body)
            more = {} if body is None else {"content-type": "application/json"}
            connection.request(method, path, sent, {**more, **(headers or {})})
            found = connection.getresponse()
            told = {name.lower(): text for name, text in found.getheaders()}
            return Answer(found.status, told, found.read())
        finally:
            connection.close()

    def get(self, path: str, **query: Any) -> Answer:
        return self.ask("GET", path + ("?" + urlencode(query, doseq=True) if query else ""))

    def post(self, path: str, body: Any) -> Answer:
        return self.ask("POST", path, body)


class _Quiet:
    """Starts no threads that look for Kafka: the tests give the messages themselves."""

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass


@contextmanager
def served(service: Service, access: Access | None = None) -> Iterator[Site]:
    """Serve until the end of the block."""
    service.reader.progress.problem = ""
    service.start = service.stop = _Quiet().start  # type: ignore[method-assign]
    events = Events(service.views.status)
    app = build_app(service, access or Access(), events)
    server = uvicorn.Server(
        uvicorn.Config(
            app, host="127.0.0.1", port=0, log_config=None, access_log=False, server_header=False,
            timeout_graceful_shutdown=1,
        )
    )  # fmt: skip
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            thread.join(0.05)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Site(f"http://127.0.0.1:{port}", service)
    finally:
        events.close()
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive(), "the server did not end"
