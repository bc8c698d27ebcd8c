"""Nothing made crashes anything, and nothing is lost without a word.

`make fuzz` runs these for FUZZ_SECONDS each round over; in the ordinary tests they run for moments.
The last seed that is printed where one fails makes it fail again: FUZZ_SEED names it.
"""

from __future__ import annotations

import logging
import math
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.fuzz.tables import Table, made_table, spoiled
from tests.stream.test_codecs_fuzz import account
from titans_stream import cli
from titans_stream.config import load_connector, load_recipe
from titans_stream.files.column_choice import choose_columns, value_columns
from titans_stream.files.csv_file import CsvFile
from titans_stream.files.csv_readings import ReadingsOfCsv
from titans_stream.files.dialect import Dialect
from titans_stream.files.order import InOrderOfTime
from titans_stream.files.remarks import about_columns, about_order, about_rows
from titans_stream.ops.storage import Snapshots
from titans_stream.records import Snapshot
from titans_stream.stream.recovery import StoredSnapshot
from titans_stream.times import load_zone

SECONDS = float(os.environ.get("FUZZ_SECONDS", "5"))
KINDS = 6
FIRST_SEED = int(os.environ.get("FUZZ_SEED", "0")) or (
    time.time_ns() // 1_000_000 if "FUZZ_SECONDS" in os.environ else 1
)
ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(max(300, int(3 * SECONDS)))


def seeds() -> Iterator[int]:
    """Seeds, one at least, until this kind's share of the time is over."""
    end = time.monotonic() + SECONDS / KINDS
    seed = FIRST_SEED
    while True:
        print(f"\rFUZZ_SEED={seed}", end="")
        yield seed
        seed += 1
        if time.monotonic() > end:
            return


def assert_read(path: Path, table: Table) -> None:
    """Every row of a known table is a reading of each column, with its value and its time."""
    file = CsvFile(path, table.dialect)
    timestamp = file.time_column(table.timestamp)
    names = [name for name in file.header if name != timestamp]
    columns = choose_columns(file, timestamp, names, None)
    readings = ReadingsOfCsv(file, columns, load_zone("UTC"))
    ordered = InOrderOfTime(lambda: readings)
    chunks = list(ordered)
    offset = np.concatenate([chunk.readings.offset for chunk in chunks])
    at = np.argsort(offset)
    assert offset[at].tolist() == list(range(len(table.values) * len(names)))
    value = np.concatenate([chunk.readings.value for chunk in chunks])[at]
    stamp = np.concatenate([chunk.readings.timestamp for chunk in chunks])
    np.testing.assert_array_equal(value, np.ravel(table.values))
    expected = np.repeat([int(one.timestamp()) * 10**9 for one in table.times], len(names))
    np.testing.assert_array_equal(stamp[at], expected)
    assert (np.diff(stamp) >= 0).all()
    numbers = file.cells.numbers
    assert numbers.words.total() + numbers.sentinels.total() == table.missing
    assert (file.empty_rows, file.comments) == (table.empty_rows, table.comments)
    assert (file.titles, len(file.units)) == (table.titles, table.units)
    said = " ".join(about_rows(file))
    assert ("are empty" in said) == (table.empty_rows > 0)
    assert ("comments" in said) == (table.comments > 0)


def test_tables_in_any_dialect_are_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    for seed in seeds():
        table = made_table(random.Random(seed))
        path.write_bytes(table.content)
        assert_read(path, table)


def test_spoiled_tables_end_in_readings_or_one_line(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    read = refused = 0
    for seed in seeds():
        rng = random.Random(seed)
        table = made_table(rng)
        path.write_bytes(spoiled(rng, table.content))
        dialect = table.dialect if rng.random() < 0.7 else Dialect()
        try:
            file = CsvFile(path, dialect)
            columns = choose_columns(file, table.timestamp, [], None)
            readings = ReadingsOfCsv(file, columns, load_zone("UTC"))
            ordered = InOrderOfTime(lambda readings=readings: readings)
            found = sum(len(chunk.row) for chunk in ordered)
            about_order(file, ordered.order)
            left_out = len(columns.left_out)
            assert bool(left_out) == bool(about_columns(file, columns.left_out, []))
            rows = sum(len(chunk) for chunk in file.chunks())
            assert found == rows * len(columns.values)
            assert len(file.header) == len(columns.values) + left_out + 1
        except ValueError as error:
            assert str(error), "every refusal has words"
            assert "\n" not in str(error)
            refused += 1
        else:
            read += 1
    assert read + refused > 5


def test_score_writes_a_row_for_each_reading_or_ends_with_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "d.csv", tmp_path / "o.csv"
    for seed in seeds():
        rng = random.Random(seed)
        table = made_table(rng)
        path.write_bytes(spoiled(rng, table.content) if seed % 2 else table.content)
        out.unlink(missing_ok=True)
        command = ["score", str(path), "--out", str(out), "--timestamp", table.timestamp]
        command += ["--comment", "%", "--na", "ausgefallen", "--missing-values=-999"]
        if table.dialect.header is False:
            command += ["--no-header", "--delimiter", table.dialect.delimiter or ","]
        if table.dialect.time_format:
            command += ["--time-format", table.dialect.time_format]
        code = cli.main([*command, "--decimal", table.dialect.decimal or "."])
        err = capsys.readouterr().err
        assert code in (0, 2), err
        assert "Traceback" not in err
        assert err.strip()
        if out.exists():
            written = len(out.read_text(encoding="utf-8").splitlines()) - 1
            summary = next(line for line in err.splitlines() if " values of " in line)
            assert summary.startswith(f"{written:,} values of ")
            assert (code == 2) == ("--allow-dropped" in err)
            assert _sum_of_parts(summary) == written
            if not seed % 2:
                numeric = len(table.header) - 1 - err.count("it is empty")
                numeric -= sum(line.count("is not a number") for line in err.splitlines())
                assert written == len(table.values) * numeric, err


def _sum_of_parts(summary: str) -> int:
    """Readings that a summary accounts for: scored, warming up, missing, duplicate, late."""
    parts = [part.split(" ", 1) for part in summary.split(", ")]
    kinds = {"scored", "warming up", "missing", "duplicate", "late"}
    # thousands are separated by a comma without a space
    return sum(int(count.replace(",", "")) for count, *kind in parts if kind and kind[0] in kinds)


def test_messages_are_readings_or_dead_letters() -> None:
    for seed in seeds():
        account(60_000 if SECONDS > 60 else 20_000, seed + 1_000)


def test_settings_are_taken_or_refused_with_a_line(tmp_path: Path) -> None:
    sources = [*(ROOT / "connectors").glob("*.yaml"), *(ROOT / "models").glob("*.yaml")]
    assert len(sources) > 8
    path = tmp_path / "s.yaml"
    for seed in seeds():
        rng = random.Random(seed)
        source = rng.choice(sorted(sources))
        path.write_bytes(spoiled(rng, source.read_bytes()))
        load = load_connector if source.parent.name == "connectors" else load_recipe
        try:
            load(path, {})
        except ValueError as error:
            assert str(error)


def test_a_damaged_snapshot_is_the_one_before_it_or_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    store = Snapshots(tmp_path, "g", keep=2)
    for offset in (5, 9):
        arrays = {"a": np.arange(offset * 7.0), "b": np.full((3, offset), offset, np.int64)}
        snapshot = Snapshot("s/1/x", {"series": ["x", "ü"], "n": offset}, arrays)
        store.save("t", 0, StoredSnapshot(offset, snapshot, {"life": "l", "offset": offset}))
    path = store.path("t", 0, 9)
    whole = path.read_bytes()
    for seed in seeds():
        path.write_bytes(spoiled(random.Random(seed), whole))
        found = store.load("t", 0, 9, "s/1/x")
        assert found is not None
        assert found.offset == found.snapshot.meta["n"] == found.notes["offset"]
        assert found.snapshot.arrays["a"].tolist() == list(map(float, range(found.offset * 7)))
        assert not math.isnan(found.snapshot.arrays["b"].sum())


def test_a_table_of_text_alone_says_what_its_columns_hold(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("a,b\nx,\ny,\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r'a: "x" in row 1 is not a number; b: it is empty'):
        value_columns(CsvFile(path), [])
