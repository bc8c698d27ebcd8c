"""The lines of a text file: unpacked, decoded, without what is no row of a table."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from titans_stream.files.dialect import Dialect

_HEAD = 4096
_GZIP = b"\x1f\x8b"
_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16",
}  # fmt: skip
_SEPARATOR = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_ANNOTATION = re.compile(r'"?#(group|datatype|default)\b')
"""How the lines before a header of InfluxDB's annotated CSV begin."""


class TextLines:
    """Iterates over the lines of a file; each iteration reads it anew.

    Left out are a `sep=` line, which gives `separator`; InfluxDB's annotations, which make
    `annotated` true; and the lines that begin with `dialect.comment`, counted in `comments`.
    ValueError, naming the file, where it cannot be read.
    """

    def __init__(self, path: Path, dialect: Dialect) -> None:
        self._path = path
        self._comment = dialect.comment
        head = self._read_head()
        self._encoding = dialect.encoding or _encoding(head)
        first = next(self._decoded(), "")
        separator = _SEPARATOR.fullmatch(first)
        self.separator = None if separator is None else separator[1]
        self.annotated = _ANNOTATION.match(first) is not None
        self.comments = 0
        self.titles = 0
        """Lines above the header that are left out, too; blank ones count."""

    def __iter__(self) -> Iterator[str]:
        self.comments = 0
        titles = self.titles
        for number, line in enumerate(self._decoded()):
            if number == 0 and self.separator is not None:
                continue
            if self.annotated and _ANNOTATION.match(line):
                continue
            if self._comment is not None and line.startswith(self._comment):
                self.comments += 1
                continue
            if titles:
                titles -= 1
                continue
            yield line

    def _decoded(self) -> Iterator[str]:
        try:
            with (
                self._opened() as file,
                io.TextIOWrapper(file, encoding=self._encoding, newline="") as text,
            ):
                yield from text
        except UnicodeError as error:
            what = getattr(error, "reason", str(error))
            raise ValueError(
                f"{self._path.name}: not text in {self._encoding.upper().removesuffix('-SIG')}: "
                f"{what}; --encoding names another one, such as cp1252"
            ) from None
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{self._path.name}: cannot be unpacked: {error}") from None
        except LookupError:
            raise ValueError(f"--encoding: there is none called {self._encoding!r}") from None
        except OSError as error:
            raise self._unreadable(error) from None

    def _opened(self) -> gzip.GzipFile | BufferedReader:
        return gzip.open(self._path) if self._packed else self._path.open("rb")

    def _read_head(self) -> bytes:
        """The first bytes of the text; sets whether the file is packed."""
        try:
            with self._path.open("rb") as file:
                self._packed = file.read(len(_GZIP)) == _GZIP
            with self._opened() as file:
                return file.read(_HEAD)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{self._path.name}: cannot be unpacked: {error}") from None
        except OSError as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: OSError) -> ValueError:
        return ValueError(f"{self._path}: cannot be read: {error.strerror or error}")


def _encoding(head: bytes) -> str:
    """UTF-8 or UTF-16, by the byte-order mark or the zero bytes of its first characters."""
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding
    if head[:1] != b"\0" and head[1:2] == b"\0":
        return "utf-16-le"
    if head[:1] == b"\0" and head[1:2] != b"\0":
        return "utf-16-be"
    return "utf-8"
