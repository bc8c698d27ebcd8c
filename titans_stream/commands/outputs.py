"""What commands write: lines for people, and files that must not be the ones they read."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from titans_stream.files.account import MANY, FileAccount
from titans_stream.printable import printable

if TYPE_CHECKING:
    from titans_stream.records import Scores

BAD_INPUT = 2
"""Exit code where more than that was dropped."""
_REMEDY = "are series told apart (--series), and are the times fine enough?"


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


def refuse_place(option: str, path: Path | None) -> None:
    """ValueError where an option's file cannot be written, as far as its folder tells."""
    if path is not None and path.is_dir():
        raise ValueError(f"{option} {path}: is a folder")
    if path is not None and not path.parent.is_dir():
        raise ValueError(f"{option} {path}: there is no folder {path.parent}")


def _identity(path: str | Path) -> Hashable:
    """What two names of one regular file have in common; None for what is no regular file."""
    is_output = str(path) == "-"
    try:
        found = os.fstat(sys.stdout.fileno()) if is_output else Path(path).stat()
    except OSError:
        return None if is_output else Path(path).resolve()
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


@dataclass
class Account:
    """What became of the readings of a run; each one is counted once."""

    readings: int = 0
    scored: int = 0
    warming_up: int = 0
    missing: int = 0
    duplicate: int = 0
    late: int = 0

    def count(self, scores: Scores) -> None:
        """Take what the engine said of some readings."""
        from titans_stream.records import Status

        self.readings += len(scores)
        for status in Status:
            number = int((scores.status == status).sum())
            setattr(self, status.label, getattr(self, status.label) + number)

    @property
    def dropped(self) -> int:
        """Readings that were taken for nothing."""
        return self.duplicate + self.late

    @property
    def many_dropped(self) -> bool:
        """Whether more than `MANY` of the readings were."""
        return self.dropped > MANY * self.readings

    def rest(self, *without: str) -> str:
        """Those that were not scored, by what became of them, each with a comma behind it."""
        names = [n for n in ("warming_up", "missing", "duplicate", "late") if n not in without]
        return "".join(
            f"{getattr(self, name):,} {name.replace('_', ' ')}, "
            for name in names
            if getattr(self, name)
        )

    def end(self, allowed: bool, what: str = "were dropped", remedy: str | None = None) -> int:
        """The run's exit code; where many readings were dropped its last line says so."""
        if not self.many_dropped:
            return 0
        text = (
            f"warning: {self.dropped:,} of {self.readings:,} readings {what}: their series had "
            f"the same time ({self.duplicate:,} duplicate) or a later one ({self.late:,} late) "
            f"already; {remedy or _REMEDY}"
        )
        if not allowed:
            text += "; exit code 2, though all is written (--allow-dropped: 0)"
        note(text)
        return 0 if allowed else BAD_INPUT


def account_for_files(accounts: Iterable[FileAccount], allowed: bool, remedy: str) -> int:
    """The exit code of a run over files; its last lines name those that had much left out."""
    code = 0
    for one in accounts:
        if one.much_left_out:
            code = 0 if allowed else BAD_INPUT
            note(f"warning: {one}; more than a tenth of them {remedy}")
    if code:
        note("exit code 2 for what was left out, though all else is done (--allow-dropped: 0)")
    return code
