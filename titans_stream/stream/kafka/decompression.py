"""The records of a batch decompressed, to at most so many bytes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from kafka import codec
from kafka.errors import UnsupportedCodecError

_GZIP_MAGIC = b"\x1f\x8b"
_XERIAL_HEADER = 16
_MOST_MEMBERS = 100
"""Of a gzip stream. Each costs a copy of all that follows it; writers of Kafka make one."""


class BatchError(ValueError):
    """A batch, or what is left of it, cannot be read."""


def decompressed(data: memoryview, compression: int, most_bytes: int) -> bytes:
    """The records of a batch, `compression` as in its attributes.

    BatchError where they are more than `most_bytes`; UnsupportedCodecError where the library for
    the compression is not there.
    """
    if compression == 0:
        return data.tobytes()
    if compression not in _DECOMPRESS:
        raise BatchError(f"there is no compression {compression}")
    name, library, decompress = _DECOMPRESS[compression]
    if library is not None and not (getattr(codec, library) and getattr(codec, f"has_{name}")()):
        raise UnsupportedCodecError(f"the library for {name} compression is missing")
    try:
        content: bytes | None = decompress(data.tobytes(), most_bytes)
    except BatchError:
        raise
    except _ExcessError:
        content = None
    except Exception as error:  # each library has errors of its own
        raise BatchError(f"{name}: {error}") from error
    if content is None or len(content) > most_bytes:
        raise BatchError(f"more than {most_bytes:,} bytes decompressed (kafka.max_batch_bytes)")
    return content


class _ExcessError(Exception):
    """There is more than asked for."""


def _gunzip(data: bytes, most_bytes: int) -> bytes:
    """All members; what follows the last one is nothing, as for Kafka's own clients."""
    content = bytearray()
    for _ in range(_MOST_MEMBERS):
        member = zlib.decompressobj(wbits=31)
        content += member.decompress(data, most_bytes + 1 - len(content))
        if len(content) > most_bytes:
            raise _ExcessError
        if not member.eof:
            raise BatchError("gzip: cut off")
        data = member.unused_data
        if not data.startswith(_GZIP_MAGIC):
            return bytes(content)
    raise BatchError(f"gzip: more than {_MOST_MEMBERS} members")


def _unlz4(data: bytes, most_bytes: int) -> bytes:
    frame = codec.lz4.LZ4FrameDecompressor()
    content: bytes = frame.decompress(data, max_length=most_bytes + 1)
    if not frame.eof and len(content) <= most_bytes:
        raise BatchError("lz4: cut off")
    return content


def _unzstd(data: bytes, most_bytes: int) -> bytes:
    content: bytes = (
        codec.zstd.ZstdDecompressor()
        .stream_reader(data, read_across_frames=True)
        .read(most_bytes + 1)
    )
    return content


def _unsnap(data: bytes, most_bytes: int) -> bytes:
    """One block of snappy, or several behind a header, as the Java library writes them."""
    if not codec._detect_xerial_stream(data):
        return _unsnap_block(data, most_bytes)
    parts: list[bytes] = []
    position, room = _XERIAL_HEADER, most_bytes
    while position < len(data):
        (length,) = struct.unpack_from(">i", data, position)
        position += 4
        if not 0 < length <= len(data) - position:
            raise BatchError("snappy: cut off")
        parts.append(_unsnap_block(data[position : position + length], room))
        room -= len(parts[-1])
        position += length
    return b"".join(parts)


def _unsnap_block(block: bytes, most_bytes: int) -> bytes:
    size = shift = 0  # the block says first how long its content is
    for byte in block[:5]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if size > most_bytes:
        raise _ExcessError
    content: bytes = codec.snappy.decompress(block)
    return content


_DECOMPRESS: dict[int, tuple[str, str | None, Callable[[bytes, int], bytes]]] = {
    1: ("gzip", None, _gunzip),
    2: ("snappy", "snappy", _unsnap),
    3: ("lz4", "lz4", _unlz4),
    4: ("zstd", "zstd", _unzstd),
}
"""By the number in a batch's attributes: the name, kafka-python's library, the function."""
