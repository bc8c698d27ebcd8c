"""Messages as a worker publishes them, and a service that was given them without Kafka."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from titans_stream.config import Connector
from titans_stream.engine.model import Model
from titans_stream.records import Alert, ModelRef, Scores, Status
from titans_stream.stream.kafka.client import KafkaClients
from titans_stream.times import format_timestamp, parse_timestamp
from titans_stream.web.service import Options, Service
from titans_stream.web.store import Limits

START = parse_timestamp("2026-03-01T00:00:00Z")
MINUTE = 60_000_000_000
MODEL = ModelRef("base", "7")


def connector(folder: Path, **changes: Any) -> Connector:
    settings: dict[str, Any] = {
        "name": "plant",
        "kafka": {"bootstrap_servers": "127.0.0.1:1"},
        "input": {"topic": "in", "series": "{site}/{machine}", "value": "v", "timestamp": "ts"},
        "output": {"alerts": "alerts", "scores": "scores"},
        "alerts": {"false_alarms_per_series_per_day": 0.5},
        "state": {"path": str(folder / "state")},
    }
    return Connector.model_validate({**settings, **changes})


def service(one: Connector, model: Model | None = None, **more: Any) -> Service:
    """A service that nobody has started."""

    def load() -> Model:
        assert model is not None
        return model

    limits = more.pop("limits", Limits(readings=100_000, readings_of_series=1_024))
    return Service(one, KafkaClients(one.kafka), load, Options(limits), **more)


def scores(series: list[str], minutes: Any, values: Any, **columns: Any) -> Scores:
    n = len(series)
    kinds = {"status": np.int8, "alert": np.int8, "onset": np.int8, "gap": np.int8}
    given: dict[str, Any] = {
        "surprise": 1.0, "score": 0.5, "p_value": 0.5, "rarity": 0.0, "expected": 1.0,
        "lower": 0.0, "upper": 2.0, "status": Status.SCORED, "alert": 0, "onset": 0, "gap": 0,
    } | columns  # fmt: skip
    return Scores(
        series=series,
        timestamp=START + np.asarray(np.multiply(minutes, MINUTE), np.int64),
        value=np.asarray(values, np.float64),
        partition=np.zeros(n, np.int32),
        offset=np.arange(n, dtype=np.int64),
        **{
            name: np.broadcast_to(np.asarray(value, kinds.get(name, np.float64)), n).copy()
            for name, value in given.items()
        },
    )


def alert(name: str, series: str, minute: float, **fields: Any) -> Alert:
    """The message that opened an episode, or what `fields` make of it."""
    onset = format_timestamp(START + int(minute * MINUTE))
    given = {
        "alert_id": name, "status": "opened", "series_id": series, "severity": "warning",
        "reason": "surprise", "onset": onset, "timestamp": onset, "peak_timestamp": onset,
        "value": 9.0, "expected": 1.0, "lower": 0.0, "upper": 2.0, "band_level": 0.95,
        "direction": "above", "score": 0.9, "p_value": 0.001, "surprise": 5.0,
        "rate_per_day": 0.05, "extrapolated": False, "explanation": f"{series} is odd",
        "duration_s": 0.0, "readings": 1, "model": {"name": "base", "version": "7"},
        "source": {"topic": "in", "partition": 0, "offset": 3},
    } | fields  # fmt: skip
    return msgspec.convert(given, Alert)


def later(one: Alert, minutes: float, **fields: Any) -> Alert:
    """A later message about the same episode."""
    end = parse_timestamp(one.onset) + int(minutes * MINUTE)
    changed = {"timestamp": format_timestamp(end), "duration_s": minutes * 60.0} | fields
    return replace(one, **changed)
