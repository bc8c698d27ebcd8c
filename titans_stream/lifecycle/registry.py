"""The model registry: versions with names, and aliases that say which one is in use.

`champion` is the version that serves; `challenger` the newest one, which may become it. Only the
two files of a model (`artifacts.py`) are ever fetched: nothing in a version is executed, and
`mlflow.pyfunc.load_model`, which would, is never called. Downloads are bounded (`fetching.py`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from titans_stream.engine.model import Model
from titans_stream.lifecycle.artifacts import is_model_name, read_model
from titans_stream.lifecycle.fetching import FetchError, fetch
from titans_stream.lifecycle.mlflow_library import MlflowException
from titans_stream.lifecycle.tracking import TrackingServer, connect
from titans_stream.records import ModelRef

CHAMPION = "champion"
CHALLENGER = "challenger"
_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND")


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """A new version and the aliases that it was given."""

    name: str
    version: str
    aliases: tuple[str, ...]

    @property
    def uri(self) -> str:
        """What a connector's `model` names it by."""
        return f"models:/{self.name}/{self.version}"


def check_model_name(name: str) -> None:
    """ValueError where a registered model may not be called so."""
    if not is_model_name(name):
        raise ValueError(
            f"register: {name!r} is no name for a model: up to 100 letters, digits, '.', '_', '-'"
        )


def register(server: TrackingServer, name: str, source: str, run_id: str) -> RegisteredVersion:
    """Make the artefacts at `source` of a run the next version of `name`.

    It becomes the challenger, and the champion as well where there is none yet.
    """
    check_model_name(name)
    client = server.client
    with server.errors("register"):
        if _find(client.get_registered_model, name) is None:
            client.create_registered_model(name)
        made = client.create_model_version(name, source, run_id)
        version = str(made.version)
        aliases = [CHALLENGER]
        if CHAMPION not in client.get_registered_model(name).aliases:
            aliases.append(CHAMPION)
        for alias in aliases:
            client.set_registered_model_alias(name, alias, version)
    return RegisteredVersion(name, version, tuple(aliases))


def load_registered(
    name: str, *, alias: str | None = None, version: str | None = None, uri: str | None = None
) -> Model:
    """Fetch a version by its number or by an alias, from the server at `tracking_uri(uri)`.

    ValueError for a model, alias or version that is not there (with those that are) and for
    artefacts that are not a model of this program; ConnectionError where no server answers.
    """
    where = f"models:/{name}" + (f"@{alias}" if alias is not None else f"/{version}")
    server = connect(uri, must_exist=True)
    with server.errors(where), tempfile.TemporaryDirectory() as folder:
        found = _find_version(server, name, alias, version)
        source = str(found.source).rstrip("/")
        try:
            fetch(source, Path(folder), server.uri)
        except FetchError as error:
            raise MlflowException(str(error)) from error
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        return _read(Path(folder), where, source, ModelRef(name, str(found.version)))


def _read(folder: Path, where: str, source: str, ref: ModelRef) -> Model:
    try:
        return read_model(folder, ref)
    except ValueError as error:
        raise ValueError(f"{where}: {str(error).replace(str(folder), source)}") from error


def _find_version(server: TrackingServer, name: str, alias: str | None, version: str | None) -> Any:
    client = server.client
    model = _find(client.get_registered_model, name)
    if model is None:
        raise ValueError(f"models:/{name}: there is no such model in MLflow at {server.shown}")
    if alias is not None:
        if alias not in model.aliases:
            known = ", ".join(sorted(model.aliases)) or "none"
            raise ValueError(f"models:/{name}@{alias}: no such alias; there are: {known}")
        version = str(model.aliases[alias])
    found = _find(client.get_model_version, name, version)
    if found is None:
        versions = client.search_model_versions(f"name = '{name}'", max_results=20)
        known = ", ".join(sorted((str(v.version) for v in versions), key=int)) or "none"
        raise ValueError(f"models:/{name}/{version}: no such version; there are: {known}")
    return found


def _find(get: Callable[..., Any], *arguments: str | None) -> Any:
    """What `get` returns, None where MLflow has no such thing."""
    try:
        return get(*arguments)
    except MlflowException as error:
        if error.error_code in _ABSENT:
            return None
        raise
