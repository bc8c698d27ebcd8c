"""Where runs and models are kept: an MLflow server or database, and its errors in one line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sqlalchemy.exc import SQLAlchemyError

from titans_stream.lifecycle.mlflow_library import MlflowClient, MlflowException
from titans_stream.printable import redacted

DEFAULT_TRACKING_URI = "sqlite:///mlflow.db"
_SQLITE = "sqlite:///"
_CREDENTIALS = re.compile(r"://(?!/)(\S*)@")


@dataclass(frozen=True, slots=True)
class TrackingServer:
    """A place that MLflow keeps runs and models in, and a client for it."""

    uri: str
    client: Any

    @property
    def shown(self) -> str:
        """The URI without user, password and query."""
        return _CREDENTIALS.sub("://", self.uri.partition("?")[0])

    def _told(self, error: Exception) -> str:
        """The first line of an error's text without what is secret in the URI."""
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return redacted(text.replace(self.uri, self.shown), self._secrets())

    def _secrets(self) -> dict[str, str]:
        found = _CREDENTIALS.search(self.uri)
        user_info = found[1] if found else ""
        query = self.uri.partition("?")[2]
        password = user_info.partition(":")[2]
        values = [each.partition("=")[2] for each in query.split("&")]
        known = [user_info, query, password, unquote(password), *values]
        return {value: "***" for value in known if len(value) > 3}

    @contextmanager
    def errors(self, doing: str) -> Iterator[None]:
        """Turn MLflow's errors to one line.

        ConnectionError where the server does not answer, ValueError for everything that it
        answers or that its address is wrong in.
        """
        try:
            yield
        except MlflowException as error:
            text = self._told(error)
            if "failed with exception" in text:
                raise ConnectionError(
                    f"{doing}: no MLflow server answers at {self.shown} ({_reason(text)})"
                ) from error
            raise ValueError(f"{doing}: MLflow at {self.shown}: {text}") from error
        except (OSError, SQLAlchemyError, ImportError) as error:
            text = self._told(error)
            raise ConnectionError(f"{doing}: MLflow at {self.shown}: {text}") from error


def tracking_uri(given: str | None = None) -> str:
    """`given`, else MLFLOW_TRACKING_URI, else a database file in the working directory."""
    return given or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_TRACKING_URI


def connect(given: str | None = None, *, must_exist: bool = False) -> TrackingServer:
    """The tracking server at `tracking_uri(given)`; that it answers is not checked here.

    With `must_exist`, a database file that is not there is a ValueError; without, it is made.
    """
    uri = tracking_uri(given)
    file = uri.removeprefix(_SQLITE).partition("?")[0]
    if must_exist and uri.startswith(_SQLITE) and not Path(file).exists():
        raise ValueError(
            f"there is no MLflow database {file}; set MLFLOW_TRACKING_URI to the server's address"
        )
    server = TrackingServer(uri, None)
    with server.errors("tracking"):
        return TrackingServer(uri, MlflowClient(tracking_uri=uri, registry_uri=uri))


def _reason(text: str) -> str:
    for sign, reason in (
        ("NameResolution", "its name is not known"),
        ("Connection refused", "connection refused"),
        ("timed out", "timed out"),
        ("CERTIFICATE", "its certificate is not trusted"),
    ):
        if sign in text:
            return reason
    return "connection failed"
