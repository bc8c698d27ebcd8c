"""Serves page and API over HTTP."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from titans_stream.web.api import build_api
from titans_stream.web.events import Events
from titans_stream.web.security import Access, Guard
from titans_stream.web.service import Service
from titans_stream.web.site import build_site

_GRACE_SECONDS = 3


def build_app(service: Service, access: Access, events: Events | None = None) -> Guard:
    """The whole application, which reads while it runs."""
    events = events or Events(service.views.status)
    api = build_api(service, events)
    api.include_router(build_site(access))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        events.close()
        service.stop()

    api.router.lifespan_context = lifespan
    return Guard(api, access)


class _Server(uvicorn.Server):
    """Ends streams of events when it is asked to end: they would hold it up."""

    def __init__(
        self, config: uvicorn.Config, host: str, events: Events, ready: Callable[[str], None]
    ) -> None:
        super().__init__(config)
        self._host = host
        self._events = events
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            # by the name that requests may go by, not the address behind it
            host, port = self._host, self.servers[0].sockets[0].getsockname()[1]
            self._ready(f"http://{f'[{host}]' if ':' in host else host}:{port}/")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._events.close()
        await super().shutdown(sockets)


def _bind(listening: socket.socket, host: str, port: int) -> None:
    """ValueError names the option that is wrong."""
    try:
        listening.bind((host, port))
    except OSError as error:
        of_host = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
        option = f"--host {host}" if of_host else f"--port {port}"
        raise ValueError(f"{option}: {error.strerror or error}") from error


def serve(service: Service, access: Access, port: int, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; `ready` hears the address. ValueError where it cannot."""
    family = socket.AF_INET6 if ":" in access.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(listening, access.host, port)
        events = Events(service.views.status)
        config = uvicorn.Config(
            build_app(service, access, events),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            ws="none",
            lifespan="on",
        )
        _Server(config, access.host, events, ready).run([listening])
    finally:
        listening.close()
