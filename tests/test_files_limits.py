"""Files with cells that are extreme: what they cost, and what is said of them."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from titans_stream import cli
from titans_stream.files.column_choice import choose_columns
from titans_stream.files.csv_file import CsvFile
from titans_stream.files.order import OrderOfTimes
from titans_stream.files.remarks import several_series


def test_long_texts_beside_repeated_times_take_no_memory(tmp_path: Path) -> None:
    """Each row must not be as wide as the longest cell of a column."""
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    steps = [((begin + timedelta(minutes=i)).isoformat(), i) for i in range(500)]
    note = "x" * 50_000
    rows = "".join(f"{time},{i},{note if i == 5 else 'ok'}\n" for i, (time, _) in
                   enumerate(steps * 2))  # fmt: skip
    path = tmp_path / "data.csv"
    path.write_text("ts,v,note\n" + rows)
    file = CsvFile(path)
    columns = choose_columns(file, "ts", ("v",), None)
    tracemalloc.start()
    try:
        remedy = several_series(file, columns, OrderOfTimes(readings=1_000, same=500))
        assert remedy is not None and remedy.startswith("most times stand there 2 times with other")
        assert tracemalloc.get_traced_memory()[1] < 60 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("cell", "options"),
    [("inf", ("--time-format", "days")), ("1e300", ("--time-format", "days")),
     ("9999-12-31 24:00", ())],
)  # fmt: skip
def test_times_beyond_all_calendars_name_their_row(
    cell: str, options: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = "45000" if options else "2026-03-01 12:00"
    path = tmp_path / "data.csv"
    path.write_text(f"ts,v\n{first},1\n{cell},2\n")
    command = ["score", str(path), "--out", str(tmp_path / "o.csv"), "--timestamp", "ts", *options]
    assert cli.main(command) == 2
    assert f'row 2, column ts: "{cell}" is not a time' in capsys.readouterr().err
