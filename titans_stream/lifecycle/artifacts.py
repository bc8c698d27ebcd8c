"""Models as files: a folder with model.safetensors (weights) and model.json (everything else).

Both formats hold data alone. Nothing else in the folder is looked at and nothing is executed.
docs/training.md describes the format.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors.numpy import save

from titans_stream.engine.model import Model, make_model
from titans_stream.forecasting.multi import forecaster as multi_step
from titans_stream.records import Float64, ModelRef

log = logging.getLogger(__name__)

FORMAT = "titans-stream-model"
FORMAT_VERSION = 1
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "model.json"
FILE_LIMITS = {WEIGHTS_FILE: 64 * 2**20, CARD_FILE: 2**20}
"""The largest size of each file, bytes."""
RETIRED = frozenset({"forecast.head.window"})
"""Weights of earlier versions that nothing uses; in a file they are passed over."""
BASE = "base"
"""The name of the model in the package."""

_KEYS = {"format", "format_version", "name", "weights_sha256", "card"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class _Header:
    """What model.json says."""

    name: str
    weights_sha256: str
    card: dict[str, Any]


def write_model(folder: Path, model: Model) -> None:
    """Write a model's two files; `folder` is made if need be, files of these names are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in model_files(model).items():
        (folder / name).write_bytes(content)


def model_files(model: Model) -> dict[str, bytes]:
    """The contents of a model's two files by name.

    Equal models give equal bytes. The model's version is not written: a registry gives it.
    """
    weights = save({name: np.ascontiguousarray(w) for name, w in sorted(model.weights.items())})
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": model.ref.name,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "card": model.card,
    }
    text = json.dumps(header, indent=2, sort_keys=True, allow_nan=False) + "\n"
    return {WEIGHTS_FILE: weights, CARD_FILE: text.encode()}


def read_model(folder: Path | Traversable, ref: ModelRef | None = None) -> Model:
    """Read and check a model's two files.

    `ref` is the name and version that the caller knows the model by; None takes the name from
    the file and the start of the weights' SHA-256 as version. A model from before there were
    forecasts of many steps gets their weights from the base model, and its card says so.
    ValueError, in one line that names the file, for anything that is missing, damaged, foreign,
    too large or of a later format.
    """
    header = _read_header(_read(folder, CARD_FILE), f"{folder}/{CARD_FILE}")
    data = _read(folder, WEIGHTS_FILE)
    where = f"{folder}/{WEIGHTS_FILE}"
    digest = hashlib.sha256(data).hexdigest()
    if digest != header.weights_sha256:
        raise ValueError(f"{where}: damaged, or not the weights that {CARD_FILE} describes")
    if ref is None:
        ref = ModelRef(header.name, digest[:12])
    try:
        weights, card = _completed(_read_weights(data), header.card, ref)
        return make_model(ref, weights, card)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def base_model() -> Model:
    """The model that ships with the package, so that a new user needs no training."""
    folder = files("titans_stream").joinpath("assets", BASE)
    model = read_model(folder)
    return replace(model, ref=ModelRef(BASE, model.ref.version))


def _completed(
    weights: Mapping[str, Float64], card: dict[str, Any], ref: ModelRef
) -> tuple[Mapping[str, Float64], dict[str, Any]]:
    """Weights and card with what the base model has to give."""
    heads = multi_step.weight_shapes()
    if not weights.keys().isdisjoint(heads):
        return weights, card
    base = {**multi_step.plain_weights(), **_base_weights()}
    log.info("model %s: weights of forecasts of many steps are those of the base model", ref.name)
    taken = {name: base[name] for name in heads}
    return {**weights, **taken}, {**card, "from_base": sorted(taken)}


def _base_weights() -> Mapping[str, Float64]:
    return _read_weights(_read(files("titans_stream").joinpath("assets", BASE), WEIGHTS_FILE))


def is_model_name(name: str) -> bool:
    """Whether a model may be called so: letters, digits, `.`, `_` and `-`, at most 100."""
    return _NAME.fullmatch(name) is not None


def _read(folder: Path | Traversable, name: str) -> bytes:
    limit = FILE_LIMITS[name]
    try:
        with folder.joinpath(name).open("rb") as file:
            data: bytes = file.read(limit + 1)
    except OSError as error:
        raise ValueError(f"{folder}/{name}: cannot be read: {error.strerror}") from error
    if len(data) > limit:
        raise ValueError(f"{folder}/{name}: larger than {limit:,} bytes")
    return data


def _read_header(data: bytes, where: str) -> _Header:
    try:
        content = json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise ValueError(f"{where}: not JSON") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{where}: not a model of titans-stream (format {FORMAT!r} is missing)")
    version = content.get("format_version")
    if type(version) is not int or version < 1:
        raise ValueError(f"{where}: format_version is not a positive whole number")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{where}: format_version {version} is newer than this titans-stream reads "
            f"({FORMAT_VERSION}); update it"
        )
    if set(content) != _KEYS:
        raise ValueError(f"{where}: keys missing or unknown: {sorted(set(content) ^ _KEYS)}")
    name, digest, card = content["name"], content["weights_sha256"], content["card"]
    if not isinstance(name, str) or not is_model_name(name):
        raise ValueError(f"{where}: name is not a model's name")
    if not isinstance(digest, str) or not isinstance(card, dict):
        raise ValueError(f"{where}: weights_sha256 must be text and card an object")
    return _Header(name, digest, card)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _read_weights(data: bytes) -> Mapping[str, Float64]:
    try:
        entries = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise ValueError(f"not a safetensors file: {error}") from error
    weights = {}
    for name, entry in entries:
        if entry["dtype"] != "F64":
            raise ValueError(f"weight {name!r} is {entry['dtype']}, needs F64")
        if name not in RETIRED:
            weights[name] = np.frombuffer(entry["data"], dtype="<f8").reshape(entry["shape"])
    return weights
