"""What commands write: lines for people, and files that must not be the ones they read."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from titans_stream.printable import printable

if TYPE_CHECKING:
    from titans_stream.records import Scores

MANY = 0.1
"""Share of readings that may be dropped before a run says so."""


def say(text: str) -> None:
    """Print a line of the result at once; what is not printable in it is escaped."""
    sys.stdout.write(printable(text) + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Tell a person something beside the result, on standard error; escaped as by `say`."""
    sys.stderr.write(printable(text) + "\n")


def refuse_overwriting(
    outputs: Mapping[str, str | Path | None], inputs: Iterable[str | Path | None]
) -> None:
    """ValueError where an output, by its option, is a file that is read or another output.

    Files are compared by their identity, not by their names. `-` is the standard output, None
    what is not given.
    """
    taken = {_identity(path): f"{path}, which is read" for path in inputs if path is not None}
    for option, path in outputs.items():
        if path is None:
            continue
        identity = _identity(path)
        if identity is not None and identity in taken:
            raise ValueError(f"{option} {path}: would overwrite {taken[identity]}")
        taken[identity] = f"what {option} writes"


def _identity(path: str | Path) -> Hashable:
    """What two names of one regular file have in common; None for what is no regular file."""
    is_output = str(path) == "-"
    try:
        found = os.fstat(sys.stdout.fileno()) if is_output else Path(path).stat()
    except OSError:
        return None if is_output else Path(path).resolve()
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


@dataclass
class Dropped:
    """Readings of a run that were taken for nothing, beside all of them."""

    readings: int = 0
    duplicate: int = 0
    late: int = 0

    def count(self, scores: Scores) -> None:
        """Take what the engine said of some readings."""
        from titans_stream.records import Status

        self.readings += len(scores)
        self.duplicate += int((scores.status == Status.DUPLICATE).sum())
        self.late += int((scores.status == Status.LATE).sum())

    def warn(self, what: str = "were dropped") -> None:
        """Note it where they are many; a run's last line."""
        dropped = self.duplicate + self.late
        if dropped > MANY * self.readings:
            note(
                f"warning: {dropped:,} of {self.readings:,} readings {what}: their series had "
                f"the same time ({self.duplicate:,} duplicate) or a later one ({self.late:,} "
                "late) already; is each series told apart?"
            )
