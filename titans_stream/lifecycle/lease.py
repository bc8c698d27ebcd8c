"""A lease in the registry, so that replicas do not do the same work twice.

A tag of the registered model names who holds it and until when. MLflow has no compare-and-set: who
takes a lease looks again after a moment, and has it if its own name stands there still.
"""

from __future__ import annotations

import os
import random
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from titans_stream.durations import SECOND
from titans_stream.lifecycle.mlflow_library import MlflowException
from titans_stream.lifecycle.tracking import TrackingServer

_SETTLE_SECONDS = 1.0


class LeasedError(Exception):
    """Another replica has the lease."""


@contextmanager
def lease(server: TrackingServer, model: str, job: str, duration: int) -> Iterator[None]:
    """Hold the lease of a job on a registered model for at most `duration` nanoseconds.

    LeasedError where another one has it.
    """
    tag, mine = f"lease.{job}", f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    client = server.client
    with server.errors(f"lease of {model}"):
        try:
            tags = dict(client.get_registered_model(model).tags)
        except MlflowException:
            tags = {}
            client.create_registered_model(model)
        _check(tags.get(tag, ""), job)
        until = time.time_ns() + duration
        client.set_registered_model_tag(model, tag, f"{mine} {until // SECOND}")
        time.sleep(_SETTLE_SECONDS * (1 + random.random()))
        found = dict(client.get_registered_model(model).tags).get(tag, "")
        if found.partition(" ")[0] != mine:
            _check(found, job)
            raise LeasedError(f"job {job}: another replica took the lease")
    try:
        yield
    finally:
        with server.errors(f"lease of {model}"):
            found = dict(client.get_registered_model(model).tags).get(tag, "")
            if found.partition(" ")[0] == mine:
                client.delete_registered_model_tag(model, tag)


def _check(held: str, job: str) -> None:
    holder, _, until = held.partition(" ")
    if until.isdecimal() and int(until) > time.time():
        raise LeasedError(f"job {job}: {holder} has the lease for {int(until) - time.time():.0f} s")
