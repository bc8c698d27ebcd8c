"""Settings changed for one evaluation: `alerts.min_duration=3`, `engine.gap_factor=4`."""

from __future__ import annotations

from collections.abc import Sequence

import yaml
from pydantic import BaseModel, ValidationError

from titans_stream.detection.rules import AlertConfig
from titans_stream.engine.settings import EngineConfig
from titans_stream.evaluation.ours import engine_settings

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
    given: dict[str, dict[str, object]] = {section: {} for section in SECTIONS}
    for change in changes:
        path, equals, text = change.partition("=")
        section, _, name = path.strip().partition(".")
        if not equals or section not in SECTIONS or not name:
            raise ValueError(f"{change!r} is not like alerts.min_duration=3 or engine.gap_factor=4")
        if path.strip() in FIXED:
            raise ValueError(f"{path.strip()} may not be set: {FIXED[path.strip()]}")
        known = SECTIONS[section].model_fields
        if name not in known:
            raise ValueError(f"{change}: unknown; {section} has {', '.join(known)}")
        try:
            given[section][name] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"{change!r}: the value is no YAML") from error
    try:
        alerts = AlertConfig.model_validate(given["alerts"])
        engine = engine_settings(**given["engine"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {first['msg']}") from error
    return alerts, engine
