"""Encodes what is published (docs/messages.md): alerts, frames of scores, forecasts, dead letters.

Everything but dead letters is JSON; NaN and infinity become null.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from titans_stream.records import (
    SCHEMA_VERSION,
    Alert,
    DeadLetter,
    Forecast,
    ModelRef,
    Scores,
    Source,
    Status,
)
from titans_stream.times import format_timestamps, parse_timestamp


class Record(NamedTuple):
    """A message to be: `source` is the input that it is about."""

    key: bytes
    value: bytes
    source: Source


MAX_FRAME_ROWS = 500
MAX_FRAME_BYTES = 900_000
"""Below the 1 MiB that brokers and producers take by default."""
MAX_MESSAGE_BYTES = 1_000_000
"""The default limit of a dead letter, below a broker's default of 1,048,588 bytes."""
RECORD_OVERHEAD = 200
"""Bytes of a record and its batch beside key, value and headers, generously."""

_NUMBERS = ("value", "score", "p_value", "surprise", "rarity", "expected", "lower", "upper")
_MARKS = ("alert", "onset", "gap")
_LABELS = {int(status): status.label for status in Status}
_STATUSES = {label: number for number, label in _LABELS.items()}
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY
_TRUNCATED = "titans.truncated"


def encode_alert(alert: Alert) -> Record:
    """An alert as a message, keyed by its series."""
    return Record(alert.series_id.encode(), orjson.dumps(alert), alert.source)


def encode_forecast(forecast: Forecast) -> Record:
    """A forecast as a message, keyed by its series."""
    return Record(forecast.series_id.encode(), orjson.dumps(forecast), forecast.source)


def encode_scores(
    scores: Scores,
    model: ModelRef,
    topic: str,
    *,
    max_rows: int = MAX_FRAME_ROWS,
    max_bytes: int = MAX_FRAME_BYTES,
) -> list[Record]:
    """Frames of scores, each of one partition of the input `topic`, keyed by its number.

    Rows keep their order. A frame has at most `max_rows` rows and `max_bytes` bytes; only a single
    row that is longer than that makes a longer frame.
    """
    records: list[Record] = []
    for partition in np.unique(scores.partition):
        rows = np.flatnonzero(scores.partition == partition)
        for start in range(0, len(rows), max_rows):
            _add_frames(scores, rows[start : start + max_rows], model, topic, max_bytes, records)
    return records


def _add_frames(
    scores: Scores,
    rows: npt.NDArray[np.intp],
    model: ModelRef,
    topic: str,
    max_bytes: int,
    records: list[Record],
) -> None:
    frame = orjson.dumps(_frame(scores, rows, model, topic), option=_OPTIONS)
    if len(frame) <= max_bytes or len(rows) == 1:
        partition = int(scores.partition[rows[0]])
        source = Source(topic, partition, int(scores.offset[rows].min()))
        records.append(Record(str(partition).encode(), frame, source))
        return
    middle = len(rows) // 2
    _add_frames(scores, rows[:middle], model, topic, max_bytes, records)
    _add_frames(scores, rows[middle:], model, topic, max_bytes, records)


def _frame(
    scores: Scores, rows: npt.NDArray[np.intp], model: ModelRef, topic: str
) -> dict[str, Any]:
    offset = scores.offset[rows]
    frame: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "model": model,
        "source": {
            "topic": topic,
            "partition": int(scores.partition[rows[0]]),
            "first_offset": int(offset.min()),
            "last_offset": int(offset.max()),
        },
        "series": [scores.series[row] for row in rows],
        "timestamp": format_timestamps(scores.timestamp[rows]),
        "offset": offset,
        "status": [_LABELS[status] for status in scores.status[rows].tolist()],
    }
    for name in (*_NUMBERS, *_MARKS):
        frame[name] = np.ascontiguousarray(getattr(scores, name)[rows])
    return frame


@dataclass(frozen=True, slots=True)
class ScoreFrame:
    """A frame of scores as it was read back."""

    model: ModelRef
    topic: str
    scores: Scores


def decode_scores(value: bytes) -> ScoreFrame:
    """Read a frame of scores. ValueError for what is none, or one of a later schema."""
    frame = orjson.loads(value)
    try:
        if frame["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema_version {frame['schema_version']} is not {SCHEMA_VERSION}")
        count = len(frame["series"])
        if not set(map(type, frame["series"])) <= {str}:
            raise ValueError("series: an id is no text")
        columns: dict[str, Any] = {
            name: np.array(frame[name], dtype=np.float64) for name in _NUMBERS
        }
        columns |= {name: np.array(frame[name], dtype=np.int8) for name in _MARKS}
        columns["status"] = np.array([_STATUSES[name] for name in frame["status"]], dtype=np.int8)
        columns["offset"] = np.array(frame["offset"], dtype=np.int64)
        columns["timestamp"] = np.array(
            [parse_timestamp(text) for text in frame["timestamp"]], dtype=np.int64
        )
        columns["partition"] = np.full(count, frame["source"]["partition"], dtype=np.int32)
        uneven = [name for name, column in columns.items() if column.shape != (count,)]
        if uneven:
            raise ValueError(f"{uneven[0]}: not as long as series")
        model = ModelRef(frame["model"]["name"], frame["model"]["version"])
        topic = frame["source"]["topic"]
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"not a frame of scores: {error!r}") from error
    return ScoreFrame(model, topic, Scores(series=frame["series"], **columns))


def dead_letter_record(
    letter: DeadLetter, max_bytes: int = MAX_MESSAGE_BYTES
) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]:
    """Key, value and headers of a dead letter: the original bytes, the context in headers.

    A value that would make the message longer than `max_bytes` is cut, and so is a key that alone
    would; the header titans.truncated then holds the original length of the value. The detail is
    cut at 1,000 bytes.
    """
    headers = [
        ("titans.reason", letter.reason.encode()),
        ("titans.detail", _cut_text(letter.detail, 1_000)),
        ("titans.topic", letter.topic.encode()),
        ("titans.partition", str(letter.partition).encode()),
        ("titans.offset", str(letter.offset).encode()),
    ]
    mark = (_TRUNCATED, str(len(letter.value or b"")).encode())
    used = sum(len(name) + len(text) + 10 for name, text in (*headers, mark))
    room = max(0, max_bytes - used - RECORD_OVERHEAD)
    key, value = letter.key, letter.value
    if len(key or b"") + len(value or b"") <= room:
        return key, value, headers
    key = None if key is None else key[:room]
    value = None if value is None else value[: room - len(key or b"")]
    return key, value, [*headers, mark]


def _cut_text(text: str, most: int) -> bytes:
    return text.encode(errors="replace")[:most].decode(errors="ignore").encode()
