"""What became of the values of one file that is learned from or measured on.

Imports nothing heavy: command lines use it before they know what is asked of them.
"""

from __future__ import annotations

from dataclasses import dataclass

MANY = 0.1
"""Share of a file's values that may be left out before a run ends with an exit code of its own."""


@dataclass(slots=True)
class FileAccount:
    """Counts of values; each one that was not used is counted once.

    `late` have a later one of their series before them, `duplicate` repeat time and value of
    another one; `short` stand in series or pieces that are too short for any use.
    """

    name: str
    values: int = 0
    missing: int = 0
    late: int = 0
    duplicate: int = 0
    short: int = 0

    @property
    def left_out(self) -> int:
        """Values that came to nothing."""
        return self.late + self.duplicate + self.short

    @property
    def much_left_out(self) -> bool:
        """Whether more than `MANY` of the values did."""
        return self.left_out > MANY * self.values

    def __str__(self) -> str:
        """A line for people."""
        told = {
            "missing": self.missing, "late": self.late, "duplicate": self.duplicate,
            "in pieces that are too short": self.short,
        }  # fmt: skip
        rest = "".join(f", {count:,} {what}" for what, count in told.items() if count)
        return f"{self.name}: {self.values:,} values{rest}"
