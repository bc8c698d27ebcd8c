"""Every row of a file is a scored value or named: none is lost on the way."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from titans_stream import cli
from titans_stream.commands.outputs import Account
from titans_stream.files.column_choice import choose_columns
from titans_stream.files.csv_file import CsvFile
from titans_stream.files.csv_readings import CsvReadings, ReadingsOfCsv
from titans_stream.files.dialect import Dialect
from titans_stream.files.order import InOrderOfTime
from titans_stream.records import Readings
from titans_stream.times import load_zone


@dataclass(frozen=True)
class Cell:
    text: str
    value: float


numbers = st.floats(-1e6, 1e6).map(lambda value: round(value, 4))
missing = st.sampled_from(["", "NaN", "?", "unavailable", "-", "#N/A", "-999"])
cells = numbers.map(lambda value: Cell(repr(value), value)) | missing.map(
    lambda text: Cell(text, math.nan)
)
rows = st.lists(st.tuples(st.integers(0, 500), st.sampled_from("ab"), cells, cells), min_size=1)


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=rows,
    delimiter=st.sampled_from(",;\t"),
    comma=st.booleans(),
    long=st.booleans(),
    empty=st.integers(0, 2),
)
def test_every_row_is_a_reading_of_each_column_in_order_of_time(
    tmp_path: Path,
    rows: list[tuple[int, str, Cell, Cell]],
    delimiter: str,
    comma: bool,
    long: bool,
    empty: int,
) -> None:
    def text(cell: Cell) -> str:
        return f'"{cell.text.replace(".", ",")}"' if comma else cell.text

    lines = ["t", "s", "x", "y"], *(
        [f"2026-03-01 {t // 60:02d}:{t % 60:02d}", s, text(x), text(y)] for t, s, x, y in rows
    )  # fmt: skip
    path = tmp_path / "d.csv"
    body = [delimiter.join(line) for line in lines] + [delimiter * 3] * empty
    path.write_text("\n".join(body) + "\n", encoding="utf-8")
    dialect = Dialect(decimal="," if comma else None, missing_values=(-999.0,))
    file = CsvFile(path, dialect)
    columns = choose_columns(file, "t", ["x", "y"], "s" if long else None)
    readings = ReadingsOfCsv(file, columns, load_zone("UTC"))
    chunks = list(InOrderOfTime(lambda: readings))
    offset = np.concatenate([chunk.readings.offset for chunk in chunks])
    assert sorted(offset.tolist()) == list(range(2 * len(rows)))
    value = np.concatenate([chunk.readings.value for chunk in chunks])[np.argsort(offset)]
    expected = [cell.value for _, _, *both in rows for cell in both]
    np.testing.assert_array_equal(value, expected)
    last: dict[str, int] = {}
    for chunk in chunks:
        for series, time in zip(
            chunk.readings.series, chunk.readings.timestamp.tolist(), strict=True
        ):
            assert time >= last.get(series, time)
            last[series] = time
    words = [c.text for _, _, *both in rows for c in both if c.text not in ("", "NaN") and
             math.isnan(c.value)]  # fmt: skip
    told = file.cells.numbers.words.total() + file.cells.numbers.sentinels.total()
    assert (told, file.empty_rows) == (len(words), empty)


def test_the_summary_counts_each_value_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    lines = [f"2026-03-{1 + i // 24:02d} {i % 24:02d}:00,{v:.3f}" for i, v in
             enumerate(rng.normal(size=500))]  # fmt: skip
    lines[20:20] = [lines[19]] * 4
    lines[300] = lines[300].partition(",")[0] + ",?"
    path, out = tmp_path / "d.csv", tmp_path / "o.csv"
    path.write_text("t,v\n" + "\n".join(lines) + "\n", encoding="utf-8")
    assert cli.main(["score", str(path), "--out", str(out), "--timestamp", "t"]) == 0
    summary = capsys.readouterr().err.splitlines()[-1]
    assert summary.startswith(
        "504 values of 1 series, 299 scored, 200 warming up, 1 missing, 4 duplicate, "
    )
    with out.open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 504


@pytest.mark.parametrize(("late", "code"), [(10, 0), (11, 2)])
def test_more_than_a_tenth_dropped_is_exit_code_2(
    late: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    account = Account(readings=100, scored=100 - late, late=late)
    assert account.end(allowed=False, remedy="sort it") == code
    err = capsys.readouterr().err
    assert ("sort it; exit code 2, though all is written (--allow-dropped: 0)" in err) == (
        code == 2
    )
    assert account.end(allowed=True) == 0


def test_a_longer_file_than_is_kept_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("titans_stream.files.order.KEPT", 10)
    monkeypatch.setattr("titans_stream.files.order._SORTED_CHUNK", 7)
    reads = []

    def read() -> list[CsvReadings]:
        reads.append(1)
        times = np.arange(30)[::-1].reshape(3, 10) // 2  # newest first, each time twice
        return [
            CsvReadings(
                Readings(
                    ["s"] * 10, part, part * 1.0, np.zeros(10, np.int32), np.arange(10) + 10 * i
                ),
                np.arange(10) + 10 * i + 1,
            )
            for i, part in enumerate(times)
        ]

    chunks = list(InOrderOfTime(read))
    assert len(reads) == 2
    assert [len(chunk.row) for chunk in chunks] == [7, 7, 7, 7, 2]
    assert np.concatenate([chunk.row for chunk in chunks]).tolist() == list(range(30, 0, -1))


def test_a_connectors_file_keeps_its_order_unless_newest_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    connector = tmp_path / "c.yaml"
    connector.write_text(
        "name: c\nkafka: {bootstrap_servers: 'localhost:1'}\n"
        "input: {topic: i, series: '{s}', value: v, timestamp: t}\noutput: {alerts: a}\n",
        encoding="utf-8",
    )
    times = [f"2026-03-01 {i // 60:02d}:{i % 60:02d}" for i in range(100)]
    rows = [f"{time},{i % 7}" for i, time in enumerate(times)]
    path, out = tmp_path / "d.csv", tmp_path / "o.csv"
    command = ["score", str(path), "--out", str(out), "--connector", str(connector)]
    path.write_text("t,v\n" + "\n".join(rows[::-1]) + "\n", encoding="utf-8")
    assert cli.main(command) == 0
    assert "note: the newest readings stand first" in capsys.readouterr().err
    swapped = [rows[i ^ 1] for i in range(100)]
    path.write_text("t,v\n" + "\n".join(swapped) + "\n", encoding="utf-8")
    assert cli.main(command) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "warning: 50 of 100 readings were dropped: their series had the same time (0 duplicate) or "
        "a later one (50 late) already; sort the file by time, or set engine.max_out_of_orderness "
        "in the connector; exit code 2, though all is written (--allow-dropped: 0)"
    )
