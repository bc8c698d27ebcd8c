"""Several engines as one: each partition is on the engine of one model, and can change to another.

While a worker changes its model, some partitions are on the old one and some on the new one
(swap.py). All methods but `offer` belong to the loop's thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from titans_stream.records import (
    Alert,
    Capture,
    Engine,
    EngineFigures,
    Int64,
    ModelRef,
    Order,
    Readings,
    Results,
    Snapshot,
)
from titans_stream.stream.metrics import TellsState

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that is loaded and checked, with an engine that has no state yet."""

    ref: ModelRef
    engine: Engine

    @property
    def key(self) -> str:
        """`name/version`, as the metadata of committed offsets has it."""
        return f"{self.ref.name}/{self.ref.version}"


class SwitchEngine:
    """Implements `records.Engine` over the engines of several models.

    `resolve` gives the model of a key that a committed offset names, None where it is not to be
    had any more. `steer` takes control messages that name the model; it is to `offer` or `stay`
    some time later.
    """

    def __init__(
        self,
        first: Candidate,
        resolve: Callable[[str], Candidate | None],
        steer: Callable[[Order], None] | None = None,
    ) -> None:
        self._steer = steer
        self._engines = {first.key: first}
        self._resolve = resolve
        self._of: dict[int, str] = {}
        self.target = first
        """The model that partitions are to be on."""
        self._offered: Candidate | None = None
        self._change: Callable[[Engine], None] | None = None
        self._lock = threading.Lock()
        self.refused: set[str] = set()
        """Keys of models that were offered and found bad."""
        self.choosing = False
        """Whether the target may become another one at once: no partition changes meanwhile."""

    # --- models

    def offer(self, candidate: Candidate, insist: bool = False) -> None:
        """Have all partitions change to a model; safe from any thread.

        `insist`: though it was refused before.
        """
        with self._lock:
            self._offered = candidate
            if insist:
                self.refused.discard(candidate.key)

    def steer(self, order: Order) -> None:
        """A control message names the model: no partition changes until it is known."""
        if self._steer is not None:
            self.choosing = True
            self._steer(order)

    def stay(self) -> None:
        """What a control message named is refused: go on as it was. From any thread."""
        self.choosing = False

    def offer_change(self, change: Callable[[Engine], None]) -> None:
        """Have all engines changed between two turns of the loop; safe from any thread."""
        with self._lock:
            self._change = change

    @property
    def change_due(self) -> bool:
        """Whether a change was offered and not made yet."""
        return self._change is not None

    def make_change(self) -> None:
        """Change all engines, that of an offer too."""
        with self._lock:
            change, self._change = self._change, None
            offered = [] if self._offered is None else [self._offered]
            if change is not None:
                for one in {id(x): x for x in (*self._engines.values(), *offered)}.values():
                    change(one.engine)

    def accept(self) -> bool:
        """Take what was offered last as the target; whether there was anything new."""
        with self._lock:
            offered, self._offered = self._offered, None
        if offered is not None:
            self.choosing = False
        if offered is None or offered.key in (self.target.key, *self.refused):
            return False
        self.target = self._engines.setdefault(offered.key, offered)
        return True

    def refuse(self, key: str) -> None:
        """Give up a target; partitions stay on, or go back to, what most of them have."""
        self.refused.add(key)
        others = [k for k in self._of.values() if k != key]
        if others:
            self.target = self._engines[max(set(others), key=others.count)]

    def model(self, partition: int) -> Candidate:
        """What a partition is on."""
        return self._engines[self._of.get(partition, self.target.key)]

    def in_use(self) -> dict[ModelRef, int]:
        """Partitions by the model that they are on."""
        found: dict[ModelRef, int] = {}
        for key in list(self._of.values()):
            ref = self._engines[key].ref
            found[ref] = found.get(ref, 0) + 1
        return found

    def choose(self, partition: int, key: str) -> Candidate:
        """Put a partition, whose state is to be built anew, on the model of `key`.

        Where that is nothing or not to be had: on the target.
        """
        if key and key not in self._engines:
            found = self._resolve(key)
            if found is None:
                log.warning("model %s is not to be had any more; going on with another", key)
            else:
                self._engines[key] = found
        chosen = self._engines.get(key, self.target)
        if self._of.get(partition, chosen.key) != chosen.key:
            self.release(partition)
        self._of[partition] = chosen.key
        return chosen

    def move(self, partition: int, key: str) -> None:
        """Change a partition to a model whose engine has its state already."""
        old = self.model(partition).engine
        silent = old.silent_since(partition)
        if any(silent):
            self._engines[key].engine.set_silent_since(partition, silent)
        old.release(partition)
        self._of[partition] = key

    def forget_unused(self) -> None:
        """Let go of the models that no partition is on and none is to be on."""
        used = {*self._of.values(), self.target.key}
        self._engines = {key: one for key, one in self._engines.items() if key in used}

    def parts(self, readings: Readings) -> list[tuple[ModelRef, Int64]]:
        """Which readings go to which model, by place."""
        partitions = np.unique(readings.partition).tolist()
        by_key: dict[str, list[int]] = {}
        for partition in partitions:
            by_key.setdefault(self.model(partition).key, []).append(partition)
        if len(by_key) <= 1:
            model = self.model(partitions[0]) if partitions else self.target
            return [(model.ref, np.arange(len(readings), dtype=np.int64))]
        return [
            (self._engines[key].ref, np.flatnonzero(np.isin(readings.partition, mine)))
            for key, mine in by_key.items()
        ]

    # --- records.Engine

    @property
    def state_schema(self) -> str:
        """That of the target; see `model` for a partition's."""
        return self.target.engine.state_schema

    def process(self, readings: Readings) -> Results:
        """Readings of partitions that are on one model."""
        first = int(readings.partition[0]) if len(readings) else -1
        return self.model(first).engine.process(readings)

    def snapshot(self, partition: int) -> Snapshot:
        """As `Engine.snapshot`."""
        return self.model(partition).engine.snapshot(partition)

    def capture(self, partition: int, since: int | None) -> Capture:
        """As `Engine.capture`."""
        return self.model(partition).engine.capture(partition, since)

    def mark(self, partition: int) -> int:
        """As `Engine.mark`."""
        return self.model(partition).engine.mark(partition)

    def restore(self, partition: int, snapshot: Snapshot) -> None:
        """As `Engine.restore`."""
        self.model(partition).engine.restore(partition, snapshot)

    def release(self, partition: int) -> None:
        """As `Engine.release`."""
        self.model(partition).engine.release(partition)
        self._of.pop(partition, None)

    def series_count(self) -> int:
        """Of the models that partitions are on."""
        keys = {*self._of.values()} or {self.target.key}
        return sum(self._engines[key].engine.series_count() for key in keys)

    def figures(self) -> EngineFigures:
        """Of all models that are held."""
        found = [one.engine.figures() for one in self._engines.values()]
        return EngineFigures(*(sum(column) for column in zip(*found, strict=True)))

    def info(self) -> dict[str, int | str]:
        """Of all models that are held: the sum of each figure that is a number."""
        found: dict[str, int | str] = {}
        for one in list(self._engines.values()):
            if isinstance(one.engine, TellsState):
                for name, figure in one.engine.info().items():
                    before = found.get(name, 0)
                    if isinstance(figure, int) and isinstance(before, int):
                        figure += before
                    found[name] = figure
        return found

    def tick(self, partition: int, silence: int, patience: int, offset: int) -> list[Alert]:
        """As `Engine.tick`."""
        return self.model(partition).engine.tick(partition, silence, patience, offset)

    def silent_since(self, partition: int) -> list[int]:
        """As `Engine.silent_since`."""
        return self.model(partition).engine.silent_since(partition)

    def set_silent_since(self, partition: int, since: list[int]) -> None:
        """As `Engine.set_silent_since`."""
        self.model(partition).engine.set_silent_since(partition, since)

    def control(self, partition: int, order: Order, offset: int) -> list[Alert]:
        """As `Engine.control`."""
        return self.model(partition).engine.control(partition, order, offset)

    def series_warning(self) -> str:
        """As `Engine.series_warning`, of the target."""
        return self.target.engine.series_warning()
