"""The registered models that a worker has used, kept on its disk: it starts without the registry.

    <folder>/<name>/<version>/model.json, model.safetensors, sha256.json
    <folder>/<name>/aliases.json      which version each alias had when it was last looked up

What does not fit its checksum is not used.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

from titans_stream.engine.model import Model
from titans_stream.lifecycle.artifacts import (
    CARD_FILE,
    WEIGHTS_FILE,
    is_model_name,
    model_files,
    read_model,
    write_model,
)
from titans_stream.records import ModelRef
from titans_stream.whole_files import write_whole

log = logging.getLogger(__name__)

_SUMS = "sha256.json"
_ALIASES = "aliases.json"


class ModelCache:
    """Models by name and version in a folder that is made when something is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, model: Model, alias: str | None = None) -> None:
        """Keep a model, and that it is what `alias` names. A disk that is full is only logged."""
        folder = self._of(model.ref.name, model.ref.version)
        if folder is None:
            return
        try:
            if not _holds(folder, model):  # nothing yet, a damaged one, or one of another registry
                (folder / _SUMS).unlink(missing_ok=True)
                write_model(folder, model)
                _write(folder / _SUMS, _sums(folder))
            if alias is not None:
                aliases = self._aliases(model.ref.name)
                aliases[alias] = model.ref.version
                _write(folder.parent / _ALIASES, aliases)
        except OSError as error:
            log.warning("model cache %s: %s", folder, error)

    def get(self, name: str, version: str) -> Model | None:
        """A kept model; None where there is none that fits its checksum."""
        folder = self._of(name, version)
        if folder is None or not (folder / _SUMS).is_file():
            return None
        try:
            if json.loads((folder / _SUMS).read_text(encoding="utf-8")) != _sums(folder):
                raise ValueError("its checksum is wrong")
            return read_model(folder, ModelRef(name, version))
        except (OSError, ValueError) as error:
            log.warning("model cache %s: passed over: %s", folder, error)
            return None

    def latest(self, name: str, alias: str) -> Model | None:
        """What `alias` named when it was last looked up."""
        version = self._aliases(name).get(alias) if is_model_name(name) else None
        return None if version is None else self.get(name, version)

    def _of(self, name: str, version: str) -> Path | None:
        """The folder of a version; None for names that could lead out of the cache."""
        if not is_model_name(name) or not version.isdecimal():
            return None
        return self._folder / name / version

    def _aliases(self, name: str) -> dict[str, str]:
        try:
            found = json.loads((self._folder / name / _ALIASES).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if not isinstance(found, dict):
            return {}
        return {str(alias): str(version) for alias, version in found.items()}


def _holds(folder: Path, model: Model) -> bool:
    """Whether this very model lies in a folder, with its checksums."""
    try:
        known = json.loads((folder / _SUMS).read_text(encoding="utf-8"))
        return bool(known == _sums(folder) == _digests(model_files(model)))
    except (OSError, ValueError):
        return False


def _sums(folder: Path) -> dict[str, str]:
    return _digests({name: (folder / name).read_bytes() for name in (CARD_FILE, WEIGHTS_FILE)})


def _digests(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def _write(path: Path, content: dict[str, str]) -> None:
    write_whole(path, (json.dumps(content, indent=2) + "\n").encode())
