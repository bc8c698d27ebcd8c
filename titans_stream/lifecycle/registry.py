"""The model registry: versions with names, and aliases that say which one is in use.

`champion` is the version that serves; `challenger` the newest one, which may become it
(promotion.py). Only the
two files of a model (`artifacts.py`) are ever fetched: nothing in a version is executed, and
`mlflow.pyfunc.load_model`, which would, is never called. Downloads are bounded (`fetching.py`).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
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
_REGISTERED_MODEL = (
    "Slow weights of titans-stream. `champion` serves: a connector with "
    "`model: models:/<name>@champion` takes it; `challenger` is the newest version."
)
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


@dataclass(frozen=True, slots=True)
class Source:
    """Where a version's files lie and what made them."""

    location: str
    run_id: str
    model_id: str | None = None
    """The logged model, where there is one."""


def register(
    server: TrackingServer,
    name: str,
    source: Source,
    description: str = "",
    tags: Mapping[str, str] | None = None,
) -> RegisteredVersion:
    """Make the model at `source` the next version of `name`, and the challenger.

    What serves changes by `promotion.promote` alone.
    """
    check_model_name(name)
    client = server.client
    with server.errors("register"):
        if _find(client.get_registered_model, name) is None:
            client.create_registered_model(name, description=_REGISTERED_MODEL)
        # a database that is opened directly looks for `models:/` at MLflow's own default place
        named = source.model_id is not None and server.uri.startswith("http")
        made = client.create_model_version(
            name,
            f"models:/{source.model_id}" if named else source.location,
            source.run_id,
            tags=dict(tags or {}),
            description=description,
            model_id=source.model_id,
        )
        version = str(made.version)
        if source.model_id is not None and not named:
            linked = json.dumps([{"name": name, "version": version}])
            client.set_logged_model_tags(source.model_id, {"mlflow.modelVersions": linked})
        client.set_registered_model_alias(name, CHALLENGER, version)
    return RegisteredVersion(name, version, (CHALLENGER,))


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
        found = find_version(server, name, alias, version)
        source = str(found.source).rstrip("/")
        if source.startswith("models:/"):
            source = str(server.client.get_model_version_download_uri(name, str(found.version)))
        try:
            fetch(source, Path(folder), server.uri)
        except FetchError as error:
            raise MlflowException(str(error)) from error
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        return _read(Path(folder), where, source, ModelRef(name, str(found.version)))


def alias_version(name: str, alias: str, uri: str | None = None) -> str:
    """Which version an alias names; errors as in `load_registered`."""
    server = connect(uri, must_exist=True)
    with server.errors(f"models:/{name}@{alias}"):
        return str(find_version(server, name, alias).version)


def _read(folder: Path, where: str, source: str, ref: ModelRef) -> Model:
    try:
        return read_model(folder, ref)
    except ValueError as error:
        raise ValueError(f"{where}: {str(error).replace(str(folder), source)}") from error


def find_version(
    server: TrackingServer, name: str, alias: str | None = None, version: str | None = None
) -> Any:
    """MLflow's entity of a version, by its alias or number; ValueError where it is not there."""
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
