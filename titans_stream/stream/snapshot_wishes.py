"""Snapshots of all partitions that other threads ask the loop for."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from queue import SimpleQueue


class SnapshotWishes:
    """`ask` is safe from any thread, the rest is the loop's; `counts` are the worker's."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[Future[int]] = SimpleQueue()
        self._taken: list[tuple[Future[int], int, int]] = []
        """With how many had been written, and had failed, before."""

    def ask(self, seconds: float) -> int:
        """Wait until all partitions have a snapshot of now, or later; how many were written.

        One whose state is saved as it is, is not written again. TimeoutError where it is not done
        within `seconds`, OSError where a file cannot be written.
        """
        asked: Future[int] = Future()
        self._asked.put(asked)
        try:
            return asked.result(seconds)
        except TimeoutError as error:
            asked.cancel()
            raise TimeoutError(f"not done within {seconds:.0f} s") from error

    def take(self, counts: Mapping[str, int]) -> bool:
        """Take up what was asked for since; whether there was anything."""
        if self._asked.empty():
            return False
        asked = self._asked.get()
        if asked.set_running_or_notify_cancel():
            self._taken.append((asked, counts["snapshots"], counts["failed_snapshots"]))
        return True

    def done(self, counts: Mapping[str, int]) -> None:
        """All partitions had their turn since the last one was taken up."""
        for asked, written, failed in self._taken:
            failed = counts["failed_snapshots"] - failed
            if failed:
                asked.set_exception(OSError(f"{failed} could not be written, see the log"))
            else:
                asked.set_result(counts["snapshots"] - written)
        self._taken.clear()
