"""Settings changed for one evaluation: `alerts.min_duration=3`, `forecast.fallback=false`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from titans_stream.detection.rules import AlertConfig
from titans_stream.engine.settings import EngineConfig
from titans_stream.evaluation.ours import engine_settings
from titans_stream.forecasting.multi.forecaster import ForecastOptions

SECTIONS: dict[str, type[BaseModel]] = {"alerts": AlertConfig, "engine": EngineConfig}
FIXED = {
    "engine.max_out_of_orderness": "rows are evaluated in their order",
    "engine.device": "the compiled detector runs on the CPU",
    "alerts.false_alarms_per_series_per_day": "every budget of the tables is evaluated",
}
"""Settings that an evaluation decides by itself, and why."""


def apply_overrides(changes: Sequence[str]) -> tuple[AlertConfig, EngineConfig]:
    """The settings of an evaluation with `changes`, each `section.setting=value` (YAML).

    ValueError names the change that cannot be made.
    """
    known = {section: model.model_fields for section, model in SECTIONS.items()}
    given: dict[str, dict[str, object]] = {section: {} for section in SECTIONS}
    for change in changes:
        section, name, value = _parse(change, known, "alerts.min_duration=3 or engine.gap_factor=4")
        given[section][name] = value
    try:
        alerts = AlertConfig.model_validate(given["alerts"])
        engine = engine_settings(**given["engine"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {first['msg']}") from error
    return alerts, engine


def options_of(changes: Sequence[str]) -> ForecastOptions:
    """The forecaster's options with `changes`, each `forecast.option=value` (YAML).

    ValueError names the change that cannot be made.
    """
    options = ForecastOptions()
    kinds = {
        one.name: type(getattr(options, one.name))
        for one in fields(options)
        if one.name != "bounds"
    }
    made: dict[str, Any] = {}
    for change in changes:
        _, name, value = _parse(change, {"forecast": kinds}, "forecast.fallback=false")
        if kinds[name] is bool and not isinstance(value, bool):
            raise ValueError(f"{change}: true or false is needed")
        if kinds[name] is not bool and (isinstance(value, bool) or not _is_period(value)):
            raise ValueError(f"{change}: a number of readings from 2 on is needed")
        made[name] = value
    return replace(options, **made)


def _is_period(value: object) -> bool:
    return value is None or (isinstance(value, int) and value >= 2)


def _parse(
    change: str, known: Mapping[str, Collection[str]], example: str
) -> tuple[str, str, object]:
    """Section, setting and value of a change to one of the `known` settings of sections."""
    path, equals, text = change.partition("=")
    section, _, name = path.strip().partition(".")
    if not equals or section not in known or not name:
        raise ValueError(f"{change!r} is not like {example}")
    if path.strip() in FIXED:
        raise ValueError(f"{path.strip()} may not be set: {FIXED[path.strip()]}")
    if name not in known[section]:
        raise ValueError(f"{change}: unknown; {section} has {', '.join(known[section])}")
    try:
        return section, name, yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{change!r}: the value is no YAML") from error
