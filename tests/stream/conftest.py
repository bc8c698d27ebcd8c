"""Fixtures shared by the tests of the worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from titans_stream.devbroker.broker import DevBroker


@pytest.fixture(scope="module")
def broker() -> Iterator[DevBroker]:
    running = DevBroker(auto_create=False).start()
    yield running
    running.stop()
