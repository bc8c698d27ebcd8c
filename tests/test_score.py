"""`titans-stream score`: the engine's own numbers, in input order, and errors a person can use."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from titans_stream import cli
from titans_stream.commands.csv_output import SCORE_COLUMNS
from titans_stream.detection.rules import AlertConfig
from titans_stream.durations import SECOND
from titans_stream.engine.build import EngineSetup, build_engine
from titans_stream.engine.settings import EngineConfig
from titans_stream.files import csv_file
from titans_stream.files.csv_file import CsvFile
from titans_stream.lifecycle.artifacts import base_model
from titans_stream.records import Float64, Int64, Readings, Scores, Status
from titans_stream.times import format_timestamp, parse_timestamp

NUMBERS = ("value", "score", "p_value", "surprise", "expected", "lower", "upper")
BEGIN = parse_timestamp("2026-03-01T00:00:00Z")
MINUTE = 60 * SECOND


def waves(rows: int, columns: int, seed: int = 0) -> Float64:
    """[rows, columns], with a step in the last tenth of each column."""
    rng = np.random.default_rng(seed)
    t = np.arange(rows)[:, None]
    values: Float64 = np.sin(t / (9.0 + np.arange(columns))) + 0.1 * rng.standard_normal(
        (rows, columns)
    )
    values[rows - rows // 10 :] += 5.0
    return values


def write(path: Path, header: list[str], rows: list[list[object]], delimiter: str = ",") -> Path:
    lines = [delimiter.join(map(str, row)) for row in [header, *rows]]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def run_score(path: Path, *arguments: str, code: int = 0) -> list[dict[str, str]]:
    out = path.with_suffix(".scores")
    exact = ("--quiet", "--digits", "all")
    assert cli.main(["score", str(path), "--out", str(out), *exact, *arguments]) == code
    with out.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def through_engine(
    series: list[str],
    timestamp: Int64,
    value: Float64,
    alerts: AlertConfig | None = None,
    config: EngineConfig | None = None,
    calendar: bool = True,
) -> dict[str, list[object]]:
    """Columns by name, in input order, of an engine that is fed directly and at once."""
    setup = EngineSetup(config or EngineConfig(), alerts or AlertConfig(), calendar=calendar)
    engine = build_engine(base_model(), setup)
    n = len(value)
    readings = Readings(
        series, timestamp, value, np.zeros(n, np.int32), np.arange(n, dtype=np.int64)
    )
    found = [engine.process(readings).scores, engine.flush().scores]
    offset = np.concatenate([part.offset for part in found])
    order = np.argsort(offset)
    assert (offset[order] == np.arange(n)).all()
    return {
        name: np.concatenate([getattr(part, name) for part in found])[order].tolist()
        for name in Scores.__dataclass_fields__
        if name != "series"
    }


def assert_same(rows: list[dict[str, str]], expected: dict[str, list[object]]) -> None:
    """Every number of a file is the engine's to the last bit."""
    assert len(rows) == len(expected["value"])
    for name in NUMBERS:
        read = np.array([float(row[name] or "nan") for row in rows])
        np.testing.assert_array_equal(read, np.array(expected[name], float), err_msg=name)
    for name in ("alert", "onset"):
        assert [int(row[name]) for row in rows] == expected[name]
    assert [row["status"] for row in rows] == [Status(s).label for s in expected["status"]]


def test_wide_file_gives_the_engines_numbers_in_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_file.CsvFile.chunks, "__defaults__", (520,))
    values = waves(700, 3)
    times = BEGIN + MINUTE * np.arange(700)
    rows = [[format_timestamp(int(t)), *v] for t, v in zip(times, values.tolist(), strict=True)]
    path = write(tmp_path / "d.csv", ["at", "a", "b", "c"], rows)
    scored = run_score(path, "--timestamp", "at")
    expected = through_engine(["a", "b", "c"] * 700, np.repeat(times, 3), values.ravel())
    assert_same(scored, expected)
    assert [row["series_id"] for row in scored[:4]] == ["a", "b", "c", "a"]
    assert [row["timestamp"] for row in scored[2:4]] == [
        "2026-03-01T00:00:00Z",
        "2026-03-01T00:01:00Z",
    ]
    assert tuple(scored[0]) == SCORE_COLUMNS
    assert sum(expected["onset"]) >= 1, "the step must be an alert, or alerts are not compared"


def test_columns_can_be_chosen(tmp_path: Path) -> None:
    values = waves(300, 3)
    path = write(tmp_path / "d.csv", ["a", "b", "c"], values.tolist())
    scored = run_score(path, "--value", "c", "--value", "a")
    assert [row["series_id"] for row in scored[:3]] == ["c", "a", "c"]
    assert float(scored[0]["value"]) == values[0, 2]


def test_without_times_rows_are_counted_and_there_is_no_time_of_day(tmp_path: Path) -> None:
    values = waves(400, 1)
    path = write(tmp_path / "d.csv", ["host", "a"], [["web", v] for v in values[:, 0].tolist()])
    scored = run_score(path)
    times = np.arange(400) * 300 * SECOND
    assert_same(scored, through_engine(["a"] * 400, times, values[:, 0], calendar=False))
    assert [row["timestamp"] for row in scored] == [str(i) for i in range(1, 401)]


def test_long_file_keeps_the_order_of_its_rows(tmp_path: Path) -> None:
    values = waves(300, 2)
    names, times, cells = [], [], []
    for i in range(300):
        for j in (i % 2, 1 - i % 2):
            names.append(f"s{j}")
            times.append(BEGIN + i * MINUTE)
            cells.append(float(values[i, j]))
    rows = [[n, t // SECOND, v] for n, t, v in zip(names, times, cells, strict=True)]
    path = write(tmp_path / "d.csv", ["sensor", "ts", "v"], rows)
    scored = run_score(path, "--series", "sensor", "--timestamp", "ts")
    assert [row["series_id"] for row in scored] == names
    assert_same(scored, through_engine(names, np.array(times), np.array(cells)))


def test_long_file_with_several_values_names_series_by_both(tmp_path: Path) -> None:
    rows = [["x", 1.0, 2.0], ["y", 3.0, 4.0]]
    path = write(tmp_path / "d.csv", ["id", "p", "q"], rows)
    scored = run_score(path, "--series", "id")
    assert [(r["series_id"], r["value"], r["timestamp"]) for r in scored] == [
        ("x/p", "1.0", "1"),
        ("x/q", "2.0", "1"),
        ("y/p", "3.0", "2"),
        ("y/q", "4.0", "2"),
    ]


def test_readings_released_late_are_written_where_they_stood(tmp_path: Path) -> None:
    connector = tmp_path / "c.yaml"
    connector.write_text(
        "name: c\nkafka: {bootstrap_servers: 'localhost:1'}\n"
        "input: {topic: i, series: '{s}', value: v}\noutput: {alerts: a}\n"
        "alerts: {false_alarms_per_series_per_day: 5}\n"
        "engine: {max_out_of_orderness: 5m}\n",
        encoding="utf-8",
    )
    values = waves(600, 1)[:, 0]
    order = np.arange(600)
    order[10:20] = order[10:20][::-1]  # up to nine minutes late
    order[400:404] = order[400:404][::-1]
    times = BEGIN + order * MINUTE
    rows = [
        [format_timestamp(int(t)), v] for t, v in zip(times, values[order].tolist(), strict=True)
    ]
    path = write(tmp_path / "d.csv", ["t", "v"], rows)
    scored = run_score(path, "--timestamp", "t", "--connector", str(connector))
    expected = through_engine(
        ["v"] * 600,
        times,
        values[order],
        AlertConfig(false_alarms_per_series_per_day=5),
        EngineConfig(max_out_of_orderness="5m"),
    )
    assert_same(scored, expected)
    assert [row["timestamp"] for row in scored] == [format_timestamp(int(t)) for t in times]
    assert [row["status"] for row in scored].count("late") == 4


def test_budget_changes_alerts_and_no_score(tmp_path: Path) -> None:
    values = waves(900, 1)
    values[810:] -= 4.0  # an implausible step would alert at any budget
    path = write(tmp_path / "d.csv", ["v"], values.tolist())
    strict = run_score(path, "--budget", "0.0001")
    loose = run_score(path, "--budget", "50")
    assert [r["score"] for r in strict] == [r["score"] for r in loose]
    assert sum(int(r["onset"]) for r in loose) > sum(int(r["onset"]) for r in strict)


def test_missing_values_keep_their_rows(tmp_path: Path) -> None:
    cells = ["1.5", "", "NaN", "null", "2.5", "inf", " 3 "]
    path = write(tmp_path / "d.csv", ["n", "v"], [[i, c] for i, c in enumerate(cells)])
    scored = run_score(path, "--value", "v")
    assert [row["value"] for row in scored] == ["1.5", "", "", "", "2.5", "inf", "3.0"]
    assert [row["status"] == "missing" for row in scored] == [
        False, True, True, True, False, True, False,
    ]  # fmt: skip


def test_duplicates_are_marked(tmp_path: Path) -> None:
    times = ["2026-03-01 00:00", "2026-03-01 00:05", "2026-03-01 00:05", "2026-03-01 00:01"]
    path = write(tmp_path / "d.csv", ["t", "v"], [[t, 1.0] for t in times])
    scored = run_score(path, "--timestamp", "t", code=2)
    assert [row["status"] for row in scored] == [*["warming_up"] * 2, "duplicate", "warming_up"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiter_is_found(tmp_path: Path, delimiter: str) -> None:
    rows: list[list[object]] = [["2026-03-01T00:00:00+01:00", '"a, b; c"', 1.25]]
    path = write(tmp_path / "d.csv", ["t", "note", "v"], rows, delimiter)
    assert CsvFile(path).delimiter == delimiter
    scored = run_score(path, "--timestamp", "t")
    assert [(r["timestamp"], r["series_id"], r["value"]) for r in scored] == [
        ("2026-02-28T23:00:00Z", "v", "1.25")
    ]


def test_delimiter_can_be_given(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", ["t", "v"], [["1772366400", 1.25]], "|")
    assert run_score(path, "--delimiter", "|", "--value", "v")[0]["value"] == "1.25"
    path = write(tmp_path / "e.csv", ["t", "v"], [["1772366400", 1.25]], "\t")
    assert run_score(path, "--delimiter", "tab", "--value", "v")[0]["value"] == "1.25"


def test_times_without_offset_are_read_in_the_zone(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", ["t", "v"], [["2026-07-01 12:00:00", 1.0]])
    scored = run_score(path, "--timestamp", "t", "--timezone", "Europe/Vienna")
    assert scored[0]["timestamp"] == "2026-07-01T10:00:00Z"


def test_byte_order_mark_index_column_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("\ufeff,v\n\n0,1.5\n\n1,2.5\n", encoding="utf-8")
    scored = run_score(path)
    assert [(r["series_id"], r["value"]) for r in scored] == [("v", "1.5"), ("v", "2.5")]


def test_blank_lines_of_a_single_column_are_missing_values(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("v\n1.5\n\n2.5\n", encoding="utf-8")
    assert [r["value"] for r in run_score(path)] == ["1.5", "", "2.5"]


def test_standard_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "d.csv", ["v"], [[1.5]])
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    assert cli.main(["score", str(path), "--out", "-", "--quiet"]) == 0
    assert out.getvalue() == ",".join(SCORE_COLUMNS) + "\n1,v,1.5,0,,,,,,0,0,warming_up,,,\n"


def test_summary_names_alerts_and_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(
        tmp_path / "d.csv", ["time", "v"], [[i, v[0]] for i, v in enumerate(waves(900, 1))]
    )
    out = tmp_path / "o.csv"
    assert cli.main(["score", str(path), "--out", str(out), "--value", "v"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert (
        lines[0] == "note: rows are taken as 5 minutes apart; use their times with --timestamp time"
    )
    with out.open(encoding="utf-8", newline="") as file:
        onsets = [i + 1 for i, row in enumerate(csv.DictReader(file)) if row["onset"] == "1"]
    alerts = lines[1:-1]
    assert len(alerts) == len(onsets) > 0
    assert all(f"row {row} " in line for row, line in zip(onsets, alerts, strict=True))
    assert lines[-1].startswith("900 values of 1 series, ")
    assert f" {len(onsets)} alerts, " in lines[-1]


@pytest.mark.parametrize("link", [None, "symlink_to", "hardlink_to"])
def test_the_file_that_is_read_is_never_written_over(
    link: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "d.csv", ["v"], [[1.5]])
    before = path.read_bytes()
    out = path
    if link is not None:
        out = tmp_path / "other.csv"
        getattr(out, link)(path)
    assert cli.main(["score", str(path), "--out", str(out)]) == 2
    assert capsys.readouterr().err == (
        f"titans-stream score: --out {out}: would overwrite {path}, which is read\n"
    )
    assert path.read_bytes() == before


def test_the_connector_is_never_written_over(tmp_path: Path) -> None:
    path, connector = write(tmp_path / "d.csv", ["v"], [[1.5]]), tmp_path / "c.yaml"
    connector.write_text("name: c", encoding="utf-8")
    arguments = ["score", str(path), "--out", str(connector), "--connector", str(connector)]
    assert cli.main(arguments) == 2
    assert connector.read_text(encoding="utf-8") == "name: c"


def test_standard_output_into_the_file_that_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", ["v"], [[1.5]])
    command = [sys.executable, "-m", "titans_stream.cli", "score", str(path), "--out", "-"]
    with path.open("a", encoding="utf-8") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert f"--out -: would overwrite {path}, which is read" in done.stderr
    assert path.read_text(encoding="utf-8") == "v\n1.5\n"


SITES = (
    "name: c\nkafka: {bootstrap_servers: 'localhost:1'}\n"
    "input: {topic: i, series: '{site}/{machine}', value: v, timestamp: at}\n"
    "output: {alerts: a}\n"
)


def machines(folder: Path) -> tuple[Path, Path, Float64]:
    """A connector, and a file of its messages' fields with 60 machines at each time."""
    connector = folder / "c.yaml"
    connector.write_text(SITES, encoding="utf-8")
    values = waves(20, 60)
    rows: list[list[object]] = [
        [format_timestamp(BEGIN + i * MINUTE), "vienna" if j % 2 else "graz", j, 8, values[i, j]]
        for i in range(20)
        for j in range(60)
    ]
    return connector, write(folder / "d.csv", ["at", "site", "machine", "rpm", "v"], rows), values


def test_a_connector_names_the_series_as_its_worker_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    connector, path, values = machines(tmp_path)
    scored = run_score(path, "--connector", str(connector))
    names = [f"{'vienna' if j % 2 else 'graz'}/{j}" for j in range(60)] * 20
    assert [row["series_id"] for row in scored] == names
    assert_same(
        scored, through_engine(names, BEGIN + MINUTE * np.repeat(np.arange(20), 60), values.ravel())
    )
    assert {row["status"] for row in scored} == {"warming_up"}
    assert capsys.readouterr().err == ""


def test_many_dropped_rows_are_the_last_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[list[object]] = [
        [format_timestamp(BEGIN + i * MINUTE), 1.5] for i in range(20) for _ in range(60)
    ]
    path = write(tmp_path / "d.csv", ["at", "v"], rows)
    assert len(run_score(path, "--timestamp", "at", code=2)) == 1_200, "all is written"
    line = (
        "warning: 1,180 of 1,200 readings were dropped: their series had the same time (1,180 "
        "duplicate) or a later one (0 late) already; are series told apart (--series), and are the "
        "times fine enough?"
    )
    assert capsys.readouterr().err == (
        f"{line}; exit code 2, though all is written (--allow-dropped: 0)\n"
    )
    run_score(path, "--timestamp", "at", "--allow-dropped")
    assert capsys.readouterr().err == f"{line}\n"
    few = write(
        tmp_path / "e.csv", ["t", "v"], [[1_772_323_200 + 60 * max(i, 1), 1.0] for i in range(10)]
    )
    run_score(few, "--timestamp", "t")
    assert capsys.readouterr().err == "", "one in ten is not more than a tenth"


def test_a_constant_fills_what_the_file_lacks(tmp_path: Path) -> None:
    connector, _, _ = machines(tmp_path)
    path = write(tmp_path / "e.csv", ["at", "p1", "p2"], [["2026-03-01", 1.0, 2.0]])
    scored = run_score(path, "--connector", str(connector), "--set", "site=linz")
    assert [row["series_id"] for row in scored] == ["linz/p1", "linz/p2"]
    assert cli.main(["score", str(path), "--out", "-", "--set", "site=linz"]) == 2


def numbered(text: str, at: int, cell: str) -> str:
    """A file of 30 rows with one cell of its own."""
    rows = [f"{i},{cell if i == at else i / 2},x" for i in range(1, 31)]
    return text + "\n" + "\n".join(rows) + "\n"


ERRORS = {
    "text in a value column": (
        numbered("n,cpu,host", 17, "abc"),
        [],
        'd.csv: row 17, column cpu: "abc" is not a number'
        "; --na takes such a text as a missing value",
    ),
    "underscores are no digits": (
        numbered("n,cpu,host", 3, "1_000"),
        [],
        'd.csv: row 3, column cpu: "1_000" is not a number'
        "; --na takes such a text as a missing value",
    ),
    "decimal comma": (
        "n;cpu\n1;0,5\n",
        ["--value", "cpu", "--decimal", "."],
        'd.csv: row 1, column cpu: "0,5" is not a number'
        "; --na takes such a text as a missing value",
    ),
    "missing column": (
        "time,cpu_load\n1,2\n",
        ["--value", "cpu_laod"],
        "d.csv: there is no column 'cpu_laod'; did you mean 'cpu_load'?",
    ),
    "missing time column": (
        "a,b\n1,2\n",
        ["--timestamp", "when"],
        "d.csv: there is no column 'when'; there are: a, b",
    ),
    "column used twice": (
        "a,b\n1,2\n",
        ["--timestamp", "a", "--value", "a"],
        "d.csv: column 'a' is used twice",
    ),
    "empty": ("", [], "d.csv: the file is empty"),
    "header only": ("a,b\n", [], "d.csv: there are no rows after the header"),
    "no header": (
        "1,2\n3,4\n",
        [],
        "d.csv: the first line must name the columns, but it holds numbers: --no-header where "
        "there are no names, --header where these are the names",
    ),
    "no numbers": ("a,b\nx,y\n", [],
        "d.csv: no column holds numbers; name one with --value "
        '(a: "x" in row 1 is not a number; b: "y" in row 1 is not a number); '
        "--na takes a text as missing"),
    "header twice": ("a,a\n1,2\n", [], "d.csv: the header names column 'a' twice"),
    "bad time": (
        "t,v\n2026-03-01,1\n01/03/2026,2\n",
        ["--timestamp", "t"],
        'd.csv: row 2, column t: "01/03/2026" is not a time such as 2026-03-01T12:00:00Z or '
        "seconds since 1970; --time-format describes others",
    ),
    "missing time": (
        "t,v\n2026-03-01,1\n,2\n",
        ["--timestamp", "t"],
        'd.csv: row 2, column t: "" is not a time such as 2026-03-01T12:00:00Z or seconds since '
        "1970; --time-format describes others",
    ),
    "missing series": (
        "s,v\nx,1\n,2\n",
        ["--series", "s"],
        'd.csv: row 2, column s: "" is no name of a series',
    ),
    "short row": ("a,b\n1,2\n3\n", [], "d.csv: row 2 has 1 fields, the header has 2"),
    "long row": (
        "a,b\n1,2,3\n",
        ["--delimiter", ","],
        "d.csv: row 1 has 3 fields, the header has 2",
    ),
    "delimiter": (
        "a,b\n1,2\n",
        ["--delimiter", "::"],
        "--delimiter: one character is needed, not '::'",
    ),
    "zone": (
        "a,b\n1,2\n",
        ["--timezone", "Mars/Base"],
        "no such time zone: 'Mars/Base' (an IANA name is needed)",
    ),
    "budget": (
        "a,b\n1,2\n",
        ["--budget", "0"],
        "--budget 0: Input should be greater than 0",
    ),
    "model": ("a,b\n1,2\n", ["--model", "./none"], "model './none': no such folder"),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_one_line_and_exit_code_2(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, arguments, expected = ERRORS[case]
    path, out = tmp_path / "d.csv", tmp_path / "o.csv"
    path.write_text(text, encoding="utf-8")
    assert cli.main(["score", str(path), "--out", str(out), "--quiet", *arguments]) == 2
    assert capsys.readouterr().err == f"titans-stream score: {expected}\n"
    assert list(tmp_path.iterdir()) == [path], "a failed run leaves nothing behind"


def test_bytes_that_are_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "d.csv"
    path.write_bytes(b"a,b\n1,\xff\n")
    assert cli.main(["score", str(path), "--out", "-"]) == 2
    assert capsys.readouterr().err.startswith("titans-stream score: d.csv: not text in UTF-8")


def test_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "d.csv", ["v"], [[1.5]])
    out = tmp_path / "none" / "o.csv"
    assert cli.main(["score", str(path), "--out", str(out)]) == 2
    assert capsys.readouterr().err == (
        f"titans-stream score: --out {out}: cannot be written: No such file or directory\n"
    )


def test_an_older_result_stays_when_a_run_fails(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text(numbered("n,cpu,host", 17, "abc"), encoding="utf-8")
    out = tmp_path / "o.csv"
    out.write_text("kept", encoding="utf-8")
    assert cli.main(["score", str(path), "--out", str(out), "--quiet"]) == 2
    assert out.read_text(encoding="utf-8") == "kept"


def test_the_choices_for_duplicates_are_the_engines() -> None:
    from typing import get_args

    from titans_stream.commands.csv_arguments import DUPLICATES
    from titans_stream.engine.settings import Duplicates

    assert get_args(Duplicates) == DUPLICATES
    assert EngineConfig().duplicates == DUPLICATES[0]
