"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]


def pytest_configure() -> None:
    """A shell that runs pytest in the background has it ignore Ctrl-C, and processes inherit
    that: tests that press it need the default."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of public data sets; tests that need it skip where it is missing."""
    root = Path(os.environ.get("TITANS_DATA", REPO.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no data sets at {root}; set TITANS_DATA to run the tests that need them")
    return root


@pytest.fixture(scope="session")
def kafka_bootstrap() -> str:
    """A real Apache Kafka; tests that need it skip where none is running, but fail in CI."""
    servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if servers:
        return servers
    message = "no Kafka: run `make kafka` or set KAFKA_BOOTSTRAP_SERVERS"
    if os.environ.get("TITANS_REQUIRE_KAFKA") == "1":
        pytest.fail(message)
    pytest.skip(message)
