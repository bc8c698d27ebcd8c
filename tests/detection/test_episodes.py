"""Episodes and domain rules through the engine, by value."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from tests.engine.streams import MODEL
from titans_stream.detection.rules import AlertConfig, resolve_rule
from titans_stream.engine.engine import StreamEngine
from titans_stream.engine.settings import EngineConfig
from titans_stream.records import Readings, Results

STEP = 60_000_000_000
START = 1_700_000_000_000_000_000
QUIET = 1500


def score(values: np.ndarray, name: str = "a", **alerts: object) -> Results:
    one = StreamEngine(EngineConfig(device="cpu"), AlertConfig.model_validate(alerts), MODEL, "in")
    n = len(values)
    times = START + np.arange(n) * STEP
    return one.process(
        Readings([name] * n, times, np.asarray(values), np.zeros(n, np.int32), np.arange(n))
    )


def noise(n: int = QUIET + 200, seed: int = 1) -> np.ndarray:
    return 50.0 + np.random.default_rng(seed).standard_normal(n)


def with_spike(size: float, at: int = QUIET, length: int = 3) -> np.ndarray:
    values = noise()
    values[at : at + length] += size
    return values


def opened(result: Results) -> list[int]:
    return np.flatnonzero(result.scores.onset).tolist()


def test_quiet_noise_raises_nothing_and_a_spike_one_episode() -> None:
    assert opened(score(noise())) == []
    result = score(with_spike(25.0))
    assert opened(result) == [QUIET]
    first, last = result.alerts[0], result.alerts[-1]
    assert (first.status, last.status) == ("opened", "resolved")
    assert {alert.alert_id for alert in result.alerts} == {first.alert_id}
    assert first.direction == "above"
    assert first.reason == "surprise"
    assert first.onset == first.timestamp == first.peak_timestamp
    assert first.value == pytest.approx(with_spike(25.0)[QUIET])
    assert first.lower is not None
    assert first.upper is not None
    assert first.expected is not None
    assert first.lower < first.expected < first.upper < first.value
    assert first.source.offset == QUIET
    assert first.readings == 1
    assert last.readings == int(result.scores.alert.sum()) + 1
    assert last.duration_s == 60.0 * (last.readings - 1)
    assert "is normal" in first.explanation


def test_a_dip_points_below() -> None:
    assert score(with_spike(-25.0)).alerts[0].direction == "below"


def rule(**fields: object) -> dict[str, object]:
    return {"rules": [{"series": "a", **fields}]}


def test_direction_filters() -> None:
    assert opened(score(with_spike(-25.0, length=1), **rule(direction="below"))) == [QUIET]
    assert QUIET not in opened(score(with_spike(-25.0, length=1), **rule(direction="above")))


def test_least_deviation_in_units_and_relative_to_expected() -> None:
    values = with_spike(25.0, length=1)
    assert opened(score(values, **rule(min_deviation=20.0))) == [QUIET]
    assert opened(score(values, **rule(min_deviation=40.0))) == []
    assert opened(score(values, **rule(min_deviation_ratio=0.4))) == [QUIET]
    assert opened(score(values, **rule(min_deviation_ratio=0.9))) == []


def test_a_value_outside_its_valid_range_alerts_at_once_even_while_warming_up() -> None:
    values = noise(60)
    values[40] = 61.0
    result = score(values, **rule(valid_range=[None, 60.0]))
    assert opened(result) == [40]
    alert = result.alerts[0]
    assert (alert.reason, alert.severity, alert.score) == ("valid_range", "critical", None)
    assert "it is above 60" in alert.explanation
    assert alert.limit == 60.0
    assert opened(score(values, **rule(valid_range=[0.0, 62.0]))) == []


def test_disabled_series_are_scored_but_never_alert() -> None:
    result = score(with_spike(25.0), **rule(enabled=False))
    assert result.alerts == []
    assert result.scores.surprise[QUIET] > 0.5


def test_min_duration_waits_for_more_readings() -> None:
    assert opened(score(with_spike(25.0, length=4), min_duration=3)) == [QUIET + 2]
    assert opened(score(with_spike(25.0, length=1), min_duration=3, cool_down=0)) != [QUIET]


def test_cool_down_silences_a_second_onset() -> None:
    values = with_spike(25.0, length=1)
    values[QUIET + 40] += 60.0
    common = {"resolve_after": 2, "hysteresis": 0.0, "false_alarms_per_series_per_day": 2.0}
    soon = opened(score(values, cool_down=10, **common))
    assert QUIET in soon
    assert QUIET + 40 in soon
    assert np.diff(soon).min() > 10
    assert opened(score(values, cool_down=100, **common))[-1] == QUIET


def test_an_episode_ends_by_itself_at_the_latest() -> None:
    values = noise(QUIET + 400)
    values[QUIET:] += 30.0
    result = score(values, max_duration=25)
    assert int(result.scores.alert[QUIET : QUIET + 40].sum()) == 24
    told = [a.status for a in result.alerts if a.status != "updated"]
    assert told[:2] == ["opened", "resolved"]


def test_severity_rises_with_an_update() -> None:
    values = noise()
    values[QUIET] += 7.0
    values[QUIET + 1] += 90.0
    result = score(values, false_alarms_per_series_per_day=1.0, critical_factor=100.0)
    first, second = [a for a in result.alerts if a.source.offset >= QUIET][:2]
    assert (first.status, first.severity) == ("opened", "warning")
    assert (second.status, second.severity) == ("updated", "critical")
    assert second.alert_id == first.alert_id
    assert second.peak_timestamp > first.peak_timestamp


def test_updates_come_as_often_as_asked() -> None:
    values = noise(QUIET + 100)
    values[QUIET:] += 30.0
    result = score(values, update_every=5, critical_factor=1.0)
    updates = [a for a in result.alerts if a.status == "updated"]
    assert [a.readings for a in updates[:3]] == [5, 10, 15]


def test_a_larger_budget_alerts_more() -> None:
    values = np.random.default_rng(3).standard_t(3, 20_000)
    counts = [
        len(opened(score(values, false_alarms_per_series_per_day=budget)))
        for budget in (0.05, 0.5, 5.0)
    ]
    assert counts[0] < counts[1] < counts[2]
    days = 20_000 / 1440
    assert counts[2] / days == pytest.approx(5.0, rel=0.6)


def test_later_rules_override_field_by_field() -> None:
    config = AlertConfig.model_validate(
        {
            "false_alarms_per_series_per_day": 0.2,
            "rules": [
                {"series": "plant/*", "direction": "above", "min_deviation": 2},
                {"series": "plant/*/temp", "min_deviation": 5, "valid_range": [None, 90]},
                {"series": "plant/2/*", "false_alarms_per_series_per_day": 3},
            ],
        }
    )
    resolved = resolve_rule(config, "plant/2/temp")
    assert resolved.direction == "above"
    assert resolved.min_deviation == 5
    assert (resolved.low, resolved.high) == (float("-inf"), 90)
    assert resolved.false_alarms_per_day == 3
    assert resolve_rule(config, "other").false_alarms_per_day == 0.2


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("valid_range", [5, 1], "below high"),
        ("valid_range", [None, None], "at least one"),
        ("direction", "up", "direction"),
        ("min_deviation", -1, "min_deviation"),
    ],
)
def test_wrong_rules_name_the_field(field: str, value: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AlertConfig.model_validate({"rules": [{"series": "a", field: value}]})
