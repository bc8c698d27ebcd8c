"""Gets a model by its URI: the shipped one, a folder, or a version in the registry."""

from __future__ import annotations

import re
from pathlib import Path

from titans_stream.engine.model import Model
from titans_stream.lifecycle.artifacts import BASE, base_model, read_model

_REGISTERED = re.compile(r"models:/(?P<name>[^/@\s]+)(?:@(?P<alias>[^/@\s]+)|/(?P<version>\d+))")


def parse_registered(uri: str) -> tuple[str, str | None, str]:
    """Name, alias (or None) and version (or nothing) of a registered model's URI."""
    match = _REGISTERED.fullmatch(uri)
    if match is None:
        raise ValueError(f"model {uri!r}: models:/NAME@ALIAS or models:/NAME/VERSION is needed")
    return match["name"], match["alias"], match["version"] or ""


def load_model(uri: str, tracking_uri: str | None = None) -> Model:
    """`base`, a folder's path, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    `tracking_uri` is the MLflow server of registered models: default MLFLOW_TRACKING_URI, else
    mlflow.db in the working directory. ValueError, in one line, for a URI that is none of these
    and for a model that is not there or damaged; ConnectionError where no server answers.
    """
    if uri == BASE:
        return base_model()
    if not uri.startswith("models:"):
        folder = Path(uri)
        if not folder.is_dir():
            raise ValueError(f"model {uri!r}: no such folder")
        return read_model(folder)
    match = _REGISTERED.fullmatch(uri)
    if match is None:
        raise ValueError(f"model {uri!r}: models:/NAME@ALIAS or models:/NAME/VERSION is needed")
    # MLflow takes a second to import; only registered models need it
    from titans_stream.lifecycle.registry import load_registered

    return load_registered(
        match["name"], alias=match["alias"], version=match["version"], uri=tracking_uri
    )
