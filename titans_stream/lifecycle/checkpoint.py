"""What a training that was interrupted goes on from: a file of tensors and plain numbers.

It is written after each epoch and removed when the training is done. Its name holds a digest of the
recipe, of the data and of this version: with others a training begins anew. It is read with
`weights_only`, so that nothing in it is executed.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import titans_stream
from titans_stream.whole_files import write_whole

log = logging.getLogger(__name__)

FORMAT = 1


class Checkpoint:
    """The file of one training."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, recipe: Mapping[str, object], fingerprint: str) -> Checkpoint:
        """That of a recipe on some data, in the user's cache."""
        text = json.dumps([FORMAT, titans_stream.__version__, recipe, fingerprint], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:24]
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cls(cache / "titans-stream" / "training" / f"{digest}.pt")

    def load(self) -> dict[str, Any] | None:
        """What was saved last; None where there is nothing, or nothing whole."""
        if not self.path.is_file():
            return None
        try:
            state = torch.load(self.path, weights_only=True)
        except Exception as error:  # noqa: BLE001 whatever a damaged file leads to
            log.warning("%s: passed over, training begins anew: %s", self.path, error)
            return None
        if not isinstance(state, dict) or not state.get("passes"):
            return None
        log.warning("going on after epoch %d of an interrupted training", len(state["passes"]))
        return state

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep a state; a disk that is full is only logged."""
        content = io.BytesIO()
        torch.save(dict(state), content)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, content.getvalue())
        except OSError as error:
            log.warning("no checkpoint: %s", error)

    def done(self) -> None:
        """Remove it."""
        self.path.unlink(missing_ok=True)
