"""Files as loggers, historians, spreadsheets and databases write them, read without an option."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from titans_stream.files.column_choice import choose_columns, likely_time
from titans_stream.files.csv_file import CsvFile
from titans_stream.files.csv_readings import ReadingsOfCsv
from titans_stream.files.dialect import Dialect
from titans_stream.files.remarks import about_columns, about_rows, about_sentinels
from titans_stream.times import load_zone, parse_timestamp

TIMES = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hour) for hour in range(200)]
VALUES = [round(50 + 10 * np.sin(hour / 24 * 6.28), 2) for hour in range(200)]
ISO = "%Y-%m-%dT%H:%M:%SZ"


def lines(
    time: str | Callable[[datetime], str], cell: Callable[[float], str] = str, sign: str = ","
) -> str:
    """A line for each reading, its time first."""
    told = time if callable(time) else lambda moment: moment.strftime(time)
    return "".join(
        f"{told(moment)}{sign}{cell(value)}\n" for moment, value in zip(TIMES, VALUES, strict=True)
    )


def comma(value: float) -> str:
    return str(value).replace(".", ",")


def read(content: bytes, path: Path, timestamp: str, series: int = 1) -> tuple[CsvFile, list[str]]:
    """The file, and what is said of it, after it was read right."""
    path.write_bytes(content)
    file = CsvFile(path, Dialect())
    columns = choose_columns(file, timestamp, [], None)
    assert len(columns.values) == series
    readings = list(ReadingsOfCsv(file, columns, load_zone("UTC")))
    value = np.concatenate([chunk.readings.value for chunk in readings])
    time = np.concatenate([chunk.readings.timestamp for chunk in readings])
    np.testing.assert_array_equal(value, np.repeat(VALUES, series))
    expected = [int(moment.timestamp()) * 10**9 for moment in TIMES]
    np.testing.assert_array_equal(time, np.repeat(expected, series))
    return file, [*about_columns(file, columns.left_out, columns.values), *about_rows(file)]


TITLED = "Report of plant A\nExported 2026-03-01\n\nTime;Value\n"
LOGGER = (
    '"TOA5","CR1000","CR1000","1234"\n"TIMESTAMP","RECORD","AirTC"\n'
    '"TS","RN","Deg C"\n"","","Avg"\n'
)


@pytest.mark.parametrize(
    ("text", "timestamp", "said"),
    [
        ("t|v\n" + lines(ISO, sign="|"), "t", []),
        ("t,v\n,degC\n" + lines(ISO), "t",
         ["1 rows below the header were left out: they hold no data (degC)"]),
        (TITLED + lines("%d.%m.%Y %H:%M", comma, ";"), "Time",
         ["the comma is the decimal sign of Value (--decimal tells)",
          "3 lines above the header were left out"]),
        ("Report;;\n;;\nt;v;\n" + lines(ISO, lambda v: f"{v};", ";"), "t",
         ["left out: column 3: it has no name", "2 lines above the header were left out"]),
        ("t,v\n" + lines(ISO, lambda v: f"{v} °C"), "t", ['the unit "°C" is cut off in v']),
        ("t,v\n" + lines(ISO, lambda v: f'"{v}%"'), "t", ['the unit "%" is cut off in v']),
        ("t;v\n" + lines(ISO, lambda v: f"{comma(v)} kWh", ";"), "t",
         ["the comma is the decimal sign of v (--decimal tells)",
          'the unit "kWh" is cut off in v']),
        ("t,v\n" + lines('"%b %d, %Y %H:%M"'), "t", ["column t is read as %b %d, %Y %H:%M"]),
        ("t,v\n" + lines('"%a, %d %b %Y %H:%M:%S +0000"'), "t",
         ["column t is read as %a, %d %b %Y %H:%M:%S %z"]),
        ("t,v\n" + lines("%Y%m%dT%H%M%SZ"), "t", ["column t is read as %Y%m%dT%H%M%S%z"]),
        ("t,v\n" + lines("%Y%m%d %H:%M"), "t", ["column t is read as %Y%m%d %H:%M"]),
        ("t,v\n" + lines("%d.%m.%Y %H:%M - %d.%m.%Y 23:59"), "t",
         ["column t holds intervals; a reading has the time of their begin"]),
        ("t,v\n" + lines(lambda t: f"{t:{ISO}}" if t.hour else
                         f"{t - timedelta(days=1):%Y-%m-%d}T24:00:00Z"), "t", []),
        ("t,v\n" + lines(lambda t: f"{t:%d.%m.%Y %H:%M}" if t.hour else
                         f"{t - timedelta(days=1):%d.%m.%Y} 24:00"), "t", []),
        ("t;v\n" + lines(lambda t: comma(46_023 + (t - TIMES[0]).total_seconds() / 86_400),
                         comma, ";"), "t",
         ["the comma is the decimal sign of v (--decimal tells)",
          "column t is read as a spreadsheet's days"]),
        ("t,v\n" + lines(lambda t: f"{t.timestamp():.9e}"), "t", []),
        ("year,month,day,hour,v\n" + lines(lambda t: f"{t.year},{t.month},{t.day},{t.hour}"),
         "year,month,day,hour", ["column year,month,day,hour is read as %Y %m %d %H"]),
        ("id,t,v\n" + "".join(f"{i},{line}\n" for i, line in enumerate(lines(ISO).split())), "t",
         ["left out: id: it numbers the rows; --value id takes it all the same"]),
    ],
)  # fmt: skip
def test_what_is_found_out(text: str, timestamp: str, said: list[str], tmp_path: Path) -> None:
    _, found = read(text.encode(), tmp_path / "d.csv", timestamp)
    assert found == said


def test_a_data_logger_and_a_wide_encoding(tmp_path: Path) -> None:
    text = LOGGER + "".join(
        f'"{moment:%Y-%m-%d %H:%M:%S}",{number},{value}\n'
        for number, (moment, value) in enumerate(zip(TIMES, VALUES, strict=True))
    )
    for encoding in ("utf-8", "utf-32"):
        _, said = read(text.encode(encoding), tmp_path / "d.csv", "TIMESTAMP")
        assert said == [
            "left out: RECORD: it numbers the rows; --value RECORD takes it all the same",
            "1 lines above the header were left out",
            "2 rows below the header were left out: they hold no data (TS, RN, Deg C; Avg)",
        ]


def test_any_number_of_blanks_separates_columns(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("  t       v\n1767225600   49.2\n 1767229200 51.3 \n")
    with pytest.raises(ValueError, match=r"there is no column 't'.*--delimiter ' ': any number"):
        CsvFile(path).column("t")
    file = CsvFile(path, Dialect(delimiter=" "))
    assert file.read().columns["v"] == ["49.2", "51.3"]


def test_truth_values_are_numbers_and_mixed_units_are_not(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("t,run,door,size\n" + "".join(
        f"{i},{'TRUE' if i % 2 else 'FALSE'},{'on' if i % 3 else 'off'},{i} {'MkG'[i % 3]}B\n"
        for i in range(1, 9)
    ))  # fmt: skip
    file = CsvFile(path)
    columns = choose_columns(file, "t", [], None)
    assert columns.values == ("run", "door")
    assert columns.left_out == (("size", '"1 kB" in row 1 is not a number'),)
    assert file.first.numbers("run").tolist() == [1.0, 0.0] * 4
    assert file.first.numbers("door").tolist() == [1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0]
    assert about_columns(file, (), columns.values) == [
        "true and false are taken as 1 and 0 in run, door"
    ]
    path.write_text("t,v\n1,5 %\n2,7\n")
    with pytest.raises(ValueError, match=r'v: "5 %" in row 1 is not a number'):
        choose_columns(CsvFile(path), "t", [], None)
    path.write_text("t,v\n1,12A\n2,13A\n3,14X\n")
    with pytest.raises(ValueError, match="no column holds numbers"):
        choose_columns(CsvFile(path), "t", [], None)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"t": 1, "v": 2}\n{"t": 2, "v": 3}\n', "this is JSON"),
        ('[{"t": 1, "v": 2},{"t": 2, "v": 3}]\n\n', "this is JSON"),
        ("sensor,2026-01-01,2026-01-02,2026-01-03\na,1,2,3\nb,1,2,3\n",
         "the header holds times .2026-01-01, 2026-01-02, ....: the table has a column for each"),
        ("t,v\n" + lines("%m/%d/%y %H:%M"), '--time-format "%m/%d/%y %H:%M" or "%d/%m/%y %H:%M"$'),
        ("t,v\n" + lines("01/2%w/%y %H:%M"), '--time-format "%m/%d/%y %H:%M"$'),
        ("t,v\n" + lines("%d.%m.%y %H:%M"), '--time-format "%d.%m.%y %H:%M"$'),
        ("t,v\n" + lines("x%d"), "--time-format describes others"),
        ("t,v\n2026-01-01,init\n2026-01-02,1\n",
         '"init" in row 1 is not a number.; --na takes a text as missing'),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told_with_its_remedy(
    text: str, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "d.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=problem):
        file = CsvFile(path)
        columns = choose_columns(file, "t" if "t" in file.header else None, [], None)
        list(ReadingsOfCsv(file, columns, load_zone("UTC")))


def test_parts_of_dates_are_no_values(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("year,month,day,v\n2026,1,1,5\n2026,1,2,7\n")
    file = CsvFile(path)
    columns = choose_columns(file, None, [], None)
    assert columns.values == ("v",)
    assert likely_time(file, columns) == "year,month,day"
    assert file.first.times("year,month,day")[1] == parse_timestamp("2026-01-02")
    path.write_text("year,month,day,hour,min,max\n2026,1,1,0,5.5,9\n2026,1,1,1,7.5,11\n")
    file = CsvFile(path)
    columns = choose_columns(file, None, [], None)
    assert columns.values == ("min", "max"), "the least and the most of each hour"
    assert likely_time(file, columns) == "year,month,day,hour"


def test_numbers_that_may_stand_for_nothing_are_told(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    rows = "".join(
        f"{i},{'-200' if i % 9 == 4 else 40 + i % 20},{1 + i % 5},{'ab'[i % 2]}\n"
        for i in range(100)
    )
    path.write_text("t,co,temp,site\n" + rows)
    file = CsvFile(path)
    columns = choose_columns(file, "t", [], None)
    assert about_sentinels(file, columns, "--missing-values={}") == [
        "-200 lies far outside the rest and recurs in co: if it stands for a missing value, say "
        "--missing-values=-200"
    ]
    of_sites = choose_columns(file, "t", ["co"], "site")
    assert "recurs in a, b" in about_sentinels(file, of_sites, "{}")[0]
