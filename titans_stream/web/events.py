"""News for open pages, as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
from starlette.requests import Request

_LOOK_SECONDS = 1.0
_KEEP_ALIVE_SECONDS = 15.0
MOST_STREAMS = 100


class TooManyError(RuntimeError):
    """So many pages are open."""


class Events:
    """Tells each open page what has changed, at most once a second.

    `status` gives the news; a page asks for what it shows. The state is sent, not the change, so
    that a page that was away lacks nothing.
    """

    def __init__(self, status: Callable[[], dict[str, Any]]) -> None:
        self._status = status
        self._open = 0
        self._closing = False

    def close(self) -> None:
        """End all streams."""
        self._closing = True

    def stream(self, request: Request) -> AsyncIterator[bytes]:
        """The events of one page. TooManyError where `MOST_STREAMS` are open."""
        if self._open >= MOST_STREAMS:
            raise TooManyError(f"{MOST_STREAMS} pages are open already")
        return self._stream(request)

    async def _stream(self, request: Request) -> AsyncIterator[bytes]:
        self._open += 1
        try:
            last, quiet = b"", 0.0
            yield b"retry: 3000\n\n"
            while not self._closing and not await request.is_disconnected():
                now = orjson.dumps(await asyncio.to_thread(self._status))
                if now != last or quiet >= _KEEP_ALIVE_SECONDS:
                    yield b"event: status\ndata: " + now + b"\n\n"
                    last, quiet = now, 0.0
                await asyncio.sleep(_LOOK_SECONDS)
                quiet += _LOOK_SECONDS
        finally:
            self._open -= 1
