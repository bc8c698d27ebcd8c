"""What became of the values of one file that is learned from or measured on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from titans_stream.records import Float64, Int64

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


def repeated(times: Int64, values: Float64) -> npt.NDArray[np.bool_]:
    """Which of N readings have time and value of an earlier one."""
    order = np.lexsort((np.arange(len(times)), values, times))
    same = (np.diff(times[order]) == 0) & (np.diff(values[order]) == 0)
    found = np.zeros(len(times), np.bool_)
    found[order[1:][same]] = True
    return found
