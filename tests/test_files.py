"""Files as people have them: each dialect gives the readings that it means, or says why not."""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from titans_stream import cli
from titans_stream.files.column_choice import choose_columns, likely_time
from titans_stream.files.csv_file import CsvFile
from titans_stream.files.csv_readings import ReadingsOfCsv
from titans_stream.files.dialect import Dialect
from titans_stream.files.remarks import about_columns, about_rows
from titans_stream.times import format_timestamp, load_zone

HOURS = [f"2026-03-01T{hour:02d}:00:00Z" for hour in range(24)]
Read = tuple[dict[str, list[float]], list[str]]


def read(
    path: Path,
    dialect: Dialect | None = None,
    timestamp: str | None = None,
    zone: str = "UTC",
    values: tuple[str, ...] = (),
) -> Read:
    """Values by series, and the times of the rows."""
    file = CsvFile(path, dialect)
    columns = choose_columns(file, timestamp, values, None)
    found: dict[str, list[float]] = {}
    times: list[str] = []
    for chunk in ReadingsOfCsv(file, columns, load_zone(zone)):
        readings = chunk.readings
        for name, value in zip(readings.series, readings.value.tolist(), strict=True):
            found.setdefault(name, []).append(value)
        times += [format_timestamp(int(t)) for t in readings.timestamp[:: len(columns.values)]]
    return found, times


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "d.csv"
    path.write_bytes(text.encode(encoding))
    return path


def assert_values(found: dict[str, list[float]], **expected: list[float]) -> None:
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


NAN = float("nan")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("time;t\n2026-03-01;21,5\n2026-03-02;22\n", [21.5, 22.0]),
        ("time;t\n2026-03-01;1.234,5\n2026-03-02;980\n", [1234.5, 980.0]),
        ("time;t\n2026-03-01;1.013\n2026-03-02;1.020\n", [1.013, 1.020]),
        ("time;t\n2026-03-01;1,013\n2026-03-02;1,020\n", [1.013, 1.020]),
        ("time;t\n2026-03-01;1,013\n2026-03-02;980\n", [1013.0, 980.0]),
        ('time,t\n2026-03-01,"49,630.5"\n2026-03-02,"1,053,582"\n', [49630.5, 1053582.0]),
        ('time,t\n2026-03-01,"49,630"\n2026-03-02,"53,582"\n', [49630.0, 53582.0]),
        ('time,t\n2026-03-01,"21,5"\n2026-03-02,"0,125"\n', [21.5, 0.125]),
        ("time\tt\n2026-03-01\t1 234,5\n2026-03-02\t1'234,5\n", [1234.5, 1234.5]),
        ("time\tt\n2026-03-01\t1\u00a0234.5\n2026-03-02\t\u22125.25\n", [1234.5, -5.25]),
        ("time;t\n2026-03-01;1,5E+02\n2026-03-02;,5\n", [150.0, 0.5]),
    ],
)
def test_decimal_signs_and_thousands(text: str, expected: list[float], tmp_path: Path) -> None:
    found, _ = read(written(tmp_path, text), timestamp="time")
    assert_values(found, t=expected)


def test_decimals_that_come_late_have_the_sign_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flow that was 0 when the signs were looked for is no thousand times larger later."""
    monkeypatch.setattr("titans_stream.files.numbers._SAMPLE", 3)
    text = "a;flow;n\n21,5;0;7\n21,6;0;7\n21,7;0;7\n21,8;1,250;8.5\n"
    found, _ = read(written(tmp_path, text))
    assert_values(found, a=[21.5, 21.6, 21.7, 21.8], flow=[0, 0, 0, 1.25], n=[7, 7, 7, 8.5])


def test_the_decimal_sign_can_be_said(tmp_path: Path) -> None:
    path = written(tmp_path, "a;b\n1,234;1.234\n")
    assert_values(read(path, Dialect(decimal="."))[0], a=[1234.0], b=[1.234])
    assert_values(read(path, Dialect(decimal=","))[0], a=[1.234], b=[1234.0])
    mixed = written(tmp_path, "a;b\n1,234;1.234\n980;2.5\n1,5;3\n")
    with pytest.raises(ValueError, match='row 3, column a: "1,5" is not a number'):
        read(mixed, Dialect(decimal="."))


@pytest.mark.parametrize("cell", ["12,34,567", "1,23,4", "1.2.3", "1,,5", "12 34,5", "5 %", "1_0"])
def test_what_is_no_number_in_any_notation(cell: str, tmp_path: Path) -> None:
    path = written(tmp_path, f"t;x\n0,5;1\n{cell};2\n")
    with pytest.raises(ValueError, match=r"row 2, column t: .* is not a number"):
        read(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_encodings_are_found(encoding: str, tmp_path: Path) -> None:
    found, times = read(written(tmp_path, "time,°C\n2026-03-01,1.5\n", encoding), timestamp="time")
    assert_values(found, **{"°C": [1.5]})
    assert times == ["2026-03-01T00:00:00Z"]


def test_another_encoding_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, "time,°C\n2026-03-01,1.5\n", "cp1252")
    with pytest.raises(ValueError, match=r"not text in UTF-8: .*; --encoding names another one"):
        read(path)
    assert_values(read(path, Dialect(encoding="cp1252"), "time")[0], **{"°C": [1.5]})
    with pytest.raises(ValueError, match="--encoding: there is none called 'klingon'"):
        read(path, Dialect(encoding="klingon"))


def test_separator_line_packed_file_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "d.csv.gz"
    text = '"sep=;"\n# of the press\na;b\n1,5;2\n#half time\n2,5;3\n'
    path.write_bytes(gzip.compress(text.encode()))
    file = CsvFile(path, Dialect(comment="#"))
    assert file.read().numbers("a").tolist() == [1.5, 2.5]
    assert about_rows(file) == ["2 lines were left out as comments"]
    path.write_bytes(gzip.compress(text.encode())[:-12])
    with pytest.raises(ValueError, match=r"d.csv.gz: cannot be unpacked"):
        CsvFile(path, Dialect(comment="#")).read()


def test_comment_lines_without_the_option_name_it(tmp_path: Path) -> None:
    path = written(tmp_path, "time,t\n# changed by a logger\n2026-03-01,1\n")
    with pytest.raises(ValueError, match=r"row 1 has 1 fields, .*; --comment '#' leaves out the"):
        read(path, Dialect(delimiter=","))


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("2026-01-01T00:00:00Z,49.63\n2026-01-01T01:00:00Z,53.58\n", "2026-01-01T00:00:00Z"),
        ("press,49.63\npress,53.58\n", "49.63"),
        ("01.03.2026;21,5\n02.03.2026;22,5\n", "01.03.2026"),
    ],
)
def test_a_first_line_of_data_is_recognised(text: str, data: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match=f'the first line holds data \\("{data}"\\), .*--no-head'):
        CsvFile(path)
    assert CsvFile(path, Dialect(header=False)).header == ["column 1", "column 2"]
    assert len(CsvFile(path, Dialect(header=False)).read()) == 2
    assert len(CsvFile(path, Dialect(header=True)).read()) == 1


@pytest.mark.parametrize("header", ["time,1001,1002", ",0,1", "time,1.5,2.5", "time,2026,2027"])
def test_names_that_are_numbers_are_names(header: str, tmp_path: Path) -> None:
    file = CsvFile(written(tmp_path, header + "\n2026-01-01,1.5,2.5\n"))
    assert file.read().numbers(file.header[2]).tolist() == [2.5]


def test_a_file_without_header_is_read_by_number(tmp_path: Path) -> None:
    path = written(tmp_path, "2026-03-01;21,5;x\n2026-03-02;22,5;y\n")
    found, times = read(path, Dialect(header=False), timestamp="1")
    assert_values(found, **{"column 2": [21.5, 22.5]})
    assert times == ["2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z"]


def test_missing_values_as_people_write_them(tmp_path: Path) -> None:
    words = ["?", "unavailable", "-", "\\N", "#N/A", "unknown", "NaN", "", "-999", "OFF", "1.5"]
    path = written(tmp_path, "t,b\n" + "".join(f"{word},{i}\n" for i, word in enumerate(words)))
    file = CsvFile(path, Dialect(na=("off",), missing_values=(-999.0,)))
    columns = choose_columns(file, None, (), None)
    assert columns.values == ("t", "b")
    np.testing.assert_array_equal(file.read().numbers("t"), [NAN] * 10 + [1.5])
    assert about_rows(file) == [
        'taken as missing in t: 1 "?", 1 "unavailable", 1 "-", 1 "\\N", 1 "#N/A" and 2 other texts',
        "taken as missing in t: 1 times -999",
    ]
    with pytest.raises(ValueError, match='row 10, column t: "OFF" is not a number; --na takes'):
        CsvFile(path).read().numbers("t")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["01.03.2026 00:00", "13.03.2026 5:06:07,25"], ["01T00:00:00Z", "13T05:06:07.25Z"]),
        (["01/03/2026 00:00", "13/03/2026 5:06"], ["01T00:00:00Z", "13T05:06:00Z"]),
        (["3/1/2026 12:00 AM", "3/13/2026 5:06 PM"], ["01T00:00:00Z", "13T17:06:00Z"]),
        (["2026-03-01 00:00:00 UTC", "2026-03-13 05:06:00 UTC"], ["01T00:00:00Z", "13T05:06:00Z"]),
        (["2026/03/01 00:00", "2026/03/13 05:06"], ["01T00:00:00Z", "13T05:06:00Z"]),
        (["01-Mar-26 00:00:00", "13-Mar-26 05:06:00"], ["01T00:00:00Z", "13T05:06:00Z"]),
        (["20260301", "20260313"], ["01T00:00:00Z", "13T00:00:00Z"]),
        (["202603010000", "202603130506"], ["01T00:00:00Z", "13T05:06:00Z"]),
        (["20260301000000", "20260313050607"], ["01T00:00:00Z", "13T05:06:07Z"]),
        (["46082", "46094.5"], ["01T00:00:00Z", "13T12:00:00Z"]),
        (["1772323200", "1773360000.5"], ["01T00:00:00Z", "13T00:00:00.5Z"]),
    ],
)
def test_times_in_many_notations(cells: list[str], expected: list[str], tmp_path: Path) -> None:
    path = written(tmp_path, "t;v\n" + "".join(f"{cell};1\n" for cell in cells))
    _, times = read(path, timestamp="t")
    assert times == [f"2026-03-{text}" for text in expected]


def test_years_and_months(tmp_path: Path) -> None:
    assert (
        read(written(tmp_path, "y,v\n1999,1\n2000,2\n"), timestamp="y")[1][1][:10] == "2000-01-01"
    )
    assert read(written(tmp_path, "m,v\n202602,1\n"), timestamp="m")[1] == ["2026-02-01T00:00:00Z"]


def test_times_of_two_columns_and_of_a_format(tmp_path: Path) -> None:
    path = written(tmp_path, "Date;Time;v\n16/12/2006;17:24:00;4.2\n10/03/2004;18.00.00;2.5\n")
    _, times = read(path, timestamp="Date,Time")
    assert times == ["2006-12-16T17:24:00Z", "2004-03-10T18:00:00Z"]
    path = written(tmp_path, "Date;Time;v\n120226;0530;4.2\n")
    _, times = read(path, Dialect(time_format="%d%m%y %H%M"), "Date,Time", zone="Europe/Vienna")
    assert times == ["2026-02-12T04:30:00Z"]
    assert read(written(tmp_path, "t,v\n90,1\n"), Dialect(time_format="s"), "t")[1] == [
        "1970-01-01T00:01:30Z"
    ]


@pytest.mark.parametrize(
    ("cells", "time_format", "problem"),
    [
        (["0", "1", "2"], None, "column t: counted from 1970, its times would all be in January"),
        (["01/02/2026"], None, 'column t: "01/02/2026": is the day first, or the month?'),
        (["13/02/2026", "02/13/2026"], None, "is the day first, or the month?"),
        (["01.02.26"], None, 'row 1, column t: "01.02.26" is not a time .* --time-format'),
        (["13/02/2026", "2026-03-01"], None, 'row 1, column t: "13/02/2026" is not a time'),
        (["20260301", "20260332"], None, 'row 2, column t: "20260332" is not a time'),
        (["01.02.26"], "dd.mm.yy", "^--time-format dd.mm.yy: s, ms, us, ns, days, or a format"),
    ],
)
def test_times_that_cannot_be_known(
    cells: list[str], time_format: str | None, problem: str, tmp_path: Path
) -> None:
    path = written(tmp_path, "t,v\n" + "".join(f"{cell},1\n" for cell in cells))
    with pytest.raises(ValueError, match=problem):
        read(path, Dialect(time_format=time_format), "t")


def test_influx_annotated_tables(tmp_path: Path) -> None:
    head = (
        "#datatype,string,long,dateTime:RFC3339,double,string\n#group,false,false,false,false,true\n"
        "#default,_result,,,,\n,result,table,_time,_value,_field\n"
    )
    rows = [f",,0,{time},{i}.5,temp\n" for i, time in enumerate(HOURS)]
    path = written(tmp_path, head + "".join(rows[:12]) + "\n" + head + "".join(rows[12:]))
    found, times = read(path, timestamp="_time")
    assert_values(found, _value=[i + 0.5 for i in range(24)])
    assert times == HOURS


def test_parquet_says_the_same_as_csv(tmp_path: Path) -> None:
    values = [0.1, None, -1e300, 2.5]
    stamps = np.array(["2026-03-01T00:00:00.25"] * 4, "datetime64[ns]") + np.arange(4) * 10**9
    table = pa.table({
        "at": pa.array(stamps, pa.timestamp("ns", tz="UTC")),
        "local": pa.array(stamps, pa.timestamp("us")),
        "v": pa.array(values, pa.float64()),
        "f": pa.array([0.5, 1.5, None, 2.5], pa.float32()),
        "n": pa.array([1, 2, None, 4], pa.int64()),
        "note": ["x", None, "y", "z"],
    })  # fmt: skip
    path = tmp_path / "d.parquet"
    pq.write_table(table, path)
    found, times = read(path, timestamp="at")
    assert_values(found, v=[0.1, NAN, -1e300, 2.5], f=[0.5, 1.5, NAN, 2.5], n=[1, 2, NAN, 4])
    assert times == [f"2026-03-01T00:00:0{i}.25Z" for i in range(4)]
    _, local = read(path, timestamp="local", zone="Europe/Vienna")
    assert local[0] == "2026-02-28T23:00:00.25Z"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"d.parquet: cannot be read as Parquet"):
        read(path)


@pytest.mark.parametrize(
    ("text", "values", "time"),
    [
        ("unixtime,temp\n1767225600,1.5\n1767229200,2.5\n", ("temp",), "unixtime"),
        ("Date;Time;kW\n16/12/2006;17:24:00;1\n", ("kW",), "Date,Time"),
        ("Messzeit,v\n2026-03-01 00:00,1\n", ("v",), "Messzeit"),
        ("year,v\n1999,1\n2000,2\n", ("v",), "year"),
        ("v,runtime\n1.5,1\n2.5,7\n", ("v", "runtime"), None),
        ("count,v\n1767225600,1\n1767225600,2\n", ("count", "v"), None),
    ],
)
def test_times_are_no_values(
    text: str, values: tuple[str, ...], time: str | None, tmp_path: Path
) -> None:
    file = CsvFile(written(tmp_path, text))
    columns = choose_columns(file, None, (), None)
    assert columns.values == values
    assert likely_time(file, columns) == time


def test_columns_that_are_not_taken_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, ",machine,v,empty,ts\n0,a,1.5,,1767225600\n1,b,2.5,,1767225660\n")
    file = CsvFile(path)
    columns = choose_columns(file, None, (), None)
    assert columns.values == ("v",)
    assert about_columns(file, columns.left_out, columns.values) == [
        'left out: column 1: it has no name; machine: "a" in row 1 is not a number; empty: it is '
        "empty; ts: it looks like times, which --timestamp ts would use"
    ]


def test_empty_rows_at_the_end_are_counted(tmp_path: Path) -> None:
    path = written(tmp_path, "t;v;;\n2026-03-01;1;;\n2026-03-02;;;\n;;;\n;;;\n")
    file = CsvFile(path)
    assert len(file.read()) == 2
    assert about_rows(file) == ["2 rows at the end were left out: they are empty"]


def test_what_acts_on_a_terminal_is_written_out(tmp_path: Path) -> None:
    path = written(tmp_path, 'v,"na\nme"\n1,x\n"\x1b[2J\n",y\n')
    file = CsvFile(path)
    columns = choose_columns(file, None, (), None)
    assert about_columns(file, columns.left_out, ()) == [
        r'left out: na\u000ame: "x" in row 1 is not a number'
    ]
    with pytest.raises(ValueError, match=r'column v: "\\u001b\[2J\\u000a" is not a number'):
        file.read().numbers("v")


# ---------------------------------------------------------------- the command


def score(path: Path, capsys: pytest.CaptureFixture[str], *options: str, code: int = 0) -> Read:
    """Statuses by series (as counts in a dict of lists), and the lines on standard error."""
    assert cli.main(["score", str(path), "--out", "-", *options]) == code
    captured = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(captured.out)))
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["series_id"], []).append(float(row["value"] or "nan"))
    counts = Counter(row["status"] for row in rows)
    return found, [*captured.err.splitlines(), str(dict(counts))]


def test_every_option_reaches_the_reader(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, "#x\n01.03.26;1,5\n02.03.26;off\n03.03.26;-999\n", "cp1252")
    options = ["--no-header", "--timestamp", "1", "--time-format", "%d.%m.%y", "--decimal", ","]
    options += ["--na", "OFF", "--missing-values", "-999", "--comment", "#", "--encoding", "cp1252"]
    found, lines = score(path, capsys, *options, "--delimiter", ";")
    assert_values(found, **{"column 2": [1.5, NAN, NAN]})
    assert lines[:3] == [
        "note: the comma is the decimal sign of column 2 (--decimal tells)",
        'note: taken as missing in column 2: 1 "off"',
        "note: taken as missing in column 2: 1 times -999",
    ]
    assert lines[3] == "note: 1 lines were left out as comments"
    assert lines[4].startswith("3 values of 1 series, 0 scored, 1 warming up, 2 missing, 0 alerts")


def steps(n: int) -> list[tuple[str, float]]:
    rng = np.random.default_rng(3)
    return [
        (f"2026-03-{1 + i // 24:02d}T{i % 24:02d}:00:00Z", float(v))
        for i, v in enumerate(rng.normal(20, 1, n).round(2))
    ]


def table(rows: list[tuple[str, float]]) -> str:
    return "ts,v\n" + "".join(f"{time},{value}\n" for time, value in rows)


@pytest.mark.parametrize("disorder", ["newest first", "jittered"])
def test_disorder_is_sorted_and_said(
    disorder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = steps(400)
    expected = score(written(tmp_path, table(rows)), capsys, "--timestamp", "ts")
    assert expected[1][-1] == "{'warming_up': 200, 'scored': 200}"
    moved = rows[::-1]
    if disorder == "jittered":
        at = np.argsort(np.arange(400) + np.random.default_rng(1).uniform(0, 3, 400))
        moved = [rows[i] for i in at]
    found, lines = score(written(tmp_path, table(moved)), capsys, "--timestamp", "ts")
    assert_values(found, v=[value for _, value in moved])
    assert Counter(lines[-1]) == Counter(expected[1][-1])
    assert lines[0] == (
        "note: the newest readings stand first; they are taken in order of time"
        if disorder == "newest first"
        else "note: 90 readings are earlier than the one before them (the first in row 3); they "
        "are taken in order of time"
    )


def test_sorted_scores_are_those_of_the_file_in_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = steps(300)
    assert cli.main(["score", str(written(tmp_path, table(rows))), "--timestamp", "ts", "--out",
                     "-", "--quiet"]) == 0  # fmt: skip
    in_order = capsys.readouterr().out.splitlines()
    assert cli.main(["score", str(written(tmp_path, table(rows[::-1]))), "--timestamp", "ts",
                     "--out", "-", "--quiet"]) == 0  # fmt: skip
    backwards = capsys.readouterr().out.splitlines()
    assert backwards == [in_order[0], *in_order[:0:-1]]


@pytest.mark.parametrize("layout", ["blocks", "interleaved"])
def test_two_machines_in_one_file_are_recognised(
    layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = [(time, "a", value) for time, value in steps(200)]
    two = [(time, "b", value + 100) for time, value in steps(200)]
    rows = (
        one + two
        if layout == "blocks"
        else [row for pair in zip(one, two, strict=True) for row in pair]
    )
    text = "ts,machine,v\n" + "".join(f"{t},{m},{v}\n" for t, m, v in rows)
    path = written(tmp_path, text)
    cli.main(["score", str(path), "--out", str(tmp_path / "o.csv"), "--timestamp", "ts"])
    assert (
        "most times stand there 2 times, once for each machine (a, b): --series machine tells "
        "these series apart"
    ) in capsys.readouterr().err
    _, lines = score(path, capsys, "--timestamp", "ts", "--series", "machine")
    assert lines[-1] == "{'warming_up': 400}"
    assert not any("machine" in line for line in lines)
