"""Registered models in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from titans_stream.durations import MILLISECOND
from titans_stream.engine.model import Model
from titans_stream.lifecycle.loading import load_model
from titans_stream.lifecycle.registry import find_version
from titans_stream.lifecycle.tracking import TrackingServer, connect
from titans_stream.times import format_timestamp

_REGISTERED = re.compile(r"models:/(?P<name>[^/@\s]+)(?:@(?P<alias>[^/@\s]+)|/(?P<version>\d+))")


def list_models(server: TrackingServer) -> Iterator[str]:
    """A line per model and one per version, newest first."""
    with server.errors("models"):
        models = _all(server.client.search_registered_models)
        if not models:
            yield f"no registered models in MLflow at {server.shown}"
        for model in models:
            yield model.name
            by_version: dict[str, list[str]] = {}
            for alias, version in sorted(model.aliases.items()):
                by_version.setdefault(str(version), []).append(alias)
            versions = _all(server.client.search_model_versions, f"name = '{model.name}'")
            for one in sorted(versions, key=lambda v: int(v.version), reverse=True):
                aliases = ", ".join(by_version.get(str(one.version), []))
                decision = one.tags.get("promotion.decision", "")
                made = format_timestamp(one.creation_timestamp * MILLISECOND)
                told = [one.tags.get("kind", ""), aliases, decision and f"({decision})"]
                yield f"  {one.version:>4s}  {made}  {'  '.join(filter(None, told))}".rstrip()


def _all(search: Callable[..., Any], *what: str) -> list[Any]:
    """Every page of a search."""
    found, token = [], None
    while True:
        page = search(*what, page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            return found


def describe_model(uri: str, tracking_uri: str | None) -> Iterator[str]:
    """What a model's card says, and for a registered one what MLflow keeps with its version."""
    model = load_model(uri, tracking_uri)
    yield f"{model.ref.name} version {model.ref.version}"
    match = _REGISTERED.fullmatch(uri)
    if match is not None:
        server = connect(tracking_uri, must_exist=True)
        with server.errors(uri):
            found = find_version(server, match["name"], match["alias"], match["version"])
            aliases = server.client.get_registered_model(match["name"]).aliases
        held = sorted(a for a, v in aliases.items() if str(v) == str(found.version))
        yield f"  aliases   {', '.join(held) or 'none'}"
        yield f"  run       {found.run_id or 'none'} at {server.shown}"
        yield from _lines("tags", dict(sorted(found.tags.items())))
    yield from _card_lines(model)


def _card_lines(model: Model) -> Iterator[str]:
    card = model.card
    for name in ("created", "chosen"):
        if name in card:
            yield f"  {name:9s} {card[name]}"
    for name in ("data", "metrics", "environment"):
        part = card.get(name)
        if isinstance(part, Mapping):
            yield from _lines(name, part)


def _lines(title: str, values: Mapping[str, object]) -> Iterator[str]:
    yield f"  {title}"
    for name, value in values.items():
        yield f"    {name} = {value:.6g}" if isinstance(value, float) else f"    {name} = {value}"
