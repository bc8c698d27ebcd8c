"""Object storage as a place for snapshots: S3, Google Cloud Storage and Azure, through obstore.

Objects that were written or read here stay in a local cache, so that a restart on the same machine
downloads nothing. Credentials and endpoints come from the environment alone (AWS_*, GOOGLE_*,
AZURE_*).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from titans_stream.whole_files import make_private, sync_folder

if TYPE_CHECKING:
    from obstore.store import ObjectStore

log = logging.getLogger(__name__)

SCHEMES = ("s3", "gs", "az")
_TIMEOUT = timedelta(seconds=30)
"""Of one request."""
_RETRY_TIMEOUT = timedelta(seconds=20)
_RETRIES = 3
_BLOCK = 2**22


class ObjectPlace:
    """A bucket (or container), and a prefix in it; implements `places.Place`.

    `cache` is a folder of this machine. ValueError for a URL that names none, and where obstore is
    not installed.
    """

    remote = True

    def __init__(self, url: str, cache: Path) -> None:
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES or not parts.hostname:
            raise ValueError(f"{url!r} is no bucket: s3://, gs:// or az:// and its name are needed")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError(
                "a bucket's URL takes no credentials and settings: use the environment"
            )
        self._url = url.rstrip("/")
        self._store = _open(self._url)
        self._cache = cache / parts.scheme / parts.hostname / parts.path.strip("/")

    def __str__(self) -> str:
        return self._url

    def read(self, name: str) -> tuple[bytes, str] | None:
        """As `Place.read`."""
        import obstore

        with _as_os_errors():
            try:
                found = obstore.get(self._store, name)
                return bytes(found.bytes()), _tag(found.meta)
            except FileNotFoundError:
                return None

    def swap(self, name: str, content: bytes, tag: str | None) -> str | None:
        """As `Place.swap`."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, NotFoundError, PreconditionError

        mode: Any = "create"
        if tag is not None:
            e_tag, _, version = tag.partition("\n")
            told = {"e_tag": e_tag, "version": version}
            mode = {name: value for name, value in told.items() if value}
        with _as_os_errors():
            try:
                return _tag(obstore.put(self._store, name, content, mode=mode))
            except (AlreadyExistsError, NotFoundError, PreconditionError, FileNotFoundError):
                return None

    def aside(self, name: str) -> Path:
        """As `Place.aside`."""
        path = self._cached(name)
        make_private(path.parent)
        aside = path.with_name(f".{path.name}.aside")
        aside.unlink(missing_ok=True)
        return aside

    def put(self, name: str, path: Path) -> None:
        """As `Place.put`; the file stays in the cache."""
        import obstore

        with _as_os_errors():
            obstore.put(self._store, name, path)
        path.replace(self._cached(name))

    def fetch(self, name: str) -> Path | None:
        """As `Place.fetch`."""
        import obstore

        path = self._cached(name)
        if path.is_file():
            return path
        aside = self.aside(name)
        with _as_os_errors():
            try:
                found = obstore.get(self._store, name)
            except FileNotFoundError:
                return None
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                for block in found.stream(min_chunk_size=_BLOCK):
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
        if size != found.meta["size"]:
            aside.unlink()
            raise OSError(f"{size} of {found.meta['size']} bytes came")
        aside.replace(path)
        sync_folder(path.parent)
        return path

    def forget(self, name: str) -> bool:
        """As `Place.forget`."""
        self._cached(name).unlink(missing_ok=True)
        return True

    def delete(self, name: str) -> None:
        """As `Place.delete`."""
        import obstore

        self.forget(name)
        with _as_os_errors():
            try:
                obstore.delete(self._store, name)
            except FileNotFoundError:
                return

    def names(self, folder: str) -> list[str]:
        """As `Place.names`."""
        import obstore

        with _as_os_errors():
            listed = obstore.list_with_delimiter(self._store, prefix=folder)
        return [str(each["path"]).rpartition("/")[2] for each in listed["objects"]]

    def folders(self, folder: str) -> list[str]:
        """As `Place.folders`."""
        import obstore

        with _as_os_errors():
            listed = obstore.list_with_delimiter(self._store, prefix=folder)
        return [str(each).rstrip("/").rpartition("/")[2] for each in listed["common_prefixes"]]

    def tidy(self, folder: str, wanted: set[str]) -> None:
        """As `Place.tidy`."""
        spared = wanted | {f".{name}.aside" for name in wanted}
        for copy in self._cached(folder).glob("*"):
            if copy.is_file() and copy.name not in spared:
                copy.unlink(missing_ok=True)

    def _cached(self, name: str) -> Path:
        return self._cache / name


def _open(url: str) -> ObjectStore:
    try:
        from obstore.store import from_url
    except ImportError as error:
        raise ValueError(
            f"{url}: object storage needs the extra objectstore: "
            "pip install 'titans-stream[objectstore]'"
        ) from error
    return from_url(
        url,
        client_options={
            "timeout": _TIMEOUT,
            "connect_timeout": timedelta(seconds=5),
            "allow_http": _is_plain(),
        },
        retry_config={"max_retries": _RETRIES, "retry_timeout": _RETRY_TIMEOUT},
    )


def _is_plain() -> bool:
    """Whether the environment names an endpoint that is not encrypted."""
    return any(
        "ENDPOINT" in name and value.startswith("http://")
        for name, value in os.environ.items()
        if name.startswith(("AWS_", "GOOGLE_", "AZURE_"))
    )


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """Whatever obstore raises, as OSError."""
    from obstore.exceptions import BaseError

    try:
        yield
    except OSError:
        raise
    except BaseError as error:
        told = str(error).partition("Debug source")[0]
        raise OSError(" ".join(told.split())) from error


def _tag(told: Any) -> str:
    return f"{told.get('e_tag') or ''}\n{told.get('version') or ''}"
