"""The state of a partition outside the engine: whole, or as it is copied out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The engine's state of one partition.

    `arrays` holds numeric columns only; `meta` is JSON (series ids, counters). `schema` names
    the layout of both: one that is not `restorable` is refused. `parts`: the state of single
    series is not in it but in these, each of which names its series; where two have one, the first
    counts. None: everything is in the snapshot itself.
    """

    schema: str
    meta: dict[str, Any]
    arrays: dict[str, npt.NDArray[Any]]
    parts: Iterable[Snapshot] | None = None


class Capture(Protocol):
    """The state of a partition as it is at one moment, copied out little by little.

    `step` is called by the thread of the engine, which goes on with readings meanwhile;
    `snapshot.parts` gives what was copied so far, and waits for more, to one other thread.
    """

    snapshot: Snapshot
    whole: bool
    """Whether all series are in the parts, or those only that were touched since a mark."""
    mark: int
    """What is touched from now on is touched since this mark."""

    def step(self, seconds: float) -> bool:
        """Copy for about so long; whether all is copied."""

    def cancel(self) -> None:
        """Give up: `snapshot.parts` raises CancelledError where it is not at its end."""


def restorable(stored: str, wanted: str) -> bool:
    """Whether an engine of schema `wanted` takes a snapshot of schema `stored`.

    What stands before a `+` must be equal; the state that the rest names begins anew where the
    rest differs.
    """
    return stored.partition("+")[0] == wanted.partition("+")[0]
