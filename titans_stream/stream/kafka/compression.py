"""Compressed messages: the libraries that kafka-python needs for them, and what to do without."""

from __future__ import annotations

from kafka import codec
from kafka.errors import UnsupportedCodecError

from titans_stream.stream.kafka.errors import ConnectError

_PACKAGES = {"snappy": "python-snappy", "lz4": "lz4", "zstd": "zstandard"}
"""What to install for a compression; gzip is part of Python."""


def check_compression(name: str | None) -> None:
    """ConnectError where a producer cannot compress as `kafka.producer.compression_type` says."""
    if name in _PACKAGES and not getattr(codec, f"has_{name}")():
        raise _missing(f"kafka.producer.compression_type: {name}", name)


def compression_error(error: UnsupportedCodecError) -> ConnectError:
    """The ConnectError for a batch that cannot be read."""
    name = next((name for name in _PACKAGES if f" {name} " in str(error)), None)
    if name is None:
        return ConnectError(f"a message is compressed in a way that is not known here: {error}")
    return _missing(f"messages of the input are compressed with {name}", name)


def _missing(what: str, name: str) -> ConnectError:
    return ConnectError(
        f"{what}, and the package for it is not there: pip install {_PACKAGES[name]}"
    )
