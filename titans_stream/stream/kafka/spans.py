"""Where the records of a batch lie, and the parts of each: a compiled pass over the batch's bytes.

Only the usual record is taken apart here. What is not as the format says is left to `batches.py`,
which reads it field by field and names what is wrong.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from titans_stream.jit import njit
from titans_stream.records import Int64

COLUMNS = 9
"""Of a record: start (after its length) and end; time and offset within the batch; first byte of
the key (negative: there is none) and its end, the same of the value; where its headers begin, or
one of these two."""
NO_HEADERS = 0
LEFT = -1
"""The record is left to others: only start and end are told."""
_MOST_BITS = 64


@njit(inner=True)
def _varint(data: npt.NDArray[np.uint8], position: int) -> tuple[int, int]:
    """A number, zigzag, and where it ends; -1 where it ends nowhere."""
    found, shift = np.uint64(0), np.uint64(0)
    while position < data.shape[0] and shift < np.uint64(_MOST_BITS):
        byte = np.uint64(data[position])
        found |= (byte & np.uint64(0x7F)) << shift
        position += 1
        if byte < np.uint64(0x80):
            half, sign = np.int64(found >> np.uint64(1)), np.int64(found & np.uint64(1))
            return int(half ^ -sign), position
        shift += np.uint64(7)
    return 0, -1


@njit(inner=True)
def _take_apart(data: npt.NDArray[np.uint8], start: int, end: int, place: Int64) -> int:
    """Fill the parts of a record in; what its last column holds."""
    delay, at = _varint(data, start + 1)
    if at < 0:
        return LEFT
    offset, at = _varint(data, at)
    place[2], place[3] = delay, offset
    for part in range(2):
        if at < 0:
            return LEFT
        length, at = _varint(data, at)
        if at < 0 or length > end - at:
            return LEFT
        place[4 + 2 * part] = -1 if length < 0 else at
        at += max(length, 0)
        place[5 + 2 * part] = at
    if at >= end:
        return LEFT
    return NO_HEADERS if data[at] == 0 else at


@njit(nogil=True)
def find(data: npt.NDArray[np.uint8], position: int, places: Int64) -> tuple[int, int]:
    """Take records from `position` on until `places` [N, COLUMNS] is full, or one is no record.

    Returns their number, and where the next one begins.
    """
    count = 0
    while count < places.shape[0]:
        length, start = _varint(data, position)
        if start < 0 or length < 0 or length > data.shape[0] - start:
            break
        position = start + length
        places[count, 0], places[count, 1] = start, position
        places[count, 8] = _take_apart(data, start, position, places[count])
        count += 1
    return count, position
