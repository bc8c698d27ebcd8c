"""What `check` says of the readings it decoded: dropped ones, unusable messages, sentinels."""

from __future__ import annotations

import json
from typing import Any

import pytest

from titans_stream.commands.check_budget import usual_interval
from titans_stream.commands.check_readings import look_at, tell
from titans_stream.engine.settings import EngineConfig
from titans_stream.stream.codec.json_codec import JsonCodec
from titans_stream.stream.inspect import MessageReport
from titans_stream.stream.messages import RawMessage
from titans_stream.stream.settings import InputConfig

START = 1_772_366_400
CONFIG = InputConfig(topic="in", series="{s}", value="v", timestamp="t")


def reports(rows: list[tuple[str, int, Any]], partition: int = 0) -> list[MessageReport]:
    """One report for each (series, seconds after START, value)."""
    codec = JsonCodec(CONFIG, clock=lambda: (START + 10**6) * 10**9)
    found = []
    for offset, (series, second, value) in enumerate(rows):
        content = json.dumps({"s": series, "v": value, "t": START + second}).encode()
        message = RawMessage("in", partition, offset, START * 1000, None, content)
        decoded = codec.decode([message])
        dead = decoded.dead[0] if decoded.dead else None
        found.append(MessageReport(message, decoded.readings, dead))
    return found


def engine(**settings: object) -> EngineConfig:
    return EngineConfig.model_validate(settings)


def test_readings_that_would_be_dropped_are_counted() -> None:
    rows = [
        ("a", 0, 1.0),
        ("a", 5, 2.0),
        ("a", 5, 2.0),
        ("a", 5, 3.0),
        ("a", 1, 4.0),
        ("a", 6, 5.0),
    ]
    looked = look_at(reports([*rows, ("b", 0, 6.0), ("b", 1, "x"), ("b", 2, None)]), engine())
    assert (looked.messages, looked.readings, looked.unusable) == (9, 8, {"wrong-type": 1})
    assert (looked.duplicate, looked.shared, looked.late, looked.missing) == (1, 1, 1, 1)
    assert look_at(reports(rows), engine(max_out_of_orderness="5s")).late == 0
    later = [*rows, ("a", 20, 6.0), ("a", 21, 7.0), ("a", 2, 8.0)]
    assert look_at(reports(later), engine(max_out_of_orderness="5s")).late == 1
    assert look_at(reports(later), engine(max_out_of_orderness="30s")).late == 0


@pytest.mark.parametrize(
    ("mode", "duplicate"), [("keep-order", 1), ("drop", 3), ("keep-last", 3), ("spread", 1)]
)
def test_what_is_a_duplicate_is_for_the_connector_to_say(mode: str, duplicate: int) -> None:
    rows = [("a", second, value) for second in range(2) for value in (1.0, 2.0)]
    looked = look_at(reports([*rows, ("a", 1, 2.0), ("a", 2, 1.0)]), engine(duplicates=mode))
    assert (looked.readings, looked.duplicate, looked.shared, looked.late) == (6, duplicate, 2, 0)


def test_partitions_have_series_of_their_own_and_are_taken_in_their_order() -> None:
    one, two = reports([("a", 5, 1.0), ("a", 6, 2.0)]), reports([("a", 1, 1.0)], partition=1)
    looked = look_at([*reversed(one), *two], engine())
    assert (looked.duplicate, looked.late) == (0, 0)


def told(
    rows: list[tuple[str, int, Any]], capsys: pytest.CaptureFixture[str], **settings: object
) -> tuple[str, str]:
    tell(look_at(reports(rows), engine(**settings)))
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_few_dropped_readings_are_told_and_many_warned_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows: list[tuple[str, int, Any]] = [("a", i, float(i % 7)) for i in range(40)]
    out, err = told([*rows, rows[-1]], capsys)
    assert out == (
        "readings   the last 41 messages hold 41 readings of 1 series; 0 messages cannot be used; "
        "1 readings would be dropped (1 duplicate, 0 late)\n"
    )
    assert err == ""
    _, err = told(rows[::-1], capsys)
    assert "39 of 40 readings are late" in err
    assert "engine.max_out_of_orderness" in err
    _, err = told([("a", i // 10, float(i)) for i in range(40)], capsys)
    assert "36 of 40 readings have the time of an earlier one of their series with another" in err
    assert "(engine.duplicates: keep-order)" in err
    _, err = told([("a", i // 10, float(i)) for i in range(40)], capsys, duplicates="drop")
    assert "36 of 40 readings are duplicates" in err
    assert "keep-order" not in err
    _, err = told([*rows, *[("a", 50 + i, "x") for i in range(10)]], capsys)
    assert err == "warning: 10 of 50 messages cannot be used: wrong-type 10\n"


def test_a_value_that_may_be_missing_is_named_with_its_setting(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows: list[tuple[str, int, Any]] = []
    for i in range(60):
        rows += [("a", i, -999 if i % 9 == 4 else 20 + i % 7), ("b", i, 20 + i % 7)]
    _, err = told(rows, capsys)
    assert err == (
        "warning: -999 lies far outside the rest and recurs in a: if it stands for a missing "
        "value, set input.missing_values: [-999]\n"
    )


def test_the_pace_of_a_topic_is_that_of_its_usual_series() -> None:
    rows = [("a", 60 * i, 1.0) for i in range(5)] + [("b", 70 * i, 1.0) for i in range(5)]
    rows += [("c", 3_600 * i, 1.0) for i in range(2)] + [("d", 0, 1.0)]
    assert usual_interval(reports(rows)) == 70.0
    assert usual_interval(reports(rows[:1])) is None
