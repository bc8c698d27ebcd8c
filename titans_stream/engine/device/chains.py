"""The order in which a device's threads take the readings of a call."""

from __future__ import annotations

import numpy as np

from titans_stream.engine.device import threads
from titans_stream.engine.device.api import Buffers
from titans_stream.engine.device.store import DeviceStore
from titans_stream.records import Int64


class Chains:
    """Makes chains of readings whose slots are those of a store."""

    def __init__(self, buffers: Buffers, store: DeviceStore) -> None:
        self._buffers = buffers
        self._store = store
        self._last = threads.new_last(0)

    def order(self, slots: Int64) -> tuple[int, threads.Chain]:
        """The number of series of N readings, and the order in which threads take them."""
        if len(self._last) < self._store.capacity:
            self._last = threads.new_last(self._store.capacity)
        heads, following = np.empty(len(slots), np.int64), np.empty(len(slots), np.int64)
        count = threads.chain(slots, self._last, heads, following)
        put = self._buffers.put
        return count, threads.Chain(
            put("heads", heads[:count]), put("following", following), put("slots", slots)
        )
