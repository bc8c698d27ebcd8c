"""The newest forecast of each series, as the bytes of its message, within a limit."""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from titans_stream.records import Forecast


class Forecasts:
    """Keeps at most `most_bytes`; beyond that those that came first go."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._size = 0
        self._messages: OrderedDict[str, bytes] = OrderedDict()
        self._decoder = msgspec.json.Decoder(Forecast)

    def __len__(self) -> int:
        return len(self._messages)

    def take(self, series_id: str, message: bytes) -> None:
        """Take a message, which is read when it is asked for."""
        old = self._messages.pop(series_id, b"")
        self._messages[series_id] = message
        self._size += len(message) - len(old)
        while self._size > self._most and self._messages:
            self._size -= len(self._messages.popitem(last=False)[1])

    def of(self, series_id: str) -> Forecast | None:
        """The newest forecast of a series; None where there is none or it cannot be read."""
        message = self._messages.get(series_id)
        if message is None:
            return None
        try:
            return self._decoder.decode(message)
        except ValueError:
            return None
