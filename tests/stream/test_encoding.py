"""What is published: alerts, frames of scores, forecasts and dead letters."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from titans_stream.records import (
    Alert,
    DeadLetter,
    Forecast,
    ModelRef,
    Scores,
    Source,
    Status,
)
from titans_stream.schemas import schemas
from titans_stream.stream.encoding import (
    dead_letter_record,
    decode_scores,
    encode_alert,
    encode_forecast,
    encode_scores,
)

NOON = 1_772_366_400_000_000_000
MODEL = ModelRef("base", "3")
SCHEMAS = schemas()
NUMBERS = ("value", "score", "p_value", "surprise", "rarity", "expected", "lower", "upper")


def check(name: str, content: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(content)
    Draft202012Validator(SCHEMAS[name]).validate(document)
    return document


def scores(partitions: list[int], seed: int = 0) -> Scores:
    n = len(partitions)
    rng = np.random.default_rng(seed)
    columns = {name: rng.normal(size=n) for name in NUMBERS}
    for column in columns.values():
        column[rng.random(n) < 0.2] = np.nan
    return Scores(
        series=[f"größe/{row % 7}" for row in range(n)],
        timestamp=NOON + rng.integers(0, 10**12, n),
        status=(np.arange(n) % len(Status)).astype(np.int8),
        alert=rng.integers(0, 2, n).astype(np.int8),
        onset=rng.integers(0, 2, n).astype(np.int8),
        gap=rng.integers(0, 2, n).astype(np.int8),
        partition=np.array(partitions, dtype=np.int32),
        offset=100 + np.arange(n, dtype=np.int64),
        **columns,
    )


def alert(**change: Any) -> Alert:
    base = Alert(
        alert_id="a@1",
        status="opened",
        series_id="wien/öl",
        severity="warning",
        reason="surprise",
        onset="2026-03-01T12:00:00Z",
        timestamp="2026-03-01T12:00:00Z",
        peak_timestamp="2026-03-01T12:00:00Z",
        value=1.5,
        expected=1.0,
        lower=math.nan,
        upper=None,
        band_level=0.95,
        direction="above",
        score=0.9,
        p_value=1e-12,
        surprise=7.0,
        rate_per_day=0.1,
        extrapolated=False,
        explanation="higher than expected",
        duration_s=0.0,
        readings=1,
        model=MODEL,
        source=Source("sensors", 1, 2**40),
    )
    return dataclasses.replace(base, **change)


def test_alert() -> None:
    key, value, source = encode_alert(alert())
    assert source == alert().source
    assert key == "wien/öl".encode()
    document = check("alert.json", value)
    expected = dataclasses.asdict(alert())
    assert document == {**expected, "lower": None}
    assert list(document) == list(expected)


def test_forecast() -> None:
    forecast = Forecast(
        series_id="a",
        origin="2026-03-01T12:00:00Z",
        timestamps=["2026-03-01T13:00:00Z"],
        median=[1.0],
        quantiles={"0.025": [0.5], "0.975": [1.5]},
        period=24.0,
        model=MODEL,
        source=Source("sensors", 1, 2),
    )
    key, value, source = encode_forecast(forecast)
    assert source == forecast.source
    assert key == b"a"
    assert check("forecast.json", value) == dataclasses.asdict(forecast)


# ---------------------------------------------------------------- frames of scores


def same(mine: Scores, theirs: Scores, rows: Any) -> None:
    for field in dataclasses.fields(Scores):
        ours, other = getattr(mine, field.name), getattr(theirs, field.name)
        if field.name == "series":
            assert ours == [other[row] for row in rows]
        else:
            np.testing.assert_array_equal(ours, other[rows], err_msg=field.name)
            assert ours.dtype == other.dtype


def test_frames_hold_one_partition_each_in_order() -> None:
    s = scores([3, 0, 3, 3, 0, 7])
    records = encode_scores(s, MODEL, "sensors")
    assert [each.key for each in records] == [b"0", b"3", b"7"]
    for (_, value, source), rows in zip(records, ([1, 4], [0, 2, 3], [5]), strict=True):
        assert source == Source("sensors", int(s.partition[rows[0]]), 100 + rows[0])
        document = check("score-frame.json", value)
        assert document["source"] == {
            "topic": "sensors",
            "partition": int(s.partition[rows[0]]),
            "first_offset": 100 + rows[0],
            "last_offset": 100 + rows[-1],
        }
        frame = decode_scores(value)
        assert (frame.model, frame.topic) == (MODEL, "sensors")
        same(frame.scores, s, rows)


def test_a_frame_in_the_open() -> None:
    s = scores([2])
    document = json.loads(encode_scores(s, MODEL, "t")[0].value)
    assert document["schema_version"] == 1
    assert document["status"] == ["scored"]
    assert document["series"] == ["größe/0"]
    assert document["timestamp"][0].startswith("2026-03-01T12:")
    assert document["timestamp"][0].endswith("Z")
    assert document["model"] == {"name": "base", "version": "3"}


def test_no_scores_no_frames() -> None:
    assert encode_scores(scores([]), MODEL, "t") == []


def test_frames_are_cut_by_rows_and_by_bytes() -> None:
    s = scores([0] * 1_201)
    frames = [decode_scores(each.value).scores for each in encode_scores(s, MODEL, "t")]
    assert [len(frame) for frame in frames] == [500, 500, 201]
    records = encode_scores(s, MODEL, "t", max_bytes=20_000)
    assert max(len(each.value) for each in records) <= 20_000
    pieces = [decode_scores(each.value).scores for each in records]
    np.testing.assert_array_equal(np.concatenate([p.offset for p in pieces]), s.offset)
    assert min(len(piece) for piece in pieces) > 20
    single = encode_scores(scores([0, 0]), MODEL, "t", max_bytes=10)
    assert [len(decode_scores(each.value).scores) for each in single] == [1, 1]


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 10), st.integers(0, 5))
def test_every_row_is_in_exactly_one_frame(partitions: list[int], rows: int, seed: int) -> None:
    s = scores(partitions, seed)
    frames = [
        decode_scores(each.value).scores for each in encode_scores(s, MODEL, "t", max_rows=rows)
    ]
    assert sorted(o for f in frames for o in f.offset.tolist()) == s.offset.tolist()
    for frame in frames:
        same(frame, s, (frame.offset - 100).tolist())


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.update(schema_version=2),
        lambda frame: frame.pop("score"),
        lambda frame: frame.update(score=[1.0, 2.0]),
        lambda frame: frame.update(status=["scord"]),
        lambda frame: frame.update(timestamp=["noon"]),
        lambda frame: frame.update(value=["x"]),
        lambda frame: frame.update(model="base"),
        lambda frame: frame.update(alert=[None]),
    ],
)
def test_what_is_no_frame_is_refused(change: Any) -> None:
    frame = json.loads(encode_scores(scores([0]), MODEL, "t")[0].value)
    change(frame)
    with pytest.raises(ValueError, match=r"."):
        decode_scores(json.dumps(frame).encode())


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"null", b"{}"])
def test_what_is_no_json_object_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_scores(content)


# ---------------------------------------------------------------- dead letters


def letter(key: bytes | None, value: bytes | None, detail: str = "v: not there") -> DeadLetter:
    return DeadLetter("missing-field", detail, key, value, "sensors", 3, 17)


def test_dead_letter() -> None:
    key, value, headers = dead_letter_record(letter(b"\xff", b"\x00{"))
    assert (key, value) == (b"\xff", b"\x00{")
    assert headers == [
        ("titans.reason", b"missing-field"),
        ("titans.detail", b"v: not there"),
        ("titans.topic", b"sensors"),
        ("titans.partition", b"3"),
        ("titans.offset", b"17"),
    ]
    document = {name: text.decode() for name, text in headers}
    Draft202012Validator(SCHEMAS["dead-letter.json"]).validate(document)
    assert dead_letter_record(letter(None, None))[:2] == (None, None)


def size(key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> int:
    return len(key or b"") + len(value or b"") + sum(len(n) + len(t) for n, t in headers)


@pytest.mark.parametrize("length", [0, 9_000, 9_700, 10_000, 1_048_576])
def test_a_long_value_is_cut_with_a_mark(length: int) -> None:
    original = bytes(range(256)) * (length // 256) + b"x" * (length % 256)
    key, value, headers = dead_letter_record(letter(b"k", original), max_bytes=10_000)
    assert value is not None
    assert (key, original.startswith(value)) == (b"k", True)
    assert size(key, value, headers) <= 10_000 - 100
    if length <= 9_000:
        assert (value, len(headers)) == (original, 5)
    elif length >= 9_700:
        assert headers[-1] == ("titans.truncated", str(length).encode())
        assert 9_000 < len(value) < length


def test_a_long_key_is_cut_too() -> None:
    key, value, headers = dead_letter_record(letter(b"k" * 50_000, b"v" * 10), max_bytes=10_000)
    assert key is not None
    assert 9_000 < len(key) < 10_000
    assert value == b""
    assert headers[-1] == ("titans.truncated", b"10")


def test_a_long_detail_is_cut_between_characters() -> None:
    _, _, headers = dead_letter_record(letter(None, None, "ä" * 2_000))
    assert headers[1] == ("titans.detail", "ä".encode() * 500)
    _, _, headers = dead_letter_record(letter(None, None, "x" + "ä" * 2_000))
    assert headers[1] == ("titans.detail", b"x" + "ä".encode() * 499)
    assert dead_letter_record(letter(None, None, "\ud800"))[2][1] == ("titans.detail", b"?")
