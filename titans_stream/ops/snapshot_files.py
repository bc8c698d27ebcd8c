"""A snapshot as one file, written and read in parts.

Layout: `MAGIC`, then any number of chunks (length as 8 bytes, little end first, and as much in
safetensors), then `_END`: where the last chunk begins, how many there are, the checksum (CRC-32C)
of everything before, `MAGIC` again. The last chunk is the snapshot's head, and names in its header
the schema, whose it is (group, topic, partition) and on what other snapshot it stands; those before
are its parts. Chunks hold numeric arrays, and JSON as an array of bytes.

Files of format 1 were one safetensors file with everything in it and are read still.
"""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from crc32c import crc32c
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from titans_stream.records import Snapshot
from titans_stream.stream.recovery import StoredSnapshot

MAGIC = b"TITANS2\n"
FORMAT = "2"
DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RecursionError,
    SafetensorError,
    TypeError,
    ValueError,
    struct.error,
)
"""What reading a file raises that is not as this module writes it."""
_FIRST_FORMAT = "1"
_END = struct.Struct("<QQI8s")
_LENGTH = struct.Struct("<Q")
_BLOCK = 2**20
_ARRAY = "array/"
_JSON = "json"

Arrays = dict[str, npt.NDArray[Any]]
Header = dict[str, str]


def write_snapshot(path: Path, stored: StoredSnapshot, about: Header) -> tuple[int, int]:
    """Write a snapshot to a new file (0600) and sync it; its bytes and its checksum.

    Waits for the snapshot's parts. `about` comes into its header.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        total = _put(file, 0, MAGIC)
        count = 0
        for part in stored.snapshot.parts or ():
            content = _pack({"meta": part.meta}, part.arrays, {"schema": part.schema})
            total = _put(file, _put(file, total, _LENGTH.pack(len(content))), content)
            count += 1
        header = {
            **about,
            "format": FORMAT,
            "schema": stored.snapshot.schema,
            "offset": str(stored.offset),
            "onto": stored.onto,
            "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        if stored.snapshot.parts is not None:
            header["parts"] = str(count)
        document = {"meta": stored.snapshot.meta, "notes": stored.notes}
        begin, content = file.tell(), _pack(document, stored.snapshot.arrays, header)
        total = _put(file, _put(file, total, _LENGTH.pack(len(content))), content)
        file.write(_END.pack(begin, count + 1, total, MAGIC))
        file.flush()
        os.fsync(file.fileno())
        return file.tell(), total


def check(path: Path, size: int, checksum: int) -> None:
    """ValueError where a file is not as it was written; 0: that is not known."""
    with path.open("rb") as file:
        found = os.fstat(file.fileno()).st_size
        if found < len(MAGIC) + _END.size or (size and found != size):
            raise ValueError(f"it has {found} bytes, not {size or 'as many as any snapshot has'}")
        left, total = found - _END.size, 0
        while left:
            block = file.read(min(_BLOCK, left))
            if not block:
                raise ValueError("it is truncated")
            total = crc32c(block, total)
            left -= len(block)
        _, _, written, magic = _END.unpack(file.read(_END.size))
    if magic != MAGIC:
        raise ValueError("it has no end, or is no snapshot")
    if total != written or (checksum and total != checksum):
        raise ValueError("its checksum is wrong")


def read_header(path: Path) -> Header:
    """The header of a file of either format."""
    if is_first_format(path):
        with safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    with path.open("rb") as file:
        return _unpack(_chunk(file, _index(file)))[2]


def is_first_format(path: Path) -> bool:
    """Whether a file is not of the present format."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) != MAGIC


def read_snapshot(path: Path, offset: int, owner: Header) -> StoredSnapshot:
    """The snapshot in a file that was checked; its parts are read as they are asked for.

    ValueError and others (`DAMAGE`) where it is not of the offset or not its `owner`'s.
    """
    if is_first_format(path):
        return _read_first_format(path, offset, owner)
    with path.open("rb") as file:
        document, arrays, header = _unpack(_chunk(file, _index(file)))
    _check_header(header, FORMAT, offset, owner)
    parts = None if "parts" not in header else read_parts(path)
    return _stored(document, arrays, header, parts)


def read_parts(path: Path) -> Iterator[Snapshot]:
    """The parts of a snapshot in a file that was checked."""
    with path.open("rb") as file:
        end, begin = _index(file), len(MAGIC)
        while begin < end:
            document, arrays, header = _unpack(_chunk(file, begin))
            begin = file.tell()
            yield Snapshot(header.get("schema", ""), document["meta"], arrays)


def _stored(
    document: Any, arrays: Arrays, header: Header, parts: Iterator[Snapshot] | None
) -> StoredSnapshot:
    meta, notes = document["meta"], document["notes"]
    if not isinstance(meta, dict) or not isinstance(notes, dict):
        raise ValueError("its JSON is not that of a snapshot")
    snapshot = Snapshot(header.get("schema", ""), meta, arrays, parts)
    return StoredSnapshot(int(header["offset"]), snapshot, notes, header.get("onto", ""))


def _check_header(header: Header, form: str, offset: int, owner: Header) -> None:
    if header.get("format") != form or header.get("offset") != str(offset):
        raise ValueError("not a snapshot of this offset")
    for name, wanted in owner.items():
        if header.get(name, wanted) != wanted:
            raise ValueError(f"it is of {name} {header[name]!r}, not {wanted!r}")


def _put(file: BinaryIO, checksum: int, content: bytes) -> int:
    file.write(content)
    return int(crc32c(content, checksum))


def _pack(document: Any, arrays: Arrays, header: Header) -> bytes:
    named = {_ARRAY + name: np.ascontiguousarray(array) for name, array in arrays.items()}
    named[_JSON] = np.frombuffer(json.dumps(document).encode(), dtype=np.uint8)
    return save(named, header)


def _index(file: BinaryIO) -> int:
    """Where the last chunk begins, as the end of a file says. ValueError where that is no place."""
    size = os.fstat(file.fileno()).st_size
    if size < _END.size:
        raise ValueError("it is cut off")
    file.seek(-_END.size, os.SEEK_END)
    begin = int(_END.unpack(file.read(_END.size))[0])
    if begin >= size:
        raise ValueError("it has no end")
    return begin


def _chunk(file: BinaryIO, begin: int) -> bytes:
    file.seek(begin)
    (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
    if length > os.fstat(file.fileno()).st_size:
        raise ValueError("a chunk is longer than the file")
    return file.read(length)


def _unpack(content: bytes) -> tuple[Any, Arrays, Header]:
    arrays = load(content)
    document = json.loads(arrays.pop(_JSON).tobytes())
    columns = {name.removeprefix(_ARRAY): array for name, array in arrays.items()}
    (length,) = _LENGTH.unpack(content[: _LENGTH.size])
    header = json.loads(content[_LENGTH.size : _LENGTH.size + length])
    return document, columns, header.get("__metadata__", {})


def _read_first_format(path: Path, offset: int, owner: Header) -> StoredSnapshot:
    with safe_open(path, framework="numpy") as file:
        header = file.metadata() or {}
        _check_header(header, _FIRST_FORMAT, offset, owner)
        arrays: Arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if header.get("crc32") != str(_first_checksum(arrays)):
        raise ValueError("its checksum is wrong")
    document = json.loads(arrays.pop(_JSON).tobytes())
    columns = {name.removeprefix(_ARRAY): array for name, array in arrays.items()}
    return _stored(document, columns, header, None)


def _first_checksum(arrays: Arrays) -> int:
    total = 0
    for name in sorted(arrays):
        array = arrays[name]
        shape = f"{name}:{array.dtype.str}:{array.shape}"
        total = zlib.crc32(array.tobytes(), zlib.crc32(shape.encode(), total))
    return total
